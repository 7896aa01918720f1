//! Who may try next. Pure: the row is locked and written by whoever calls.
//!
//! A directory locks an account when `threshold` binds in a row were wrong, and forgets wrong ones when `window` has passed: since
//! the last (Active Directory, 389-ds) or since each (OpenLDAP). So what is counted here is forgotten only after a whole window
//! without a single try, which is right for both; tries that are refused here do not reach the directory and prolong nothing.
//!
//! Two counts stand against two limits. `failed` and `in_flight` together are what the directory may have counted since the last
//! right password; a right one ends that count there, and so here. `guesses` is what strangers tried, and a right password does
//! not end that: otherwise whoever signs in often would be guessed at often.

use std::time::Duration;

use crate::storage::shield::TriesRow;
use crate::tokens::CLOCK_MARGIN;

/// After so many seconds nobody waits for the end of a try any more.
const FLIGHT: i64 = 10;

/// How many tries a window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For all strangers together.
    pub strangers: i64,
    /// More, for networks that the person signed in from before.
    pub kept: i64,
    /// Seconds.
    pub window: i64,
}

impl Limits {
    /// Below a directory's lockout: strangers have its threshold - 2, so the last try before a lock is nobody's.
    pub fn below(threshold: u32, window: Duration) -> Limits {
        Limits { strangers: i64::from(threshold) - 2, kept: 1, window: seconds(window) }
    }

    /// Where nothing locks: strangers have `count`, and as many are kept.
    pub fn of_rate(count: u32, window: Duration) -> Limits {
        Limits { strangers: i64::from(count), kept: i64::from(count), window: seconds(window) }
    }

    /// For each of two names under which tries of one person are counted: together they stay below what these limits have for one.
    pub fn halved(self) -> Limits {
        let each = (self.strangers + self.kept) / 2;
        let strangers = (self.strangers / 2).max(1);
        Limits { strangers, kept: (each - strangers).max(0), window: self.window }
    }

    /// With what strangers may do under `house`: no more tries, forgotten no sooner. Networks that the person signed in from lose
    /// nothing by it. So nobody can count out which of the sources a login belongs to, or whether to any.
    pub fn under(self, house: Limits) -> Limits {
        let strangers = self.strangers.min(house.strangers);
        Limits { strangers, kept: self.strangers + self.kept - strangers, window: self.window.max(house.window) }
    }

    /// Seconds without a try after which those before are forgotten. Clocks may disagree.
    pub fn quiet(self) -> i64 {
        self.window.saturating_add(CLOCK_MARGIN)
    }

    /// How long a wrong password is remembered, in seconds: so long that it is tried at most once in a row of tries, however often it
    /// comes. Otherwise a forgotten job would use up all tries by itself.
    pub fn memory(self) -> i64 {
        self.quiet().saturating_add(CLOCK_MARGIN)
    }
}

fn seconds(window: Duration) -> i64 {
    i64::try_from(window.as_secs()).unwrap_or(i64::MAX / 4)
}

/// A try that was counted before the source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    stranger: bool,
    number: i64,
    /// What stood before.
    failed: i64,
    epoch: i64,
    last_try: i64,
    last_guess: i64,
}

/// Whether there is a try left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Yes(Ticket),
    No {
        /// Seconds until there is.
        wait: i64,
        /// Some tries have not ended yet, and may be given back in a moment.
        undecided: bool,
    },
}

/// How a try ended, for the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The password was right.
    Right,
    /// It was wrong: counted, and not to be tried again for a while.
    Wrong,
    /// Refused for another reason: counted, since the directory may have done so.
    Refused,
    /// The source was not asked, or did not count it.
    Uncounted,
    /// The source was asked, and nobody knows what it decided: counted, and a right password does not take that back, for the source may
    /// decide it later.
    InDoubt,
}

/// Takes a try at `now`, if there is one left.
pub fn reserve(row: &mut TriesRow, limits: Limits, stranger: bool, now: i64) -> Room {
    let quiet = limits.quiet();
    // Also where a clock was far ahead: what it wrote must not stand for ever.
    let forgotten = |at: i64| now.abs_diff(at) > quiet.unsigned_abs();
    if forgotten(row.last_try) {
        (row.failed, row.in_flight, row.epoch) = (0, 0, row.epoch + 1);
    }
    if forgotten(row.last_guess) {
        row.guesses = 0;
    }
    let pending = row.failed + row.in_flight;
    let guessed_out = stranger && row.guesses >= limits.strangers;
    let most = limits.strangers + if stranger { 0 } else { limits.kept };
    if guessed_out || pending >= most {
        let guess = if guessed_out { row.last_guess } else { i64::MIN };
        let own = if pending >= most { row.last_try } else { i64::MIN };
        let wait = guess.max(own).saturating_add(quiet).saturating_add(1).saturating_sub(now).max(1);
        return Room::No { wait, undecided: row.in_flight > 0 && now.abs_diff(row.last_try) <= FLIGHT.unsigned_abs() };
    }
    row.number += 1;
    let ticket =
        Ticket { stranger, number: row.number, failed: row.failed, epoch: row.epoch, last_try: row.last_try, last_guess: row.last_guess };
    row.in_flight += 1;
    row.last_try = now;
    if stranger {
        row.guesses += 1;
        row.last_guess = now;
    }
    row.until = now.saturating_add(limits.memory());
    Room::Yes(ticket)
}

/// Writes down how the try ended.
pub fn settle(row: &mut TriesRow, ticket: Ticket, proof: Proof) {
    if proof == Proof::InDoubt {
        return;
    }
    row.in_flight = (row.in_flight - 1).max(0);
    match proof {
        Proof::Wrong | Proof::Refused => row.failed += 1,
        Proof::Right | Proof::Uncounted | Proof::InDoubt => {
            if ticket.stranger {
                row.guesses = (row.guesses - 1).max(0);
            }
            // As if it had not been, unless there were others since.
            if row.number == ticket.number {
                (row.last_try, row.last_guess) = (ticket.last_try, ticket.last_guess);
            }
        }
    }
    // What was wrong while this one was under way may have been counted after it: only what had ended before is over.
    if proof == Proof::Right && row.epoch == ticket.epoch {
        row.failed = (row.failed - ticket.failed).max(0);
        row.epoch += 1;
    }
}
