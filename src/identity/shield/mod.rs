//! The shield: nobody is locked out by what others try, neither here nor in the directory that counts wrong passwords.
//!
//! Flow of a try, for a person that a source has found (an unknown login is a person of its own, so that both behave alike): the
//! same try that is under way already is waited for → a password that is known to be wrong is refused → a try is taken from what
//! the person's networks, or strangers, have left ([`count`]) → the source is asked → how it ended is written down. A try counts
//! from before the source is asked, in the database, so neither many at once nor many nodes can exceed the limits.
//!
//! Without the database nobody is asked: [`Authentication::Unavailable`].

pub mod count;
mod flight;
mod key;

#[cfg(test)]
mod tests;

use std::time::Duration;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

pub use self::count::{Limits, Proof};
use self::count::{Room, Ticket};
use self::flight::Flights;
use self::key::Hasher;
use super::{Authentication, Outage, Refusal, RefusalReason};
use crate::clock::Clock;
use crate::config::Rate;
use crate::oauth2::{Secret, SourceName};
use crate::storage::{Storage, StorageError, shield};
use crate::tokens::TokenError;
use crate::tokens::kek::Kek;

/// Seconds that a network stays familiar after the last sign-in from it.
const FAMILIAR: i64 = 90 * 86_400;
/// A network's time is prolonged at most once in so many seconds.
const PROLONGED: i64 = 86_400;
/// How long a try waits for others to end that may be given back, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(40);

/// Somebody tries a password.
#[derive(Clone, Copy, Debug)]
pub struct Try<'a> {
    /// As typed.
    pub login: &'a str,
    pub password: &'a Secret,
    /// Where the request came from, as `limits::network` writes it.
    pub network: &'a str,
    pub shield: &'a Shield,
    /// What strangers may do whichever source the person is of; none while no sources were chosen.
    pub house: Option<Limits>,
}

/// Whom a try is for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub source: &'a SourceName,
    /// The immutable id within the source, or [`pretended`].
    pub subject: &'a str,
    /// None where nothing locks the account: then the limits are those of `limits.login_failures`.
    pub limits: Option<Limits>,
    /// Changes when the password does, where the source tells: what was wrong before need not be wrong now.
    pub password_state: &'a str,
}

/// Counts tries, for all nodes of a database.
#[derive(Debug)]
pub struct Shield {
    storage: Storage,
    clock: Clock,
    hasher: Hasher,
    flights: Flights,
    without_lockout: Limits,
}

/// A try that was taken, with what it is remembered by.
#[derive(Clone)]
struct Taken {
    ticket: Ticket,
    subject: String,
    secret: String,
    secret_until: i64,
    /// Marks of the network that are missing or old.
    stale: Vec<String>,
}

enum Taking {
    Taken(Box<Taken>),
    KnownBad,
    Full { wait: i64, undecided: bool },
}

impl Shield {
    /// Errors: the database, or a key in it that the key-encryption key does not open.
    pub fn open(storage: Storage, kek: &Kek, login_failures: Rate, clock: Clock) -> Result<Shield, TokenError> {
        let hasher = Hasher::open(&storage, kek)?;
        Ok(Shield::with(storage, hasher, login_failures, clock))
    }

    fn with(storage: Storage, hasher: Hasher, login_failures: Rate, clock: Clock) -> Shield {
        let without_lockout = Limits::of_rate(login_failures.count, login_failures.per);
        Shield { storage, clock, hasher, flights: Flights::default(), without_lockout }
    }

    /// One that knows nothing of what others over the same database count.
    #[cfg(test)]
    pub fn fresh(storage: Storage, clock: Clock) -> Shield {
        Shield::with(storage, Hasher::random(), crate::config::Limits::default().login_failures, clock)
    }

    /// The limits of a source, where nothing locks accounts too.
    pub fn limits_of(&self, lockout: Option<Limits>) -> Limits {
        lockout.unwrap_or(self.without_lockout)
    }

    /// What a request is found by when it comes again: nobody can read from it who asked, or what.
    pub fn fingerprint(&self, client: &str, attempt: &Try<'_>) -> String {
        self.hasher.hash("request", &[client, &fold(attempt.login), attempt.network, attempt.password.expose()])
    }

    /// Whether somebody signed in with this login from this network before, on whatever node.
    pub async fn is_familiar(&self, login: &str, network: &str) -> Result<bool, StorageError> {
        let (marks, now) = (vec![self.login_mark(login, network)], self.clock.now());
        self.storage.read(move |c| Ok(!shield::remembered(c, &marks, now)?.is_empty())).await
    }

    fn login_mark(&self, login: &str, network: &str) -> String {
        self.hasher.hash("login", &[&fold(login), network])
    }

    /// Asks the source with `ask` if there is a try left, and answers what it says.
    pub async fn guard(&self, target: Target<'_>, attempt: &Try<'_>, ask: impl Future<Output = (Proof, Authentication)>) -> Authentication {
        let subject = self.hasher.hash("subject", &[target.source.as_str(), target.subject]);
        let secret = self.hasher.hash("secret", &[&subject, target.password_state, attempt.password.expose()]);
        let flight = self.flights.join(&format!("{secret} {}", attempt.network));
        let (answer, asked) = flight.answer(Box::pin(self.ask_once(target, attempt, subject, secret, Box::pin(ask)))).await;
        match answer {
            // Of several who asked the same at once, one made the try.
            Authentication::Refused(refusal) if !asked && is_wrong(refusal.reason) => known_bad(target),
            answer => answer,
        }
    }

    async fn ask_once(
        &self,
        target: Target<'_>,
        attempt: &Try<'_>,
        subject: String,
        secret: String,
        ask: impl Future<Output = (Proof, Authentication)>,
    ) -> Authentication {
        let unavailable = |error: StorageError| Authentication::Unavailable(Outage::new(target.source, format!("the shield: {error}")));
        let began = Clock::monotonic();
        let taken = loop {
            match self.take(target, attempt, &subject, &secret).await {
                Ok(Taking::Taken(taken)) => break *taken,
                Ok(Taking::KnownBad) => return known_bad(target),
                Ok(Taking::Full { undecided: true, .. }) if Clock::since(began) < PATIENCE => tokio::time::sleep(LOOK).await,
                Ok(Taking::Full { wait, .. }) => return shielded(target, wait),
                Err(error) => return unavailable(error),
            }
        };
        let (proof, answer) = ask.await;
        match self.settle(taken, proof).await {
            Ok(()) => answer,
            Err(error) => unavailable(error),
        }
    }

    async fn take(&self, target: Target<'_>, attempt: &Try<'_>, subject: &str, secret: &str) -> Result<Taking, StorageError> {
        let limits = self.limits_of(target.limits);
        let limits = attempt.house.map_or(limits, |house| limits.under(house));
        let network = self.hasher.hash("network", &[subject, attempt.network]);
        let login = self.login_mark(attempt.login, attempt.network);
        let (subject, secret, now) = (subject.to_owned(), secret.to_owned(), self.clock.now());
        let take = move |tx: &mut crate::storage::Connection| {
            let marks = [secret, network, login];
            let known = shield::remembered(tx, &marks, now)?;
            let until = |mark: &String| known.iter().find(|(known, _)| known == mark).map(|(_, until)| *until);
            let [secret, network, _] = &marks;
            if until(secret).is_some() {
                return Ok(Taking::KnownBad);
            }
            let stranger = until(network).is_none();
            let mut row = shield::lock(tx, &subject)?;
            match count::reserve(&mut row, limits, stranger, now) {
                Room::No { wait, undecided } => Ok(Taking::Full { wait, undecided }),
                Room::Yes(ticket) => {
                    shield::put(tx, &row)?;
                    let fresh = |mark: &&String| until(mark).is_none_or(|until| until < now + FAMILIAR - PROLONGED);
                    let stale = marks.iter().skip(1).filter(fresh).cloned().collect();
                    let secret_until = now.saturating_add(limits.memory());
                    Ok(Taking::Taken(Box::new(Taken { ticket, subject, secret: secret.clone(), secret_until, stale })))
                }
            }
        };
        self.storage.write(take).await
    }

    async fn settle(&self, taken: Taken, proof: Proof) -> Result<(), StorageError> {
        if proof == Proof::InDoubt {
            return Ok(());
        }
        let familiar_until = self.clock.now() + FAMILIAR;
        let settle = move |tx: &mut crate::storage::Connection| {
            let mut row = shield::lock(tx, &taken.subject)?;
            count::settle(&mut row, taken.ticket, proof);
            shield::put(tx, &row)?;
            match proof {
                Proof::Wrong => shield::remember(tx, &taken.secret, taken.secret_until),
                Proof::Right => taken.stale.iter().try_for_each(|mark| shield::remember(tx, mark, familiar_until)),
                Proof::Refused | Proof::Uncounted | Proof::InDoubt => Ok(()),
            }
        };
        self.storage.write(settle).await
    }
}

/// Whether the source said that the password is wrong, rather than something about the account.
fn is_wrong(reason: RefusalReason) -> bool {
    matches!(reason, RefusalReason::BadPassword | RefusalReason::UnknownUser)
}

fn known_bad(target: Target<'_>) -> Authentication {
    refused(target, Refusal::new(RefusalReason::KnownBadPassword, "the same wrong password again; the source was not asked"))
}

fn shielded(target: Target<'_>, wait: i64) -> Authentication {
    let refusal = Refusal::new(RefusalReason::Shielded, "too many wrong passwords for this person; the source was not asked");
    refused(target, Refusal { wait: Some(Duration::from_secs(wait.unsigned_abs())), ..refusal })
}

fn refused(target: Target<'_>, refusal: Refusal) -> Authentication {
    let subject = (!target.subject.starts_with(PRETENDED)).then(|| target.subject.to_owned());
    Authentication::Refused(Refusal { source: Some(target.source.clone()), subject, ..refusal })
}

/// Begins the subject of a login that nobody has. No directory has such an id.
const PRETENDED: &str = "login\u{0}";

/// The subject of a login that a source does not resolve. What stands behind an `@` says where somebody is, not who: as a person's
/// name and address are one subject, so are these.
pub fn pretended(login: &str) -> String {
    let folded = fold(login);
    let name = folded.split('@').next().filter(|name| !name.is_empty()).unwrap_or(&folded);
    format!("{PRETENDED}{name}")
}

/// The subject of whoever a directory takes this name for, where it is not asked before the bind.
pub fn pretended_name(name: &str) -> String {
    format!("{PRETENDED}{}", fold(name))
}

/// The login as a directory may compare it: without case, accents, compatibility forms, characters that nobody sees, and spaces but
/// one. Two people may become one by it, which costs them a shared count; one person must never become two.
pub fn fold(login: &str) -> String {
    let plain = login.nfkd().filter(|c| !is_combining_mark(*c) && !is_ignored(*c)).flat_map(char::to_lowercase);
    let folded: String = plain.nfkd().filter(|c| !is_combining_mark(*c)).collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What RFC 4518 section 2.2 maps to nothing.
fn is_ignored(c: char) -> bool {
    (c.is_control() && !c.is_whitespace())
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{6dd}' | '\u{70f}' | '\u{1806}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}
