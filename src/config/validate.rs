//! What no single type can say: keys that need, exclude or bound one another. The rooms check what is theirs (filters, DNs,
//! regular expressions, certificates).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use url::{Host, Url};

use super::location::Problem;
use super::validate_client::{LONGEST_ACCESS_LIFETIME, clients};
use super::{Config, Source, SourceKind, Syslog};
use crate::oauth2::scope;

/// The paths of our own endpoints begin with these.
const RESERVED: [&str; 4] = ["/oauth2", "/.well-known", "/healthz", "/readyz"];

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// In years as humantime counts them: 365.25 days.
const TEN_YEARS: Duration = Duration::from_secs(10 * 31_557_600);
/// For keys whose length does no harm: it keeps sums of seconds far from overflow.
const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);

/// Everything that is wrong with a configuration whose keys and types are right.
pub(super) fn validate(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    server(config, &mut problems);
    database(config, &mut problems);
    durations(config, &mut problems);
    numbers(config, &mut problems);
    sources(config, &mut problems);
    clients(config, &mut problems);
    scopes(config, &mut problems);
    outbound(config, &mut problems);
    dialects(config, &mut problems);
    if let Some(Err(reason)) = config.audit.syslog.as_deref().map(Syslog::parse) {
        problems.push(Problem::new("audit.syslog", reason));
    }
    for name in config.mapping.defaults.keys().filter(|name| !config.source_names().contains(name)) {
        problems.push(Problem::new(format!("mapping.defaults.{name}"), unknown_source(config, name)));
    }
    problems
}

fn server(config: &Config, problems: &mut Vec<Problem>) {
    let server = &config.server;
    let mut add = |key: &str, reason: String| problems.push(Problem::new(format!("server.{key}"), reason));
    match (&server.tls_certificate, &server.tls_key) {
        (Some(_), None) => add("tls_certificate", "tls_key is missing; TLS needs both".to_owned()),
        (None, Some(_)) => add("tls_key", "tls_certificate is missing; TLS needs both".to_owned()),
        _ => {}
    }
    let (loopback, tls) = (server.listen.ip().is_loopback(), server.tls_certificate.is_some());
    if !loopback && !tls && server.tls_key.is_none() && server.trusted_proxies.is_empty() {
        let listen = server.listen;
        add(
            "listen",
            format!(
                "plain http on {listen} would send passwords and tokens in the clear; set tls_certificate and tls_key, or name the reverse \
                 proxies that end TLS in trusted_proxies, or listen on 127.0.0.1"
            ),
        );
    } else if server.issuer.is_none() && !loopback && (!tls || server.listen.ip().is_unspecified()) {
        add(
            "issuer",
            "missing: off loopback the public https URL of this server must be named, such as https://auth.example.org".to_owned(),
        );
    }
    if let Some(Err(reason)) = server.issuer.as_deref().map(check_issuer) {
        add("issuer", reason);
    }
}

/// RFC 8414 section 2: https, without query and fragment. Plain http for loopback only.
fn check_issuer(issuer: &str) -> Result<(), String> {
    let such = "write one such as https://auth.example.org";
    let url = Url::parse(issuer).map_err(|e| format!("no absolute URL ({e}); {such}"))?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => return Err(format!("a URL without a host; {such}")),
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err("off loopback the issuer must begin with https://".to_owned()),
        other => return Err(format!("the scheme {other} is none of https and http; {such}")),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("an issuer has no query and no fragment (RFC 8414 section 2)".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an issuer has no user name or password".to_owned());
    }
    if issuer.ends_with('/') {
        return Err("write it without the slash at the end; tokens are compared with it letter by letter".to_owned());
    }
    Ok(())
}

/// Nothing of the URL is repeated but its scheme: it may hold a password.
fn database(config: &Config, problems: &mut Vec<Problem>) {
    let key = if config.database.url_file.is_some() { "database.url_file" } else { "database.url" };
    let url = config.database.url.expose();
    let forms = "write sqlite:PATH or postgres://USER@HOST/DATABASE";
    let reason = match url.split_once(':') {
        Some(("sqlite", path)) if path.is_empty() || path.starts_with(':') => {
            Some("SQLite needs a file: the database is shared by several connections; write sqlite:PATH".to_owned())
        }
        Some(("sqlite", _)) => None,
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => None,
        Some(("postgres" | "postgresql", _)) => Some(format!("the slashes after the scheme are missing; {forms}")),
        Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) => {
            Some(format!("the scheme {scheme} is no database that can be used; {forms}"))
        }
        _ => Some(format!("no URL of a database; {forms}")),
    };
    problems.extend(reason.map(|reason| Problem::new(key, reason)));
}

fn durations(config: &Config, problems: &mut Vec<Problem>) {
    let (tokens, limits) = (&config.tokens, &config.limits);
    let second = Duration::from_secs(1);
    let bounds = [
        ("tokens.access_lifetime", tokens.access_lifetime, second, LONGEST_ACCESS_LIFETIME),
        ("tokens.refresh_lifetime", tokens.refresh_lifetime, second, TEN_YEARS),
        ("tokens.refresh_idle", tokens.refresh_idle, second, TEN_YEARS),
        ("tokens.refresh_grace", tokens.refresh_grace, second, Duration::from_secs(600)),
        // Revocations are kept for two minutes past the last token they matter to.
        ("tokens.max_staleness", tokens.max_staleness, second, Duration::from_secs(60)),
        // A new key is published for an hour, the age of a cached JWKS, before it signs.
        ("keys.rotation", config.keys.rotation, Duration::from_secs(7_200), TEN_YEARS),
        ("audit.retention", config.audit.retention, HOUR, CENTURY),
        ("limits.login_failures", limits.login_failures.per, second, DAY),
        ("limits.address_failures", limits.address_failures.per, second, DAY),
        ("limits.exchange_failures", limits.exchange_failures.per, second, DAY),
        ("limits.revocations", limits.revocations.per, second, DAY),
        ("limits.request_timeout", limits.request_timeout, second, HOUR),
        ("database.acquire_timeout", config.database.acquire_timeout, Duration::from_millis(1), HOUR),
    ];
    problems.extend(bounds.into_iter().filter_map(|(key, value, least, most)| between(key, value, least, most)));
    if tokens.refresh_idle > tokens.refresh_lifetime {
        let (idle, whole) = (humantime::format_duration(tokens.refresh_idle), humantime::format_duration(tokens.refresh_lifetime));
        let reason = format!("refresh_idle ({idle}) is longer than refresh_lifetime ({whole}), which ends the family anyway");
        problems.push(Problem::new("tokens.refresh_idle", reason));
    }
}

/// A problem unless `value` is within the bounds.
pub(super) fn between(key: &str, value: Duration, least: Duration, most: Duration) -> Option<Problem> {
    let write = humantime::format_duration;
    (value < least || value > most)
        .then(|| Problem::new(key, format!("{} is not between {} and {}", write(value), write(least), write(most))))
}

fn numbers(config: &Config, problems: &mut Vec<Problem>) {
    let (accounts, limits) = (&config.accounts, &config.limits);
    let bounds = [
        ("database.pool_size", config.database.pool_size as usize, 1, 1_000),
        ("accounts.password_min_length", accounts.password_min_length, 8, 128),
        ("accounts.password_min_score", usize::from(accounts.password_min_score), 0, 4),
        ("accounts.password_threads", accounts.password_threads, 1, 256),
        ("accounts.password_queue", accounts.password_queue, 1, 1_000_000),
        ("limits.body_bytes", limits.body_bytes, 1_024, 16 * 1_024 * 1_024),
        ("limits.connections", limits.connections, 1, 10_000_000),
        ("mapping.max_roles", config.mapping.max_roles, 1, 10_000),
    ];
    for (key, value, least, most) in bounds.into_iter().filter(|(_, value, least, most)| value < least || value > most) {
        problems.push(Problem::new(key, format!("{value} is not between {least} and {most}")));
    }
}

fn sources(config: &Config, problems: &mut Vec<Problem>) {
    let mut names = BTreeMap::new();
    let mut domains = BTreeMap::new();
    let mut issuers = BTreeMap::new();
    let mut local = None;
    for (i, source) in config.sources.iter().enumerate() {
        let name = &source.name;
        let charset = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > 40 || !name.bytes().all(charset) {
            let reason = "a source's name has 1 to 40 characters of a-z, 0-9 and the hyphen";
            problems.push(Problem::new(format!("source[{i}].name"), reason));
        } else if let Some(first) = names.insert(name.as_str(), i) {
            problems.push(Problem::new(format!("source[{i}].name"), format!("source[{first}] is named {name} already")));
        }
        if matches!(source.kind, SourceKind::Local(_))
            && let Some(first) = local.replace(i)
        {
            problems
                .push(Problem::new(format!("source[{i}].type"), format!("source[{first}] is local already, and there is one such source")));
        }
        if let SourceKind::Oidc(oidc) = &source.kind
            && let Some(first) = issuers.insert(oidc.issuer.as_str(), i).filter(|_| !oidc.issuer.is_empty())
        {
            let reason = format!("source[{first}] has this issuer already; its id tokens could belong to either");
            problems.push(Problem::new(format!("source[{i}].issuer"), reason));
        }
        for (d, domain) in domains_of(source).iter().enumerate() {
            if let Some(first) = domains.insert(domain.to_lowercase(), i).filter(|first| *first != i) {
                let reason = format!("logins of {domain} go to source[{first}] already");
                problems.push(Problem::new(format!("source[{i}].domains[{d}]"), reason));
            }
        }
    }
}

fn domains_of(source: &Source) -> &[String] {
    match &source.kind {
        SourceKind::Local(_) => &[],
        SourceKind::Ldap(ldap) => &ldap.domains,
        SourceKind::Oidc(oidc) => &oidc.domains,
    }
}

pub(super) fn unknown_source(config: &Config, name: &str) -> String {
    format!("there is no source {name}; the sources are {}", config.source_names().join(", "))
}

fn scopes(config: &Config, problems: &mut Vec<Problem>) {
    for (name, settings) in &config.scopes {
        if !scope::is_token(name) {
            let reason = "the name of a scope has visible ASCII characters without quote and backslash (RFC 6749 section 3.3)";
            problems.push(Problem::new(format!("scope.{name}"), reason));
        }
        if settings.requires_role.as_deref() == Some("") {
            problems.push(Problem::new(format!("scope.{name}.requires_role"), "an empty role; leave the key out to require none"));
        }
    }
}

/// A host as URLs write it: `localhost`, `10.1.2.3`, `[fd00::1]`.
fn outbound(config: &Config, problems: &mut Vec<Problem>) {
    for (i, host) in config.outbound.allow.iter().enumerate() {
        let written = Host::parse(host).map(|parsed| parsed.to_string());
        let reason = match written {
            Ok(written) if written == host.to_ascii_lowercase() => continue,
            Ok(written) => format!("a URL writes this host as {written}; write it so"),
            Err(_) => format!("{host} is no host; write a name or an address alone, such as jwks.internal or 10.1.2.3"),
        };
        problems.push(Problem::new(format!("outbound.allow[{i}]"), reason));
    }
}

fn dialects(config: &Config, problems: &mut Vec<Problem>) {
    let Some(croit) = config.dialects.croit.as_ref().filter(|croit| croit.enabled) else { return };
    let mut add = |key: &str, reason: String| problems.push(Problem::new(format!("dialect.croit.{key}"), reason));
    let mount = croit.mount.as_str();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    if !mount.starts_with('/') || mount.ends_with('/') || mount.contains("//") || !mount.bytes().all(plain) {
        add("mount", format!("{mount} is no path to begin with; write one such as /api, without a slash at the end"));
    } else if let Some(ours) =
        RESERVED.iter().find(|r| mount.strip_prefix(**r).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    {
        add("mount", format!("{ours} is taken by our own endpoints; write another such as /api"));
    }
    if let Some(client) = &croit.client
        && !config.clients.iter().any(|c| &c.id == client)
    {
        add("client", format!("there is no [[client]] {client}; declare it, or leave the key out for the built-in one"));
    }
    let providers: Vec<_> = config.sources.iter().filter(|s| matches!(s.kind, SourceKind::Oidc(_))).map(|s| s.name.as_str()).collect();
    match &croit.source {
        Some(name) if !providers.contains(&name.as_str()) => {
            add("source", format!("there is no okta or oidc source {name}; those are: {}", providers.join(", ")));
        }
        None if providers.len() > 1 => add("source", format!("several okta or oidc sources; name one of {}", providers.join(", "))),
        _ => {}
    }
}
