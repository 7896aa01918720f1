//! One running `countersign serve`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{Client, Setup, free_port, http};

/// A real server process over the configuration of a [`Setup`]; killed when dropped.
#[derive(Debug)]
pub struct Server {
    setup: Setup,
    port: u16,
    scheme: &'static str,
    child: Option<Child>,
    pub(super) http: reqwest::Client,
}

/// What a command printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code, -1 if a signal ended it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status == 0, "exit code {}:\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// The output of a `--json` command that must have succeeded.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("no JSON ({e}): {text}"))
    }

    /// Everything that a command printed which must have failed with exit code `status`.
    #[track_caller]
    pub fn failed(self, status: i32) -> String {
        assert!(self.status == status, "exit code {} instead of {status}:\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout + &self.stderr
    }
}

/// How long a server may take to be ready; generous, since many start side by side on few cores.
const START_LIMIT: Duration = Duration::from_secs(60);

impl Server {
    pub(super) async fn start(setup: Setup) -> Server {
        let scheme = if setup.authority.is_some() { "https" } else { "http" };
        let http = http::client(setup.authority.as_deref());
        let mut server = Server { setup, port: 0, scheme, child: None, http };
        // Somebody else may take the port between our look and the bind.
        for _ in 0..3 {
            server.port = free_port();
            server.setup.write_config(server.port);
            match server.launch().await {
                Ok(()) => return server,
                Err(reason) if reason.contains("in use") => continue,
                Err(reason) => panic!("{reason}"),
            }
        }
        panic!("no port stayed free three times in a row");
    }

    /// Starts it again on the same port and waits until it is ready.
    pub async fn restart(&mut self) {
        self.kill();
        if let Err(reason) = self.launch().await {
            panic!("{reason}");
        }
    }

    /// Puts `to` where the configuration says `from`. Commands see it at once, the server after its next start.
    pub fn edit_config(&mut self, from: &str, to: &str) {
        self.setup.edit(from, to);
        self.setup.write_config(self.port);
    }

    async fn launch(&mut self) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log can be opened");
        let mut command = binary();
        command.current_dir(self.directory()).arg("serve").arg("--config").arg(self.setup.config_path());
        command.envs(self.setup.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file handle can be cloned")).stderr(log);
        self.child = Some(command.spawn().expect("the binary starts"));
        for _ in 0..START_LIMIT.as_millis() / 20 {
            if let Some(status) = self.exited() {
                return Err(format!("the server exited with {status}:\n{}", self.log_tail()));
            }
            if self.http.get(self.url("/readyz")).send().await.is_ok_and(|a| a.status() == 200) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("the server was not ready within {START_LIMIT:?}:\n{}", self.log_tail()))
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|c| c.try_wait().expect("a child can be asked"))
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        for _ in 0..1_500 {
            if let Some(status) = self.exited() {
                self.child = None;
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server did not stop within 30 s of SIGTERM:\n{}", self.log_tail());
    }

    /// Ends it at once (SIGKILL), as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal by name: `TERM`, `STOP`, `CONT`, `HUP`.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("the server runs").id();
        send_signal(name, id);
    }

    /// Process id, for a look at its memory.
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    /// The listener's own URL, which is the issuer unless the configuration says otherwise.
    pub fn origin(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    pub fn directory(&self) -> &Path {
        self.setup.directory.path()
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The rows of a query over the server's database, columns parted by `|`.
    pub fn rows(&self, query: &str) -> Vec<String> {
        self.setup.database.rows(self.directory(), query)
    }

    /// The same, as soon as there are `count` of them: refused requests reach the audit in batches.
    pub async fn rows_when(&self, count: usize, query: &str) -> Vec<String> {
        let mut rows = Vec::new();
        for _ in 0..100 {
            rows = self.rows(query);
            if rows.len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(rows.len(), count, "{query}: {rows:#?}\nthe whole audit: {:#?}", self.rows("SELECT * FROM audit_records ORDER BY id"));
        rows
    }

    /// Runs another command with the same configuration beside the server.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_with(arguments, "").await
    }

    /// The same with `input` on its stdin.
    pub async fn cli_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = binary();
        command.current_dir(self.directory()).args(arguments).arg("--config").arg(self.setup.config_path());
        let input = input.to_owned();
        tokio::task::spawn_blocking(move || finish(&mut command, &input)).await.expect("the command runs")
    }

    /// `countersign client add ID … --json` with an id that nobody else has.
    pub async fn client_add(&self, arguments: &[&str]) -> Client {
        self.client_add_named(&format!("client-{}", super::unique()), arguments).await
    }

    pub async fn client_add_named(&self, id: &str, arguments: &[&str]) -> Client {
        let mut all = vec!["client", "add", id];
        all.extend_from_slice(arguments);
        all.push("--json");
        Client::from_json(&self.cli(&all).await.json())
    }

    /// `countersign user add NAME --password-stdin …`
    pub async fn user_add(&self, name: &str, password: &str, arguments: &[&str]) {
        let mut all = vec!["user", "add", name, "--password-stdin"];
        all.extend_from_slice(arguments);
        self.cli_with(&all, &format!("{password}\n")).await.ok();
    }

    fn log_path(&self) -> PathBuf {
        self.setup.config_path().with_extension("log")
    }

    /// Everything the server printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(60)).map(|l| format!("  | {l}\n")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the last lines of {}:\n{}", self.origin(), self.log_tail());
        }
    }
}

/// `countersign` without the keys that the environment of the test run may hold.
pub(super) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COUNTERSIGN_") && name.contains("__")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end with `input` on its stdin.
pub(super) fn finish(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
    // A command that does not read its stdin closes the pipe.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("a child can be waited for");
    Output {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Sends a signal by its name.
pub(super) fn send_signal(name: &str, process: u32) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().expect("kill runs");
    assert!(status.success(), "the process {process} is gone");
}
