use std::collections::BTreeSet;

use serde_json::json;

use super::local::{AccountError, Act, NewLocal, create, remove, set_disabled, set_password, sign_out};
use super::*;
use crate::config;
use crate::identity::{Facts, Identity, local::ISSUER};
use crate::oauth2::Secret;
use crate::storage::accounts::{self as rows, AccountRow};
use crate::storage::{Storage, audit, feed};

const NOW: i64 = 1_800_000_000;
const ACT: Act<'_> = Act { by: "test", now: NOW, until: NOW + 3_600 };

struct House {
    storage: Storage,
    _folder: tempfile::TempDir,
}

fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let url = Secret::new(format!("sqlite:{}", folder.path().join("test.db").display()));
    let storage = Storage::open(&config::Database { url, ..Default::default() }).unwrap();
    storage.migrate().unwrap();
    House { storage, _folder: folder }
}

fn person(source: &str, issuer: &str, subject: &str, username: &str) -> Identity {
    Identity {
        claimed_groups: Vec::new(),
        source: source.into(),
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        username: username.to_owned(),
        dn: None,
        email: Some("anna@example.com".to_owned()),
        email_verified: true,
        name: Some("Anna Schmidt".to_owned()),
        facts: Facts::default(),
        assigned_roles: Vec::new(),
        auth_time: NOW,
        checked_at: NOW,
        amr: Vec::new(),
        upstream: None,
        must_change_password: false,
        password_never_changed: false,
    }
}

fn anna() -> NewLocal {
    NewLocal {
        source: "local".to_owned(),
        username: "Anna".to_owned(),
        email: None,
        roles: vec!["reader".to_owned()],
        hash: "$argon2id$".to_owned(),
        must_change: true,
        never_changed: true,
    }
}

impl House {
    /// Links with `corp` as the first source.
    fn link(&self, identity: &Identity) -> Result<AccountRow, LinkError> {
        let identity = identity.clone();
        self.storage.write_blocking(move |tx| Ok(link(tx, &identity, "corp", NOW))).unwrap()
    }

    fn create(&self, new: NewLocal, first_source: &'static str) -> Result<AccountRow, AccountError> {
        self.storage.write_blocking(move |tx| Ok(create(tx, &new, first_source, ACT))).unwrap()
    }

    fn disable(&self, account: &AccountRow) {
        let row = account.clone();
        self.storage.write_blocking(move |tx| Ok(set_disabled(tx, &row, true, ACT))).unwrap().unwrap();
    }

    fn remove(&self, account: &AccountRow) {
        let row = account.clone();
        self.storage.write_blocking(move |tx| Ok(remove(tx, &row, ACT))).unwrap().unwrap();
    }

    fn find(&self, id: &str) -> Option<AccountRow> {
        let id = id.to_owned();
        self.storage.read_blocking(move |c| rows::find(c, &id)).unwrap()
    }

    /// How often the feed says that everything of `id` has ended.
    fn revocations(&self, id: &str) -> usize {
        let all = self.storage.read_blocking(|c| feed::after(c, 0, 1_000)).unwrap();
        all.iter().filter(|e| e.kind == "sub" && e.value == id && e.until == ACT.until).count()
    }
}

#[test]
fn ids_are_random_and_have_their_form() {
    let ids: BTreeSet<_> = (0..1_000).map(|_| new_id()).collect();
    assert_eq!(ids.len(), 1_000);
    assert!(ids.iter().all(|id| AccountId::has_form(id.as_str())));
    // Nothing is ordered or shared: the first digits of a thousand take all sixteen values.
    assert_eq!(ids.iter().map(|id| &id.as_str()[..1]).collect::<BTreeSet<_>>().len(), 16);
}

#[test]
fn a_person_has_one_account_for_ever() {
    let house = house();
    let first = house.link(&person("corp", "", "uuid-1", "anna")).unwrap();
    assert!(AccountId::has_form(&first.id));
    assert_eq!((first.username.as_str(), first.last_sign_in_at), ("anna", Some(NOW)));
    let mut renamed = person("corp", "", "uuid-1", "anna.meier");
    renamed.email = Some("anna.meier@example.com".to_owned());
    renamed.name = None;
    let again = house.link(&renamed).unwrap();
    assert_eq!((&again.id, again.number), (&first.id, first.number));
    let stored = house.find(&first.id).unwrap();
    assert_eq!(stored.username, "anna", "a username stays");
    assert_eq!((stored.email, stored.name), (renamed.email.clone(), None), "e-mail and name follow the source");

    house.link(&renamed).unwrap();
    let trail = house.storage.read_blocking(|c| audit::since(c, "", 100)).unwrap();
    let of = |event: &str| -> Vec<_> { trail.iter().filter(|r| r.event.as_str() == event).map(|r| r.detail.clone()).collect() };
    assert_eq!((trail.len(), of("account_added").len()), (3, 1), "a sign-in that changes nothing writes nothing here");
    assert_eq!(of("account_linked"), [json!({ "issuer": "", "subject": "uuid-1" })]);
    let changed = of("account_changed");
    assert_eq!(changed[0]["before"], json!({ "email": "anna@example.com", "name": "Anna Schmidt" }));
    assert_eq!(changed[0]["after"], json!({ "email": "anna.meier@example.com", "name": null }));
}

#[test]
fn a_link_is_never_by_email_or_name() {
    let house = house();
    let victim = house.link(&person("corp", "", "uuid-1", "anna")).unwrap();
    let mut strangers = vec![
        person("corp", "", "uuid-2", "anna"),
        person("corp", "", "anna", "anna"),
        person("corp", "", &victim.id, "anna"),
        person("okta", "https://id.example.com", "uuid-1", "anna"),
        person("okta", "https://other.example.com", "uuid-1", "anna"),
        person("okta", "", "uuid-1", "anna"),
    ];
    strangers.push(person("okta", "https://id.example.com", &victim.id, &victim.id));
    let mut seen = BTreeSet::from([(victim.id, victim.username)]);
    for stranger in strangers {
        let account = house.link(&stranger).unwrap();
        assert!(seen.iter().all(|(id, name)| *id != account.id && *name != account.username), "{stranger:?}");
        seen.insert((account.id, account.username));
    }
}

#[test]
fn taken_names_are_never_given_twice() {
    let house = house();
    let names = [("corp", "1"), ("okta", "2"), ("corp", "3"), ("okta", "4"), ("corp", "5")]
        .map(|(source, subject)| house.link(&person(source, "", subject, "anna")).unwrap().username);
    assert_eq!(names, ["anna", "anna@okta", "anna@corp", "anna@okta-2", "anna@corp-2"]);
    assert!(matches!(house.link(&person("corp", "", "6", "an\nna")), Err(LinkError::Username(_))));
    assert!(matches!(house.link(&person("corp", "", "7", &"x".repeat(256))), Err(LinkError::Username(_))));
}

/// The first source has the bare names, so its people could choose the one under which an operator looks for somebody else.
#[test]
fn a_username_never_leads_to_somebody_else() {
    let house = house();
    let victim = house.link(&person("corp", "", "uuid-1", "anna")).unwrap();
    let by_id = house.link(&person("corp", "", "uuid-2", &victim.id)).unwrap();
    assert_eq!(by_id.username, format!("{}@corp", victim.id));
    assert_eq!(house.link(&person("corp", "", "uuid-3", "bert@okta")).unwrap().username, "bert@okta@corp");
    assert_eq!(house.link(&person("okta", "https://id.example.com", "1", "bert")).unwrap().username, "bert@okta");
    let local = house.create(NewLocal { username: "anna@okta".to_owned(), ..anna() }, "local").unwrap();
    assert_eq!(local.username, "anna@okta@local");
    let found = house.storage.read_blocking(|c| rows::find_by_link(c, "local", ISSUER, "anna@okta")).unwrap();
    assert_eq!(found.unwrap().id, local.id, "the login stays as asked for");
}

#[test]
fn what_a_source_answers_is_kept_only_if_it_can_be_shown() {
    let house = house();
    let mut odd = person("corp", "", "uuid-1", "anna");
    odd.name = Some("An\0na\u{1b}[2J".to_owned());
    odd.email = Some("x".repeat(5_000));
    for _ in 0..2 {
        let account = house.link(&odd).unwrap();
        assert_eq!((account.name.as_deref(), account.email), (Some("Anna[2J"), None));
    }
    for subject in ["", "a\0b", "x".repeat(5_000).as_str()] {
        assert!(matches!(house.link(&person("corp", "", subject, "bert")), Err(LinkError::Subject)));
    }
}

#[test]
fn disabled_and_removed_accounts_are_not_linked() {
    let house = house();
    let directory = person("corp", "", "uuid-1", "anna");
    let account = house.link(&directory).unwrap();
    house.disable(&account);
    assert!(matches!(house.link(&directory), Err(LinkError::Disabled(id)) if id.as_str() == account.id));

    let local = house.create(anna(), "local").unwrap();
    let identity = person("local", ISSUER, &local.id, "Anna");
    assert_eq!(house.link(&identity).unwrap().id, local.id);
    assert!(matches!(house.link(&person("staff", ISSUER, &local.id, "Anna")), Err(LinkError::Gone(_))), "another source");
    house.remove(&local);
    assert!(matches!(house.link(&identity), Err(LinkError::Gone(_))), "a removed account does not come back");
}

#[test]
fn local_accounts_are_made_once_by_name_in_any_case() {
    let house = house();
    let made = house.create(anna(), "local").unwrap();
    assert_eq!(made.username, "Anna");
    let again = NewLocal { username: "ANNA".to_owned(), ..anna() };
    assert!(matches!(house.create(again, "local"), Err(AccountError::Taken(_))));
    for bad in ["", "a\0", "0123456789abcdef0123456789abcdef", "0123456789ABCDEF0123456789ABCDEF"] {
        assert!(house.create(NewLocal { username: bad.to_owned(), ..anna() }, "local").is_err(), "{bad:?}");
    }
    for bad in ["two words", "a\u{200b}b", &"x".repeat(129)] {
        let new = NewLocal { username: "b".to_owned(), roles: vec![bad.to_owned()], ..anna() };
        assert!(matches!(house.create(new, "local"), Err(AccountError::Role(_))), "{bad:?}");
    }
    let admin = NewLocal { username: "root".to_owned(), roles: vec!["countersign:admin".to_owned()], ..anna() };
    assert!(house.create(admin, "local").is_ok());
}

#[test]
fn a_local_account_beside_a_directory_that_owns_bare_names() {
    let house = house();
    house.link(&person("corp", "", "uuid-1", "Anna")).unwrap();
    assert_eq!(house.create(anna(), "corp").unwrap().username, "Anna@local");
    let found = house.storage.read_blocking(|c| rows::find_by_link(c, "local", ISSUER, "anna")).unwrap();
    assert_eq!(found.unwrap().username, "Anna@local", "the login stays the bare name");
}

#[test]
fn what_takes_rights_away_ends_the_tokens_and_is_written_down() {
    let house = house();
    let account = house.create(anna(), "local").unwrap();
    assert_eq!(house.revocations(&account.id), 0);
    let row = account.clone();
    let act = move |tx: &mut _| {
        set_password(tx, &row, "$argon2id$2", false, false, ACT).unwrap();
        assert_eq!(rows::password(tx, &row.id)?.map(|p| (p.hash, p.must_change)), Some(("$argon2id$2".to_owned(), false)));
        sign_out(tx, &row, ACT).unwrap();
        set_disabled(tx, &row, true, ACT).unwrap();
        set_disabled(tx, &row, false, ACT).unwrap();
        remove(tx, &row, ACT).unwrap();
        assert!(matches!(remove(tx, &row, ACT), Err(AccountError::Gone(_))));
        assert!(matches!(set_disabled(tx, &row, true, ACT), Err(AccountError::Gone(_))));
        Ok(())
    };
    house.storage.write_blocking(act).unwrap();
    assert_eq!(house.revocations(&account.id), 3, "signed out, disabled, removed");
    assert!(house.find(&account.id).is_none());

    let trail = house.storage.read_blocking(|c| audit::since(c, "", 100)).unwrap();
    assert!(trail.iter().all(|r| r.account_id.as_deref() == Some(&account.id) && r.detail["by"] == "test"));
    let mut events: Vec<_> = trail.iter().map(|r| r.event.as_str()).collect();
    events.sort_unstable();
    let expected = ["account_added", "account_disabled", "account_enabled", "account_removed", "password_changed", "revoked"];
    assert_eq!(events, expected);
}

#[test]
fn a_first_sign_in_twice_at_once_makes_one_account() {
    let house = house();
    sign_in_at_once(&house.storage);
    // Only PostgreSQL lets two transactions write at the same time.
    if let Ok(url) = std::env::var("COUNTERSIGN_TEST_POSTGRES") {
        let storage = Storage::open(&config::Database { url: Secret::new(url), ..Default::default() }).unwrap();
        storage.migrate().unwrap();
        sign_in_at_once(&storage);
    }
}

/// Four people, each through eight doors at once; and all would like the same name.
fn sign_in_at_once(storage: &Storage) {
    let run = new_id();
    let door = |n: usize| {
        let (storage, who) = (storage.clone(), person("corp", "", &format!("{run}-{}", n % 4), &format!("anna-{run}")));
        std::thread::spawn(move || storage.write_blocking(move |tx| Ok(link(tx, &who, "corp", NOW).unwrap())).unwrap())
    };
    let doors: Vec<_> = (0..32).map(door).collect();
    let found: BTreeSet<_> = doors.into_iter().map(|door| door.join().unwrap()).map(|a| (a.id, a.username)).collect();
    let names: BTreeSet<_> = found.iter().map(|(_, name)| name).collect();
    assert_eq!((found.len(), names.len()), (4, 4), "{found:?}");
}
