//! Identical requests at the same time share one answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

use crate::identity::Authentication;

/// What is under way on this node, by the digest of who, what and from where.
#[derive(Debug, Default)]
pub struct Flights(Arc<Under>);

type Under = Mutex<HashMap<String, Weak<Flight>>>;

/// One question, for all who ask it now.
#[derive(Debug)]
pub struct Flight {
    key: String,
    under: Weak<Under>,
    /// Whoever waits takes over should the one that asks go away.
    answer: OnceCell<Authentication>,
}

impl Flights {
    /// The one that is under way, else a new one. One that has its answer already is over: what it says is of before.
    pub fn join(&self, key: &str) -> Arc<Flight> {
        let mut under = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = under.get(key).and_then(Weak::upgrade);
        if let Some(flight) = &known
            && !flight.answer.initialized()
        {
            return flight.clone();
        }
        let flight = Arc::new(Flight { key: key.to_owned(), under: Arc::downgrade(&self.0), answer: OnceCell::new() });
        under.insert(key.to_owned(), Arc::downgrade(&flight));
        // Before `known`, which may be the last to hold the other one: its end locks too.
        drop(under);
        flight
    }
}

impl Flight {
    /// The answer, and whether it was this `ask` that got it.
    pub async fn answer(&self, ask: impl Future<Output = Authentication>) -> (Authentication, bool) {
        let mut asked = false;
        let answer = self.answer.get_or_init(|| {
            asked = true;
            ask
        });
        let answer = answer.await.clone();
        (answer, asked)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Some(under) = self.under.upgrade() else { return };
        let mut under = under.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have begun under this key since.
        if under.get(&self.key).is_some_and(|flight| flight.strong_count() == 0) {
            under.remove(&self.key);
        }
    }
}
