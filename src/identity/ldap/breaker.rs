//! A circuit breaker for each server: while it is open nobody waits for a server that is known to be down.
//!
//! Closed → open when the server is down → after `breaker_open` one caller at a time tries it while the others go to the next → closed
//! by the first answer. A mere connection closes nothing: the kernel accepts for a server that hangs.
//!
//! What opens it: no connection or no secure one, silence for the whole timeout, the results busy and unavailable, nonsense; and twice
//! in a row, with no answer in between, a lost connection or the result "other", which may concern one request alone. A refusal is an
//! answer like any other. A certificate that we do not trust counts as down: nobody can tell whose mistake it is, and files that
//! change on our side close every breaker again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::metrics;
use crate::oauth2::SourceName;

/// Failures in a row that open a breaker where one alone proves little.
const STRIKES: u8 = 2;

/// A failure that came as quickly as this costs nobody anything.
const QUICK: Duration = Duration::from_millis(250);

/// While every server of a source is down, those that fail quickly are tried this often, so that a restart is noticed soon.
const KNOCK: Duration = Duration::from_secs(1);

/// What is known about one server.
#[derive(Debug)]
pub struct Breaker {
    source: SourceName,
    /// `host:port`
    server: String,
    /// How long callers are spared.
    rest: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    /// How often it has opened: what began before belongs to the past.
    trips: u64,
    strikes: u8,
    last_answer: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    /// When it was last found to be down, and when the next caller may try.
    found: Instant,
    until: Instant,
    /// Somebody is trying.
    tried: bool,
    /// It failed quickly.
    quick: bool,
    why: String,
}

/// Why a server is held to be down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not reached, or it says so itself.
    Down,
    /// Nothing came for the whole timeout.
    Silence,
    /// Perhaps this request alone.
    Strike,
}

/// One caller's dealings with a server, from the connect to the end of the connection. Dropped without an outcome it leaves the
/// breaker as it was, but for the callers that gave up on a silent server.
#[derive(Debug)]
pub struct Attempt {
    breaker: Arc<Breaker>,
    trips: u64,
    /// The one that decides whether an open breaker closes.
    trial: bool,
    /// Since when an answer is awaited, and how long it may take.
    waiting: Option<(Instant, Duration)>,
}

impl Breaker {
    pub fn new(source: SourceName, server: String, rest: Duration) -> Breaker {
        Breaker { source, server, rest, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a caller try, or not. `desperate` callers have no other server.
    pub fn admit(self: &Arc<Self>, desperate: bool) -> Option<Attempt> {
        let now = Clock::monotonic();
        let mut state = self.lock();
        let trips = state.trips;
        let attempt = |trial| Attempt { breaker: self.clone(), trips, trial, waiting: None };
        match &mut state.open {
            None => Some(attempt(false)),
            Some(open) if open.tried => None,
            Some(open) if open.until <= now || (desperate && self.knock_at(open) <= now) => {
                open.tried = true;
                Some(attempt(true))
            }
            Some(_) => None,
        }
    }

    /// When those may try who have no other server.
    fn knock_at(&self, open: &Open) -> Instant {
        if open.quick { open.found + KNOCK.min(self.rest) } else { open.until }
    }

    pub fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    /// Whether it is open and the next caller may try.
    pub fn is_due(&self) -> bool {
        self.lock().open.as_ref().is_some_and(|open| !open.tried && open.until <= Clock::monotonic())
    }

    /// Why it is open.
    pub fn why_open(&self) -> Option<String> {
        self.lock().open.as_ref().map(|open| open.why.clone())
    }

    /// Forgets what was held against the server: something has changed on our side.
    pub fn forgive(&self) {
        let mut state = self.lock();
        state.strikes = 0;
        self.close(&mut state);
    }

    /// Tells the metrics how it stands.
    pub fn report(&self) {
        metrics::ldap_breaker(self.source.as_str(), &self.server, self.is_open());
    }

    fn close(&self, state: &mut State) {
        if let Some(open) = state.open.take() {
            metrics::ldap_breaker(self.source.as_str(), &self.server, false);
            let down = humantime::format_duration(Duration::from_secs(Clock::since(open.since).as_secs())).to_string();
            tracing::info!(source = %self.source, server = self.server, down, "the LDAP server answers again");
        }
    }

    fn trip(&self, state: &mut State, quick: bool, why: &str) {
        let now = Clock::monotonic();
        let first = state.open.is_none();
        let since = state.open.as_ref().map_or(now, |open| open.since);
        // A server that is tried while it is down is the same outage: what began before it stays in the past.
        state.trips += u64::from(first);
        state.strikes = 0;
        state.open = Some(Open { since, found: now, until: now + self.rest, tried: false, quick, why: why.to_owned() });
        if first {
            metrics::ldap_breaker(self.source.as_str(), &self.server, true);
            let spared = humantime::format_duration(self.rest).to_string();
            tracing::warn!(source = %self.source, server = self.server, why, spared, "the LDAP server is down, others are asked meanwhile");
        }
    }
}

impl Attempt {
    /// An answer is awaited from now on, for at most `limit`.
    pub fn wait(&mut self, limit: Duration) {
        self.waiting = Some((Clock::monotonic(), limit));
    }

    /// There is a connection. That alone proves nothing.
    pub fn connected(&mut self) {
        self.waiting = None;
    }

    /// The server answered.
    pub fn answered(&mut self) {
        self.waiting = None;
        let mut state = self.breaker.lock();
        if std::mem::take(&mut self.trial) {
            self.breaker.close(&mut state);
            self.trips = state.trips;
        }
        if state.open.is_none() {
            state.strikes = 0;
            state.last_answer = Some(Clock::monotonic());
        }
    }

    /// The server did not answer, or said that it cannot.
    pub fn failed(&mut self, fault: Fault, why: &str) {
        let began = self.waiting.take().map(|(began, _)| began);
        let mut state = self.breaker.lock();
        let quick = began.is_some_and(|began| Clock::since(began) < QUICK);
        if std::mem::take(&mut self.trial) {
            return self.breaker.trip(&mut state, quick, why);
        }
        if state.open.is_some() || state.trips != self.trips {
            return;
        }
        let opens = match fault {
            Fault::Down => true,
            // A server that answered others meanwhile is not hung; this request is too much for it.
            Fault::Silence => began.is_none_or(|began| state.last_answer.is_none_or(|answer| answer <= began)),
            Fault::Strike => {
                state.strikes += 1;
                state.strikes >= STRIKES
            }
        };
        if opens {
            self.breaker.trip(&mut state, quick, why);
        }
    }

    /// Whether nothing has spoken against the server since this began.
    pub fn is_current(&self) -> bool {
        let state = self.breaker.lock();
        state.trips == self.trips && (state.open.is_none() || self.trial)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some((began, limit)) = self.waiting
            && Clock::since(began) >= limit / 2
        {
            // Whoever waited gave up before the timeout: their deadline was closer.
            self.failed(Fault::Silence, "no answer for long");
        }
        if self.trial
            && let Some(open) = &mut self.breaker.lock().open
        {
            open.tried = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(rest: Duration) -> Arc<Breaker> {
        Arc::new(Breaker::new("lab".into(), "ldap.lab.test:636".to_owned(), rest))
    }

    const LONG: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_nanos(1);

    fn down(breaker: &Arc<Breaker>) {
        breaker.admit(false).unwrap().failed(Fault::Down, "refused");
        assert!(breaker.is_open());
    }

    #[test]
    fn an_open_one_spares_everybody_until_its_time() {
        let breaker = breaker(LONG);
        down(&breaker);
        assert!(breaker.admit(false).is_none() && !breaker.is_due());
        assert_eq!(breaker.why_open().as_deref(), Some("refused"));
        breaker.forgive();
        assert!(!breaker.is_open() && breaker.admit(false).is_some());
    }

    #[test]
    fn one_at_a_time_tries_an_open_one_and_an_answer_closes_it() {
        let breaker = breaker(SHORT);
        down(&breaker);
        let mut trial = breaker.admit(false).unwrap();
        assert!(breaker.admit(false).is_none() && breaker.admit(true).is_none(), "others go to the next server");
        trial.connected();
        assert!(breaker.is_open(), "a connection proves nothing");
        trial.failed(Fault::Strike, "cut");
        assert!(breaker.is_open());
        drop(breaker.admit(false).unwrap());
        let mut trial = breaker.admit(false).expect("a caller who goes away leaves the trial to the next");
        trial.answered();
        assert!(!breaker.is_open() && trial.is_current());
    }

    #[test]
    fn one_lost_connection_is_no_outage_and_two_in_a_row_are() {
        let breaker = breaker(LONG);
        let lose = || breaker.admit(false).unwrap().failed(Fault::Strike, "cut");
        lose();
        breaker.admit(false).unwrap().answered();
        lose();
        assert!(!breaker.is_open());
        lose();
        assert!(breaker.is_open());
    }

    #[test]
    fn silence_counts_only_where_nobody_heard_anything_meanwhile() {
        let breaker = breaker(LONG);
        let mut slow = breaker.admit(false).unwrap();
        slow.wait(LONG);
        breaker.admit(false).unwrap().answered();
        slow.failed(Fault::Silence, "no answer");
        assert!(!breaker.is_open(), "the request was too much for it");
        slow.wait(LONG);
        slow.failed(Fault::Silence, "no answer");
        assert!(breaker.is_open());
    }

    #[test]
    fn who_gives_up_on_a_silent_server_says_so() {
        let breaker = breaker(LONG);
        let mut patient = breaker.admit(false).unwrap();
        patient.wait(LONG);
        drop(patient);
        assert!(!breaker.is_open(), "gone at once");
        let mut deadline = breaker.admit(false).unwrap();
        deadline.wait(SHORT);
        drop(deadline);
        assert!(breaker.is_open());
    }

    #[test]
    fn what_began_before_an_outage_says_nothing_after_it() {
        let breaker = breaker(SHORT);
        let mut old = breaker.admit(false).unwrap();
        down(&breaker);
        breaker.admit(false).unwrap().answered();
        assert!(!old.is_current());
        old.failed(Fault::Down, "cut long ago");
        assert!(!breaker.is_open());
    }

    #[test]
    fn the_desperate_knock_where_it_costs_nothing() {
        let breaker = breaker(LONG);
        let mut first = breaker.admit(false).unwrap();
        first.wait(LONG);
        first.failed(Fault::Down, "refused");
        assert!(breaker.admit(true).is_none(), "not yet");
        breaker.lock().open.as_mut().unwrap().found -= KNOCK;
        assert!(breaker.admit(false).is_none());
        assert!(breaker.admit(true).is_some());
        breaker.lock().open.as_mut().unwrap().quick = false;
        assert!(breaker.admit(true).is_none(), "a silent server is not knocked at");
    }
}
