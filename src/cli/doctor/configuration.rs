//! The configuration: what `countersign check` would refuse, in short, and how the listener is protected.

use crate::app;
use crate::cli::log;
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Problem};
use crate::identity::certificates;
use crate::identity::finding::{Finding, Findings};
use crate::server;
use crate::storage::Storage;
use crate::tokens::kek::{self, Kek};

pub const SUBJECT: &str = "configuration";

/// One fail for each mistake; they name the file, the line and the mend.
pub fn tell(findings: &mut Findings, mistakes: Vec<String>) {
    for mistake in mistakes {
        findings.fail("file", mistake, "correct that line; countersign check tells the same");
    }
}

pub fn look(config: &Config, clock: &Clock, storage: Option<&Storage>) -> Vec<Finding> {
    let mut findings = Findings::about(SUBJECT);
    let problems: Vec<Problem> = [log::check(&config.log), server::check(&config.server)].into_iter().filter_map(Result::err).collect();
    let ConfigError(mut mistakes) = config.locations.explain(problems);
    for refused in [app::wire(config, clock, |_| None).err(), app::declared_clients(config).err()].into_iter().flatten() {
        mistakes.extend(refused.0);
    }
    if let Some(Ok(problems)) = storage.map(|storage| new_hosts(config, storage)) {
        mistakes.extend(config.locations.explain(problems).0);
    }
    if mistakes.is_empty() {
        findings.pass("file", "everything in it is understood");
        match config.mapping.expect.len() {
            0 if config.mapping.rules.is_empty() => findings.pass("mapping", "no rules"),
            0 => findings.warn(
                "mapping",
                format!("{} rules, and no [[mapping.expect]] cases", config.mapping.rules.len()),
                "add some: they are the rules' unit tests",
            ),
            cases => findings.pass("mapping", format!("{} rules, and {cases} expect cases hold", config.mapping.rules.len())),
        }
    } else {
        tell(&mut findings, mistakes);
    }
    listener(&mut findings, config, clock.now());
    findings.done()
}

/// Secrets that would go to hosts which never had them; none while that cannot be told, which other lines say.
fn new_hosts(config: &Config, storage: &Storage) -> Result<Vec<Problem>, app::StartError> {
    if kek::is_yet_to_be_made(config) {
        return Ok(Vec::new());
    }
    app::destinations::compare(config, storage, &Kek::load(config, false)?)
}

fn listener(findings: &mut Findings, config: &Config, now: i64) {
    let server = &config.server;
    match &server.tls_certificate {
        Some(file) => {
            findings.pass("listener", format!("{}, with TLS", server.listen));
            match certificates::read_file(file) {
                Err(reason) => findings.fail("certificate", reason, "name a PEM file with the chain in server.tls_certificate"),
                Ok(chain) => {
                    certificates::lifetime(findings, "certificate", &chain, now);
                    let issuer = url::Url::parse(&server.issuer()).ok();
                    let host = issuer.as_ref().and_then(url::Url::host_str).map(|host| host.trim_matches(['[', ']']));
                    if let (Some(leaf), Some(host)) = (chain.first(), host)
                        && !certificates::names(leaf, host)
                    {
                        findings.warn(
                            "certificate name",
                            format!("the certificate is not for {host}, the host of the issuer"),
                            "get one that is, unless a proxy in front of the server has it",
                        );
                    }
                }
            }
        }
        None if server.listen.ip().is_loopback() => findings.pass("listener", format!("{}, plain http on loopback", server.listen)),
        None if !server.trusted_proxies.is_empty() => {
            findings.pass("listener", format!("{}, plain http for {} trusted proxies", server.listen, server.trusted_proxies.len()))
        }
        // A mistake of the file, which is told above.
        None => {}
    }
}
