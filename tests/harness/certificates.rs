//! Certificates that only a story trusts.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::{peer_script, run};

/// An authority of its own and the server certificates that it signed, through tests/peers/certs.sh.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// One certificate for each name, valid for localhost and 127.0.0.1.
    pub fn new(names: &[&str]) -> Certificates {
        let certificates = Certificates { directory: TempDir::new().expect("a temporary directory can be made") };
        let mut script = Command::new("bash");
        script.arg(peer_script("certs.sh")).arg(certificates.directory.path()).args(names);
        run(script, "");
        certificates
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn authority(&self) -> PathBuf {
        self.file("ca.crt")
    }

    pub fn certificate(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.crt"))
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.key"))
    }
}
