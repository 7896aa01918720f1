//! The key-encryption key and the keys under it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::cli::keys::when;
use crate::clock::Clock;
use crate::config::{Config, SigningAlgorithm};
use crate::identity::finding::{Finding, Findings};
use crate::storage::keys::KeyRow;
use crate::storage::{Storage, keys};
use crate::tokens::kek::{self, Kek, Origin};
use crate::tokens::keyring::{KeyState, Keyring, SEALING, SIGNING};

pub fn look(config: &Config, clock: &Clock, storage: Option<&Storage>) -> Vec<Finding> {
    let mut findings = Findings::about("keys");
    match kek::origin(config) {
        Origin::Environment => findings.pass("key-encryption key", "from the environment"),
        Origin::File(file) => file_of(&mut findings, &file, "keys.encryption_key_file"),
        Origin::BesideDatabase(file) if kek::is_yet_to_be_made(config) => {
            findings.pass("key-encryption key", format!("{} will be made at the first start", file.display()))
        }
        Origin::BesideDatabase(file) => findings.warn(
            "key-encryption key",
            format!("{} lies beside the database that it protects: whoever copies the folder has both", file.display()),
            "move it to another place and name that in keys.encryption_key_file",
        ),
        Origin::Nowhere => findings.fail(
            "key-encryption key",
            "there is none, and PostgreSQL needs one that all nodes share",
            "make it (head -c 32 /dev/urandom | base64) and name its file in keys.encryption_key_file",
        ),
    }
    if config.keys.previous_encryption_key_file.is_some() {
        findings.warn(
            "key-encryption key",
            "keys.previous_encryption_key_file is set: a change of the key is under way",
            "run countersign keys rewrap once every node has the new key, then take it out of the configuration",
        );
    }
    let rows = match storage.map(|storage| storage.read_blocking(keys::all)) {
        None => return findings.done(),
        Some(Ok(rows)) => rows,
        Some(Err(reason)) => {
            findings.fail("stored keys", reason.to_string(), "see whether the database runs");
            return findings.done();
        }
    };
    if rows.is_empty() {
        findings.pass("stored keys", "none yet; the first start makes them");
        return findings.done();
    }
    let now = clock.now();
    match Kek::load(config, false).and_then(|kek| Keyring::build(&rows, &kek, &config.server.issuer(), now)) {
        Ok(_) => findings.pass("stored keys", "the key-encryption key opens every one"),
        Err(reason) => {
            let mend = "put the right key back; without it, countersign keys recover makes new keys and ends every token";
            findings.fail("stored keys", reason.to_string(), mend);
        }
    }
    lines(&mut findings, config, &rows, now);
    findings.done()
}

fn file_of(findings: &mut Findings, file: &Path, key: &str) {
    match std::fs::metadata(file) {
        Err(reason) => findings.fail("key-encryption key", format!("{}: {reason}", file.display()), format!("correct {key}")),
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => findings.warn(
            "key-encryption key",
            format!("others may read {} ({:o})", file.display(), metadata.permissions().mode() & 0o777),
            "chmod 600, for the account that runs the server",
        ),
        Ok(_) => findings.pass("key-encryption key", format!("{}, for its owner alone", file.display())),
    }
}

/// Whether each kind of key has one in use, and not for too long.
fn lines(findings: &mut Findings, config: &Config, rows: &[KeyRow], now: i64) {
    let algorithms = [SigningAlgorithm::Es256, SigningAlgorithm::Rs256, SigningAlgorithm::EdDsa];
    let signing = algorithms.iter().map(|algorithm| (SIGNING, Some(algorithm.as_str()), algorithm.as_str()));
    for (purpose, algorithm, shown) in signing.chain([(SEALING, None, "sealing")]) {
        let of_line = |row: &&KeyRow| row.purpose == purpose && algorithm.is_none_or(|name| row.algorithm == name);
        let in_use = rows.iter().filter(of_line).filter(|row| KeyState::of(row, now) == KeyState::Signing).max_by_key(|row| row.active_at);
        let waiting = rows.iter().filter(of_line).any(|row| KeyState::of(row, now) == KeyState::Published);
        // The schedule looks every few minutes; a day says that nobody looks.
        let due = in_use.map(|row| row.active_at + config.keys.rotation.as_secs() as i64 + 86_400);
        match (in_use, due) {
            (Some(row), Some(due)) if due < now && !waiting => findings.warn(
                "rotation",
                format!("the {shown} key {} has been in use since {}, longer than keys.rotation", row.kid, when(row.active_at)),
                "keep a server running, which rotates by itself, or run countersign keys rotate",
            ),
            (Some(row), _) => findings.pass("in use", format!("{shown}: {} since {}", row.kid, when(row.active_at))),
            (None, _) => {
                findings.fail("in use", format!("there is no {shown} key in use"), "start the server, or run countersign keys rotate")
            }
        }
    }
}
