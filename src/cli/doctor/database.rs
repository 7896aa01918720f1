//! The database: reachable, of which version, migrated; its file, its disk, its clock, its feed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::cli::keys::when;
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::finding::{Finding, Findings};
use crate::storage::{Storage, StorageError, condition, settings};

const MIB: u64 = 1 << 20;

/// What is wrong with it, and the database where the other checks can use it: there, reachable and migrated.
pub fn look(config: &Config, clock: &Clock) -> (Vec<Finding>, Option<Storage>) {
    let mut findings = Findings::about("database");
    let path = config.database.sqlite_path().map(Path::new);
    if let Some(path) = path {
        disk(&mut findings, path);
    }
    let usable = match open(config) {
        Ok(None) => {
            findings.warn("reachable", "the database is not there yet", "start the server once, or run countersign migrate");
            None
        }
        Ok(Some(storage)) => examine(&mut findings, storage, clock),
        Err(reason) => {
            findings.fail("reachable", reason.to_string(), "see whether the database runs, and whether database.url is right");
            None
        }
    };
    if let Some(path) = path {
        modes(&mut findings, path);
    }
    (findings.done(), usable)
}

fn open(config: &Config) -> Result<Option<Storage>, StorageError> {
    match Storage::is_yet_to_be_made(&config.database)? {
        true => Ok(None),
        false => Storage::open(&config.database).map(Some),
    }
}

fn examine(findings: &mut Findings, storage: Storage, clock: &Clock) -> Option<Storage> {
    match storage.pending_migrations() {
        Err(reason @ StorageError::Unavailable(_)) => {
            findings.fail("reachable", reason.to_string(), "see whether the database runs, and whether database.url is right");
            return None;
        }
        Err(reason) => {
            findings.fail("migrations", reason.to_string(), "do as it says");
            return None;
        }
        Ok(missing) if !missing.is_empty() => {
            findings.pass("reachable", storage.describe());
            findings.fail(
                "migrations",
                format!("{} are missing: {}", missing.len(), missing.join(", ")),
                "run countersign migrate, or start the server once; back the database up before",
            );
            return None;
        }
        Ok(_) => {}
    }
    match storage.unknown_migrations() {
        Ok(newer) if !newer.is_empty() => findings.warn(
            "migrations",
            format!("a newer Countersign has applied {}; this one can still work with it", newer.join(", ")),
            "bring this program up to date as well",
        ),
        Ok(_) => findings.pass("migrations", "none is missing"),
        Err(reason) => findings.fail("migrations", reason.to_string(), "see whether the database runs"),
    }
    let found = storage.read_blocking(|c| Ok((condition::look(c)?, settings::get(c, settings::BACKUP_MADE_AT)?)));
    let (condition, backup) = match found {
        Ok(found) => found,
        Err(reason) => {
            findings.fail("reachable", reason.to_string(), "see whether the database runs");
            return None;
        }
    };
    findings.pass("reachable", format!("{}, {}", storage.describe(), condition.version));
    if let Some(theirs) = condition.now {
        findings.clock("the database", theirs, clock.now());
    }
    if backup.is_some() {
        findings.fail(
            "backup",
            "this is a copy that countersign backup made: it has forgotten what was revoked since",
            "run countersign keys recover, which ends every token",
        );
    }
    match condition.feed_at {
        Some(at) if at > clock.now() + 60 => findings.warn(
            "feed",
            format!("its newest entry, {}, is of the future: {}", condition.feed_head, when(at)),
            "set the clock: this machine's is behind, or another node's ahead",
        ),
        Some(at) => findings.pass("feed", format!("at {}, of {}", condition.feed_head, when(at))),
        None => findings.pass("feed", format!("at {}, with nothing that still matters", condition.feed_head)),
    }
    Some(storage)
}

/// The space that is left for a SQLite database. Without any, every write is answered 503.
fn disk(findings: &mut Findings, path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The folder may be yet to be made as well.
    let Some(there) = folder.ancestors().find(|folder| folder.exists()).or(Some(Path::new("."))) else { return };
    let Ok(status) = rustix::fs::statvfs(there) else { return };
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let detail = format!("{} MiB are free", free / MIB);
    match free {
        free if free < 50 * MIB => findings.fail("disk", detail, "make room: without it nothing can be written, and requests get 503"),
        free if free < 1024 * MIB => findings.warn("disk", detail, "make room before it runs out"),
        _ => findings.pass("disk", detail),
    }
}

fn modes(findings: &mut Findings, path: &Path) {
    let mut open = Vec::new();
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let Ok(metadata) = std::fs::metadata(&name) else { continue };
        if metadata.permissions().mode() & 0o077 != 0 {
            open.push(format!("{} ({:o})", Path::new(&name).display(), metadata.permissions().mode() & 0o777));
        }
    }
    if !open.is_empty() {
        findings.warn("file modes", format!("others may open {}", open.join(", ")), "chmod 600, for the account that runs the server");
    } else if path.exists() {
        findings.pass("file modes", "only its owner may open the file");
    }
}
