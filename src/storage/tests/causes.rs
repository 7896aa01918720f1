use std::time::Duration;

use super::*;
use crate::storage::causes::{self, Cause, Ended};
use crate::storage::grants::{self, FamilyRow, GrantRow};
use crate::storage::{Connection, StorageError, feed};

fn grant(id: String, record: &str) -> GrantRow {
    GrantRow {
        id,
        account_id: "a1".into(),
        client_id: "c1".into(),
        source: "corp".into(),
        scope: String::new(),
        record: record.into(),
        rv: 0,
        auth_time: 10,
        identity_checked_at: 10,
        created_at: 10,
        expires_at: 1000,
    }
}

fn sign_in(tx: &mut Connection, id: String, causes: Vec<Cause>, rv: i64) -> Result<bool, StorageError> {
    let Some(rests_on) = causes::admit(tx, causes, rv)? else { return Ok(false) };
    grants::insert(tx, &grant(id.clone(), "{}"), &rests_on)?;
    let family = FamilyRow {
        id: format!("f{id}"),
        grant_id: id,
        client_id: "c1".into(),
        scope: String::new(),
        audience: "[]".into(),
        generation: 1,
        rotated_at: 10,
        dead: false,
        created_at: 10,
        expires_at: 1000,
        idle_expires_at: 1000,
    };
    grants::insert_family(tx, &family).map(|()| true)
}

fn end(tx: &mut Connection, cause: &Cause) -> Result<Ended, StorageError> {
    causes::alone_with_grants(tx)?;
    causes::end(tx, cause, 2000, 20)
}

on_both! {
    async fn what_rests_on_a_cause_ends_and_nothing_else(database: &Database) {
        let (staff, long) = (Cause::group("cn=staff"), Cause::group(&"x".repeat(9000)));
        database.storage.write(move |tx| {
            feed::append(tx, "jti", "x", 50, 1)?;
            sign_in(tx, "g1".into(), vec![staff.clone(), staff.clone(), Cause::rule("r")], 1)?;
            sign_in(tx, "g2".into(), vec![Cause::rule("r"), long.clone(), Cause::group("nul\0")], 1)?;
            sign_in(tx, "g3".into(), vec![], 1)?;
            assert_eq!((causes::count(tx, &staff, 20)?, causes::count(tx, &long, 20)?, causes::count(tx, &Cause::rule("r"), 20)?), (1, 1, 2));
            assert_eq!(causes::count(tx, &staff, 1001)?, 0, "what has expired does not count");
            assert_eq!(end(tx, &staff)?, Ended { sign_ins: 1, refresh_families: 1, n: 2 });
            let entries: Vec<_> = feed::after(tx, 1, 10)?.into_iter().map(|e| (e.n, e.kind, e.value, e.until)).collect();
            assert_eq!(entries, [(2, "group".into(), "cn=staff".into(), 2000), (3, "grant_id".into(), "g1".into(), 1000)]);
            assert!(grants::family(tx, "fg1")?.unwrap().dead && !grants::family(tx, "fg2")?.unwrap().dead);
            assert_eq!(end(tx, &staff)?, Ended { sign_ins: 0, refresh_families: 0, n: 4 }, "twice ends nothing more");
            assert_eq!(end(tx, &Cause::rule("r"))?, Ended { sign_ins: 1, refresh_families: 1, n: 5 });
            assert_eq!(feed::head(tx)?, 6);

            // Who began before a mark is turned away, whoever has seen it is not.
            assert!(!sign_in(tx, "g4".into(), vec![Cause::rule("q"), staff.clone()], 3)?);
            assert!(sign_in(tx, "g4".into(), vec![Cause::rule("q"), staff.clone()], 4)?);
            assert!(sign_in(tx, "g5".into(), vec![Cause::rule("cn=staff")], 0)?, "a rule of that name is another cause");
            // What a refresh found replaces what was.
            let rests_on = causes::admit(tx, vec![Cause::rule("q")], 9)?.unwrap();
            assert!(grants::update_checked(tx, "g4", "{}", &rests_on, 9, 20, 1000)?);
            // … once nothing that was issued before can live.
            let day = crate::config::LONGEST_ACCESS_LIFETIME.as_secs() as i64;
            assert_eq!((causes::count(tx, &staff, 20)?, causes::count(tx, &Cause::rule("q"), 20)?), (1, 1));
            assert!(grants::update_checked(tx, "g4", "{}", &rests_on, 9, 30, 10 * day)?);
            assert_eq!((causes::count(tx, &staff, 20 + day)?, causes::count(tx, &staff, 21 + day)?, causes::count(tx, &Cause::rule("q"), 21 + day)?), (1, 0, 1));
            let others = causes::admit(tx, vec![], 9)?.unwrap();
            assert!(grants::update_checked(tx, "g4", "{}", &others, 9, 21 + day, 10 * day)?);
            assert_eq!((causes::count(tx, &staff, 20)?, causes::count(tx, &Cause::rule("q"), 21 + day)?), (0, 1), "what is past is gone");
            assert!(causes::unread(tx, "")?.is_empty());
            Ok(())
        }).await.unwrap();
    }

    async fn grants_of_an_older_program_are_read_once(database: &Database) {
        database.storage.write(|tx| {
            sign_in(tx, "g1".into(), vec![Cause::rule("r")], 1)?;
            sign_in(tx, "g2".into(), vec![], 1)?;
            Ok(())
        }).await.unwrap();
        database.storage.write(|tx| {
            diesel::sql_query("DELETE FROM grant_causes WHERE kind = 'rule'").execute(tx)?;
            assert_eq!(causes::unread(tx, "")?.into_iter().map(|grant| grant.id).collect::<Vec<_>>(), ["g1"]);
            assert!(causes::read_batch(tx, |_, _| vec![])?);
            assert!(!causes::read_batch(tx, |_, _| panic!("nothing is left"))?);
            Ok(())
        }).await.unwrap();
    }

    async fn a_sign_in_that_is_being_written_is_not_missed(database: &Database) {
        let (looked, has_looked) = std::sync::mpsc::channel();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (storage, is_over) = (database.storage.clone(), over.clone());
        let writing = tokio::spawn(async move {
            storage.write(move |tx| {
                let rests_on = causes::admit(tx, vec![Cause::group("g")], 0)?.unwrap();
                looked.send(()).unwrap();
                // Long enough for the revocation to come as far as it can.
                has_begun.recv().unwrap();
                std::thread::sleep(Duration::from_millis(300));
                grants::insert(tx, &grant("g1".into(), "{}"), &rests_on)?;
                Ok(is_over.load(std::sync::atomic::Ordering::SeqCst))
            }).await
        });
        tokio::task::block_in_place(|| has_looked.recv()).unwrap();
        let revoking = database.again();
        begun.send(()).unwrap();
        let ended = revoking.write(|tx| end(tx, &Cause::group("g"))).await.unwrap();
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(!writing.await.unwrap().unwrap(), "the revocation did not wait for a sign-in that it could not see yet");
        assert_eq!(ended.sign_ins, 1);
    }

    async fn a_hundred_thousand_at_once(database: &Database) {
        for part in 0..20 {
            database.storage.write(move |tx| {
                for i in 0..50 {
                    sign_in(tx, format!("s{part:02}{i:02}"), vec![Cause::group("all")], 0)?;
                }
                Ok(())
            }).await.unwrap();
        }
        database.storage.write(|tx| {
            // Each of the thousand a hundred times: rows are what takes time, not how they came.
            let hundred = "WITH RECURSIVE h(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM h WHERE i < 99)";
            for statement in [
                format!("INSERT INTO grants {hundred} SELECT id || '-' || i, account_id, client_id, source, scope, record, rv, auth_time, \
                         identity_checked_at, created_at, expires_at FROM grants, h"),
                "INSERT INTO grant_causes SELECT id, 'group', 'all', 9223372036854775807 FROM grants WHERE id LIKE '%-%'".to_owned(),
            ] {
                diesel::sql_query(statement).execute(tx)?;
            }
            Ok(())
        }).await.unwrap();
        let ended = tokio::task::block_in_place(|| database.storage.write_blocking(|tx| end(tx, &Cause::group("all")))).unwrap();
        assert_eq!((ended.sign_ins, ended.refresh_families, ended.n), (100_000, 1000, 1));
        let (head, live) = database.storage.read(|c| Ok((feed::head(c)?, feed::live(c, 20)?))).await.unwrap();
        assert_eq!(head, 100_001);
        assert!(live.iter().zip(1..).all(|(entry, n)| entry.n == n) && live.len() == 100_001);
    }
}
