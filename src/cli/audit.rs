//! `countersign audit`: the trail, as it was and as it grows.

use std::collections::HashSet;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;

use super::CliError;
use crate::audit::{Entry, Outcome};
use crate::clock::Clock;
use crate::storage::Storage;
use crate::storage::trail::Trail;

#[derive(Debug, Args)]
pub struct Audit {
    /// From when on: how long ago (2h, 7d), or a time (2026-01-31T08:00:00Z). Without it a day, with --follow from now on
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// Go on with what is written from now on, until interrupted
    #[arg(long)]
    follow: bool,
    /// One JSON object a line, as the sinks write it
    #[arg(long)]
    json: bool,
    /// Only this event (sign_in, sign_in_refused, revoked …); may be repeated
    #[arg(long, value_name = "EVENT")]
    event: Vec<String>,
    /// Only what ended so: ok, refused or error
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Only this person, by username or account id
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only this client
    #[arg(long, value_name = "CLIENT_ID")]
    client: Option<String>,
    /// Only this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
}

/// How often the database is asked with --follow.
const PAUSE: Duration = Duration::from_millis(500);
const DAY: i64 = 86_400;

pub fn run(wanted: Audit, storage: &Storage, clock: &Clock) -> Result<(), CliError> {
    if let Some(outcome) = wanted.outcome.as_deref().filter(|outcome| Outcome::parse(outcome).is_none()) {
        return Err(CliError::Said(format!("{outcome} is no outcome; those are ok, refused and error")));
    }
    let now = clock.now();
    let from = match &wanted.since {
        Some(text) => moment(text, now)?,
        None if wanted.follow => now,
        None => now - DAY,
    };
    let events: HashSet<&str> = wanted.event.iter().map(String::as_str).collect();
    let mut trail = Trail::new(storage.clone(), from);
    let mut failing = false;
    loop {
        let page = match trail.next(clock.now()) {
            Ok(page) => page,
            // Whoever follows wants to go on when the database is back.
            Err(reason) if wanted.follow => {
                if !std::mem::replace(&mut failing, true) {
                    let _ = writeln!(std::io::stderr(), "{reason}; trying again");
                }
                std::thread::sleep(2 * PAUSE);
                continue;
            }
            Err(reason) => return Err(reason.into()),
        };
        failing = false;
        if page.is_empty() {
            if !wanted.follow {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
            continue;
        }
        match print(page.iter().filter(|entry| wanted.admits(entry, &events)), wanted.json) {
            Ok(()) => {}
            // Whoever read has read enough.
            Err(reason) if reason.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            Err(reason) => return Err(reason.into()),
        }
    }
}

impl Audit {
    fn admits(&self, entry: &Entry, events: &HashSet<&str>) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let user = self.user.is_none() || self.user == entry.username || self.user == entry.account_id;
        (events.is_empty() || events.contains(entry.event.as_str()))
            && self.outcome.as_ref().is_none_or(|outcome| *outcome == entry.outcome)
            && user
            && is(&self.client, &entry.client_id)
            && is(&self.source, &entry.source)
    }
}

fn print<'a>(entries: impl Iterator<Item = &'a Entry>, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for entry in entries {
        writeln!(out, "{}", if json { entry.json() } else { entry.text() })?;
    }
    out.flush()
}

/// Seconds since the epoch of a duration before `now`, or of a time.
fn moment(text: &str, now: i64) -> Result<i64, CliError> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now.saturating_sub(i64::try_from(ago.as_secs()).unwrap_or(i64::MAX)));
    }
    let at = humantime::parse_rfc3339_weak(text).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let at = at.and_then(|at| i64::try_from(at.as_secs()).ok());
    at.ok_or_else(|| CliError::Said(format!("--since {text} is neither a duration (2h, 7d) nor a time (2026-01-31T08:00:00Z, in UTC)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_duration_or_a_time() {
        assert_eq!(moment("2h", 10_000).unwrap(), 2_800);
        assert_eq!(moment("2027-01-15T08:00:00Z", 0).unwrap(), 1_800_000_000);
        assert_eq!(moment("2027-01-15 08:00:00", 0).unwrap(), 1_800_000_000);
        for wrong in ["yesterday", "", "-2h", "2027-13-01T00:00:00Z", "2"] {
            assert!(moment(wrong, 0).unwrap_err().to_string().contains("2h, 7d"), "{wrong}");
        }
    }
}
