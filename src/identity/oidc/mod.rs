//! An OpenID provider as a source: people come with an id token that it signed. Okta is a preset of it.
//!
//! [`UnverifiedIdToken::parse`] takes a token apart, its unverified issuer chooses the source, and [`Oidc::verify`] answers an
//! [`Identity`], a refusal with the code of the first check that failed, or that the provider's keys cannot be had. The checks
//! run in this order: form, `alg`, key, signature (here), then what [`claims`] lists. Identity is (iss, sub), never e-mail.
//!
//! What a thin token leaves out comes from `userinfo`, by the access token that came along; what may be cut, and whether somebody is
//! still there, from Okta's `management` API, by a token of the operator's. `revocation` verifies what ends everything of a person.
//! Client authentication by assertion uses `json`, `keys` and `schedule` too.
//!
//! `settings` is the checked configuration, `token` and `json` read strictly, `keys` verifies signatures, `provider` fetches
//! keys when `schedule` says so.

mod claims;
mod groups;
pub mod json;
pub mod keys;
mod management;
pub mod probe;
mod provider;
mod recheck;
mod revocation;
pub mod schedule;
mod settings;
#[cfg(test)]
mod tests;
mod token;
mod userinfo;

use jsonwebtoken::Algorithm;
use serde_json::Value;

pub use self::claims::is_name;
use self::claims::{Refused, Times};
use self::groups::Groups;
use self::keys::Signature;
use self::management::{Management, Unanswered};
use self::provider::Provider;
pub use self::revocation::VerifiedRevocation;
use self::settings::{Pointer, Settings};
pub use self::token::UnverifiedIdToken;
use super::{Authentication, Facts, Identity, Outage, Refusal, RefusalReason, TokenRefusal, Upstream};
use crate::clock::Clock;
use crate::config::{OidcSource, Problem};
use crate::oauth2::{Secret, SourceName};
use crate::outbound::Client;

/// One configured provider.
#[derive(Debug)]
pub struct Oidc {
    name: SourceName,
    settings: Settings,
    provider: Provider,
    /// Who signs Global Token Revocations, where they are accepted.
    revoker: Option<Provider>,
    management: Option<Management>,
    /// Claims other than the groups that the mapping looks at: where there are any, nobody can be asked for again.
    other_claims: Vec<String>,
    clock: Clock,
}

/// Why there is no identity.
#[derive(Debug)]
pub enum Halt {
    No(Refusal),
    /// Nothing was decided.
    Down(Outage),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Halt {
        Halt::No(refusal)
    }
}

/// What the token is handed in for; it decides how old it may be and what binds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A token exchange (RFC 8693), or the croit shape of it: no nonce; age and single use stand in for it.
    Exchange,
}

/// What a browser application needs to know in order to sign in at the provider. Public, no secret in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignInConfig<'a> {
    pub base_url: &'a str,
    pub client_id: &'a str,
    pub issuer: &'a str,
    /// The first accepted audience.
    pub audience: &'a str,
}

impl Oidc {
    /// Checks the configuration; the paths of the problems are relative to the source. Asks the provider nothing, which may be
    /// down when the server starts.
    pub fn new(name: SourceName, config: &OidcSource, clock: Clock) -> Result<Oidc, Vec<Problem>> {
        let settings = Settings::new(config);
        let client = Client::new(config.ca_file.as_deref()).map_err(|reason| Problem::new("ca_file", reason));
        match (settings, client) {
            (Ok(settings), Ok(client)) => {
                let provider = Provider::new(settings.issuer.clone(), settings.discovery.clone(), client.clone());
                let revoker = settings.revocations.clone().map(|(issuer, discovery)| match issuer == settings.issuer {
                    true => provider.clone(),
                    false => Provider::new(issuer, discovery, client.clone()),
                });
                let management = config.api_token_file.clone();
                let management = management.map(|file| Management::new(settings.base.clone(), file, client, clock.clone()));
                let management = management.transpose().map_err(|reason| vec![Problem::new("api_token_file", reason)])?;
                Ok(Oidc { name, settings, provider, revoker, management, other_claims: Vec::new(), clock })
            }
            (settings, client) => Err(settings.err().into_iter().flatten().chain(client.err()).collect()),
        }
    }

    /// The `iss` of its tokens, exactly.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    pub fn sign_in_config(&self) -> SignInConfig<'_> {
        let Settings { base_url, client_id, issuer, audiences, .. } = &self.settings;
        SignInConfig { base_url, client_id, issuer, audience: audiences.first().unwrap_or(client_id) }
    }

    /// The first step of [`Oidc::verify`], for a caller that has checks of its own to make before the provider is asked.
    pub fn check_header(&self, token: &UnverifiedIdToken) -> Result<(), Refusal> {
        self.algorithm(token).map(drop)
    }

    /// [`Oidc::verify_beside`] for a token that comes alone.
    pub async fn verify(&self, token: &UnverifiedIdToken, purpose: Purpose) -> Authentication {
        self.verify_beside(token, None, purpose).await
    }

    /// Who the token speaks of. Single use is not looked at: whoever issues because of the token claims its
    /// [`Upstream::token_id`] in the same transaction. `access_token` is the provider's, issued beside the id token: with it the
    /// userinfo endpoint is asked for groups that the token leaves out.
    pub async fn verify_beside(&self, token: &UnverifiedIdToken, access_token: Option<&Secret>, purpose: Purpose) -> Authentication {
        let Purpose::Exchange = purpose;
        match self.judge(token, access_token).await {
            Ok(identity) => Authentication::Authenticated(Box::new(identity)),
            Err(Halt::No(refusal)) => Authentication::Refused(refusal),
            Err(Halt::Down(outage)) => Authentication::Unavailable(outage),
        }
    }

    async fn judge(&self, token: &UnverifiedIdToken, access_token: Option<&Secret>) -> Result<Identity, Halt> {
        let (algorithm, kid) = self.key_id(token)?;
        let signature = match self.provider.keys(kid).await.map_err(|reason| self.down(reason))? {
            Some(keys) => keys.verify(token, algorithm, kid),
            None => Signature::NoKey,
        };
        let (times, subject) = self.believe(token, signature)?;
        let about = |(reason, detail): Refused| Refusal { subject: Some(subject.clone()), ..refusal(reason, detail) };
        if let Some(access_token) = access_token {
            userinfo::belongs(token, algorithm, access_token).map_err(about)?;
        }
        let mut claims = token.claims().clone();
        if let Some(access_token) = access_token.filter(|_| groups::look(&self.settings, &claims) == Ok(Groups::Absent))
            && let Some(fetched) = self.provider.userinfo(access_token).await.map_err(|reason| self.down(reason))?
        {
            let answer = userinfo::read(&fetched)
                .map_err(|reason| Halt::Down(Outage { retry_after: fetched.retry_after, ..Outage::new(&self.name, reason) }))?;
            userinfo::fill(&self.settings, &mut claims, answer.map_err(about)?).map_err(about)?;
        }
        let mut asked_at = None;
        match (groups::look(&self.settings, &claims).map_err(about)?, &self.management) {
            (Groups::Absent | Groups::Incomplete(_), Some(management)) => {
                asked_at = Some(self.clock.now());
                let names = management.groups(&subject).await.map_err(|unanswered| match unanswered {
                    Unanswered::Gone => about((TokenRefusal::SubjectRejected, "Okta's API knows nobody with this sub".to_owned())).into(),
                    Unanswered::Down(reason, retry_after) => Halt::Down(Outage { retry_after, ..Outage::new(&self.name, reason) }),
                })?;
                if !self.settings.groups.put(&mut claims, names.into()) {
                    return Err(
                        about((TokenRefusal::GroupsUnavailable, "something else stands where groups_claim points".to_owned())).into()
                    );
                }
            }
            _ => groups::settle(&self.settings, &claims).map_err(about)?,
        }
        let identity = self.identity(token, &claims, times, &subject);
        Ok(Identity { checked_at: asked_at.unwrap_or(identity.checked_at), ..identity })
    }

    fn down(&self, reason: impl Into<String>) -> Halt {
        Halt::Down(Outage::new(&self.name, reason))
    }

    /// RFC 8725 sections 3.1 and 3.2: the algorithm is ours to choose. Extensions and keys from elsewhere are never used, so a
    /// token that asks for them is refused rather than misread (RFC 7515 sections 4.1.2, 4.1.5 and 4.1.11).
    fn algorithm(&self, token: &UnverifiedIdToken) -> Result<Algorithm, Refusal> {
        if let Some(member) = ["crit", "jku", "x5u"].into_iter().find(|member| token.header(member).is_some()) {
            return Err(refusal(TokenRefusal::AlgNotAllowed, format!("the header has {member}")));
        }
        let named = token.header("alg").and_then(Value::as_str).and_then(settings::algorithm);
        let allowed = named.filter(|algorithm| self.settings.algorithms.contains(algorithm));
        allowed.ok_or_else(|| refusal(TokenRefusal::AlgNotAllowed, "alg is none of the source's algorithms"))
    }

    fn key_id<'a>(&self, token: &'a UnverifiedIdToken) -> Result<(Algorithm, Option<&'a str>), Refusal> {
        let algorithm = self.algorithm(token)?;
        match token.header("kid") {
            None => Ok((algorithm, None)),
            Some(Value::String(kid)) => Ok((algorithm, Some(kid))),
            Some(_) => Err(refusal(TokenRefusal::Malformed, "kid is not a string")),
        }
    }

    /// All but the groups: when the token was issued, and for whom.
    fn believe(&self, token: &UnverifiedIdToken, signature: Signature) -> Result<(Times, String), Refusal> {
        signed(signature)?;
        let subject = named(token.claims().get("sub"));
        match (claims::check(&self.settings, token, self.clock.now()), subject) {
            (Ok(times), Some(subject)) => Ok((times, subject)),
            (Ok(_), None) => Err(refusal(TokenRefusal::SubjectRejected, "has no sub")),
            (Err((reason, detail)), subject) => Err(Refusal { subject, ..refusal(reason, detail) }),
        }
    }

    /// `claims` are the token's, with what was fetched elsewhere.
    fn identity(&self, token: &UnverifiedIdToken, claims: &Value, times: Times, subject: &str) -> Identity {
        let plain = |name: &str| named(claims.get(name));
        let configured = |pointer: &Option<Pointer>, usual: &str| match pointer {
            Some(pointer) => named(pointer.of(claims)),
            None => plain(usual),
        };
        let username = configured(&self.settings.username, "preferred_username").or_else(|| plain("preferred_username"));
        let email = configured(&self.settings.email, "email");
        // The provider vouches for the claim `email`, not for whatever else is configured to be the address.
        let vouched = email.is_some() && email == plain("email");
        let upstream = Upstream {
            issuer: self.settings.issuer.clone(),
            session: plain("sid"),
            token_id: token.id(),
            remember_until: times.issued_at.saturating_add(self.settings.max_age).saturating_add(self.settings.clock_skew),
        };
        Identity {
            source: self.name.clone(),
            issuer: self.settings.issuer.clone(),
            subject: subject.to_owned(),
            username: username.unwrap_or_else(|| subject.to_owned()),
            dn: None,
            email_verified: vouched && claims.get("email_verified") == Some(&Value::Bool(true)),
            email,
            name: configured(&self.settings.name, "name"),
            auth_time: times.authenticated_at.unwrap_or(times.issued_at),
            checked_at: self.clock.now().min(times.issued_at),
            amr: claims::methods(claims),
            upstream: Some(upstream),
            facts: Facts { groups: Vec::new(), claims: claims.clone() },
            claimed_groups: groups::names(&self.settings, claims),
            assigned_roles: Vec::new(),
            must_change_password: false,
            password_never_changed: false,
        }
    }
}

fn signed(signature: Signature) -> Result<(), Refusal> {
    match signature {
        Signature::NoKey => Err(refusal(TokenRefusal::UnknownKey, "no key of the provider fits kid and alg")),
        Signature::Bad => Err(refusal(TokenRefusal::BadSignature, "the signature does not match")),
        Signature::Good => Ok(()),
    }
}

/// A claim that can serve as a name: a string that is not empty, without control characters.
fn named(claim: Option<&Value>) -> Option<String> {
    claim.and_then(Value::as_str).filter(|text| claims::is_name(text)).map(str::to_owned)
}

/// The detail begins with the code, which is what audit records are searched for.
fn refusal(reason: TokenRefusal, detail: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalReason::Token(reason), format!("{}: {detail}", reason.as_str()))
}
