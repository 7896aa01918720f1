//! How long a bind takes tells whether there is such a person: a directory hashes the password for an entry only, and with PBKDF2 that
//! is nine milliseconds of ten. So a refused bind for nobody is answered when one for a person would have been: the last durations of
//! binds that were hashed are kept, and one of them, drawn at random, is how long it takes at least.
//!
//! What it cannot do: before the first bind of a person since the start nothing is known and nothing is held. Sleeps are whole
//! milliseconds, so differences below one are made even on the average only. Where people's passwords are hashed differently, the
//! draw is from the mixture.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::oauth2::secret::fill_unique;

/// How many durations of each kind are kept, in memory only.
const KEPT: usize = 32;
/// From so many wrong passwords on, right ones need not tell. A right one is hashed alike, but what else happens differs.
const ENOUGH: usize = 8;
/// A longer one counts as this, which so is the longest hold. The sign-in has its own deadline besides.
const LONGEST: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Whose bind it is, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Somebody's whose entry was found.
    Person,
    /// A name that nobody has.
    Nobody,
    /// That of a name that was not looked up before.
    Unsure,
}

/// How long the binds of a source took of late. Only binds: neither connections nor searches.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    wrong: VecDeque<Duration>,
    right: VecDeque<Duration>,
}

impl Pace {
    /// A right password, of whomever.
    pub fn right(&self, took: Duration) {
        keep(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).right, took);
    }

    /// A password that was said to be wrong: what a person's took is kept, and another's is held.
    pub async fn wrong(&self, whose: Whose, took: Duration) {
        if whose == Whose::Person {
            keep(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).wrong, took);
        } else {
            self.hold(took).await;
        }
    }

    /// Waits until a bind that took so long has taken as long as one that was hashed. Holds no connection and no thread.
    pub async fn hold(&self, took: Duration) {
        let [draw, round] = [random(), random()];
        let rest = self.draw(draw).saturating_sub(took);
        // A sleep ends with the millisecond after the one asked for.
        if let Some(sleep) = whole_milliseconds(rest, round).checked_sub(MILLISECOND) {
            tokio::time::sleep(sleep).await;
        }
    }

    /// One of the durations; none is known as zero.
    fn draw(&self, random: u64) -> Duration {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let right = known.right.iter().take(if known.wrong.len() < ENOUGH { KEPT } else { 0 });
        let all: Vec<Duration> = known.wrong.iter().chain(right).copied().collect();
        let place = random.checked_rem(all.len() as u64).unwrap_or(0);
        all.get(place as usize).copied().unwrap_or_default()
    }
}

fn keep(durations: &mut VecDeque<Duration>, took: Duration) {
    if durations.len() >= KEPT {
        durations.pop_front();
    }
    durations.push_back(took.min(LONGEST));
}

/// Up or down by chance, so that the average stays what it is.
fn whole_milliseconds(duration: Duration, random: u64) -> Duration {
    let up = random % 1_000_000 < u64::from(duration.subsec_nanos() % 1_000_000);
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(whole.saturating_add(u64::from(up)))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    fill_unique(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn drawn(pace: &Pace) -> Vec<Duration> {
        let mut drawn: Vec<Duration> = (0..200).map(|random| pace.draw(random)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    }

    #[tokio::test]
    async fn a_hold_is_drawn_from_the_last_wrong_passwords_of_people() {
        let pace = Pace::default();
        assert_eq!(drawn(&pace), [ms(0)], "nothing is known yet");
        pace.right(ms(500));
        pace.wrong(Whose::Nobody, ms(700)).await;
        pace.wrong(Whose::Unsure, ms(700)).await;
        assert_eq!(drawn(&pace), [ms(500)], "a right password tells until wrong ones do, and nobody's never does");
        for n in 1..8 {
            pace.wrong(Whose::Person, ms(n)).await;
        }
        assert_eq!(drawn(&pace).len(), 8);
        for n in 8..=100 {
            pace.wrong(Whose::Person, ms(n)).await;
        }
        assert_eq!(drawn(&pace), (69..=100).map(ms).collect::<Vec<_>>(), "the last 32");
        for _ in 0..32 {
            pace.wrong(Whose::Person, ms(60_000)).await;
        }
        assert_eq!(drawn(&pace), [LONGEST]);
    }

    #[tokio::test]
    async fn it_is_held_for_what_is_missing() {
        let pace = Pace::default();
        pace.wrong(Whose::Person, ms(80)).await;
        let began = Clock::monotonic();
        pace.wrong(Whose::Nobody, ms(0)).await;
        assert!(Clock::since(began) >= ms(79));
        // What took longer than any is not held: this would take an hour.
        let pace = Pace::default();
        for _ in 0..3600 {
            pace.wrong(Whose::Person, ms(1000)).await;
            pace.hold(ms(1000)).await;
        }
    }

    #[test]
    fn parts_of_a_millisecond_are_right_on_the_average() {
        let quarter = Duration::from_micros(2_250);
        let sum: Duration = (0..1000).map(|n| whole_milliseconds(quarter, n * 1_000)).sum();
        assert_eq!(sum, quarter * 1000);
        assert_eq!(whole_milliseconds(ms(3), 0), ms(3));
        assert_eq!(whole_milliseconds(ms(0), 0), ms(0));
    }
}
