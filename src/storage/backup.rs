//! A copy of a SQLite database that is in use.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use diesel::connection::SimpleConnection;

use super::target::Target;
use super::{Storage, StorageError, settings};

impl Storage {
    /// Copies the database, as of one moment, into a new file of mode 0600, and notes in the copy that it is one, since whoever
    /// starts from it has forgotten what was revoked since. Readers and writers go on meanwhile. The copy is on the disk when this
    /// returns.
    ///
    /// Errors: PostgreSQL, which has tools of its own; a file that is there already; a disk that is full, and then nothing is left
    /// behind.
    pub fn back_up(&self, to: &Path, now: i64) -> Result<(), StorageError> {
        let Target::Sqlite(path) = &*self.0.connector.target else {
            return Err(StorageError::Invalid(
                "this copies SQLite only; for PostgreSQL use pg_dump or your base backups, see docs/operate.md".to_owned(),
            ));
        };
        let failed = |what: &str, reason: String| StorageError::Unavailable(format!("cannot {what} {}: {reason}", to.display()));
        let name = to.to_str().filter(|name| !name.contains('\0'));
        let name = name.ok_or_else(|| StorageError::Invalid("the path of the copy is not UTF-8".to_owned()))?;
        // Ours alone, and never over another; SQLite takes a file that is there if it is empty.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
        drop(made.map_err(|reason| failed("make", reason.to_string()))?);
        // A relative path that begins with `file:` would be read as a URI.
        let name = if to.is_absolute() { name.to_owned() } else { format!("./{name}") };
        let copy = || -> Result<(), StorageError> {
            let mut live = self.0.connector.sqlite_writer(path)?;
            let super::Connection::Sqlite(c) = &mut live else { return Ok(()) };
            c.batch_execute(&format!("VACUUM INTO '{}'", name.replace('\'', "''")))?;
            drop(live);
            let mut copy = self.0.connector.sqlite(Path::new(&name), "")?;
            settings::put(&mut copy, settings::BACKUP_MADE_AT, &now.to_string())?;
            drop(copy);
            let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let synced = File::open(to).and_then(|file| file.sync_all()).and_then(|()| File::open(folder)?.sync_all());
            synced.map_err(|reason| failed("write", reason.to_string()))
        };
        let done = copy();
        if done.is_err() {
            let _ = std::fs::remove_file(to);
        }
        done
    }
}
