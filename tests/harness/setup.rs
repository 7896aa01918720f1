//! What a server of a story is started with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::{Certificates, Database, DirSrv, Ldap, Oidc, Output, Samba, Server, server};

/// The configuration file, what lies beside it, and the database.
#[derive(Debug)]
pub struct Setup {
    pub(super) directory: Arc<TempDir>,
    pub(super) database: Arc<Database>,
    config: String,
    file: &'static str,
    host: &'static str,
    /// The authority of the listener's certificate, where it speaks TLS.
    pub(super) authority: Option<PathBuf>,
    /// Variables of the server's environment.
    pub(super) environment: Vec<(&'static str, std::ffi::OsString)>,
}

impl Setup {
    pub fn new(database: Database) -> Setup {
        let setup = Setup {
            directory: Arc::new(TempDir::new().expect("a temporary directory can be made")),
            database: Arc::new(database),
            config: String::new(),
            file: "countersign.toml",
            host: "127.0.0.1",
            authority: None,
            environment: Vec::new(),
        };
        if setup.database.is_postgres() {
            let mut key = [0u8; 32];
            aws_lc_rs::rand::fill(&mut key).expect("the system gives random bytes");
            setup.write("key-encryption-key", &STANDARD.encode(key));
        }
        setup
    }

    /// A second node over the same database and files, with a configuration of its own.
    pub fn beside(server: &Server) -> Setup {
        let setup = server.setup();
        Setup {
            directory: setup.directory.clone(),
            database: setup.database.clone(),
            config: String::new(),
            file: "second.toml",
            host: "127.0.0.1",
            authority: None,
            environment: Vec::new(),
        }
    }

    /// Another name for its configuration file: for a third node.
    pub fn named(self, file: &'static str) -> Setup {
        Setup { file, ..self }
    }

    /// Appends to the configuration. `server.listen`, `database.url` and, on PostgreSQL, `keys.encryption_key_file` are added
    /// where the text does not set them.
    pub fn config(mut self, text: &str) -> Setup {
        self.config.push_str(text);
        self.config.push('\n');
        self
    }

    /// The listener speaks TLS with the certificate `name`.
    pub fn tls(mut self, certificates: &Certificates, name: &str) -> Setup {
        self.authority = Some(certificates.authority());
        insert(&mut self.config, "server", "tls_certificate", &certificates.certificate(name).to_string_lossy());
        insert(&mut self.config, "server", "tls_key", &certificates.key(name).to_string_lossy());
        self
    }

    /// The listener is on every address of the machine. Stories still reach it by loopback.
    pub fn off_loopback(mut self) -> Setup {
        self.host = "0.0.0.0";
        self
    }

    /// A file beside the configuration, readable for its owner alone.
    pub fn file(self, name: &str, content: &str) -> Setup {
        self.write(name, content);
        self
    }

    /// A variable that the server finds in its environment; other commands do not.
    pub fn environment(mut self, name: &'static str, value: impl Into<std::ffi::OsString>) -> Setup {
        self.environment.push((name, value.into()));
        self
    }

    /// Where a file beside the configuration is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The lab's directory as the source `name`; `more` holds further keys of the source.
    pub fn ldap(self, name: &str, ldap: &Ldap, more: &str) -> Setup {
        self.write(&format!("{name}.password"), Ldap::SERVICE_PASSWORD);
        let section = ldap.section(name, &format!("{name}.password"), more);
        self.config(&section)
    }

    /// The lab's Active Directory as the source `name`; `more` holds further keys of the source.
    pub fn active_directory(self, name: &str, samba: &Samba, more: &str) -> Setup {
        self.write(&format!("{name}.password"), Samba::SERVICE_PASSWORD);
        let section = samba.section(name, &format!("{name}.password"), more);
        self.config(&section)
    }

    /// The lab's 389 Directory Server as the source `name`; `more` holds further keys of the source.
    pub fn dirsrv(self, name: &str, dirsrv: &DirSrv, more: &str) -> Setup {
        self.write(&format!("{name}.password"), DirSrv::SERVICE_PASSWORD);
        let section = dirsrv.section(name, &format!("{name}.password"), more);
        self.config(&section)
    }

    /// The lab's OpenID provider as the source `name` of type okta; `more` holds further keys of the source.
    pub fn okta(self, name: &str, oidc: &Oidc, more: &str) -> Setup {
        let section = oidc.section(name, more);
        self.config(&section)
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(self) -> Server {
        Server::start(self).await
    }

    /// Starts a server that must refuse to start; answers what it said.
    pub async fn refused(self) -> String {
        self.write_config(super::free_port());
        let path = self.config_path();
        let output = tokio::task::spawn_blocking(move || {
            let mut command = Command::new("timeout");
            command.args(["--signal=KILL", "30", env!("CARGO_BIN_EXE_countersign"), "serve", "--config"]).arg(path);
            server::finish(&mut command, "")
        })
        .await
        .expect("the command runs");
        assert!(
            output.status != 0 && output.status != 137,
            "the server started where it should refuse:\n{}{}",
            output.stdout,
            output.stderr
        );
        output.stdout + &output.stderr
    }

    /// Runs a command with this configuration before any server was started.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        self.write_config(super::free_port());
        let mut command = server::binary();
        command.current_dir(self.directory.path()).args(arguments).arg("--config").arg(self.config_path());
        tokio::task::spawn_blocking(move || server::finish(&mut command, "")).await.expect("the command runs")
    }

    /// Puts `to` where the text of [`Setup::config`] says `from`.
    pub(super) fn edit(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{from:?} is not in the configuration:\n{}", self.config);
        self.config = self.config.replacen(from, to, 1);
    }

    pub(super) fn config_path(&self) -> PathBuf {
        self.directory.path().join(self.file)
    }

    /// Writes the configuration for a listener on `port`.
    pub(super) fn write_config(&self, port: u16) {
        let mut text = self.config.clone();
        insert(&mut text, "server", "listen", &format!("{}:{port}", self.host));
        insert(&mut text, "database", "url", &self.database.url());
        if self.database.is_postgres() && !text.contains("encryption_key_file") {
            insert(&mut text, "keys", "encryption_key_file", "key-encryption-key");
        }
        self.write(self.file, &text);
    }

    fn write(&self, name: &str, content: &str) {
        write_private(&self.directory.path().join(name), content);
    }
}

/// Runs `countersign` with these arguments and variables in `directory`.
pub fn countersign(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = server::binary();
    command.current_dir(directory).args(arguments).envs(environment.iter().copied());
    server::finish(&mut command, "")
}

/// Sets `key` in `[section]` unless the section already sets it.
fn insert(text: &mut String, section: &str, key: &str, value: &str) {
    let header = format!("[{section}]");
    let line = format!("{key} = {value:?}");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match lines.iter().position(|l| l.trim() == header) {
        Some(at) => {
            let own = lines.iter().skip(at + 1).take_while(|l| !l.starts_with('['));
            if own.into_iter().any(|l| l.split('=').next().is_some_and(|k| k.trim() == key)) {
                return;
            }
            lines.insert(at + 1, line);
        }
        None => lines.extend([String::new(), header, line]),
    }
    *text = lines.join("\n") + "\n";
}

fn write_private(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, content).expect("a file in the temporary directory can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its mode can be set");
}
