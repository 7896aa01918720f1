//! Against a real OpenLDAP (tests/peers/openldap.sh), named by `COUNTERSIGN_TEST_LDAP` (ldap://127.0.0.1:PORT),
//! `COUNTERSIGN_TEST_LDAPS` (ldaps://127.0.0.1:PORT) and `COUNTERSIGN_TEST_LDAP_CA` (the authority's certificate).

mod configuration;
mod directory;
mod fuzz;
mod outages;
mod people;
mod undecided;

use std::io::Write;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tempfile::{NamedTempFile, TempDir};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::config::{LdapBind, LdapTls};
use crate::identity::shield::{Shield, Try};
use crate::storage::Storage;

const BASE: &str = "dc=lab,dc=test";

/// The variable's value. A missing peer fails; it never skips.
fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: start tests/peers/openldap.sh and name its addresses, or use tests/run.sh"))
}

fn plain_url() -> String {
    variable("COUNTERSIGN_TEST_LDAP")
}

fn tls_url() -> String {
    variable("COUNTERSIGN_TEST_LDAPS")
}

/// A file with `content` that lasts as long as the value.
fn file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

/// A source and the files it needs.
struct Source {
    config: LdapSource,
    password: Arc<NamedTempFile>,
}

/// An open source, with the files that it reads again.
struct Opened {
    ldap: Ldap,
    _password: Arc<NamedTempFile>,
}

impl Deref for Opened {
    type Target = Ldap;

    fn deref(&self) -> &Ldap {
        &self.ldap
    }
}

impl Source {
    /// Search-then-bind at `url`, without TLS for ldap://.
    fn at(url: &str) -> Source {
        let password = Arc::new(file("svcpw\n"));
        let plain = url.starts_with("ldap://");
        let config = LdapSource {
            urls: vec![url.parse().unwrap()],
            tls: plain.then_some(LdapTls::None),
            insecure_plaintext: plain,
            ca_file: (!plain).then(|| variable("COUNTERSIGN_TEST_LDAP_CA").into()),
            bind_dn: Some(format!("cn=svc,ou=services,{BASE}")),
            bind_password_file: Some(password.path().to_owned()),
            user_base: Some(format!("ou=people,{BASE}")),
            group_base: Some(format!("ou=groups,{BASE}")),
            user_filter: Some("(objectClass=inetOrgPerson)".to_owned()),
            ..LdapSource::default()
        };
        Source { config, password }
    }

    fn with(mut self, change: impl FnOnce(&mut LdapSource)) -> Source {
        change(&mut self.config);
        self
    }

    /// Binds by the template; with the service account for reading or without.
    fn direct(self, service: bool) -> Source {
        self.with(|config| {
            config.bind = LdapBind::Direct;
            config.bind_template = Some(format!("uid={{login}},ou=people,{BASE}"));
            if !service {
                config.bind_dn = None;
                config.bind_password_file = None;
            }
        })
    }

    fn starttls(self) -> Source {
        self.with(|config| {
            config.tls = None;
            config.insecure_plaintext = false;
            config.ca_file = Some(variable("COUNTERSIGN_TEST_LDAP_CA").into());
        })
    }

    fn open(&self) -> Opened {
        let ldap = Ldap::new("lab".into(), &self.config, Clock::System).unwrap();
        Opened { ldap, _password: self.password.clone() }
    }
}

/// One for all tests; each sign-in counts for itself.
fn database() -> Storage {
    static DATABASE: OnceLock<(Storage, TempDir)> = OnceLock::new();
    let open = || {
        let folder = tempfile::tempdir().unwrap();
        let url = Secret::new(format!("sqlite:{}", folder.path().join("test.db").display()));
        let storage = Storage::open(&crate::config::Database { url, ..Default::default() }).unwrap();
        storage.migrate().unwrap();
        (storage, folder)
    };
    DATABASE.get_or_init(open).0.clone()
}

async fn sign_in(ldap: &Ldap, login: &str, password: &str) -> Authentication {
    let shield = Shield::fresh(database(), Clock::System);
    let attempt = Try { login, password: &Secret::new(password), network: "192.0.2.1", shield: &shield, house: None };
    match ldap.authenticate(&attempt).await {
        Authentication::Refused(refusal) if refusal.reason == RefusalReason::UnknownUser => ldap.pretend(&attempt).await,
        answer => answer,
    }
}

#[track_caller]
fn accepted(outcome: Authentication) -> Identity {
    match outcome {
        Authentication::Authenticated(identity) => *identity,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(outcome: Authentication) -> RefusalReason {
    match outcome {
        Authentication::Refused(refusal) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unavailable(outcome: Authentication) -> String {
    match outcome {
        Authentication::Unavailable(outage) => outage.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The common names of the groups, sorted.
fn groups(identity: &Identity) -> Vec<&str> {
    let mut names: Vec<&str> = identity.facts.groups.iter().map(|group| &group.dn[3..group.dn.find(',').unwrap()]).collect();
    names.sort_unstable();
    names
}

/// Stands between the source and the directory: counts connections, freezes them, cuts them.
struct Proxy {
    url: String,
    connections: Arc<AtomicUsize>,
    flow: watch::Sender<Flow>,
}

#[derive(Clone, Copy, PartialEq)]
enum Flow {
    Passing,
    /// Connections stay open, and nothing comes through.
    Frozen,
    /// Open connections end, new ones end at once.
    Cut,
}

impl Proxy {
    async fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ldap://{}", listener.local_addr().unwrap());
        let target = plain_url().trim_start_matches("ldap://").trim_end_matches('/').to_owned();
        let connections = Arc::new(AtomicUsize::new(0));
        let (flow, watching) = watch::channel(Flow::Passing);
        let counter = connections.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(client, target.clone(), watching.clone()));
            }
        });
        Proxy { url, connections, flow }
    }

    fn set(&self, flow: Flow) {
        self.flow.send(flow).unwrap();
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn pass(mut client: TcpStream, target: String, mut flow: watch::Receiver<Flow>) {
    let mut server = TcpStream::connect(target).await.unwrap();
    loop {
        let now = *flow.borrow_and_update();
        match now {
            Flow::Cut => return,
            Flow::Frozen => flow.changed().await.unwrap_or_default(),
            Flow::Passing => tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => return,
                changed = flow.changed() => changed.unwrap_or_default(),
            },
        }
    }
}

/// BER with this many levels, each but the innermost holding the next.
pub(super) fn nested(levels: usize) -> Vec<u8> {
    // Built from the inside out, backwards.
    let mut reversed = Vec::new();
    for _ in 0..levels {
        let length = u32::try_from(reversed.len()).unwrap();
        reversed.extend(length.to_le_bytes());
        reversed.extend([0x84, 0x30]);
    }
    reversed.reverse();
    reversed
}
