//! Audit records of refusals, written in batches: a flood of bad passwords must not become a flood of transactions. Everything
//! that changes something is committed with its own record instead.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Storage, audit};
use crate::audit::{Event, Record};
use crate::config::Rate;
use crate::limits::{Throttle, network};

/// The queue of refusals on their way to the audit.
#[derive(Debug)]
pub struct Refusals {
    queue: mpsc::Sender<Entry>,
    bounds: Bounds,
}

/// By network: a stranger must not be able to fill the disk with the record of being refused. People have a bound of their own, so
/// that wrong client secrets, which cost nothing to send, cannot silence the record of tried passwords.
#[derive(Debug)]
struct Bounds {
    people: Throttle,
    clients: Throttle,
}

impl Bounds {
    fn new(rate: Rate) -> Bounds {
        Bounds { people: Throttle::new(rate), clients: Throttle::new(rate) }
    }

    fn allow(&self, record: &Record) -> bool {
        let Some(address) = &record.address else { return true };
        let network = address.parse::<IpAddr>().map_or_else(|_| address.clone(), network);
        let bound = match record.event {
            Event::SignInRefused | Event::RefreshRefused => &self.people,
            _ => &self.clients,
        };
        bound.take(&network).is_ok()
    }
}

#[derive(Debug)]
enum Entry {
    Record(Box<Record>),
    Flush(oneshot::Sender<()>),
}

const QUEUE: usize = 10_000;
const BATCH: usize = 500;
const PAUSE: Duration = Duration::from_millis(200);
/// Records of one network and kind; what goes beyond is counted only.
const PER_NETWORK: Rate = Rate { count: 1_000, per: Duration::from_secs(600) };

impl Refusals {
    /// Starts the writer on the runtime of the caller.
    pub fn start(storage: Storage) -> Refusals {
        let (sender, mut queue) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while queue.recv_many(&mut batch, BATCH).await > 0 {
                let (mut records, mut waiting) = (Vec::new(), Vec::new());
                for entry in batch.drain(..) {
                    match entry {
                        Entry::Record(record) => records.push(*record),
                        Entry::Flush(done) => waiting.push(done),
                    }
                }
                write(&storage, records).await;
                let flushed = !waiting.is_empty();
                for done in waiting {
                    let _ = done.send(());
                }
                if !flushed {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Refusals { queue: sender, bounds: Bounds::new(PER_NETWORK) }
    }

    /// Queues a record. Past the bounds of the network and of the queue it is counted instead, never waited for.
    pub fn record(&self, record: Record) {
        if !self.bounds.allow(&record) || self.queue.try_send(Entry::Record(Box::new(record))).is_err() {
            crate::metrics::audit_lost(1);
            tracing::debug!("a refusal was counted but not recorded: too many from its network, or the queue is full");
        }
    }

    /// Waits until everything queued so far is written: before the process ends.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Entry::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

/// Tries for a few seconds; what an outage outlasts is counted and logged.
async fn write(storage: &Storage, records: Vec<Record>) {
    if records.is_empty() {
        return;
    }
    let count = records.len() as u64;
    let records = std::sync::Arc::new(records);
    for pause in [100, 500, 2_000] {
        let batch = records.clone();
        match storage.write(move |tx| batch.iter().try_for_each(|record| audit::insert(tx, record))).await {
            Ok(()) => return,
            Err(reason) => tracing::warn!(%reason, "cannot write refusals to the audit; trying again"),
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    crate::metrics::audit_lost(count);
    tracing::error!(count, "refusals were lost to the audit, since the database did not take them");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_one_bound_for_people_and_one_for_clients() {
        let bounds = Bounds::new(Rate { count: 2, per: Duration::from_secs(600) });
        let allow = |event, address: &str| bounds.allow(&Record::refused(event, 0, "x").address(address));
        assert!(allow(Event::ClientRefused, "2001:db8::1") && allow(Event::GrantRefused, "2001:db8::2"));
        assert!(!allow(Event::ClientRefused, "2001:db8::3"), "the third of one network");
        assert!(allow(Event::ClientRefused, "2001:db8:0:1::1"));
        assert!(allow(Event::SignInRefused, "2001:db8::1") && allow(Event::RefreshRefused, "2001:db8::4"));
        assert!(!allow(Event::SignInRefused, "2001:db8::5"));
        assert!(bounds.allow(&Record::refused(Event::SignInRefused, 0, "x")));
    }
}
