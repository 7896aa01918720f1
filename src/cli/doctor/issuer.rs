//! The issuer URL: whether what answers there is this server, which is how a wrong proxy shows.

use serde_json::Value;

use crate::clock::Clock;
use crate::config::Config;
use crate::identity::finding::{Finding, Findings};
use crate::outbound::{Address, Client};

pub async fn look(config: &Config, clock: &Clock) -> Vec<Finding> {
    let issuer = config.server.issuer();
    let mut findings = Findings::about("issuer");
    let address = match Address::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))) {
        Ok(address) => address,
        Err(reason) => {
            findings.fail("url", format!("{issuer} {reason}"), "set server.issuer to the https URL that clients use");
            return findings.done();
        }
    };
    match address.is_https() {
        true => findings.pass("url", issuer.clone()),
        false => findings.pass("url", format!("{issuer}, plain http on loopback")),
    }
    let (host, port) = address.place();
    let resolved = tokio::time::timeout(std::time::Duration::from_secs(3), tokio::net::lookup_host((host.as_str(), port))).await;
    if !matches!(resolved, Ok(Ok(_))) {
        findings.warn("reachable", format!("{host} is not resolved here"), "check server.issuer and the DNS; clients must resolve it");
        return findings.done();
    }
    let answer = match Client::new(None) {
        Ok(client) => client.get(&address).await.map_err(|error| error.to_string()),
        Err(reason) => Err(reason),
    };
    match answer {
        Err(reason) => findings.warn("reachable", reason, "start the server, or see whether the proxy in front of it passes requests on"),
        Ok(answer) => {
            let document: Option<Value> = serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200);
            let said = document.as_ref().and_then(|document| document.get("issuer")).and_then(Value::as_str);
            match said {
                Some(said) if said == issuer => {
                    findings.pass("reachable", "what answers there calls itself so");
                    if let Some(theirs) = answer.date {
                        findings.clock("what answers there", theirs, clock.now());
                    }
                }
                Some(said) => findings.warn(
                    "reachable",
                    format!("what answers there calls itself {said}"),
                    "point the proxy at this server, or correct server.issuer: clients refuse tokens of another issuer",
                ),
                None => findings.warn(
                    "reachable",
                    format!("GET {address}: status {}, which is no metadata of ours", answer.status),
                    "point the proxy at this server, and have it pass all paths on",
                ),
            }
        }
    }
    findings.done()
}
