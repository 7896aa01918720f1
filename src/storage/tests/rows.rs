use super::*;
use crate::audit::{Event, Record};
use crate::storage::accounts::{AccountRow, LinkRow, PasswordRow};
use crate::storage::clients::{NewClient, SecretRow};
use crate::storage::grants::{FamilyRow, GrantRow};
use crate::storage::keys::KeyRow;
use crate::storage::{StorageError, accounts, audit, causes, clients, feed, grants, keys, purge, settings, shield, used};

fn grant(id: &str, expires_at: i64) -> GrantRow {
    GrantRow {
        id: id.into(),
        account_id: "a1".into(),
        client_id: "c1".into(),
        source: "corp".into(),
        scope: "openid".into(),
        record: "{}".into(),
        rv: 3,
        auth_time: 10,
        identity_checked_at: 10,
        created_at: 10,
        expires_at,
    }
}

fn rests_on(tx: &mut crate::storage::Connection) -> Result<causes::Admitted, StorageError> {
    Ok(causes::admit(tx, vec![causes::Cause::rule("r1")], 0)?.unwrap())
}

fn family(id: &str, grant_id: &str, expires_at: i64, idle_expires_at: i64) -> FamilyRow {
    FamilyRow {
        id: id.into(),
        grant_id: grant_id.into(),
        client_id: "c1".into(),
        scope: "openid".into(),
        audience: "api".into(),
        generation: 1,
        rotated_at: 10,
        dead: false,
        created_at: 10,
        expires_at,
        idle_expires_at,
    }
}

on_both! {
    async fn clients_and_secrets(database: &Database) {
        database.storage.write(|tx| {
            let new = NewClient { id: "c1".into(), declared: false, settings: "{}".into(), created_at: 5 };
            let row = clients::insert(tx, &new)?;
            assert_eq!(row.number, 1);
            assert!(matches!(clients::insert(tx, &new), Err(StorageError::Conflict(_))));
            let secret = SecretRow { id: "s1".into(), client_id: "c1".into(), digest: "d".into(), created_at: 5, expires_at: Some(9), last_used_at: None };
            clients::add_secret(tx, &secret)?;
            assert_eq!(clients::find(tx, "c1")?, Some((row, vec![secret])));
            clients::touch_secrets(tx, &[("s1".into(), 8)])?;
            clients::touch_secrets(tx, &[("s1".into(), 7)])?;
            assert_eq!(clients::all(tx)?[0].1[0].last_used_at, Some(8));
            assert!(clients::update_settings(tx, "c1", "{\"a\":1}", true, 6)? );
            let row = clients::find(tx, "c1")?.unwrap().0;
            assert!(row.declared && !row.disabled && row.updated_at == 6);
            assert!(!clients::remove_secret(tx, "c2", "s1")?);
            assert!(clients::remove(tx, "c1")? && !clients::remove(tx, "c1")?);
            assert!(!clients::remove_secret(tx, "c1", "s1")?, "secrets go with their client");
            Ok(())
        }).await.unwrap();
    }

    async fn accounts_links_passwords_and_roles(database: &Database) {
        database.storage.write(|tx| {
            let row = AccountRow {
                id: "a1".into(), number: accounts::next_number(tx)?, username: "ann".into(), source: "local".into(), email: None,
                name: Some("Ann".into()), disabled: false, created_at: 5, updated_at: 5, last_sign_in_at: None,
            };
            accounts::insert(tx, &row)?;
            assert!(matches!(accounts::insert(tx, &AccountRow { id: "a2".into(), number: 9, ..row.clone() }), Err(StorageError::Conflict(_))));
            let link = LinkRow { source: "corp".into(), issuer: String::new(), subject: "u1".into(), account_id: "a1".into(), created_at: 5 };
            accounts::insert_link(tx, &link)?;
            assert!(matches!(accounts::insert_link(tx, &link), Err(StorageError::Conflict(_))));
            for found in [accounts::find(tx, "a1")?, accounts::find_by_username(tx, "ann")?, accounts::find_by_link(tx, "corp", "", "u1")?] {
                assert_eq!(found.as_ref(), Some(&row));
            }
            assert_eq!(accounts::find_by_link(tx, "corp", "x", "u1")?, None);
            let password = PasswordRow { account_id: "a1".into(), hash: "h".into(), changed_at: 5, must_change: true, never_changed: true };
            accounts::put_password(tx, &password)?;
            let password = PasswordRow { hash: "h2".into(), never_changed: false, ..password };
            accounts::put_password(tx, &password)?;
            assert_eq!(accounts::password(tx, "a1")?, Some(password));
            accounts::put_roles(tx, "a1", &["b".into(), "a".into(), "b".into()])?;
            assert_eq!(accounts::roles(tx, "a1")?, ["a", "b"]);
            accounts::update_profile(tx, "a1", Some("ann@example.org"), None, 6)?;
            accounts::touch_sign_in(tx, "a1", 7)?;
            assert!(accounts::set_disabled(tx, "a1", true, 8)? && accounts::username_taken(tx, "ann")? && !accounts::username_taken(tx, "bob")?);
            let row = accounts::list(tx)?.remove(0);
            assert_eq!((row.email.as_deref(), row.name, row.disabled, row.updated_at, row.last_sign_in_at), (Some("ann@example.org"), None, true, 8, Some(7)));
            assert!(accounts::remove(tx, "a1")?);
            assert!(accounts::find_by_link(tx, "corp", "", "u1")?.is_none() && accounts::password(tx, "a1")?.is_none() && accounts::roles(tx, "a1")?.is_empty());
            Ok(())
        }).await.unwrap();
    }

    async fn grants_families_keys_and_audit(database: &Database) {
        database.storage.write(|tx| {
            let rests_on = rests_on(tx)?;
            grants::insert(tx, &grant("g1", 100), &rests_on)?;
            assert!(grants::update_checked(tx, "g1", "{\"x\":1}", &rests_on, 4, 20, 90)?);
            let found = grants::find(tx, "g1")?.unwrap();
            assert_eq!((found.rv, found.identity_checked_at, found.expires_at), (4, 20, 90));
            // A look between two refreshes moves neither `rv` nor the end, and an older one changes nothing.
            assert!(grants::update_rechecked(tx, "g1", "{\"y\":1}", 25)? && !grants::update_rechecked(tx, "g1", "{}", 24)?);
            assert!(grants::update_stale(tx, "g1", "{\"z\":1}", &rests_on, 25, 26)?);
            assert!(!grants::update_stale(tx, "g1", "{}", &rests_on, 20, 26)?);
            let found = grants::find(tx, "g1")?.unwrap();
            assert_eq!((found.record.as_str(), found.rv, found.identity_checked_at, found.expires_at), ("{\"z\":1}", 4, 25, 90));
            // Nor does a refresh whose look is older than the last that was written.
            assert!(grants::update_checked(tx, "g1", "{}", &rests_on, 4, 24, 95)?);
            let found = grants::find(tx, "g1")?.unwrap();
            assert_eq!((found.record.as_str(), found.identity_checked_at, found.expires_at), ("{\"z\":1}", 25, 95));
            assert!(grants::update_checked(tx, "g1", "{\"z\":1}", &rests_on, 4, 25, 90)?);
            grants::insert_family(tx, &family("f1", "g1", 100, 100))?;
            grants::insert_family(tx, &family("f2", "g1", 100, 100))?;
            assert!(grants::advance(tx, "f1", 1, 30, 110)? && !grants::advance(tx, "f1", 1, 31, 111)?);
            assert_eq!(grants::family(tx, "f1")?.unwrap(), FamilyRow { generation: 2, rotated_at: 30, ..family("f1", "g1", 100, 110) });
            assert!(grants::kill_family(tx, "f1")? && !grants::kill_family(tx, "f1")? && !grants::advance(tx, "f1", 2, 40, 120)?);
            assert_eq!((grants::kill_families_of(tx, "g1")?, grants::kill_families_of(tx, "g1")?), (1, 0));

            let key = KeyRow {
                kid: "k1".into(), purpose: "signing".into(), algorithm: "ES256".into(), kek: "kek".into(), sealed: "b64".into(),
                created_at: 1, active_at: 2, retired_at: None, removed_at: None, revoked_at: None,
            };
            keys::insert(tx, &key)?;
            assert!(keys::set_retired(tx, "k1", 3)? && !keys::set_retired(tx, "k1", 4)? && keys::set_removed(tx, "k1", 5)? && keys::set_revoked(tx, "k1", 6)?);
            assert_eq!(keys::all(tx)?, [KeyRow { sealed: String::new(), retired_at: Some(3), removed_at: Some(5), revoked_at: Some(6), ..key }]);

            let record = Record::refused(Event::SignInRefused, 1000, "bad_password").username("ann").detail(serde_json::json!({"tries": 2}));
            audit::insert(tx, &record)?;
            assert_eq!(audit::since(tx, &audit::first_id_at(1000), 10)?, std::slice::from_ref(&record));
            assert!(audit::since(tx, &record.id, 10)?.is_empty() && audit::since(tx, &audit::first_id_at(1001), 10)?.is_empty());
            settings::put(tx, "a", "1")?;
            settings::put(tx, "a", "2")?;
            assert_eq!(settings::get(tx, "a")?.as_deref(), Some("2"));
            Ok(())
        }).await.unwrap();
    }

    async fn a_purge_removes_what_expired_and_nothing_else(database: &Database) {
        database.storage.write(|tx| {
            let rests_on = rests_on(tx)?;
            for (id, expires_at) in [("g1", 99), ("g2", 100)] {
                grants::insert(tx, &grant(id, expires_at), &rests_on)?;
            }
            grants::insert_family(tx, &family("f1", "g2", 99, 500))?;
            grants::insert_family(tx, &family("f2", "g2", 500, 99))?;
            grants::insert_family(tx, &family("f3", "g2", 100, 100))?;
            for i in 0..2500 {
                used::claim(tx, "jti", &i.to_string(), i)?;
            }
            for (mark, until) in [("m1", 99), ("m2", 100)] {
                shield::remember(tx, mark, until)?;
                let row = shield::lock(tx, mark)?;
                shield::put(tx, &shield::TriesRow { until, ..row })?;
            }
            feed::append(tx, "jti", "a", 99, 1)?;
            feed::append(tx, "jti", "b", 100, 1)?;
            audit::insert(tx, &Record::ok(Event::SignIn, 89))?;
            audit::insert(tx, &Record::ok(Event::SignIn, 90))
        }).await.unwrap();
        let removed = purge::run(&database.storage, 100, Duration::from_secs(10)).await.unwrap();
        let counts: Vec<_> = removed.into_iter().collect();
        assert_eq!(counts, [("audit_records", 1), ("client_secrets", 0), ("feed_entries", 1), ("grant_causes", 1), ("grants", 1), ("refresh_families", 2), ("shield_marks", 1), ("shield_tries", 1), ("used", 100)]);
        let removed = purge::run(&database.storage, 3000, Duration::from_secs(3000)).await.unwrap();
        assert_eq!((removed["used"], removed["refresh_families"], removed["grants"], removed["audit_records"]), (2400, 1, 1, 0));
        assert_eq!(database.storage.read(feed::head).await.unwrap(), 2, "numbers are never given again");
    }

    async fn an_expired_secret_goes_after_a_month(database: &Database) {
        let secret = |id: &str, expires_at| SecretRow { id: id.into(), client_id: "c1".into(), digest: "d".into(), created_at: 5, expires_at, last_used_at: None };
        let secrets = [secret("s1", None), secret("s2", Some(99)), secret("s3", Some(100))];
        database.storage.write(move |tx| {
            clients::insert(tx, &NewClient { id: "c1".into(), declared: false, settings: "{}".into(), created_at: 5 })?;
            secrets.iter().try_for_each(|secret| clients::add_secret(tx, secret))
        }).await.unwrap();
        let removed = purge::run(&database.storage, 100 + 30 * 86_400, Duration::from_secs(4_000_000)).await.unwrap();
        assert_eq!(removed["client_secrets"], 1, "a month after it expired");
        let left = database.storage.read(|c| clients::find(c, "c1")).await.unwrap().unwrap().1;
        assert_eq!(left.iter().map(|secret| secret.id.as_str()).collect::<Vec<_>>(), ["s1", "s3"]);
    }
}
