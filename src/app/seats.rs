//! How many may follow the revocations by a stream: so many of one client, and so many in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::oauth2::ClientId;

/// Streams of one client on one node: enough for as many processes of a resource server.
pub const OF_ONE_CLIENT: usize = 64;
/// Streams of all clients on one node.
pub const OF_ALL: usize = 256;
/// Pages that all streams of a node read from the database at a time: the other connections are for answers.
const AT_THE_DATABASE: usize = 2;

/// The streams that are open.
#[derive(Clone, Debug)]
pub struct Seats {
    taken: Arc<Mutex<HashMap<ClientId, usize>>>,
    at_the_database: Arc<Semaphore>,
}

impl Default for Seats {
    fn default() -> Seats {
        Seats { taken: Arc::default(), at_the_database: Arc::new(Semaphore::new(AT_THE_DATABASE)) }
    }
}

/// One stream, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    client: ClientId,
}

impl Seats {
    /// None where the client, or all together, have as many as they may.
    pub fn take(&self, client: &ClientId) -> Option<Seat> {
        let mut taken = self.lock();
        let all: usize = taken.values().sum();
        let own = taken.get(client).copied().unwrap_or(0);
        if all >= OF_ALL || own >= OF_ONE_CLIENT {
            return None;
        }
        taken.insert(client.clone(), own + 1);
        Some(Seat { seats: self.clone(), client: client.clone() })
    }

    /// Waits until a stream may read a page from the database, and may until this is dropped. None never comes.
    pub async fn page(&self) -> Option<SemaphorePermit<'_>> {
        self.at_the_database.acquire().await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        match taken.get_mut(&self.client) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_end_and_come_back() {
        let (seats, a) = (Seats::default(), ClientId::from("a"));
        let mut held: Vec<_> = (0..OF_ONE_CLIENT).map(|_| seats.take(&a).unwrap()).collect();
        assert!(seats.take(&a).is_none());
        held.pop();
        held.push(seats.take(&a).unwrap());
        for other in 1..OF_ALL / OF_ONE_CLIENT {
            held.extend((0..OF_ONE_CLIENT).map(|_| seats.take(&ClientId::from(format!("c{other}").as_str())).unwrap()));
        }
        assert!(seats.take(&ClientId::from("late")).is_none(), "all are taken");
        held.clear();
        assert!(seats.take(&ClientId::from("late")).is_some() && seats.lock().is_empty());
    }
}
