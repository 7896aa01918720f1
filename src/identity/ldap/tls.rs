//! TLS towards a directory: who is trusted, who we are. Verification cannot be switched off.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::stamp::Stamp;
use crate::config::{LdapSource, Problem};

/// The settings of one source, read again when one of the files changes.
#[derive(Debug)]
pub struct Tls {
    /// For the names of the files.
    source: LdapSource,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    stamps: [Option<Stamp>; 3],
    config: Arc<ClientConfig>,
    /// How often the files were taken up anew.
    edition: u64,
}

impl Tls {
    /// Reads the files that `config` names. Every mistake is reported with its key.
    pub fn read(config: &LdapSource) -> Result<Arc<Tls>, Vec<Problem>> {
        let loaded = Loaded { stamps: stamps(config), config: client_config(config)?, edition: 0 };
        Ok(Arc::new(Tls { source: config.clone(), loaded: Mutex::new(loaded) }))
    }

    /// What the files say now, and how often they have changed. Files that are wrong, as a certificate is until its key follows,
    /// change nothing.
    pub fn current(&self) -> (Arc<ClientConfig>, u64) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stamps(&self.source);
        if found != loaded.stamps {
            loaded.stamps = found;
            match client_config(&self.source) {
                Ok(config) => {
                    loaded.config = config;
                    loaded.edition += 1;
                    tracing::info!("the LDAP source's certificate files have changed and were read again");
                }
                Err(problems) => {
                    let why = problems.iter().map(|p| format!("{} {}", p.path, p.reason)).collect::<Vec<_>>().join("; ");
                    tracing::warn!(why, "the LDAP source's certificate files have changed and are wrong; what they said before holds");
                }
            }
        }
        (loaded.config.clone(), loaded.edition)
    }
}

fn stamps(config: &LdapSource) -> [Option<Stamp>; 3] {
    [&config.ca_file, &config.client_certificate, &config.client_key].map(|file| file.as_deref().map(Stamp::of))
}

/// Reads the files that `config` names. Every mistake is reported with its key.
fn client_config(config: &LdapSource) -> Result<Arc<ClientConfig>, Vec<Problem>> {
    let mut problems = Vec::new();
    let roots = roots(config).map_err(|reason| problems.push(Problem::new("ca_file", reason)));
    let identity = match (&config.client_certificate, &config.client_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate).map_err(|reason| problems.push(Problem::new("client_certificate", reason)));
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| problems.push(Problem::new("client_key", format!("{} holds no readable PEM key: {e}", key.display()))));
            chain.ok().zip(key.ok())
        }
        (Some(_), None) => {
            problems.push(Problem::new("client_certificate", "needs client_key, the private key that belongs to it"));
            None
        }
        (None, Some(_)) => {
            problems.push(Problem::new("client_key", "needs client_certificate, the certificate that belongs to it"));
            None
        }
    };
    let Ok(roots) = roots else { return Err(problems) };
    if !problems.is_empty() {
        return Err(problems);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| vec![Problem::new("tls", e.to_string())])?.with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let refused = |e: rustls::Error| vec![Problem::new("client_key", format!("does not fit client_certificate: {e}"))];
            builder.with_client_auth_cert(chain, key).map_err(refused)?
        }
    };
    Ok(Arc::new(config))
}

/// Whom the source trusts.
pub fn roots(config: &LdapSource) -> Result<RootCertStore, String> {
    config.ca_file.as_deref().map_or_else(system_roots, roots_of)
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this machine has no certificate authorities of its own; name the directory's in ca_file".to_owned());
    }
    Ok(roots)
}

fn roots_of(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| format!("{} holds a certificate that cannot be trusted: {e}", path.display()))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |e: rustls::pki_types::pem::Error| format!("{} cannot be read as PEM: {e}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() {
        return Err(format!("{} holds no PEM certificate", path.display()));
    }
    Ok(found)
}
