//! The way to a server, step by step, so that the step which fails can be named.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::LdapSource;
use crate::identity::certificates::{self, Watch};
use crate::identity::finding::Findings;
use crate::identity::ldap::connection::isolated;
use crate::identity::ldap::dialer::{Dialer, Security, start_tls};
use crate::identity::ldap::tls::{self, Tls};

/// Whether the first server of `dialer` can be spoken to.
pub async fn look(findings: &mut Findings, config: &LdapSource, dialer: &Dialer, now: i64) -> bool {
    let Some(endpoint) = dialer.endpoints().next() else { return false };
    let limit = config.connect_timeout;
    let found = tokio::time::timeout(limit, tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            findings.fail(
                "dns",
                format!("{} cannot be resolved: {error}", endpoint.host),
                "check the name in urls, and this machine's resolver",
            );
            return false;
        }
        Err(_) => {
            findings.fail("dns", format!("{} is not resolved in time", endpoint.host), "check this machine's resolver");
            return false;
        }
    };
    let listed: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    findings.pass("dns", format!("{} is {}", endpoint.host, listed.join(", ")));
    let mut stream = None;
    let mut why = String::from("the name has no address");
    for address in addresses {
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(open)) => {
                stream = Some((open, address));
                break;
            }
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = format!("{address} does not answer within {}", humantime::format_duration(limit)),
        }
    }
    let Some((stream, address)) = stream else {
        findings.fail("tcp", why, "see whether the directory runs, and whether a firewall lets this machine through");
        return false;
    };
    findings.pass("tcp", format!("{address} takes connections"));
    match &endpoint.security {
        Security::Plain => true,
        Security::Tls(name) => secure(findings, config, stream, name.clone(), false, now).await,
        Security::StartTls(name) => secure(findings, config, stream, name.clone(), true, now).await,
    }
}

async fn secure(
    findings: &mut Findings,
    config: &LdapSource,
    mut stream: TcpStream,
    name: ServerName<'static>,
    upgrade: bool,
    now: i64,
) -> bool {
    let limit = config.connect_timeout;
    if upgrade {
        let asked = isolated(limit, async move { start_tls(&mut stream).await.map(|()| stream) }).await;
        match asked.and_then(|asked| asked) {
            Ok(upgraded) => stream = upgraded,
            Err(failure) => {
                findings.fail("starttls", failure.reason, "give the directory a certificate, or use ldaps://");
                return false;
            }
        }
        findings.pass("starttls", "the server goes over to TLS when asked");
    }
    let watched = Tls::read(config)
        .map_err(|problems| problems.into_iter().map(|p| format!("{} {}", p.path, p.reason)).collect::<Vec<_>>().join("; "))
        .and_then(|tls| Watch::over((*tls.current().0).clone(), tls::roots(config)?));
    let (client, watch) = match watched {
        Ok(watched) => watched,
        Err(reason) => {
            findings.fail("tls", reason, "correct the files that the source names");
            return false;
        }
    };
    let shown = name.to_str().into_owned();
    let shaken = tokio::time::timeout(limit, TlsConnector::from(Arc::new(client)).connect(name, stream)).await;
    let chain = watch.chain();
    match shaken {
        Ok(Ok(stream)) => {
            let version = stream.get_ref().1.protocol_version().map_or_else(|| "TLS".to_owned(), |version| format!("{version:?}"));
            findings.pass("tls", format!("{}, and the certificate is for {shown}", version.replace("v1_", " 1.")));
            certificates::lifetime(findings, "certificate", &chain, now);
            true
        }
        Ok(Err(error)) => {
            let (why, mend) = certificates::explain(&error, &chain, &shown, "ca_file");
            findings.fail("tls", why, mend);
            false
        }
        Err(_) => {
            let mend = "see whether this port speaks TLS: ldaps:// is 636, and ldap:// with StartTLS 389";
            findings.fail("tls", format!("no TLS handshake within {}", humantime::format_duration(limit)), mend);
            false
        }
    }
}
