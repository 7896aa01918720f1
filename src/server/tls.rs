//! TLS on the listener: one certificate and its key, read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::Problem;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Makes the TLS side of a listener, and keeps its certificate current.
#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<rustls::ServerConfig>,
    files: Files,
    current: Arc<Current>,
}

/// The pair that new handshakes use.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What tells that a file was changed or put in the place of another.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Tls {
    /// Reads the pair. The problem names the key of the configuration and the file.
    pub(super) fn new(certificate: &Path, key: &Path) -> Result<Tls, Problem> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let current = Arc::new(Current(ArcSwap::from_pointee(files.read(&provider)?)));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| Problem::new("server.tls_certificate", format!("cannot set up TLS: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A handshake that cannot be resumed is only slower; one ticket is enough for a client that keeps its connections.
        config.send_tls13_tickets = 1;
        Ok(Tls { config: Arc::new(config), files, current })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.clone())
    }

    /// Looks at the files for as long as it is polled. A pair is read once its files have stood still for one look, so that a
    /// certificate is not tried with the key of its predecessor while both are being replaced. One that does not work is logged
    /// once, and the last that worked stays in use.
    pub(super) async fn keep_current(&self) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut read = self.files.look().await;
        let mut seen = read;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.files.look().await;
            if now == read || now != seen {
                seen = now;
                continue;
            }
            read = now;
            let (files, provider) = (self.files.clone(), provider.clone());
            match tokio::task::spawn_blocking(move || files.read(&provider)).await {
                Ok(Ok(pair)) => {
                    self.current.0.store(Arc::new(pair));
                    tracing::info!(certificate = %self.files.certificate.display(), "TLS certificate and key were read again");
                }
                Ok(Err(problem)) => tracing::error!(
                    key = problem.path,
                    "the new TLS certificate and key are not used, the old ones stay: {}",
                    problem.reason
                ),
                Err(failed) => tracing::error!("reading the TLS certificate and key failed: {failed}"),
            }
        }
    }
}

impl Files {
    async fn look(&self) -> (Stamp, Stamp) {
        (stamp(&self.certificate).await, stamp(&self.key).await)
    }

    fn read(&self, provider: &CryptoProvider) -> Result<CertifiedKey, Problem> {
        let certificate = |reason: String| Problem::new("server.tls_certificate", format!("{}: {reason}", self.certificate.display()));
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| certificate(format!("cannot be read as PEM certificates: {error}")))?;
        if chain.is_empty() {
            return Err(certificate("holds no certificate; name the PEM file with the chain, the server's own first".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| {
            Problem::new("server.tls_key", format!("{}: cannot be read as a PEM private key: {error}", self.key.display()))
        })?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| {
            let reason = format!("{}: does not work with the certificate in {}: {error}", self.key.display(), self.certificate.display());
            Problem::new("server.tls_key", reason)
        })
    }
}

async fn stamp(path: &Path) -> Stamp {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok()?, metadata.len(), inode))
}
