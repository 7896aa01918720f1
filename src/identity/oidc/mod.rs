//! An OpenID provider as a source: people come with an id token that it signed. Okta is a preset of it.
//!
//! [`UnverifiedIdToken::parse`] takes a token apart, its unverified issuer chooses the source, and [`Oidc::verify`] answers an
//! [`Identity`], a refusal with the code of the first check that failed, or that the provider's keys cannot be had. The checks
//! run in this order: form, `alg`, key, signature (here), then what [`claims`] lists. Identity is (iss, sub), never e-mail.
//!
//! `settings` is the checked configuration, `token` and `json` read strictly, `keys` verifies signatures, `provider` fetches
//! keys when `schedule` says so.

mod claims;
mod json;
mod keys;
pub mod probe;
mod provider;
mod schedule;
mod settings;
#[cfg(test)]
mod tests;
mod token;

use jsonwebtoken::Algorithm;
use serde_json::Value;

use self::claims::Times;
use self::keys::Signature;
use self::provider::Provider;
use self::settings::{Pointer, Settings};
pub use self::token::UnverifiedIdToken;
use super::{Authentication, Facts, Identity, Outage, Refusal, RefusalReason, TokenRefusal, Upstream};
use crate::clock::Clock;
use crate::config::{OidcSource, Problem};
use crate::oauth2::SourceName;
use crate::outbound::Client;

/// One configured provider.
#[derive(Debug)]
pub struct Oidc {
    name: SourceName,
    settings: Settings,
    provider: Provider,
    clock: Clock,
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
                let provider = Provider::new(settings.issuer.clone(), settings.discovery.clone(), client);
                Ok(Oidc { name, settings, provider, clock })
            }
            (settings, client) => Err(settings.err().into_iter().flatten().chain(client.err()).collect()),
        }
    }

    /// The `iss` of its tokens, exactly.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Whether the source can be asked about a person again without them: not with id tokens alone.
    pub fn can_recheck(&self) -> bool {
        false
    }

    pub fn sign_in_config(&self) -> SignInConfig<'_> {
        let Settings { base_url, client_id, issuer, audiences, .. } = &self.settings;
        SignInConfig { base_url, client_id, issuer, audience: audiences.first().unwrap_or(client_id) }
    }

    /// The first step of [`Oidc::verify`], for a caller that has checks of its own to make before the provider is asked.
    pub fn check_header(&self, token: &UnverifiedIdToken) -> Result<(), Refusal> {
        self.algorithm(token).map(drop)
    }

    /// Who the token speaks of. Single use is not looked at: whoever issues because of the token claims its
    /// [`Upstream::token_id`] in the same transaction.
    pub async fn verify(&self, token: &UnverifiedIdToken, purpose: Purpose) -> Authentication {
        let Purpose::Exchange = purpose;
        let keys = match self.key_id(token) {
            Ok((algorithm, kid)) => match self.provider.keys(kid).await {
                Ok(Some(keys)) => Ok(keys.verify(token, algorithm, kid)),
                Ok(None) => Ok(Signature::NoKey),
                Err(reason) => return Authentication::Unavailable(Outage::new(&self.name, reason)),
            },
            Err(refusal) => Err(refusal),
        };
        match keys.and_then(|signature| self.believe(token, signature)) {
            Ok(identity) => Authentication::Authenticated(Box::new(identity)),
            Err(refusal) => Authentication::Refused(refusal),
        }
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

    fn believe(&self, token: &UnverifiedIdToken, signature: Signature) -> Result<Identity, Refusal> {
        match signature {
            Signature::NoKey => return Err(refusal(TokenRefusal::UnknownKey, "no key of the provider fits kid and alg")),
            Signature::Bad => return Err(refusal(TokenRefusal::BadSignature, "the signature does not match")),
            Signature::Good => {}
        }
        let subject = named(token.claims().get("sub"));
        match (claims::check(&self.settings, token, self.clock.now()), &subject) {
            (Ok(times), Some(subject)) => Ok(self.identity(token, times, subject)),
            (Ok(_), None) => Err(refusal(TokenRefusal::SubjectRejected, "has no sub")),
            (Err((reason, detail)), _) => Err(Refusal { subject, ..refusal(reason, detail) }),
        }
    }

    fn identity(&self, token: &UnverifiedIdToken, times: Times, subject: &str) -> Identity {
        let claims = token.claims();
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
            amr: claims::methods(claims),
            upstream: Some(upstream),
            facts: Facts { groups: Vec::new(), claims: claims.clone() },
            claimed_groups: claims::groups_of(&self.settings, claims),
            assigned_roles: Vec::new(),
            must_change_password: false,
            password_never_changed: false,
        }
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
