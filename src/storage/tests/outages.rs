use super::*;
use crate::clock::Clock;
use crate::storage::{StorageError, settings};

fn open(url: &str) -> Storage {
    Storage::open(&config::Database { url: Secret::new(url), url_file: None, pool_size: 2, acquire_timeout: Duration::from_millis(500) })
        .unwrap()
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable_in_time_and_named_without_its_password() {
    let storage = open("postgres://cs:hunter2@127.0.0.1:1/cs");
    let began = Clock::monotonic();
    let Err(StorageError::Unavailable(reason)) = storage.ping().await else { panic!("not Unavailable") };
    assert!(Clock::since(began) < Duration::from_millis(1500));
    assert!(reason.starts_with("postgres://127.0.0.1:1/cs: ") && reason.contains("refused"), "{reason}");
    assert!(!reason.contains("hunter2") && !format!("{storage:?}").contains("hunter2"));
    let follower = storage.follow(|_| Ok(()), 0);
    let Err(StorageError::Unavailable(reason)) = follower.catch_up(Duration::from_millis(200)).await else { panic!("not Unavailable") };
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn lost_connections_are_replaced() {
    let database = Database::postgres();
    let follower = database.storage.follow(|_| Ok(()), 0);
    follower.catch_up(Duration::from_secs(3)).await.unwrap();
    let mut admin = PgConnection::establish(&admin_url()).unwrap();
    let name = &database.dropped_by.as_ref().unwrap().1;
    let kill = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    diesel::sql_query(kill).execute(&mut admin).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    database.storage.ping().await.unwrap();
    follower.catch_up(Duration::from_secs(3)).await.unwrap();
}

#[test]
fn an_older_program_works_on_a_newer_database_until_something_is_taken_away() {
    for database in [Database::sqlite(), Database::postgres()] {
        let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('20990101000000')";
        database.storage.write_blocking(move |tx| Ok(diesel::sql_query(newer).execute(tx)?)).unwrap();
        assert_eq!(database.storage.migrate().unwrap(), [""; 0], "it only added something");
        database.storage.write_blocking(|tx| settings::raise(tx, "schema_floor", 20_990_101_000_000)).unwrap();
        let Err(StorageError::Invalid(reason)) = database.storage.migrate() else { panic!("migrated") };
        assert!(reason.contains("20990101000000") && reason.contains("newer Countersign"), "{reason}");
    }
}

#[test]
fn a_new_sqlite_database_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let database = Database::sqlite();
    let folder = database._folder.as_ref().unwrap().path().join("data");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("countersign.db")), mode(&folder.join("countersign.db-wal"))), (0o700, 0o600, 0o600));
}

#[test]
fn nodes_that_start_together_migrate_once() {
    for database in [Database::empty_sqlite(), Database::empty_postgres()] {
        let nodes: Vec<_> =
            (0..3).map(|_| database.again()).map(|node| std::thread::spawn(move || node.migrate().unwrap().len())).collect();
        let mut run: Vec<usize> = nodes.into_iter().map(|node| node.join().unwrap()).collect();
        run.sort_unstable();
        assert_eq!(run, [0, 0, super::all_migrations()]);
    }
}
