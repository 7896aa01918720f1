//! TLS certificates as `doctor` looks at them: for whom, by whom, until when; and why a peer's was not believed.
//!
//! Verification is rustls's own, with the roots of the source. It is only watched, so that a chain which fails can be told.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::finding::Findings;

const DAY: i64 = 86_400;
/// Below these, a certificate is close to its end.
const WARN_DAYS: i64 = 30;
const FAIL_DAYS: i64 = 3;

/// What a certificate says (RFC 5280 section 4.1.2).
#[derive(Clone, Debug)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// Seconds.
    pub not_before: i64,
    /// Seconds.
    pub not_after: i64,
    /// The names and addresses of subjectAltName.
    pub names: Vec<String>,
}

impl Certificate {
    /// None where it is no certificate.
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        let alternative = read.subject_alternative_name().ok().flatten();
        let names = alternative.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from).ok();
                four.or_else(|| <[u8; 16]>::try_from(*bytes).map(IpAddr::from).ok()).map(|address| address.to_string())
            }
            _ => None,
        });
        let (not_before, not_after) = (read.validity().not_before.timestamp(), read.validity().not_after.timestamp());
        Some(Certificate {
            subject: read.subject().to_string(),
            issuer: read.issuer().to_string(),
            not_before,
            not_after,
            names: names.collect(),
        })
    }
}

/// The certificates of a PEM file.
///
/// Errors: it cannot be read, or holds none; with its name.
pub fn read_file(file: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |e: rustls::pki_types::pem::Error| format!("{} cannot be read as PEM: {e}", file.display());
    let found = CertificateDer::pem_file_iter(file).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(format!("{} holds no PEM certificate", file.display())) } else { Ok(found) }
}

/// Whether the certificate may stand for `host`.
pub fn names(der: &CertificateDer<'_>, host: &str) -> bool {
    let parsed = rustls::server::ParsedCertificate::try_from(der);
    let name = ServerName::try_from(host.to_owned());
    matches!((parsed, name), (Ok(parsed), Ok(name)) if rustls::client::verify_server_name(&parsed, &name).is_ok())
}

/// Seconds as a day, `2026-11-22`.
fn day(seconds: i64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.max(0) as u64);
    humantime::format_rfc3339_seconds(at).to_string().chars().take(10).collect()
}

/// Says how long the certificates of a chain are good for: the one that ends first counts.
pub fn lifetime(findings: &mut Findings, check: &'static str, chain: &[CertificateDer<'_>], now: i64) {
    let read: Vec<Certificate> = chain.iter().filter_map(|der| Certificate::read(der)).collect();
    let Some(first) = read.iter().min_by_key(|certificate| certificate.not_after) else { return };
    let left = first.not_after - now;
    let detail = format!("{}, issued by {}, until {} ({} days)", first.subject, first.issuer, day(first.not_after), left.div_euclid(DAY));
    match left {
        _ if left <= 0 => {
            let detail = format!("{}, issued by {}, expired on {}", first.subject, first.issuer, day(first.not_after));
            findings.fail(check, detail, "renew the certificate");
        }
        _ if left < FAIL_DAYS * DAY => findings.fail(check, detail, "renew the certificate now"),
        _ if left < WARN_DAYS * DAY => findings.warn(check, detail, "renew the certificate before it ends"),
        _ => findings.pass(check, detail),
    }
}

/// Keeps what a server showed, whether it was believed or not.
#[derive(Debug)]
pub struct Watch {
    inner: Arc<WebPkiServerVerifier>,
    seen: Mutex<Vec<CertificateDer<'static>>>,
}

impl Watch {
    /// A client configuration that trusts `roots`, with the protocols and identity of `config`.
    ///
    /// Errors: no roots.
    pub fn over(mut config: ClientConfig, roots: RootCertStore) -> Result<(ClientConfig, Arc<Watch>), String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|e| e.to_string())?;
        let watch = Arc::new(Watch { inner, seen: Mutex::default() });
        config.dangerous().set_certificate_verifier(watch.clone());
        // A resumed session shows no chain.
        config.resumption = rustls::client::Resumption::disabled();
        Ok((config, watch))
    }

    /// The chain that the server showed last, its own certificate first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Watch {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = [end_entity].into_iter().chain(intermediates).map(|der| der.clone().into_owned()).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Why a handshake with `host` failed and what to do about it, in plain words. `authorities` names the key that says whom to trust.
pub fn explain(error: &std::io::Error, chain: &[CertificateDer<'_>], host: &str, authorities: &str) -> (String, String) {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let shown = chain.first().and_then(|der| Certificate::read(der));
    let (subject, issuer) = shown.as_ref().map_or(("?", "?"), |one| (one.subject.as_str(), one.issuer.as_str()));
    match cause {
        Some(rustls::Error::InvalidCertificate(reason)) => match reason {
            CertificateError::UnknownIssuer => (
                format!("the certificate of {subject} was issued by {issuer}, whom we do not trust"),
                format!("put the certificate of that authority into the file that {authorities} names, if it is really yours"),
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                let names = shown.as_ref().map(|one| one.names.join(", ")).filter(|names| !names.is_empty());
                (
                    format!("the certificate is for {}, and not for {host}", names.as_deref().unwrap_or("no name at all")),
                    "write one of those names in the URL, or give the server a certificate with this one".to_owned(),
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                format!("a certificate has expired: {subject} on {}", shown.as_ref().map_or("?".to_owned(), |one| day(one.not_after))),
                "renew the server's certificate, or set our clock".to_owned(),
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                format!(
                    "the certificate of {subject} is not valid before {}",
                    shown.as_ref().map_or("?".to_owned(), |one| day(one.not_before))
                ),
                "set the clocks of both machines".to_owned(),
            ),
            other => (
                format!("the certificate of {subject}, issued by {issuer}, is not believed: {other}"),
                "give the server another certificate".to_owned(),
            ),
        },
        _ => (
            format!("no TLS handshake: {error}"),
            "see whether this port speaks TLS (ldaps:// on 636, ldap:// with StartTLS on 389, https://), and TLS 1.2 or 1.3".to_owned(),
        ),
    }
}
