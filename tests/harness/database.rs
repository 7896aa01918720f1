//! A fresh database for one story.

use std::path::Path;
use std::process::Command;

use super::{peer, run, unique};

/// Empty at first, gone at the end. Clone nothing: two servers over one PostgreSQL share it by [`super::Setup::beside`].
#[derive(Debug)]
pub enum Database {
    /// In the directory of the server.
    Sqlite,
    Postgres(Postgres),
    /// On a PostgreSQL of the story's own, see [`super::Cluster`].
    Own(String),
}

/// A database on the PostgreSQL that `tests/run.sh` started, dropped with this value.
#[derive(Debug)]
pub struct Postgres {
    name: String,
}

impl Database {
    pub fn sqlite() -> Database {
        Database::Sqlite
    }

    pub fn postgres() -> Database {
        let name = format!("story_{}", unique());
        psql(&peer("COUNTERSIGN_TEST_POSTGRES"), &format!("CREATE DATABASE {name}"));
        Database::Postgres(Postgres { name })
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Database::Postgres(_) | Database::Own(_))
    }

    /// What `database.url` says.
    pub fn url(&self) -> String {
        match self {
            Database::Sqlite => "sqlite:countersign.db".to_owned(),
            Database::Postgres(postgres) => postgres.url(),
            Database::Own(url) => url.clone(),
        }
    }

    /// The rows of a query, columns parted by `|`. `directory` is the server's.
    pub fn rows(&self, directory: &Path, query: &str) -> Vec<String> {
        let text = match self {
            Database::Postgres(postgres) => psql(&postgres.url(), query),
            Database::Own(url) => psql(url, query),
            Database::Sqlite => {
                let mut python = Command::new("python3");
                python.arg("-c").arg(SQLITE_SHELL).arg(directory.join("countersign.db")).arg(query);
                run(python, "")
            }
        };
        text.lines().map(str::to_owned).collect()
    }
}

const SQLITE_SHELL: &str = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=10)
for row in connection.execute(sys.argv[2]):
    print('|'.join('' if column is None else str(column) for column in row))
connection.commit()";

impl Postgres {
    fn url(&self) -> String {
        let mut url = url::Url::parse(&peer("COUNTERSIGN_TEST_POSTGRES")).expect("COUNTERSIGN_TEST_POSTGRES is a URL");
        url.set_path(&self.name);
        url.to_string()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let url = std::env::var("COUNTERSIGN_TEST_POSTGRES").unwrap_or_default();
        let query = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = Command::new("psql").arg(url).arg("-Xqc").arg(query).output();
    }
}

fn psql(url: &str, query: &str) -> String {
    let mut psql = Command::new("psql");
    psql.arg(url).args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", query]);
    run(psql, "")
}
