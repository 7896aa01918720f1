//! The configured source, checked once at the start so that a sign-in cannot find a mistake in it.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::Value;

use crate::config::{OidcSource, Problem};
use crate::outbound::Address;

/// What [`OidcSource`] says, in the form that verification needs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub issuer: String,
    /// Where the provider's metadata is: OpenID Connect Discovery 1.0 section 4.
    pub discovery: Address,
    pub base_url: String,
    /// The same, as an address.
    pub base: Address,
    /// Whose Global Token Revocation is accepted: the issuer and where its metadata is.
    pub revocations: Option<(String, Address)>,
    pub client_id: String,
    /// Never empty.
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    pub groups: Pointer,
    pub groups_required: bool,
    /// Seconds.
    pub clock_skew: i64,
    /// Seconds.
    pub max_age: i64,
    pub acr_values: Vec<String>,
    pub amr_values: Vec<String>,
    /// Seconds.
    pub max_auth_age: Option<i64>,
    pub username: Option<Pointer>,
    pub email: Option<Pointer>,
    pub name: Option<Pointer>,
}

/// A JSON Pointer (RFC 6901) that is well-formed and not the whole document.
#[derive(Clone, Debug)]
pub struct Pointer(String);

impl Pointer {
    pub fn parse(text: &str) -> Result<Pointer, String> {
        if !text.starts_with('/') {
            return Err(format!("{text:?} is not a JSON Pointer; it begins with a slash, as in /groups"));
        }
        // RFC 6901 section 3: a tilde is only ever ~0 or ~1.
        match text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1'])) {
            true => Ok(Pointer(text.to_owned())),
            false => Err(format!("{text:?} is not a JSON Pointer; write ~0 for a tilde and ~1 for a slash within a name")),
        }
    }

    /// What it points at among the claims.
    pub fn of<'a>(&self, claims: &'a Value) -> Option<&'a Value> {
        claims.pointer(&self.0)
    }

    /// The member `name` of the claims, which needs no escape.
    pub fn member(name: &str) -> Pointer {
        Pointer(format!("/{name}"))
    }

    /// Sets what it points at, making the objects on the way; false where something else stands in the way.
    pub fn put(&self, claims: &mut Value, value: Value) -> bool {
        let mut at = claims;
        for token in self.0.split('/').skip(1) {
            let Value::Object(members) = at else { return false };
            at = members.entry(token.replace("~1", "/").replace("~0", "~")).or_insert_with(|| Value::Object(serde_json::Map::new()));
        }
        *at = value;
        true
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// The name of the claim that holds what it points at.
    pub fn claim(&self) -> String {
        self.0.split('/').nth(1).unwrap_or_default().replace("~1", "/").replace("~0", "~")
    }
}

impl Settings {
    /// Every mistake at once; paths are relative to the source.
    pub fn new(config: &OidcSource) -> Result<Settings, Vec<Problem>> {
        let mut problems = Vec::new();
        let issuer = address("issuer", &config.issuer, &mut problems);
        if issuer.as_ref().is_some_and(Address::has_query) {
            problems.push(Problem::new("issuer", "has a query; an issuer has none (OpenID Connect Discovery 1.0 section 3)"));
        }
        let discovery = discovery(&config.issuer);
        let base_url = match &config.base_url {
            Some(text) => address("base_url", text, &mut problems).map(|_| text.clone()),
            None => issuer.as_ref().map(Address::origin),
        };
        let base = base_url.as_deref().and_then(|text| Address::parse(text).ok());
        if config.api_token_file.is_some() && !config.okta {
            let mend = "is for type = \"okta\", whose API takes such tokens; remove it, or change the type";
            problems.push(Problem::new("api_token_file", mend));
        }
        let revocations = revocations(config, base_url.as_deref(), &mut problems);
        if config.client_id.is_empty() {
            problems.push(Problem::new("client_id", "is missing; it is the id that the provider gave to your application"));
        }
        empty_entries("audiences", &config.audiences, &mut problems);
        empty_entries("acr_values", &config.acr_values, &mut problems);
        empty_entries("amr_values", &config.amr_values, &mut problems);
        let groups = pointer("groups_claim", Some(&config.groups_claim), &mut problems);
        let username = pointer("attributes.username", config.attributes.username.as_ref(), &mut problems);
        let email = pointer("attributes.email", config.attributes.email.as_ref(), &mut problems);
        let name = pointer("attributes.name", config.attributes.name.as_ref(), &mut problems);
        let algorithms = algorithms(&config.algorithms, &mut problems);
        let (Some(discovery), Some((base_url, base)), Some(groups), []) = (discovery, base_url.zip(base), groups, problems.as_slice())
        else {
            return Err(problems);
        };
        let audiences = if config.audiences.is_empty() { vec![config.client_id.clone()] } else { config.audiences.clone() };
        Ok(Settings {
            issuer: config.issuer.clone(),
            discovery,
            base_url,
            base,
            revocations,
            client_id: config.client_id.clone(),
            audiences,
            algorithms,
            groups,
            groups_required: config.groups_required,
            clock_skew: seconds(config.clock_skew),
            max_age: seconds(config.max_age),
            acr_values: config.acr_values.clone(),
            amr_values: config.amr_values.clone(),
            max_auth_age: config.max_auth_age.map(seconds),
            username,
            email,
            name,
        })
    }
}

/// OpenID Connect Discovery 1.0 section 4: a slash at the end is not doubled.
fn discovery(issuer: &str) -> Option<Address> {
    Address::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).ok()
}

/// Okta's organisation signs its requests, also where the id tokens come from a custom authorization server.
fn revocations(config: &OidcSource, base_url: Option<&str>, problems: &mut Vec<Problem>) -> Option<(String, Address)> {
    let key = "global_token_revocation_issuer";
    let issuer = match &config.global_token_revocation_issuer {
        Some(_) if !config.global_token_revocation => {
            problems.push(Problem::new(key, "has no meaning without global_token_revocation = true; set that, or remove this"));
            return None;
        }
        _ if !config.global_token_revocation => return None,
        Some(issuer) => {
            address(key, issuer, problems)?;
            issuer.clone()
        }
        None if config.okta => base_url?.trim_end_matches('/').to_owned(),
        None => config.issuer.clone(),
    };
    let discovery = discovery(&issuer)?;
    Some((issuer, discovery))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn address(path: &str, text: &str, problems: &mut Vec<Problem>) -> Option<Address> {
    if text.is_empty() {
        problems.push(Problem::new(path, "is missing; for Okta it is such as https://example.okta.com/oauth2/default"));
        return None;
    }
    Address::parse(text).map_err(|reason| problems.push(Problem::new(path, reason))).ok()
}

fn pointer(path: &str, text: Option<&String>, problems: &mut Vec<Problem>) -> Option<Pointer> {
    Pointer::parse(text?).map_err(|reason| problems.push(Problem::new(path, reason))).ok()
}

fn empty_entries(path: &str, entries: &[String], problems: &mut Vec<Problem>) {
    for (i, _) in entries.iter().enumerate().filter(|(_, entry)| entry.trim().is_empty()) {
        problems.push(Problem::new(format!("{path}[{i}]"), "is empty; remove it"));
    }
}

/// Only those whose keys are public: with a symmetric one, whoever knows the provider's published key could sign.
fn algorithms(names: &[String], problems: &mut Vec<Problem>) -> Vec<Algorithm> {
    if names.is_empty() {
        problems.push(Problem::new("algorithms", "is empty; name what the provider signs with, usually RS256"));
    }
    let mut found = Vec::new();
    for (i, name) in names.iter().enumerate() {
        match algorithm(name) {
            Some(algorithm) => found.push(algorithm),
            None => problems.push(Problem::new(
                format!("algorithms[{i}]"),
                format!("{name:?} is not accepted; one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"),
            )),
        }
    }
    found
}

/// `alg` of RFC 7518 section 3.1, the asymmetric ones.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Attributes;

    fn okta() -> OidcSource {
        OidcSource { issuer: "https://org.okta.test/oauth2/default".into(), client_id: "app".into(), ..OidcSource::default() }
    }

    fn problems(change: impl Fn(&mut OidcSource)) -> Vec<String> {
        let mut config = okta();
        change(&mut config);
        let found = Settings::new(&config).unwrap_err();
        found.into_iter().map(|problem| format!("{}: {}", problem.path, problem.reason)).collect()
    }

    #[test]
    fn defaults_follow_from_issuer_and_client() {
        let settings = Settings::new(&okta()).unwrap();
        assert_eq!(settings.base_url, "https://org.okta.test");
        assert_eq!(settings.audiences, ["app"]);
        assert_eq!(settings.discovery.to_string(), "https://org.okta.test/oauth2/default/.well-known/openid-configuration");
        let slash = OidcSource { issuer: "https://tenant.auth0.test/".into(), ..okta() };
        let settings = Settings::new(&slash).unwrap();
        assert_eq!(settings.discovery.to_string(), "https://tenant.auth0.test/.well-known/openid-configuration");
        assert_eq!(settings.issuer, "https://tenant.auth0.test/");
    }

    #[test]
    fn every_mistake_names_its_key() {
        let one = |change: fn(&mut OidcSource), expected: &str| {
            let found = problems(change);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?} is not {expected}");
        };
        one(|c| c.issuer = "http://org.okta.test".into(), "issuer: is plain http");
        one(|c| c.issuer.push(' '), "issuer: begins or ends with a space");
        one(|c| c.issuer.push_str("?a"), "issuer: has a query");
        one(|c| c.issuer.clear(), "issuer: is missing");
        one(|c| c.client_id.clear(), "client_id: is missing");
        one(|c| c.base_url = Some("ftp://x".into()), "base_url: has the scheme ftp");
        one(|c| c.audiences = vec!["a".into(), String::new()], "audiences[1]: is empty");
        one(|c| c.algorithms.clear(), "algorithms: is empty");
        one(|c| c.algorithms = vec!["RS256".into(), "HS256".into()], "algorithms[1]: \"HS256\" is not accepted");
        one(|c| c.algorithms = vec!["none".into()], "algorithms[0]: \"none\" is not accepted");
        one(|c| c.groups_claim = "groups".into(), "groups_claim: \"groups\" is not a JSON Pointer");
        one(|c| c.groups_claim.clear(), "groups_claim: \"\" is not a JSON Pointer");
        let tilde = |c: &mut OidcSource| c.attributes = Attributes { name: Some("/a~2".into()), ..Attributes::default() };
        one(tilde, "attributes.name: \"/a~2\" is not a JSON Pointer");
        one(|c| c.api_token_file = Some("token".into()), "api_token_file: is for type = \"okta\"");
        one(|c| c.global_token_revocation_issuer = Some("https://org.okta.test".into()), "global_token_revocation_issuer: has no meaning");
        let plain = |c: &mut OidcSource| {
            (c.global_token_revocation, c.global_token_revocation_issuer) = (true, Some("http://org.okta.test".into()));
        };
        one(plain, "global_token_revocation_issuer: is plain http");
        assert_eq!(problems(|c| *c = OidcSource::default()).len(), 2);
    }

    #[test]
    fn who_signs_revocations() {
        let revoker = |change: fn(&mut OidcSource)| {
            let mut config = OidcSource { global_token_revocation: true, ..okta() };
            change(&mut config);
            Settings::new(&config).unwrap().revocations.unwrap().0
        };
        assert!(Settings::new(&okta()).unwrap().revocations.is_none());
        assert_eq!(revoker(|_| ()), "https://org.okta.test/oauth2/default");
        assert_eq!(revoker(|c| c.okta = true), "https://org.okta.test");
        assert_eq!(revoker(|c| (c.okta, c.base_url) = (true, Some("https://login.org.test/".into()))), "https://login.org.test");
        assert_eq!(revoker(|c| c.global_token_revocation_issuer = Some("https://a.test/".into())), "https://a.test/");
    }

    #[test]
    fn a_pointer_puts_what_it_points_at() {
        let mut claims = serde_json::json!({"a": {"b": 1}, "c": "x"});
        assert!(Pointer::parse("/a/d~1e").unwrap().put(&mut claims, 2.into()));
        assert!(Pointer::parse("/f/g").unwrap().put(&mut claims, 3.into()));
        assert!(!Pointer::parse("/c/h").unwrap().put(&mut claims, 4.into()));
        assert_eq!(claims, serde_json::json!({"a": {"b": 1, "d/e": 2}, "c": "x", "f": {"g": 3}}));
    }

    #[test]
    fn a_pointer_knows_its_claim() {
        assert_eq!(Pointer::parse("/https:~1~1a~1groups/0").unwrap().claim(), "https://a/groups");
    }
}
