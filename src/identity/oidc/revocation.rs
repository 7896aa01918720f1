//! Global Token Revocation (draft-parecki-oauth-global-token-revocation; Okta calls it Universal Logout): the provider says, in a
//! signed token of a kind of its own, that everything of a person ends. Verified like an id token, with the keys of whoever signs
//! these; what differs is `typ`, the audience (our endpoint), and that `jti` is required. Whose tokens end stands in the body of the
//! request, not in the token.

use serde_json::Value;

use super::keys::Signature;
use super::{Halt, Oidc, Outage, UnverifiedIdToken, claims, named, refusal, signed};
use crate::identity::{Refusal, TokenRefusal};

/// The kind of token, in its header (RFC 8725 section 3.11).
const KIND: &str = "global-token-revocation+jwt";

/// A request of the provider that was verified, but for its single use.
#[derive(Debug)]
pub struct VerifiedRevocation {
    /// What makes it single-use.
    pub token_id: String,
    /// Until when its use must be remembered, in seconds.
    pub remember_until: i64,
    /// Id tokens that are to be remembered no longer than this were issued before the revocation, and are not accepted any more.
    pub bars_until: i64,
}

impl Oidc {
    /// Whether the provider may revoke (`global_token_revocation`).
    pub fn accepts_revocations(&self) -> bool {
        self.revoker.is_some()
    }

    /// Whether a person may be named by this issuer in a revocation: the issuer of the id tokens, or who signs the revocations
    /// (Okta's organisation, which has the same people as its custom authorization servers).
    pub fn names_people_of(&self, issuer: &str) -> bool {
        issuer == self.settings.issuer || self.settings.revocations.as_ref().is_some_and(|(revoker, _)| revoker == issuer)
    }

    /// Verifies the bearer token of a request to `endpoint`, the URL of our endpoint.
    pub async fn verify_revocation(&self, token: &UnverifiedIdToken, endpoint: &str) -> Result<VerifiedRevocation, Halt> {
        let Some((provider, (issuer, _))) = self.revoker.as_ref().zip(self.settings.revocations.as_ref()) else {
            return Err(refusal(TokenRefusal::WrongIssuer, "the source has no global_token_revocation").into());
        };
        let (algorithm, kid) = self.key_id(token)?;
        let keys = provider.keys(kid).await.map_err(|reason| Halt::Down(Outage::new(&self.name, reason)))?;
        signed(keys.map_or(Signature::NoKey, |keys| keys.verify(token, algorithm, kid)))?;
        Ok(self.believe_revocation(token, issuer, endpoint)?)
    }

    /// What a token with a good signature must say.
    pub(super) fn believe_revocation(
        &self,
        token: &UnverifiedIdToken,
        issuer: &str,
        endpoint: &str,
    ) -> Result<VerifiedRevocation, Refusal> {
        if token.issuer() != issuer {
            return Err(refusal(TokenRefusal::WrongIssuer, format!("iss is {}", claims::shown(token.issuer()))));
        }
        let kind = token.header("typ").and_then(Value::as_str).unwrap_or_default();
        if !kind.strip_prefix("application/").unwrap_or(kind).eq_ignore_ascii_case(KIND) {
            return Err(refusal(TokenRefusal::WrongTokenType, format!("typ is {}, not {KIND}", claims::shown(kind))));
        }
        let members = token.claims();
        let ours = match members.get("aud") {
            Some(Value::Array(audiences)) => audiences.iter().any(|audience| audience == endpoint),
            audience => audience.and_then(Value::as_str) == Some(endpoint),
        };
        if !ours {
            let audience = members.get("aud").map(Value::to_string).unwrap_or_default();
            return Err(refusal(TokenRefusal::WrongAudience, format!("aud is {}, not {endpoint}", claims::shown(&audience))));
        }
        let now = self.clock.now();
        let issued_at = claims::times(&self.settings, members, now).map_err(|(reason, detail)| refusal(reason, detail))?;
        if named(members.get("jti")).is_none() {
            return Err(refusal(TokenRefusal::Malformed, "has no jti"));
        }
        let kept = self.settings.max_age.saturating_add(self.settings.clock_skew);
        Ok(VerifiedRevocation {
            token_id: token.id(),
            remember_until: issued_at.saturating_add(kept),
            // By the later of both clocks: nothing that was issued before may slip through.
            bars_until: issued_at.max(now).saturating_add(kept),
        })
    }
}
