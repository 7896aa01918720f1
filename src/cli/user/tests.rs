use super::*;
use crate::config::{Database, LocalSource, Source};
use crate::storage::feed;

const NOW: i64 = 1_800_000_000;

struct House {
    config: Config,
    storage: Storage,
    _folder: tempfile::TempDir,
}

fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let url = Secret::new(format!("sqlite:{}", folder.path().join("test.db").display()));
    let storage = Storage::open(&Database { url, ..Default::default() }).unwrap();
    storage.migrate().unwrap();
    House { config: Config::default(), storage, _folder: folder }
}

#[derive(clap::Parser)]
struct Line {
    #[command(subcommand)]
    command: UserCommand,
}

impl House {
    fn run(&self, line: &str, input: &str) -> Result<String, UserError> {
        let command = <Line as clap::Parser>::try_parse_from(["user"].into_iter().chain(line.split(' '))).unwrap().command;
        let clock = Clock::manual(NOW).0;
        let mut out = Vec::new();
        Room { config: &self.config, storage: &self.storage, clock: &clock }.run(command, &mut input.as_bytes(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{line} --json"), "").unwrap()).unwrap()
    }
}

#[test]
fn an_account_from_beginning_to_end() {
    let house = house();
    let made = house.json("add Anna --email anna@example.com --role reader --role countersign:admin");
    let id = made["account_id"].as_str().unwrap();
    assert!(made["password"].as_str().unwrap().starts_with("cs_pw_"));

    let shown = house.json("show anna");
    assert_eq!(shown, house.json(&format!("show {id}")));
    assert_eq!((&shown["account_id"], &shown["username"]), (&made["account_id"], &json!("Anna")));
    assert_eq!(shown["roles"], json!(["countersign:admin", "reader"]));
    assert_eq!((&shown["must_change_password"], &shown["disabled"]), (&json!(true), &json!(false)));
    assert_eq!(house.json("list"), json!([shown]));
    for text in [house.run("list", "").unwrap(), house.run("show Anna", "").unwrap()] {
        assert!(text.contains(id) && text.contains("enabled") && !text.contains("argon2"), "{text}");
    }

    house.run("disable anna", "").unwrap();
    assert_eq!(house.json("show anna")["disabled"], json!(true));
    house.run("enable anna", "").unwrap();
    house.run("sign-out anna", "").unwrap();
    assert!(house.run("set-password anna --password-stdin", "correct horse battery staple\n").unwrap().contains("changed"));
    assert_eq!(house.json("show anna")["must_change_password"], json!(false));
    house.run("remove anna", "").unwrap();
    assert!(matches!(house.run("show anna", ""), Err(UserError::Unknown(_))));

    let longest = 30 * 86_400;
    let feed = house.storage.read_blocking(|c| feed::after(c, 0, 100)).unwrap();
    let ended: Vec<_> = feed.iter().filter(|e| e.kind == "sub" && e.value == id).map(|e| e.until).collect();
    assert_eq!(ended, [NOW + longest + 120; 3], "disabled, signed out, removed");
}

#[test]
fn a_longer_lifetime_of_the_past_counts() {
    let house = house();
    house.storage.write_blocking(|tx| settings::put(tx, "longest_lifetime", "9000000")).unwrap();
    house.run("add anna", "").unwrap();
    house.run("sign-out anna", "").unwrap();
    let feed = house.storage.read_blocking(|c| feed::after(c, 0, 100)).unwrap();
    assert_eq!(feed.iter().map(|e| e.until).max(), Some(NOW + 9_000_000 + 120));
}

#[test]
fn mistakes_say_what_to_do() {
    let house = house();
    let text = |line: &str, input: &str| house.run(line, input).unwrap_err().to_string();
    assert!(text("add anna --password-stdin", "").contains("pipe one line"));
    assert!(text("add anna --password-stdin", "short\n").contains("fewer than 10"));
    assert!(text("add anna --password-stdin", &format!("{}\n", "x".repeat(5_000))).contains("more than 256"));
    assert!(text("add anna --password-stdin", "passwordpassword\n").contains("too easy"));
    assert!(text("add anna --email nowhere", "").contains("no e-mail"));
    assert!(text("add 0123456789abcdef0123456789abcdef", "").contains("account id"));
    house.run("add anna --password-stdin", "correct horse battery staple\r\n").unwrap();
    assert!(text("add ANNA", "").contains("already"));
    assert!(text("disable nobody", "").contains("user list"));
}

#[test]
fn passwords_are_set_in_local_sources_only() {
    let mut house = house();
    house.run("add anna", "").unwrap();
    let source = |name: &str, kind| Source { name: name.to_owned(), kind };
    house.config.sources = vec![source("staff", SourceKind::Local(LocalSource {}))];
    assert!(matches!(house.run("set-password anna", ""), Err(UserError::NotLocal(..))), "of a source that is gone");
    house.config.sources = vec![source("corp", SourceKind::Ldap(Default::default()))];
    assert!(matches!(house.run("add bert", ""), Err(UserError::NoLocalSource)));
}
