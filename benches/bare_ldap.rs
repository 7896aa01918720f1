//! What a sign-in through a directory costs with the bare library: a search as the service account, a bind as the person, a search
//! for the groups. `bare_ldap fresh|kept HOST:PORT CA_FILE WORKERS SECONDS` prints sign-ins a second.
//!
//! `fresh` binds each person on a connection of its own, as Countersign does; `kept` on one that it keeps, which mixes identities
//! when anything goes wrong and is here for comparison only.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, Scope, SearchEntry, StdStream};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [way, address, authority, workers, seconds] = &arguments[..] else {
        return Err("usage: bare_ldap fresh|kept HOST:PORT CA_FILE WORKERS SECONDS".into());
    };
    let (kept, workers, seconds): (bool, u64, u64) = (way == "kept", workers.parse()?, seconds.parse()?);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority)? {
        roots.add(certificate?)?;
    }
    let tls = Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let done = Arc::new(AtomicU64::new(0));
    let next = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..workers).map(|_| tokio::spawn(work(kept, address.clone(), tls.clone(), done.clone(), next.clone()))).collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let count = done.load(Ordering::Relaxed);
    for task in tasks {
        if task.is_finished() {
            task.await??;
        } else {
            task.abort();
        }
    }
    writeln!(std::io::stdout(), "{:.0}", count as f64 / seconds as f64)?;
    Ok(())
}

async fn work(
    kept: bool,
    address: String,
    tls: Arc<rustls::ClientConfig>,
    done: Arc<AtomicU64>,
    next: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let mut service = connect(&address, &tls).await?;
    service.simple_bind("cn=svc,ou=services,dc=lab,dc=test", "svcpw").await?.success()?;
    let mut binder = connect(&address, &tls).await?;
    loop {
        let uid = format!("u{:05}", next.fetch_add(1, Ordering::Relaxed) % 2000);
        let filter = format!("(&(|(uid={uid})(mail={uid}))(objectClass=inetOrgPerson))");
        let attributes = vec!["entryUUID", "uid", "mail", "cn", "displayName"];
        let (found, _) = service.search("ou=people,dc=lab,dc=test", Scope::Subtree, &filter, attributes).await?.success()?;
        let entry = SearchEntry::construct(found.into_iter().next().ok_or("nobody of that name")?);
        if !kept {
            binder = connect(&address, &tls).await?;
        }
        binder.simple_bind(&entry.dn, &format!("pw-{uid}")).await?.success()?;
        let filter = format!("(&(objectClass=groupOfNames)(member={}))", entry.dn);
        service.search("ou=groups,dc=lab,dc=test", Scope::Subtree, &filter, vec!["1.1"]).await?.success()?;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn connect(address: &str, tls: &Arc<rustls::ClientConfig>) -> Result<Ldap, Failure> {
    // Without TCP_NODELAY a TLS bind takes 45 ms: not what is to be compared with.
    let stream = std::net::TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let settings = LdapConnSettings::new().set_config(tls.clone()).set_std_stream(StdStream::Tcp(stream));
    let (connection, ldap) = LdapConnAsync::with_settings(settings, &format!("ldaps://{address}")).await?;
    tokio::spawn(connection.drive());
    Ok(ldap)
}
