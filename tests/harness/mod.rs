//! The ground that stories stand on: a real server over a fresh database, real peers, and a proxy that breaks connections.
//!
//! A story that needs a peer asks for it; without the peer it fails and says to run `tests/run.sh`.

mod certificates;
mod cluster;
mod database;
mod dirsrv;
mod http;
mod ldap;
mod ldap_wire;
mod oidc;
mod patience;
mod played;
mod proxy;
mod samba;
mod server;
mod setup;

pub use certificates::Certificates;
pub use cluster::{Cluster, Disk};
pub use database::Database;
pub use dirsrv::DirSrv;
pub use http::{Answer, Client};
pub use ldap::Ldap;
pub use oidc::Oidc;
pub use patience::{eventually, within_a_second};
pub use played::{Asked, Played};
pub use proxy::{Fate, Proxy, Trap};
pub use samba::Samba;
pub use server::{Output, Server};
pub use setup::{Setup, countersign};

use std::path::PathBuf;

/// Makes of each `async fn name(database) { … }` a module `name` with one test for SQLite and one for PostgreSQL.
macro_rules! on_both_databases {
    ($($(#[$attribute:meta])* async fn $name:ident($database:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn story($database: crate::harness::Database) $body

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                story(crate::harness::Database::sqlite()).await;
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                story(crate::harness::Database::postgres()).await;
            }
        }
    )*};
}
pub(crate) use on_both_databases;

/// What `tests/run.sh` says about the peers it started.
fn peer(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run tests/run.sh, which starts every peer"))
}

/// A script under tests/peers.
fn peer_script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// Whether stories that wait for real time shall run (`tests/run.sh --slow`).
pub fn slow() -> bool {
    std::env::var_os("COUNTERSIGN_TEST_SLOW").is_some()
}

/// Random letters for names that no other story has.
pub fn unique() -> String {
    let mut bytes = [0u8; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes.iter().map(|b| char::from(b'a' + b % 26)).collect()
}

/// A port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Runs a program to its end with `input` on its stdin and answers what it printed; panics with its output if it failed.
fn run(mut command: std::process::Command, input: &str) -> String {
    let output = server::finish(&mut command, input);
    assert!(output.status == 0, "{command:?} exited with {}:\n{}{}", output.status, output.stdout, output.stderr);
    output.stdout
}
