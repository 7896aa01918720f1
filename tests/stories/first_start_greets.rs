//! Somebody starts Countersign in an empty directory, pastes what it prints, and has a token.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Database, Setup, countersign};

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// Puts up the loopback of a new network, where the default port is always free, and becomes what it is told to run. Without a
/// umask, so that every mode is our own doing.
const ALONE: &str = "
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, struct.pack('16sh22x', b'lo', 0x41))
os.umask(0)
os.execvp(sys.argv[1], sys.argv[1:])";

/// Holds the default port and runs what it is told to.
const PORT_TAKEN: &str = "
import socket, subprocess, sys
held = socket.create_server(('127.0.0.1', 8080))
sys.exit(subprocess.call(sys.argv[1:]))";

/// A server in a directory that holds nothing, in a network of its own.
struct Newcomer {
    home: TempDir,
    output: TempDir,
    child: Option<Child>,
}

impl Newcomer {
    fn new() -> Newcomer {
        let directory = || TempDir::new().expect("a temporary directory can be made");
        Newcomer { home: directory(), output: directory(), child: None }
    }

    /// `countersign serve` without any argument; answers what it printed to stdout once it listens.
    fn start(&mut self) -> String {
        let file = |name: &str| File::create(self.output.path().join(name)).expect("an output file can be made");
        let mut command = alone(self.home.path(), &[BINARY, "serve"]);
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        self.child = Some(command.spawn().expect("unshare starts"));
        for _ in 0..1_500 {
            let exited = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(exited.is_none(), "the server exited with {exited:?}:\n{}{}", self.printed("stdout"), self.printed("stderr"));
            if self.printed("stderr").contains("listening on 127.0.0.1:8080") {
                return self.printed("stdout");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not listen after 30 s:\n{}", self.printed("stderr"));
    }

    fn printed(&self, name: &str) -> String {
        std::fs::read_to_string(self.output.path().join(name)).unwrap_or_default()
    }

    /// What somebody at a shell beside the server sees.
    fn paste(&self, lines: &str) -> String {
        let server = self.child.as_ref().expect("the server runs").id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &server, "--net"]);
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        let output = command.args(["bash", "-euo", "pipefail", "-c", lines]).output().expect("nsenter starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{lines}\nfailed: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn stop(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success() && child.wait().unwrap().success(), "SIGTERM ends it in order:\n{}", self.printed("stderr"));
    }

    fn mode(&self, path: &str) -> u32 {
        let metadata = std::fs::metadata(self.home.path().join(path));
        metadata.unwrap_or_else(|e| panic!("{path}: {e}")).permissions().mode() & 0o777
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// A command in a new network, without any key of ours in its environment.
fn alone(directory: &Path, command: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.current_dir(directory).args(["--net", "python3", "-c", ALONE]).args(command);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COUNTERSIGN_")) {
        unshare.env_remove(name);
    }
    unshare
}

/// The lines of the greeting that are meant to be pasted.
fn lines_to_paste(greeting: &str) -> String {
    let is_shell = |line: &&str| ["CLIENT=", "TOKEN=", "curl "].iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = greeting.lines().filter(is_shell).collect();
    assert_eq!(lines.len(), 3, "{greeting}");
    lines.join("\n")
}

/// The password of the administrator in a greeting.
fn password(greeting: &str) -> &str {
    let line = greeting.lines().find(|line| line.starts_with("administrator")).expect("an administrator is greeted");
    line.split_once("admin / ").and_then(|(_, rest)| rest.split_whitespace().next()).expect("the administrator has a password")
}

#[test]
fn the_first_start_prints_what_is_needed_and_the_second_nothing() {
    let mut newcomer = Newcomer::new();
    let greeting = newcomer.start();
    assert_eq!(greeting.matches("This is shown once").count(), 1, "{greeting}");
    assert!(greeting.contains("http://127.0.0.1:8080"), "{greeting}");

    let pasted = lines_to_paste(&greeting);
    let meaning: Value = serde_json::from_str(&newcomer.paste(&pasted)).expect("introspection answers JSON");
    assert_eq!((&meaning["active"], &meaning["client_id"]), (&json!(true), &json!("getting-started")), "{meaning}");

    // Nobody else on the machine reads the state.
    assert_eq!(newcomer.mode("data"), 0o700);
    for file in std::fs::read_dir(newcomer.home.path().join("data")).unwrap() {
        let path = Path::new("data").join(file.unwrap().file_name());
        assert_eq!(newcomer.mode(path.to_str().unwrap()), 0o600, "{}", path.display());
    }
    for file in ["data/countersign.db", "data/key-encryption-key"] {
        assert_eq!(newcomer.mode(file), 0o600, "{file}");
    }
    assert_eq!(std::fs::read_dir(newcomer.home.path()).unwrap().count(), 1, "something lies outside of ./data");

    let secrets: Vec<&str> = greeting.split(|c: char| c.is_whitespace() || "':".contains(c)).filter(|w| w.starts_with("cs_")).collect();
    assert!(secrets.len() >= 3, "{greeting}");
    let log = newcomer.printed("stderr");
    assert!(secrets.iter().all(|secret| !log.contains(secret)), "a secret is in the log");

    newcomer.stop();
    assert_eq!(newcomer.start(), "", "the second start greets again");
    let meaning: Value = serde_json::from_str(&newcomer.paste(&pasted)).expect("introspection answers JSON");
    assert_eq!(meaning["active"], json!(true), "the client is gone after a restart: {meaning}");
}

#[test]
fn the_administrator_signs_in_with_the_printed_password() {
    let mut newcomer = Newcomer::new();
    let greeting = newcomer.start();
    let sign_in = |password: &str| {
        newcomer.paste(&format!(
            "curl -s -d grant_type=password -d username=admin --data-urlencode 'password={password}' 127.0.0.1:8080/api/auth/login-form"
        ))
    };
    let answer: Value = serde_json::from_str(&sign_in(password(&greeting))).expect("the login answers JSON");
    assert!(answer["access_token"].is_string(), "{answer}");
    assert_eq!(answer["passwordWasNeverChanged"], json!(true), "{answer}");
    assert_eq!(answer["roles"], json!(["countersign:admin"]), "{answer}");
    let wrong: Value = serde_json::from_str(&sign_in("admin")).expect("the login answers JSON");
    assert_eq!(wrong["error"], json!("invalid_grant"), "{wrong}");

    // The command line works beside the server without any configuration either, and whoever sets the password has changed it.
    let people = countersign(newcomer.home.path(), &["user", "list", "--json"], &[]).json();
    assert_eq!((people[0]["username"].as_str(), people[0]["must_change_password"].as_bool()), (Some("admin"), Some(true)), "{people}");
    let clients = countersign(newcomer.home.path(), &["client", "list", "--json"], &[]).ok();
    assert!(clients.contains("getting-started"), "{clients}");
    newcomer.paste(&format!(
        "cd '{}' && printf 'five blue herons crossing\\n' | '{BINARY}' user set-password admin --password-stdin",
        newcomer.home.path().display()
    ));
    let answer: Value = serde_json::from_str(&sign_in("five blue herons crossing")).expect("the login answers JSON");
    assert_eq!(answer["passwordWasNeverChanged"], json!(false), "{answer}");
}

#[test]
fn the_getting_started_client_sees_its_own_tokens_only() {
    let mut newcomer = Newcomer::new();
    let greeting = newcomer.start();
    let printed = lines_to_paste(&greeting);
    let client = printed.lines().next().unwrap();
    let meaning = newcomer.paste(&format!(
        "{client}\nTOKEN=$(curl -s -d grant_type=password -d username=admin --data-urlencode 'password={}' \
         127.0.0.1:8080/api/auth/login-form | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n\
         curl -s -u \"$CLIENT\" -d token=\"$TOKEN\" 127.0.0.1:8080/oauth2/introspect\n\
         curl -s -u \"$CLIENT\" -d grant_type=password -d username=admin -d password=x 127.0.0.1:8080/oauth2/token",
        password(&greeting)
    ));
    assert!(meaning.starts_with(r#"{"active":false}"#), "{meaning}");
    assert!(meaning.contains("unauthorized_client"), "{meaning}");
}

#[test]
fn a_taken_port_leaves_nothing_behind() {
    let newcomer = Newcomer::new();
    let output = alone(newcomer.home.path(), &["python3", "-c", PORT_TAKEN, BINARY, "serve"]).output().expect("unshare starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty(), "it greeted: {}", String::from_utf8_lossy(&output.stdout));
    assert!(stderr.contains("127.0.0.1:8080") && stderr.contains("server.listen"), "{stderr}");
    assert_eq!(std::fs::read_dir(newcomer.home.path()).unwrap().count(), 0, "something was written");

    // The next start is still the first.
    let mut newcomer = newcomer;
    assert!(newcomer.start().contains("administrator"));
}

#[test]
fn the_shipped_configuration_sets_nothing_and_greets_too() {
    let mut newcomer = Newcomer::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/countersign.toml");
    std::fs::create_dir(newcomer.home.path().join("config")).unwrap();
    std::fs::copy(shipped, newcomer.home.path().join("config/countersign.toml")).unwrap();
    assert!(newcomer.start().contains("getting-started"));
    assert_eq!(newcomer.mode("data/key-encryption-key"), 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_configured_it_is_not_greeted() {
    let server = Setup::new(Database::sqlite()).start().await;
    let log = server.log();
    assert!(!log.contains("administrator") && !log.contains("cs_"), "{log}");
    assert_eq!(server.cli(&["user", "list", "--json"]).await.json(), json!([]));
    assert_eq!(server.cli(&["client", "list", "--json"]).await.json(), json!([]));
    // The croit shape is on in the embedded default alone.
    assert_eq!(server.raw("/api/auth/login-form", &[], "username=admin&password=x").await.status, 404);
}
