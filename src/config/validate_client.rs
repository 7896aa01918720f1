//! Declared clients: what `[[client]]` may combine.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::location::Problem;
use super::validate::{between, unknown_source};
use super::{AuthMethod, Client, Config, Introspect};
use crate::oauth2::request::GrantType;
use crate::oauth2::{ClientId, scope};

/// Whether a role administers Countersign itself: clients never have such. Case does not matter, so that no look-alike is made.
fn administers(role: &str) -> bool {
    const OURS: &str = "countersign:";
    role.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS))
}

/// Bounds of `offline_policy.grace` and `identity_max_age`.
const LONGEST_AGE: Duration = Duration::from_secs(30 * 86_400);

/// An access token lives no longer than this, whatever is configured.
pub const LONGEST_ACCESS_LIFETIME: Duration = Duration::from_secs(86_400);

pub(super) fn clients(config: &Config, problems: &mut Vec<Problem>) {
    let mut ids = BTreeMap::new();
    for (i, client) in config.clients.iter().enumerate() {
        let at = format!("client[{i}]");
        if let Some(first) = ids.insert(client.id.as_str(), i).filter(|_| !client.id.is_empty()) {
            problems.push(Problem::new(format!("{at}.id"), format!("client[{first}] has the id {} already", client.id)));
        }
        let mistakes = check(client).into_iter().map(|p| Problem::new(format!("{at}.{}", p.path), p.reason));
        problems.extend(mistakes);
        if !client.public && client.secrets_file.is_none() && client.auth_method != Some(AuthMethod::PrivateKeyJwt) {
            let reason = "the client has nothing to authenticate with; set secrets_file, auth_method = \"private_key_jwt\" with its keys, or \
                          public = true if it can keep no secret";
            problems.push(Problem::new(at.clone(), reason));
        }
        let known = config.source_names();
        for (s, name) in client.sources.iter().flatten().enumerate().filter(|(_, name)| !known.contains(name)) {
            problems.push(Problem::new(format!("{at}.sources[{s}]"), unknown_source(config, name)));
        }
    }
}

/// What is wrong with one client by itself, with paths relative to it (`grants[0]`); the command line asks the same.
pub fn check(client: &Client) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |path: String, reason: String| problems.push(Problem::new(path, reason));
    if let Err(reason) = ClientId::check(&client.id) {
        add("id".to_owned(), reason.to_owned());
    }
    for (i, grant) in client.grants.iter().enumerate() {
        match GrantType::parse(grant) {
            None => add(
                format!("grants[{i}]"),
                format!("unknown grant type {grant}; the known ones are {}", GrantType::ALL.map(GrantType::as_str).join(", ")),
            ),
            Some(GrantType::ClientCredentials) if client.public => {
                add(format!("grants[{i}]"), "a public client has no credentials of its own (RFC 6749 section 4.4)".to_owned());
            }
            Some(_) => {}
        }
    }
    match (client.public, client.auth_method) {
        (false, Some(AuthMethod::None)) => {
            add("auth_method".to_owned(), "none is for public clients; set public = true, or another method".to_owned())
        }
        (true, Some(AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost | AuthMethod::PrivateKeyJwt)) => {
            add("auth_method".to_owned(), "a public client has nothing to authenticate with; write none or leave the key out".to_owned());
        }
        _ => {}
    }
    if client.public && client.revocations {
        add("revocations".to_owned(), "a public client may not follow the revocations; it can prove nothing".to_owned());
    }
    match (client.auth_method, &client.jwks, &client.jwks_uri) {
        (Some(AuthMethod::PrivateKeyJwt), None, None) => {
            add("auth_method".to_owned(), "private_key_jwt needs the client's public keys; set jwks or jwks_uri".to_owned());
        }
        (_, Some(_), Some(_)) => add("jwks_uri".to_owned(), "jwks is set too; keep one of them (RFC 7591 section 2)".to_owned()),
        (Some(AuthMethod::PrivateKeyJwt), ..) if client.secrets_file.is_some() => {
            let reason = "a client that proves itself by its key has no secrets; take away secrets_file, or write another auth_method";
            add("secrets_file".to_owned(), reason.to_owned());
        }
        (Some(AuthMethod::PrivateKeyJwt), ..) | (_, None, None) => {}
        (_, jwks, _) => {
            let key = if jwks.is_some() { "jwks" } else { "jwks_uri" };
            add(key.to_owned(), "keys are used by one way of authentication alone; add auth_method = \"private_key_jwt\"".to_owned());
        }
    }
    if client.public && client.secrets_file.is_some() {
        add("secrets_file".to_owned(), "a public client keeps no secrets; take away secrets_file or public".to_owned());
    }
    if client.public && (client.introspect == Introspect::Any || !client.resources.is_empty()) {
        let key = if client.resources.is_empty() { "introspect" } else { "resources" };
        add(key.to_owned(), "a public client may not introspect (RFC 7662 section 2.1)".to_owned());
    }
    for (i, _) in client.scopes.iter().enumerate().filter(|(_, token)| !scope::is_token(token)) {
        let reason = "a scope has visible ASCII characters without quote, backslash and space (RFC 6749 section 3.3)";
        add(format!("scopes[{i}]"), reason.to_owned());
    }
    for (i, role) in client.roles.iter().enumerate() {
        if role.is_empty() {
            add(format!("roles[{i}]"), "an empty role".to_owned());
        } else if administers(role) {
            add(format!("roles[{i}]"), "roles that begin countersign: administer Countersign, and no client may have them".to_owned());
        }
    }
    for (i, _) in client.audiences.iter().enumerate().filter(|(_, audience)| audience.is_empty()) {
        add(format!("audiences[{i}]"), "an empty audience".to_owned());
    }
    for (i, resource) in client.resources.iter().enumerate() {
        if Url::parse(resource).ok().is_none_or(|url| url.fragment().is_some()) {
            add(format!("resources[{i}]"), "a resource is an absolute URI without a fragment (RFC 8707 section 2)".to_owned());
        }
    }
    for (i, claim) in client.jwt_claims.iter().enumerate().filter(|(_, claim)| !["roles", "groups"].contains(&claim.as_str())) {
        add(format!("jwt_claims[{i}]"), format!("unknown claim {claim}; write roles or groups"));
    }
    let lifetime = client.access_lifetime.and_then(|l| between("access_lifetime", l, Duration::from_secs(1), LONGEST_ACCESS_LIFETIME));
    problems.extend(lifetime);
    ages(client, &mut problems);
    problems
}

/// How old what is known about a person may be.
fn ages(client: &Client, problems: &mut Vec<Problem>) {
    const SECOND: Duration = Duration::from_secs(1);
    if let Some(age) = client.identity_max_age {
        problems.extend(between("identity_max_age", age, SECOND, LONGEST_AGE));
        if client.public {
            let reason = "this is for a resource server that introspects, which a public client may not (RFC 7662 section 2.1)";
            problems.push(Problem::new("identity_max_age", reason));
        }
    }
    if let Some(policy) = &client.offline_policy {
        let longest = client.access_lifetime.unwrap_or(LONGEST_ACCESS_LIFETIME);
        problems.extend(between("offline_policy.grace", policy.grace, SECOND, LONGEST_AGE));
        problems.extend(between("offline_policy.access_lifetime", policy.access_lifetime, SECOND, longest));
        if !client.grants.iter().any(|grant| grant == GrantType::RefreshToken.as_str()) {
            let reason = "this is about refreshing, and grants has no refresh_token; add it, or leave the policy out";
            problems.push(Problem::new("offline_policy", reason));
        }
    }
}
