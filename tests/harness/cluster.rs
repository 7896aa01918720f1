//! A PostgreSQL of the story's own, which it may stop, and a small disk that it may fill.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{free_port, peer_script, run};

/// A running PostgreSQL; stopped when dropped.
#[derive(Debug)]
pub struct Cluster {
    port: u16,
    directory: PathBuf,
    _own: Option<TempDir>,
}

impl Cluster {
    pub fn start() -> Cluster {
        let own = TempDir::new().expect("a temporary directory can be made");
        let directory = own.path().to_owned();
        Cluster::start_in(directory, Some(own))
    }

    /// On a small disk.
    pub fn start_on(disk: &Disk) -> Cluster {
        Cluster::start_in(disk.path().join("postgres"), None)
    }

    fn start_in(directory: PathBuf, own: Option<TempDir>) -> Cluster {
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        // Started as root, PostgreSQL runs as a user of its own.
        open(&directory);
        let cluster = Cluster { port: free_port(), directory, _own: own };
        cluster.start_again();
        cluster
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// At once, as a crash would: what was not written down is lost.
    pub fn stop(&self) {
        self.script(&["stop"]);
    }

    /// With the data it had.
    pub fn start_again(&self) {
        self.script(&["start", &self.port.to_string()]);
    }

    /// Whether anybody answers there.
    pub fn answers(&self) -> bool {
        let mut psql = Command::new("psql");
        psql.arg(self.url()).args(["-X", "-q", "-c", "SELECT 1"]);
        psql.output().is_ok_and(|output| output.status.success())
    }

    fn script(&self, arguments: &[&str]) {
        let mut script = Command::new("bash");
        script.arg(peer_script("postgres.sh")).arg(arguments[0]).arg(&self.directory).args(&arguments[1..]);
        run(script, "");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new("bash").arg(peer_script("postgres.sh")).arg("stop").arg(&self.directory).output();
    }
}

/// A file system in memory, of so many megabytes.
#[derive(Debug)]
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    pub fn new(megabytes: u32) -> Disk {
        let directory = TempDir::new().expect("a temporary directory can be made");
        open(directory.path());
        let disk = Disk { directory };
        std::fs::create_dir(disk.path()).expect("a directory can be made");
        let size = format!("size={megabytes}m,mode=0755");
        run(as_root(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs"], &disk.path()), "");
        run(as_root(&["chown", &owner()], &disk.path()), "");
        disk
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// Leaves not a byte.
    pub fn fill(&self) {
        let ballast = self.path().join("ballast");
        let output = Command::new("dd").arg("if=/dev/zero").arg(format!("of={}", ballast.display())).arg("bs=4096").output();
        assert!(!output.expect("dd runs").status.success(), "dd ends when the disk is full");
    }

    /// Gives back what [`Disk::fill`] took.
    pub fn relieve(&self) {
        std::fs::remove_file(self.path().join("ballast")).expect("the ballast can be removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open keeps it until then.
        let _ = as_root(&["umount", "-l"], &self.path()).output();
    }
}

fn open(directory: &Path) {
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711)).expect("its mode can be set");
}

fn owner() -> String {
    run(
        {
            let mut id = Command::new("id");
            id.arg("-u");
            id
        },
        "",
    )
    .trim()
    .to_owned()
}

/// Mounting needs root.
fn as_root(words: &[&str], path: &Path) -> Command {
    let mut command = if owner() == "0" { Command::new(words[0]) } else { Command::new("sudo") };
    let skip = usize::from(owner() == "0");
    command.args(&words[skip..]).arg(path);
    command
}
