//! The service account: who searches, and a password that may change in its file at any time.
//!
//! A password that the directory refused is tried again only when its file has changed, or after [`REST`]: as often as people sign in
//! it would soon lock the account, and with it everybody out. Each process counts for itself.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{Connection, Failure};
use super::dialer::Dialer;
use super::stamp::Stamp;
use super::verdict::{self, Verdict};
use crate::clock::Clock;
use crate::identity::RefusalReason;
use crate::oauth2::Secret;

/// How long a wrong password rests: two tries in the half hour that directories commonly count failures for.
const REST: Duration = Duration::from_secs(15 * 60);

/// How long an account rests that is locked, disabled or expired: asking again does not make that worse.
const REST_OF_STATES: Duration = Duration::from_secs(60);

/// Who searches.
#[derive(Debug)]
pub struct ServiceAccount {
    pub dn: String,
    password_file: PathBuf,
    refused: Mutex<Option<Refused>>,
    /// Held during a bind, so that connections that are opened at the same time try a wrong password once.
    turn: tokio::sync::Mutex<()>,
}

/// The last bind, if it was refused.
#[derive(Debug)]
struct Refused {
    stamp: Stamp,
    at: Instant,
    rest: Duration,
    why: String,
}

impl ServiceAccount {
    pub fn new(dn: String, password_file: PathBuf) -> ServiceAccount {
        ServiceAccount { dn, password_file, refused: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The content of the file without the line break at its end. The error names the file.
    pub fn password(&self) -> Result<Secret, String> {
        let file = self.password_file.display();
        let text = std::fs::read_to_string(&self.password_file).map(zeroize::Zeroizing::new).map_err(|e| format!("{file}: {e}"))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(format!("{file} is empty; an empty password would bind as nobody")),
            password => Ok(Secret::new(password)),
        }
    }

    /// Which file the password would be read from now.
    pub fn stamp(&self) -> Stamp {
        Stamp::of(&self.password_file)
    }

    /// A new connection that speaks as the account, and the file that its password came from. A refusal is a mistake of ours, never a
    /// wrong password of the person; where the file changed meanwhile, it is read once more.
    pub async fn connect(&self, dialer: &Dialer) -> Result<(Connection, Stamp), Failure> {
        let _turn = self.turn.lock().await;
        let mut before = None;
        loop {
            let stamp = self.stamp();
            match before {
                Some((tried, failure)) if tried == stamp => return Err(failure),
                _ => self.may_try(&stamp)?,
            }
            let password = self.password().map_err(|reason| Failure::new(format!("bind_password_file: {reason}")))?;
            let (connection, answer) = dialer.bind(&self.dn, &password).await?;
            let (reason, codes) = match verdict::of(&answer) {
                Verdict::Yes => {
                    self.note(None);
                    return Ok((connection, stamp));
                }
                Verdict::Unknown(reason) => return Err(Failure::new(format!("bind as {}: {reason}", self.dn))),
                Verdict::No(reason, codes) => (Some(reason), codes),
                // It may have been counted all the same.
                Verdict::Unexplained(codes) | Verdict::InDoubt(codes) => (None, codes),
            };
            let rest = if reason == Some(RefusalReason::BadPassword) { REST } else { REST_OF_STATES };
            let why = format!("{}, {codes}", reason.map_or("unexplained", RefusalReason::as_str));
            let failure = Failure::new(format!(
                "the directory refuses the service account {} ({why}); check bind_dn and bind_password_file",
                self.dn
            ));
            self.note(Some(Refused { stamp: stamp.clone(), at: Clock::monotonic(), rest, why }));
            before = Some((stamp, failure));
        }
    }

    fn may_try(&self, stamp: &Stamp) -> Result<(), Failure> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match &*refused {
            Some(refused) if refused.stamp == *stamp && Clock::since(refused.at) < refused.rest => {
                let left = humantime::format_duration(Duration::from_secs((refused.rest - Clock::since(refused.at)).as_secs() + 1));
                Err(Failure::new(format!(
                    "the directory refused the service account {} ({}); lest it be locked, the same password is tried again in {left} \
                     only: put the right one into bind_password_file, which is taken up at once",
                    self.dn, refused.why
                )))
            }
            _ => Ok(()),
        }
    }

    fn note(&self, outcome: Option<Refused>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
    }
}
