//! What `countersign doctor` says about a provider: the way to it, its metadata, its keys. Nobody signs in, and no secret is sent.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::json;
use super::keys::KeySet;
use super::settings::Settings;
use crate::clock::Clock;
use crate::config::OidcSource;
use crate::identity::certificates::{self, Watch};
use crate::identity::finding::{Finding, Findings};
use crate::outbound::{Address, Client, Fetched};

/// For the name, the socket and the handshake, each.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(3);

/// Everything that can be said about the source `name`.
pub async fn probe(name: &str, config: &OidcSource, clock: &Clock) -> Vec<Finding> {
    let mut findings = Findings::about(name);
    let settings = Settings::new(config);
    let client = Client::new(config.ca_file.as_deref());
    match (settings, client) {
        (Ok(settings), Ok(client)) => {
            if way(&mut findings, config, &settings.discovery, clock.now()).await {
                ask(&mut findings, &settings, &client, config, clock).await;
            }
        }
        (settings, client) => {
            let wrong = settings.err().into_iter().flatten().map(|problem| format!("{} {}", problem.path, problem.reason));
            for reason in wrong.chain(client.err().map(|reason| format!("ca_file {reason}"))) {
                findings.fail("configuration", reason, "correct the source; countersign check names the line");
            }
        }
    }
    findings.done()
}

/// Name, socket and TLS, each by itself. Whether requests have a chance.
async fn way(findings: &mut Findings, config: &OidcSource, discovery: &Address, now: i64) -> bool {
    let (host, port) = discovery.place();
    let mend = "check issuer, this machine's resolver, and the firewall";
    let addresses: Vec<_> = match tokio::time::timeout(LIMIT, tokio::net::lookup_host((host.as_str(), port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            findings.fail("dns", format!("{host} cannot be resolved: {error}"), mend);
            return false;
        }
        Err(_) => {
            findings.fail("dns", format!("{host} is not resolved in time"), mend);
            return false;
        }
    };
    let listed: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    findings.pass("dns", format!("{host} is {}", listed.join(", ")));
    let stream = match tokio::time::timeout(LIMIT, TcpStream::connect(&addresses[..])).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            findings.fail("tcp", format!("{host}:{port}: {error}"), mend);
            return false;
        }
        Err(_) => {
            findings.fail("tcp", format!("{host}:{port} does not answer in time"), mend);
            return false;
        }
    };
    findings.pass("tcp", format!("{host}:{port} takes connections"));
    if !discovery.is_https() {
        findings.pass("tls", "none: plain http on loopback");
        return true;
    }
    let watched = client_config(config).and_then(|(client, roots)| Watch::over(client, roots));
    let prepared = watched.and_then(|watched| Ok((watched, ServerName::try_from(host.clone()).map_err(|e| e.to_string())?)));
    let ((client, watch), server) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => {
            findings.fail("tls", reason, "correct ca_file, or issuer");
            return false;
        }
    };
    match tokio::time::timeout(LIMIT, TlsConnector::from(Arc::new(client)).connect(server, stream)).await {
        Ok(Ok(_)) => {
            findings.pass("tls", format!("the certificate is for {host}"));
            certificates::lifetime(findings, "certificate", &watch.chain(), now);
            true
        }
        Ok(Err(error)) => {
            let (why, mend) = certificates::explain(&error, &watch.chain(), &host, "ca_file");
            findings.fail("tls", why, mend);
            false
        }
        Err(_) => {
            findings.fail("tls", "no TLS handshake in time", "see whether this port speaks TLS");
            false
        }
    }
}

fn client_config(config: &OidcSource) -> Result<(ClientConfig, RootCertStore), String> {
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(file) => {
            for authority in certificates::read_file(file)? {
                roots.add(authority).map_err(|e| format!("{} holds a certificate that cannot be trusted: {e}", file.display()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    Ok((builder.with_root_certificates(roots.clone()).with_no_client_auth(), roots))
}

async fn ask(findings: &mut Findings, settings: &Settings, client: &Client, config: &OidcSource, clock: &Clock) {
    let Some((document, fetched)) = get(findings, "discovery", client, &settings.discovery).await else { return };
    if let Some(theirs) = fetched.date {
        findings.clock("the provider", theirs, clock.now());
    }
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let calls_itself = text("issuer").unwrap_or_default();
    if calls_itself == settings.issuer {
        findings.pass("issuer", format!("{calls_itself}, exactly"));
    } else {
        let why = if calls_itself.trim_end_matches('/') == settings.issuer.trim_end_matches('/') {
            "they differ by a slash at the end, which counts"
        } else {
            "every token would be refused as wrong_issuer"
        };
        let detail = format!("the provider calls itself {calls_itself:?}, and the source has {:?}: {why}", settings.issuer);
        findings.fail("issuer", detail, format!("write issuer = {calls_itself:?}, if that is the server you mean"));
    }
    metadata(findings, settings, &document);
    match text("jwks_uri").map(Address::parse) {
        None => {}
        Some(Err(reason)) => findings.fail("keys", format!("jwks_uri {reason}"), "ask whoever runs the provider"),
        Some(Ok(address)) if settings.discovery.is_https() && !address.is_https() => {
            findings.fail("keys", "jwks_uri is not https", "ask whoever runs the provider")
        }
        Some(Ok(address)) => keys(findings, settings, client, &address).await,
    }
    let listed = config.audiences.len().max(1);
    findings.pass(
        "audience",
        format!("id tokens must be for {} ({listed} accepted); no provider tells whether it knows a client", settings.audiences.join(", ")),
    );
}

fn metadata(findings: &mut Findings, settings: &Settings, document: &Map<String, Value>) {
    let required = [
        "authorization_endpoint",
        "jwks_uri",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    ];
    let missing: Vec<&str> = required.into_iter().filter(|name| !document.contains_key(*name)).collect();
    match missing.as_slice() {
        [] => findings.pass("metadata", "every required member is there (OpenID Connect Discovery 1.0 section 3)"),
        names if names.contains(&"jwks_uri") => {
            findings.fail("metadata", format!("{} is missing", names.join(", ")), "see whether issuer is really an OpenID provider's")
        }
        names => findings.warn("metadata", format!("{} is missing", names.join(", ")), "tell whoever runs the provider"),
    }
    let list =
        |name: &str| document.get(name).and_then(Value::as_array).map(|items| items.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    if let Some(offered) = list("id_token_signing_alg_values_supported") {
        let ours: Vec<String> = settings.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect();
        if ours.iter().any(|name| offered.contains(&name.as_str())) {
            findings.pass("algorithms", format!("we accept {}, the provider signs with {}", ours.join(", "), offered.join(", ")));
        } else {
            let detail = format!("we accept {}, and the provider signs with {}", ours.join(", "), offered.join(", "));
            findings.fail("algorithms", detail, "name one of the provider's in algorithms");
        }
    }
    match document.get("userinfo_endpoint").and_then(Value::as_str) {
        Some(_) => findings.pass("userinfo", "the provider has a userinfo endpoint"),
        None => findings.warn(
            "userinfo",
            "the provider has no userinfo endpoint, so that a thin id token cannot be completed",
            "have it put the groups into the id token",
        ),
    }
    let claim = settings.groups.claim();
    match list("claims_supported") {
        Some(names) if names.contains(&claim.as_str()) => findings.pass("groups claim", format!("the provider offers {claim}")),
        Some(_) if settings.groups_required => findings.warn(
            "groups claim",
            format!("the provider does not list {claim} among its claims, and groups_required refuses tokens without it"),
            "add a groups claim to the id token at the provider, or correct groups_claim",
        ),
        Some(_) => findings.pass("groups claim", format!("the provider does not list {claim} among its claims; custom ones often are not")),
        None => findings.pass("groups claim", format!("the provider does not list its claims; {claim} is read where it comes")),
    }
}

async fn keys(findings: &mut Findings, settings: &Settings, client: &Client, address: &Address) {
    let Some((_, fetched)) = get(findings, "keys", client, address).await else { return };
    match KeySet::parse(&fetched.body) {
        Err(reason) => findings.fail("keys", reason, "ask whoever runs the provider"),
        Ok(set) => {
            let fit = settings.algorithms.iter().map(|algorithm| (format!("{algorithm:?}"), set.fitting(*algorithm))).collect::<Vec<_>>();
            let shown: Vec<String> = fit.iter().map(|(name, count)| format!("{count} for {name}")).collect();
            let kept = fetched.max_age.map_or_else(String::new, |age| format!(", to be kept for {}", humantime::format_duration(age)));
            match fit.iter().any(|(_, count)| *count > 0) {
                true => findings.pass("keys", format!("{} usable keys: {}{kept}", set.count(), shown.join(", "))),
                false => findings.fail(
                    "keys",
                    format!("no key of the provider is for an algorithm that we accept ({})", shown.join(", ")),
                    "name what the provider signs with in algorithms",
                ),
            }
        }
    }
}

/// A JSON object, else a fail.
async fn get(findings: &mut Findings, check: &'static str, client: &Client, address: &Address) -> Option<(Map<String, Value>, Fetched)> {
    let fetched = match client.get(address).await {
        Ok(fetched) => fetched,
        Err(error) => {
            findings.fail(check, error.to_string(), "see whether the provider is up, and this machine may reach it");
            return None;
        }
    };
    let mend = match fetched.status {
        200 => match json::object(&fetched.body) {
            Some(document) => {
                if check == "discovery" {
                    findings.pass(check, address.to_string());
                }
                return Some((document, fetched));
            }
            None => "check issuer: what answers there is no OpenID provider",
        },
        404 | 301..=308 => "check issuer: there is no OpenID provider under that path",
        429 => "wait: the provider limits how often it is asked",
        _ => "see whether the provider is up",
    };
    let what = if fetched.status == 200 { "no JSON object".to_owned() } else { format!("status {}", fetched.status) };
    findings.fail(check, format!("GET {address}: {what}"), mend);
    None
}
