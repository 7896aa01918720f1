//! A copy of a SQLite database that is in use.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use diesel::connection::SimpleConnection;

use super::target::Target;
use super::{Storage, StorageError, settings};

impl Storage {
    /// Copies the database, as of one moment, into a new file of mode 0600, and notes in the copy that it is one, since whoever
    /// starts from it has forgotten what was revoked since. Readers and writers go on meanwhile. The copy is on the disk when this
    /// returns, and has its name only once it is whole: until then it is called `….partial`.
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
        if to.symlink_metadata().is_ok() {
            return Err(failed("make", "it exists; a copy is never written over".to_owned()));
        }
        // A relative path that begins with `file:` would be read as a URI.
        let name = format!("{}{name}.partial", if to.is_absolute() { "" } else { "./" });
        let partial = Path::new(&name);
        // Ours alone, and never over another; SQLite takes a file that is there if it is empty.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial).map_err(|reason| match reason.kind() {
            ErrorKind::AlreadyExists => {
                failed("make", format!("{name} exists: another backup is being made, or one was stopped half-way; remove it then"))
            }
            _ => failed("make", reason.to_string()),
        })?;
        let copy = || -> Result<(), StorageError> {
            let mut live = self.0.connector.sqlite_writer(path)?;
            let super::Connection::Sqlite(c) = &mut live else { return Ok(()) };
            c.batch_execute(&format!("VACUUM INTO '{}'", name.replace('\'', "''")))?;
            drop(live);
            let mut copy = self.0.connector.sqlite(partial, "")?;
            settings::put(&mut copy, settings::BACKUP_MADE_AT, &now.to_string())?;
            drop(copy);
            // A link, unlike a new name, never takes the place of a file that has come meanwhile.
            let named = File::open(partial).and_then(|file| file.sync_all()).and_then(|()| std::fs::hard_link(partial, to));
            named.map_err(|reason| failed("write", reason.to_string()))
        };
        let done = copy();
        let _ = std::fs::remove_file(partial);
        done?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|reason| failed("write", reason.to_string()))
    }
}
