//! Throttles: so many events of one key in so long, in bounded memory.
//!
//! Events of a key are kept in slots of a 64th of the window, so that a key costs at most 65 slots whatever the rate. An event is
//! forgotten when the end of its slot has left the window: up to a 64th late, never early, so `10/5m` never lets an eleventh pass.
//!
//! There is room for [`KEYS`] keys. When a shard is full, a newcomer takes the place of one of sixteen keys drawn by its own
//! secret hash: of one that is no longer in the window if there is such, else of the one with the fewest events, of those the one
//! seen longest ago. So a flood of fresh keys, which have one event each, throws out its own and not the key that it means to free:
//! that would need most of the table to hold at least as many events for each key.
//!
//! What is asked at the same time passes together: a caller that checks first and reports the failure after the work may exceed
//! the rate by as many as it lets work at a time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::config::Rate;

/// How many keys one throttle remembers.
pub const KEYS: usize = 100_000;
const SHARDS: usize = 16;
const SLOTS: u32 = 64;
/// Keys compared when one must go.
const DRAWN: usize = 16;

/// The key of an address: for IPv6 the /64, since a subscriber has all of it.
pub fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// Counts events by key, for one rate.
#[derive(Debug)]
pub struct Throttle {
    count: u32,
    slot: Duration,
    start: Instant,
    /// Keyed with random numbers of this process: nobody outside can choose keys that collide, nor guess what is drawn.
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// From the hash of a key to its place in `entries`.
    places: HashMap<u64, usize>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: u64,
    total: u32,
    /// Number of the slot and events in it, oldest first.
    slots: VecDeque<(u64, u32)>,
}

impl Throttle {
    pub fn new(rate: Rate) -> Throttle {
        let slot = (rate.per / SLOTS).max(Duration::from_millis(1));
        let shards = std::array::from_fn(|_| Mutex::default());
        Throttle { count: rate.count.max(1), slot, start: Clock::monotonic(), hasher: RandomState::new(), shards }
    }

    /// Whether `key` has events left, without counting one. Errors: how long to wait until it has.
    pub fn check(&self, key: &str) -> Result<(), Duration> {
        self.check_at(key, Clock::since(self.start))
    }

    /// Counts one event: a failure, say.
    pub fn fail(&self, key: &str) {
        self.fail_at(key, Clock::since(self.start));
    }

    /// Counts one event if one is left: for what is limited whether it succeeds or not. Errors: how long to wait.
    pub fn take(&self, key: &str) -> Result<(), Duration> {
        self.take_at(key, Clock::since(self.start), KEYS / SHARDS)
    }

    /// Takes one event of `key` back, the newest: for what was counted before its outcome was known.
    pub fn forgive(&self, key: &str) {
        let (hash, mut shard) = self.shard(key);
        let Some(entry) = shard.entry(hash) else { return };
        entry.total = entry.total.saturating_sub(1);
        if let Some((_, events)) = entry.slots.back_mut() {
            *events = events.saturating_sub(1);
            if *events == 0 {
                entry.slots.pop_back();
            }
        }
        if entry.total == 0 {
            shard.remove(hash);
        }
    }

    /// Forgets `key`: it has succeeded.
    pub fn clear(&self, key: &str) {
        let (hash, mut shard) = self.shard(key);
        shard.remove(hash);
    }

    fn check_at(&self, key: &str, now: Duration) -> Result<(), Duration> {
        let (hash, mut shard) = self.shard(key);
        let first = self.first_slot(now);
        let Some(entry) = shard.entry(hash) else { return Ok(()) };
        entry.forget(first);
        if entry.total == 0 {
            shard.remove(hash);
            return Ok(());
        }
        self.room(entry, now)
    }

    fn fail_at(&self, key: &str, now: Duration) {
        let (hash, mut shard) = self.shard(key);
        shard.count(hash, self.slot_of(now), self.first_slot(now), KEYS / SHARDS);
    }

    fn take_at(&self, key: &str, now: Duration, room: usize) -> Result<(), Duration> {
        let (hash, mut shard) = self.shard(key);
        let first = self.first_slot(now);
        if let Some(entry) = shard.entry(hash) {
            entry.forget(first);
            self.room(entry, now)?;
        }
        shard.count(hash, self.slot_of(now), first, room);
        Ok(())
    }

    /// Ok if fewer events than the rate allows are in the window, else the time until so many have left it.
    fn room(&self, entry: &Entry, now: Duration) -> Result<(), Duration> {
        let mut excess = (entry.total + 1).saturating_sub(self.count);
        for (slot, events) in &entry.slots {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(*events);
            if excess == 0 {
                let leaves = self.slot.saturating_mul((*slot).min(u64::from(u32::MAX)) as u32 + SLOTS + 1);
                return Err(leaves.saturating_sub(now).max(Duration::from_secs(1)));
            }
        }
        Ok(())
    }

    fn slot_of(&self, now: Duration) -> u64 {
        (now.as_nanos() / self.slot.as_nanos().max(1)) as u64
    }

    /// The oldest slot that still counts: its end is less than a whole window ago.
    fn first_slot(&self, now: Duration) -> u64 {
        self.slot_of(now).saturating_sub(u64::from(SLOTS))
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder of the length")]
    fn shard(&self, key: &str) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(key);
        let shard = &self.shards[hash as usize % SHARDS];
        // Every step leaves a shard whole, so one whose holder panicked is as good as any.
        (hash, shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entry {
    fn forget(&mut self, first: u64) {
        while let Some((slot, events)) = self.slots.front().copied() {
            if slot >= first {
                break;
            }
            self.total = self.total.saturating_sub(events);
            self.slots.pop_front();
        }
    }

    fn last_seen(&self) -> u64 {
        self.slots.back().map_or(0, |(slot, _)| *slot)
    }
}

impl Shard {
    fn entry(&mut self, key: u64) -> Option<&mut Entry> {
        self.entries.get_mut(*self.places.get(&key)?)
    }

    fn count(&mut self, key: u64, slot: u64, first: u64, room: usize) {
        if let Some(entry) = self.entry(key) {
            entry.forget(first);
            entry.total = entry.total.saturating_add(1);
            match entry.slots.back_mut() {
                Some((last, events)) if *last == slot => *events = events.saturating_add(1),
                _ => entry.slots.push_back((slot, 1)),
            }
            return;
        }
        if self.entries.len() >= room {
            self.make_room(key, first);
        }
        self.places.insert(key, self.entries.len());
        self.entries.push(Entry { key, total: 1, slots: VecDeque::from([(slot, 1)]) });
    }

    fn make_room(&mut self, key: u64, first: u64) {
        let mut draw = key;
        let drawn = std::iter::repeat_with(|| {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.entries.get((draw >> 33) as usize % self.entries.len().max(1))
        });
        let weight = |entry: &&Entry| if entry.last_seen() < first { (0, 0) } else { (entry.total, entry.last_seen()) };
        if let Some(goes) = drawn.take(DRAWN).flatten().min_by_key(weight).map(|entry| entry.key) {
            self.remove(goes);
        }
    }

    fn remove(&mut self, key: u64) {
        let Some(place) = self.places.remove(&key) else { return };
        self.entries.swap_remove(place);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.key, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn throttle(rate: &str) -> Throttle {
        Throttle::new(rate.parse().unwrap())
    }

    #[test]
    fn the_eleventh_waits_until_the_first_has_left() {
        let throttle = throttle("10/5m");
        for second in 0..10 {
            assert_eq!(throttle.check_at("alice", SECOND * second), Ok(()));
            throttle.fail_at("alice", SECOND * second);
        }
        let wait = throttle.check_at("alice", SECOND * 10).unwrap_err();
        assert!((SECOND * 290..=SECOND * 295).contains(&wait), "{wait:?}");
        assert!(throttle.check_at("alice", SECOND * 299).is_err());
        assert_eq!(throttle.check_at("bob", SECOND * 10), Ok(()));
        assert_eq!(throttle.check_at("alice", SECOND * 10 + wait), Ok(()));
    }

    #[test]
    fn success_clears_and_idle_keys_cost_nothing() {
        let throttle = throttle("2/1m");
        throttle.fail("alice");
        throttle.fail("alice");
        let wait = throttle.check("alice").unwrap_err();
        assert!(wait > SECOND * 50 && wait <= SECOND * 62, "{wait:?}");
        throttle.clear("alice");
        assert_eq!(throttle.check("alice"), Ok(()));
        throttle.fail("bob");
        assert_eq!(throttle.check_at("bob", SECOND * 130), Ok(()));
        assert!(throttle.shards.iter().all(|shard| shard.lock().unwrap().entries.is_empty()));
    }

    #[test]
    fn take_counts_only_what_it_allows() {
        let throttle = throttle("3/1m");
        for _ in 0..3 {
            assert_eq!(throttle.take("client"), Ok(()));
        }
        assert!(throttle.take("client").is_err());
        assert!(throttle.take("client").is_err());
        assert_eq!(throttle.shard("client").1.entries[0].total, 3);
    }

    #[test]
    fn a_flood_of_fresh_keys_does_not_free_a_blocked_one() {
        let throttle = throttle("10/5m");
        let room = 100;
        for at in 0..10 {
            throttle.take_at("victim", SECOND * at, room).unwrap();
        }
        for n in 0..50_000 {
            let _ = throttle.take_at(&format!("fresh {n}"), SECOND * 20, room);
        }
        assert!(throttle.check_at("victim", SECOND * 30).is_err());
        for shard in &throttle.shards {
            let shard = shard.lock().unwrap();
            assert!(shard.entries.len() <= room && shard.places.len() == shard.entries.len());
            assert!(shard.entries.iter().enumerate().all(|(place, entry)| shard.places[&entry.key] == place));
        }
        assert_eq!(throttle.check_at("victim", SECOND * 330), Ok(()));
    }

    #[test]
    fn a_subscriber_is_one_key() {
        let key = |address: &str| network(address.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn many_threads_count_together() {
        let throttle = throttle("1000/1h");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..250).for_each(|_| throttle.fail("shared")));
            }
        });
        assert_eq!(throttle.shard("shared").1.entries[0].total, 1000);
        assert!(throttle.check("shared").is_err());
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_the_rate(gaps in proptest::collection::vec(0u64..20_000, 1..200), count in 1u32..12) {
            let throttle = Throttle::new(Rate { count, per: SECOND * 60 });
            let (mut now, mut passed) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                if throttle.take_at("key", now, 10).is_ok() {
                    passed.push(now);
                }
                let recent = passed.iter().filter(|at| now - **at < SECOND * 60).count();
                prop_assert!(recent <= count as usize);
            }
            if let Err(wait) = throttle.check_at("key", now) {
                prop_assert!(wait <= SECOND * 62);
                prop_assert_eq!(throttle.check_at("key", now + wait), Ok(()));
            }
        }
    }
}
