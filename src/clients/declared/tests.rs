use std::path::PathBuf;

use super::*;
use crate::storage::tests::Database;
use crate::storage::{Storage, audit};

const ONE: &str = "a-secret-of-at-least-32-characters-1";
const TWO: &str = "a-secret-of-at-least-32-characters-2";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    /// A client `id` with these lines in its secrets file.
    fn client(&self, id: &str, lines: &str) -> config::Client {
        let file: PathBuf = self.0.path().join(id);
        std::fs::write(&file, lines).unwrap();
        config::Client { id: id.to_owned(), secrets_file: Some(file), ..config::Client::default() }
    }

    fn declared(&self, id: &str, lines: &str) -> Vec<Declared> {
        read(&[self.client(id, lines)], &[]).unwrap()
    }
}

fn digests(storage: &Storage, id: &'static str) -> Vec<String> {
    let rows = storage.read_blocking(move |c| clients::find(c, id)).unwrap();
    rows.map(|(_, secrets)| secrets.into_iter().map(|row| row.digest).collect()).unwrap_or_default()
}

#[test]
fn a_secret_written_twice_is_one_and_none_is_a_mistake() {
    let folder = Folder::new();
    assert_eq!(folder.declared("a", &format!("{ONE}\n\n{ONE}\n{TWO}\n"))[0].secrets.len(), 2);
    for empty in ["", "\n  \n"] {
        let problems = read(&[folder.client("a", empty)], &[]).unwrap_err();
        assert_eq!(problems[0].path, "client[0].secrets_file");
        assert!(problems[0].reason.contains("is empty"), "{}", problems[0].reason);
    }
}

#[test]
fn a_client_of_the_command_line_is_never_taken_over() {
    let (folder, database) = (Folder::new(), Database::sqlite());
    let declared = folder.declared("a", ONE);
    let own = config::Client { id: "a".to_owned(), ..config::Client::default() };
    let done = database.storage.write_blocking(move |tx| {
        admin::add(tx, &own, false, 1)?;
        apply(tx, &declared, 2)
    });
    assert_eq!(done.unwrap(), Difference { taken: vec!["a".to_owned()], ..Difference::default() });
    assert!(digests(&database.storage, "a").is_empty());
}

#[test]
fn at_run_time_secrets_alone_change_and_only_where_the_settings_are_ours() {
    let (folder, database) = (Folder::new(), Database::sqlite());
    let storage = &database.storage;
    let (before, after) = (folder.declared("a", ONE), folder.declared("a", TWO));
    let mut stricter = folder.declared("a", ONE);
    stricter[0].settings.role_ceiling = Some(Vec::new());
    storage.write_blocking(move |tx| apply(tx, &before, 1)).unwrap();
    let change = after.clone();
    assert_eq!(storage.write_blocking(move |tx| apply_secrets(tx, &change, 2)).unwrap(), ["a"]);
    assert_eq!(digests(storage, "a"), [Secret::new(TWO).digest().encode()]);
    let change = after.clone();
    assert!(storage.write_blocking(move |tx| apply_secrets(tx, &change, 3)).unwrap().is_empty());

    storage.write_blocking(move |tx| apply(tx, &stricter, 4)).unwrap();
    assert!(storage.write_blocking(move |tx| apply_secrets(tx, &after, 5)).unwrap().is_empty(), "a newer file has charge");
    assert_eq!(digests(storage, "a"), [Secret::new(ONE).digest().encode()]);

    let trail = storage.read_blocking(|c| audit::since(c, "", 100)).unwrap();
    let changed: Vec<_> = trail.iter().filter(|record| record.event == Event::ClientChanged).map(|record| record.detail.clone()).collect();
    assert_eq!(changed, [json!({ "keys": ["role_ceiling"] })]);
    let secrets = trail.iter().filter(|record| matches!(record.event, Event::ClientSecretAdded | Event::ClientSecretRemoved));
    assert!(secrets.clone().count() == 5 && secrets.into_iter().all(|record| record.detail["secret_id"].is_string()));
}

#[test]
fn nodes_that_start_together_apply_their_file_without_a_conflict() {
    let (folder, database) = (Folder::new(), Database::postgres());
    let declared = read(&["a", "b", "c"].map(|id| folder.client(id, ONE)), &[]).unwrap();
    let gate = std::sync::Barrier::new(3);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let (node, declared) = (database.again(), declared.clone());
                gate.wait();
                node.write_blocking(move |tx| apply(tx, &declared, 1)).unwrap();
            });
        }
    });
    assert_eq!(database.storage.read_blocking(clients::all).unwrap().len(), 3);
}
