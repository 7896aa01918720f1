//! What an id token with a good signature must say. Pure; the checks run in the order in which they stand here.

use serde_json::Value;

use super::settings::Settings;
use super::token::UnverifiedIdToken;
use crate::identity::TokenRefusal;

/// Why not, with what the audit should know.
pub type Refused = (TokenRefusal, String);

/// OpenID Connect Core 1.0 section 2.
const SUBJECT_LIMIT: usize = 255;

/// Times that the token claims, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub issued_at: i64,
    pub authenticated_at: Option<i64>,
}

/// Every check after the signature's but that of the groups, for an exchange at `now`. Single use is not checked here: the grant
/// claims the token in the transaction that issues.
pub fn check(settings: &Settings, token: &UnverifiedIdToken, now: i64) -> Result<Times, Refused> {
    let claims = token.claims();
    issuer(settings, token)?;
    id_token(token)?;
    audience(settings, claims)?;
    let issued_at = times(settings, claims, now)?;
    let authenticated_at = authentication(settings, claims, now)?;
    subject(claims)?;
    Ok(Times { issued_at, authenticated_at })
}

fn issuer(settings: &Settings, token: &UnverifiedIdToken) -> Result<(), Refused> {
    match token.issuer() == settings.issuer {
        true => Ok(()),
        false => refuse(TokenRefusal::WrongIssuer, format!("iss is {}", shown(token.issuer()))),
    }
}

/// Neither a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.4) nor an access token (`scope` of RFC 9068 section
/// 2.2.3; Okta's have `scp` and `cid`), nor any other kind that says so in `typ`, be it that of the header (RFC 8725 section 3.11)
/// or the claim in which Keycloak writes `ID`, `Bearer`, `Refresh` or `Logout`.
fn id_token(token: &UnverifiedIdToken) -> Result<(), Refused> {
    if let Some(claim) = ["events", "scope", "scp", "cid"].into_iter().find(|claim| token.claims().get(*claim).is_some()) {
        return refuse(TokenRefusal::WrongTokenType, format!("has the claim {claim}"));
    }
    if let Some(kind) = token.claims().get("typ").filter(|kind| kind.as_str() != Some("ID")) {
        return refuse(TokenRefusal::WrongTokenType, format!("the claim typ is {}", shown(&kind.to_string())));
    }
    match token.header("typ") {
        None => Ok(()),
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("JWT") || kind.eq_ignore_ascii_case("application/jwt") => Ok(()),
        Some(kind) => refuse(TokenRefusal::WrongTokenType, format!("typ is {}", shown(&kind.to_string()))),
    }
}

/// OpenID Connect Core 1.0 section 3.1.3.7, steps 3 to 5.
fn audience(settings: &Settings, claims: &Value) -> Result<(), Refused> {
    let audiences: Vec<Option<&str>> = match claims.get("aud") {
        Some(Value::Array(values)) => values.iter().map(Value::as_str).collect(),
        Some(value) => vec![value.as_str()],
        None => return refuse(TokenRefusal::WrongAudience, "has no aud"),
    };
    let accepted = |value: &Option<&str>| value.is_some_and(|value| settings.audiences.iter().any(|audience| audience == value));
    if audiences.contains(&None) || !audiences.iter().any(accepted) {
        let names: Vec<&str> = audiences.into_iter().flatten().collect();
        return refuse(TokenRefusal::WrongAudience, format!("aud is {}", shown(&names.join(" "))));
    }
    match claims.get("azp") {
        Some(party) if party.as_str() == Some(&settings.client_id) => Ok(()),
        Some(party) => refuse(TokenRefusal::WrongAudience, format!("azp is {}", shown(&party.to_string()))),
        None if audiences.len() > 1 => refuse(TokenRefusal::WrongAudience, "has several audiences and no azp"),
        None => Ok(()),
    }
}

/// RFC 7519 sections 4.1.4 to 4.1.6; answers `iat`.
pub fn times(settings: &Settings, claims: &Value, now: i64) -> Result<i64, Refused> {
    let skew = settings.clock_skew;
    let Some(expires_at) = seconds(claims, "exp")? else {
        return refuse(TokenRefusal::Malformed, "has no exp");
    };
    if now >= expires_at.saturating_add(skew) {
        return refuse(TokenRefusal::Expired, format!("expired {} s ago", now.saturating_sub(expires_at)));
    }
    if let Some(not_before) = seconds(claims, "nbf")?
        && not_before > now.saturating_add(skew)
    {
        return refuse(TokenRefusal::NotYetValid, format!("valid in {} s", not_before.saturating_sub(now)));
    }
    let Some(issued_at) = seconds(claims, "iat")? else {
        return refuse(TokenRefusal::Malformed, "has no iat");
    };
    if issued_at > now.saturating_add(skew) {
        return refuse(TokenRefusal::NotYetValid, format!("issued {} s in the future", issued_at.saturating_sub(now)));
    }
    let age = now.saturating_sub(issued_at);
    if age > settings.max_age {
        return refuse(TokenRefusal::TooOld, format!("issued {age} s ago, max_age is {} s", settings.max_age));
    }
    Ok(issued_at)
}

/// `max_auth_age`, `acr_values` and `amr_values`; answers `auth_time`.
fn authentication(settings: &Settings, claims: &Value, now: i64) -> Result<Option<i64>, Refused> {
    let refuse = |detail: String| refuse(TokenRefusal::InsufficientAuthentication, detail);
    let at = seconds(claims, "auth_time")?;
    if at.is_some_and(|at| at > now.saturating_add(settings.clock_skew)) {
        return refuse("auth_time lies in the future".to_owned());
    }
    if let Some(limit) = settings.max_auth_age {
        match at {
            None => return refuse("has no auth_time, and the source has max_auth_age".to_owned()),
            Some(at) if now.saturating_sub(at) > limit.saturating_add(settings.clock_skew) => {
                return refuse(format!("signed in {} s ago, max_auth_age is {limit} s", now.saturating_sub(at)));
            }
            Some(_) => {}
        }
    }
    let context = claims.get("acr").and_then(Value::as_str);
    if !settings.acr_values.is_empty() && !context.is_some_and(|acr| settings.acr_values.iter().any(|wanted| wanted == acr)) {
        return refuse("acr is none of acr_values".to_owned());
    }
    let methods = methods(claims);
    if !settings.amr_values.is_empty() && !methods.iter().any(|amr| settings.amr_values.contains(amr)) {
        return refuse("amr has none of amr_values".to_owned());
    }
    Ok(at)
}

/// `amr` of OpenID Connect Core 1.0 section 2: an array of strings; what is not one counts as absent.
pub fn methods(claims: &Value) -> Vec<String> {
    let values = claims.get("amr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn subject(claims: &Value) -> Result<(), Refused> {
    match claims.get("sub").and_then(Value::as_str) {
        None => refuse(TokenRefusal::SubjectRejected, "has no sub, or one that is no string"),
        Some(sub) if !is_name(sub) => refuse(TokenRefusal::SubjectRejected, "sub is empty, too long, or has control characters"),
        Some(_) => Ok(()),
    }
}

/// Whether `text` can name a person, a session or a token: 1 to 255 bytes, no control characters.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= SUBJECT_LIMIT && !text.chars().any(char::is_control)
}

/// NumericDate of RFC 7519 section 2, which may have a fraction.
fn seconds(claims: &Value, name: &str) -> Result<Option<i64>, Refused> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    match value.as_i64().or_else(|| value.as_f64().filter(|at| at.abs() < 1e15).map(|at| at.floor() as i64)) {
        Some(at) => Ok(Some(at)),
        None => refuse(TokenRefusal::Malformed, format!("{name} is not a number of seconds")),
    }
}

pub fn refuse<T>(reason: TokenRefusal, detail: impl Into<String>) -> Result<T, Refused> {
    Err((reason, detail.into()))
}

/// A value of the token for the audit: quoted, escaped, and cut.
pub fn shown(value: &str) -> String {
    format!("{:?}", value.chars().take(100).collect::<String>())
}
