//! Both databases for real: SQLite in a folder of its own, PostgreSQL at COUNTERSIGN_TEST_POSTGRES (the URL of a superuser), where
//! each test makes a database of its own.

mod feed;
mod outages;
mod rows;
mod transactions;

use std::time::Duration;

use diesel::{Connection as _, PgConnection, RunQueryDsl};

use super::Storage;
use crate::config;
use crate::oauth2::Secret;

/// A migrated database that goes when the test ends.
pub struct Database {
    pub storage: Storage,
    config: config::Database,
    _folder: Option<tempfile::TempDir>,
    dropped_by: Option<(String, String)>,
}

impl Database {
    pub fn sqlite() -> Database {
        Database::empty_sqlite().migrated()
    }

    pub fn postgres() -> Database {
        Database::empty_postgres().migrated()
    }

    pub fn empty_sqlite() -> Database {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("data/countersign.db").display());
        Database::open(&url, Some(folder), None)
    }

    pub fn empty_postgres() -> Database {
        let admin = admin_url();
        let name = format!("cs_{}", crate::oauth2::ids::time_ordered(0));
        let mut connection = PgConnection::establish(&admin).unwrap();
        diesel::sql_query(format!("CREATE DATABASE {name}")).execute(&mut connection).unwrap();
        let mut url = url::Url::parse(&admin).unwrap();
        url.set_path(&name);
        Database::open(url.as_str(), None, Some((admin, name)))
    }

    fn open(url: &str, folder: Option<tempfile::TempDir>, dropped_by: Option<(String, String)>) -> Database {
        let config = config::Database { url: Secret::new(url), url_file: None, pool_size: 4, acquire_timeout: Duration::from_secs(5) };
        Database { storage: Storage::open(&config).unwrap(), config, _folder: folder, dropped_by }
    }

    fn migrated(self) -> Database {
        assert_eq!(self.storage.pending_migrations().unwrap().len(), all_migrations());
        assert!(self.storage.migrate().unwrap().iter().any(|name| name == "2026-01-05-120000_create_clients"));
        assert!(self.storage.migrate().unwrap().is_empty());
        self
    }

    /// The same database, as another node opens it.
    pub fn again(&self) -> Storage {
        Storage::open(&self.config).unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some((admin, name)) = &self.dropped_by
            && let Ok(mut connection) = PgConnection::establish(admin)
        {
            let _ = diesel::sql_query(format!("DROP DATABASE {name} WITH (FORCE)")).execute(&mut connection);
        }
    }
}

pub fn admin_url() -> String {
    std::env::var("COUNTERSIGN_TEST_POSTGRES").expect(
        "COUNTERSIGN_TEST_POSTGRES must hold the URL of a PostgreSQL superuser, such as postgres://postgres@127.0.0.1:5432/postgres",
    )
}

/// Writes one story for both databases.
macro_rules! on_both {
    ($(async fn $name:ident($database:ident: &Database) $story:block)+) => {$(
        mod $name {
            use super::*;

            async fn story($database: &Database) $story

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                story(&Database::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                story(&Database::postgres()).await;
            }
        }
    )+};
}
use on_both;

/// How many folders there are under migrations/.
pub(super) fn all_migrations() -> usize {
    std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count()
}
