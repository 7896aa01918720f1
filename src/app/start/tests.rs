use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::clients::admin;
use crate::config::File;

const NOW: i64 = 1_800_000_000;

/// A configuration in a folder of its own, with a migrated database.
fn house(text: &str) -> (tempfile::TempDir, Config, Storage) {
    let folder = tempfile::tempdir().unwrap();
    for (name, byte) in [("right", 7u8), ("wrong", 8)] {
        std::fs::write(folder.path().join(name), STANDARD.encode([byte; 32])).unwrap();
    }
    std::fs::write(folder.path().join("secrets"), "a-secret-of-at-least-32-characters-1").unwrap();
    let config = configured(&folder, text);
    let storage = Storage::open(&config.database).unwrap();
    storage.migrate().unwrap();
    (folder, config, storage)
}

fn configured(folder: &tempfile::TempDir, text: &str) -> Config {
    let text = format!("database.url = \"sqlite:x.db\"\n{text}");
    let file = File { name: "c.toml".to_owned(), text, directory: folder.path().to_owned() };
    config::parse(Some(file), []).unwrap()
}

#[test]
fn a_wrong_key_encryption_key_seals_nothing_and_is_found_in_the_file() {
    let (folder, config, storage) = house("keys.encryption_key_file = \"right\"");
    let kid = storage.read_blocking(keys::all).unwrap().first().map(|row| row.kid.clone());
    assert_eq!(kid, None);
    open_keys(&config, &storage, true, NOW).unwrap();
    let stored = storage.read_blocking(keys::all).unwrap();
    // A line without a key, which a start would fill.
    let sealing = stored.iter().find(|row| row.purpose == "sealing").unwrap().kid.clone();
    storage.write_blocking(move |tx| keys::set_revoked(tx, &sealing, NOW)).unwrap();
    let wrong = configured(&folder, "\nkeys.encryption_key_file = \"wrong\"");
    let said = open_keys(&wrong, &storage, true, NOW).unwrap_err().to_string();
    assert!(said.starts_with("c.toml:3:6: keys.encryption_key_file: ") && said.contains("put the right key back"), "{said}");
    assert_eq!(storage.read_blocking(keys::all).unwrap().len(), stored.len());
    open_keys(&config, &storage, true, NOW).unwrap();
    assert_eq!(storage.read_blocking(keys::all).unwrap().len(), stored.len() + 1);
}

#[test]
fn the_croit_client_is_declared_once_and_takes_nothing_over() {
    let own = "[dialect.croit]\nenabled = true\n[[client]]\nid = \"croit\"\nsecrets_file = \"secrets\"";
    let (folder, config, storage) = house(own);
    assert_eq!(declared_clients(&config).unwrap().len(), 1);
    let made = config::Client { id: "croit".to_owned(), ..config::Client::default() };
    storage.write_blocking(move |tx| admin::add(tx, &made, false, NOW)).unwrap();
    let said = apply_file(&config, &storage, NOW).unwrap_err().to_string();
    assert!(said.starts_with("c.toml:5:1: client[0].id: the command line made a client croit"), "{said}");
    let said = apply_file(&configured(&folder, "[dialect.croit]\nenabled = true"), &storage, NOW).unwrap_err().to_string();
    assert!(said.contains("dialect.croit.client: the command line made"), "{said}");
    storage.write_blocking(|tx| admin::remove(tx, "croit", NOW)).unwrap();
    apply_file(&config, &storage, NOW).unwrap();
    let longest = storage.read_blocking(lifecycle::longest_lifetime).unwrap();
    assert_eq!(longest, 31 * 86_400, "the bound of any access token and the refresh tokens");
}

#[test]
fn behind_a_hole_in_the_feed_everything_is_loaded_again() {
    let (_folder, config, storage) = house("");
    let clients = Arc::new(Registry::default());
    let mut listener = Listener {
        storage: storage.clone(),
        clients: clients.clone(),
        revocations: Arc::default(),
        keys: Arc::new(open_keys(&config, &storage, true, NOW).unwrap()),
        clock: Clock::manual(NOW).0,
        recent: Arc::new(Recent::starting_after("f0".to_owned(), 10)),
        applied: 10,
    };
    let add = |id: &str| {
        let made = config::Client { id: id.to_owned(), ..config::Client::default() };
        storage.write_blocking(move |tx| admin::add(tx, &made, false, NOW)).unwrap();
    };
    let heard = |n| FeedEntry { n, kind: "jti".to_owned(), value: n.to_string(), until: NOW, at: NOW };
    add("a");
    listener.take_in(&[heard(11), heard(12)]).unwrap();
    assert!(clients.find("a").is_none(), "nothing told of it");
    listener.take_in(&[heard(13), heard(15)]).unwrap();
    assert!(clients.find("a").is_some(), "what told of it was purged");
    add("b");
    listener.take_in(&[heard(17)]).unwrap();
    assert!(clients.find("b").is_some());
    add("c");
    listener.take_in(&[]).unwrap();
    assert!(clients.find("c").is_some());
}
