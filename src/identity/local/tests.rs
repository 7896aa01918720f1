use super::*;
use crate::config;
use crate::identity::Authentication::{Authenticated, Refused, Unavailable};
use crate::identity::shield::Shield;
use crate::oauth2::Secret;
use crate::storage::accounts::LinkRow;

const NOW: i64 = 1_800_000_000;

struct House {
    local: Local,
    storage: Storage,
    anna: AccountRow,
    _folder: tempfile::TempDir,
}

/// A database with one account, `Anna`, whose password is `right password`.
fn house(must_change: bool) -> House {
    let folder = tempfile::tempdir().unwrap();
    let url = Secret::new(format!("sqlite:{}", folder.path().join("test.db").display()));
    let storage = Storage::open(&config::Database { url, ..Default::default() }).unwrap();
    storage.migrate().unwrap();
    let anna = AccountRow {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        number: 1,
        username: "Anna".to_owned(),
        source: "local".to_owned(),
        email: Some("anna@example.com".to_owned()),
        name: None,
        disabled: false,
        created_at: NOW,
        updated_at: NOW,
        last_sign_in_at: None,
    };
    let row = anna.clone();
    let insert = move |tx: &mut Connection| {
        accounts::insert(tx, &row)?;
        let (source, issuer, subject) = ("local".to_owned(), ISSUER.to_owned(), "anna".to_owned());
        accounts::insert_link(tx, &LinkRow { source, issuer, subject, account_id: row.id.clone(), created_at: NOW })?;
        accounts::put_roles(tx, &row.id, &["countersign:admin".to_owned(), "reader".to_owned()])
    };
    storage.write_blocking(insert).unwrap();
    set_password(&storage, &anna, &hasher::hash_now(&Secret::new("right password")).unwrap(), must_change);
    let hasher = Arc::new(Hasher::new(&config::Accounts::default()).unwrap());
    let local = Local::new("local".into(), storage.clone(), hasher, Clock::manual(NOW).0);
    House { local, storage, anna, _folder: folder }
}

fn set_password(storage: &Storage, account: &AccountRow, hash: &str, generated: bool) {
    let (account_id, hash) = (account.id.clone(), hash.to_owned());
    let row = PasswordRow { account_id, hash, changed_at: NOW, must_change: generated, never_changed: generated };
    storage.write_blocking(move |tx| accounts::put_password(tx, &row)).unwrap();
}

impl House {
    async fn sign_in(&self, login: &str, password: &str) -> Authentication {
        let shield = Shield::fresh(self.storage.clone(), self.local.clock.clone());
        let attempt = Try { login, password: &Secret::new(password), network: "192.0.2.1", shield: &shield, house: None };
        match self.local.authenticate(&attempt).await {
            Refused(refusal) if refusal.reason == RefusalReason::UnknownUser => self.local.pretend(&attempt).await,
            answer => answer,
        }
    }

    fn disable(&self) {
        let id = self.anna.id.clone();
        self.storage.write_blocking(move |tx| accounts::set_disabled(tx, &id, true, NOW)).unwrap();
    }
}

fn reason(answer: Authentication) -> RefusalReason {
    match answer {
        Refused(refusal) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_right_password_answers_the_account() {
    let house = house(false);
    for login in ["Anna", "anna", " ANNA "] {
        let Authenticated(identity) = house.sign_in(login, "right password").await else { panic!("{login}") };
        assert_eq!((identity.subject, identity.username.as_str()), (house.anna.id.clone(), "Anna"));
        assert_eq!(identity.assigned_roles, ["countersign:admin", "reader"]);
        assert_eq!((identity.auth_time, identity.amr), (NOW, vec!["pwd".to_owned()]));
        assert!(!identity.must_change_password && !identity.password_never_changed && !identity.email_verified);
    }
}

#[tokio::test]
async fn wrong_passwords_and_unknown_people_are_refused() {
    let house = house(false);
    assert_eq!(reason(house.sign_in("anna", "wrong password").await), RefusalReason::BadPassword);
    for nobody in ["anne", "anna@example.com", house.anna.id.as_str(), "", "an\0na", "an\u{200b}na", "x".repeat(10_000).as_str()] {
        assert_eq!(reason(house.sign_in(nobody, "right password").await), RefusalReason::UnknownUser, "{nobody:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_password_is_a_bad_password() {
    let house = house(false);
    for bad in ["", "right password\0", "x".repeat(257).as_str()] {
        assert_eq!(reason(house.sign_in("anna", bad).await), RefusalReason::BadPassword);
        assert_eq!(reason(house.sign_in("nobody", bad).await), RefusalReason::BadPassword);
    }
}

#[tokio::test]
async fn only_the_right_password_learns_that_an_account_is_disabled() {
    let house = house(false);
    house.disable();
    assert_eq!(reason(house.sign_in("anna", "wrong password").await), RefusalReason::BadPassword);
    assert_eq!(reason(house.sign_in("anna", "right password").await), RefusalReason::Disabled);
    assert_eq!(reason(house.local.recheck(&house.anna.id).await), RefusalReason::Disabled);
}

#[tokio::test]
async fn a_password_to_be_changed_works_and_says_so() {
    let house = house(true);
    let Authenticated(identity) = house.sign_in("anna", "right password").await else { panic!() };
    assert!(identity.must_change_password && identity.password_never_changed);
}

#[tokio::test]
async fn looked_up_by_login_and_rechecked_by_account_id() {
    let house = house(false);
    assert!(matches!(house.local.lookup("ANNA").await, Authenticated(i) if i.subject == house.anna.id));
    assert!(matches!(house.local.recheck(&house.anna.id).await, Authenticated(i) if i.username == "Anna"));
    assert_eq!(reason(house.local.recheck("anna").await), RefusalReason::UnknownUser);
    let other = Local { name: "staff".into(), ..house.local.clone() };
    assert_eq!(reason(other.recheck(&house.anna.id).await), RefusalReason::UnknownUser, "the account of another source");
    assert_eq!(reason(other.lookup("anna").await), RefusalReason::UnknownUser);
}

#[tokio::test]
async fn a_full_queue_or_a_broken_hash_is_no_decision() {
    let mut house = house(false);
    let tight = config::Accounts { password_queue: 0, ..Default::default() };
    house.local.hasher = Arc::new(Hasher::new(&tight).unwrap());
    // Without a queue, a job is taken only by a thread that waits for one: of several at once, some are turned away.
    let asked = (0..32).map(|_| house.sign_in("anna", "right password"));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|a| matches!(a, Authenticated(_) | Unavailable(_))));
    assert!(answers.iter().any(|a| matches!(a, Unavailable(outage) if outage.reason.contains("queue is full"))));

    house.local.hasher = Arc::new(Hasher::new(&config::Accounts::default()).unwrap());
    set_password(&house.storage, &house.anna, "rubbish", false);
    assert!(matches!(house.sign_in("anna", "right password").await, Unavailable(_)));
}
