//! The trail as a file: one JSON object a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::Entry;

/// A file that is appended to, and opened again when somebody has renamed or removed it.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    open: Option<File>,
    /// Others than the owner may read or write it, and the log has said so.
    warned: bool,
}

impl LogFile {
    pub fn new(path: PathBuf) -> LogFile {
        LogFile { path, open: None, warned: false }
    }

    /// Appends the entries and answers once the disk has them. Blocks. After an error none of them counts as written; what was
    /// written in part is cut off again.
    pub fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut text = String::new();
        for entry in entries {
            text.push_str(&entry.json());
            text.push('\n');
        }
        let mut file = self.file()?;
        let before = file.metadata()?.len();
        let done = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        match done {
            Ok(()) => self.open = Some(file),
            Err(_) => drop(file.set_len(before)),
        }
        done
    }

    /// The file of this name, made with mode 0600 where there is none. Never one elsewhere that a link leads to, and nothing that
    /// could keep the writer waiting.
    fn file(&mut self) -> io::Result<File> {
        let named = std::fs::symlink_metadata(&self.path).ok().map(|found| (found.dev(), found.ino()));
        if let Some(file) = self.open.take() {
            let held = file.metadata()?;
            if named == Some((held.dev(), held.ino())) {
                return Ok(file);
            }
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mode = found.mode() & 0o777;
        if mode & 0o077 != 0 && !self.warned {
            self.warned = true;
            let (path, mode) = (self.path.display(), format!("{mode:o}"));
            tracing::warn!(%path, mode, "others may use the file of the audit; chmod it 600 unless that is what you want");
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn entry(id: &str) -> Entry {
        let none = || None;
        Entry {
            id: id.to_owned(),
            at: 0,
            event: "sign_in".to_owned(),
            outcome: "ok".to_owned(),
            client_id: none(),
            account_id: none(),
            username: none(),
            source: none(),
            address: none(),
            reason: none(),
            request_id: none(),
            detail: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_renamed_file_is_followed_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut file = LogFile::new(path.clone());
        file.append(&[entry("1"), entry("2")]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let rotated = folder.path().join("audit.jsonl.1");
        std::fs::rename(&path, &rotated).unwrap();
        file.append(&[entry("3")]).unwrap();
        let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&rotated), lines(&path)), (2, 1));
        std::fs::remove_file(&path).unwrap();
        // Another's file is not written to by way of a link.
        std::os::unix::fs::symlink(&rotated, &path).unwrap();
        assert!(file.append(&[entry("4")]).is_err() && lines(&rotated) == 2);
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(file.append(&[entry("4")]).is_err(), "nobody reads the pipe");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(file.append(&[entry("4")]).is_err());
        std::fs::remove_dir(&path).unwrap();
        file.append(&[entry("4")]).unwrap();
        assert_eq!(lines(&path), 1);
    }
}
