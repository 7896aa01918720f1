use std::sync::{Arc, Mutex};

use super::*;
use crate::storage::feed;

on_both! {
    async fn a_follower_of_another_node_hears_every_entry_in_order(database: &Database) {
        let other = database.again();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (sink, mut failures) = (heard.clone(), 1);
        let follower = other.follow(move |entries| {
            if failures > 0 {
                failures -= 1;
                return Err("not yet".to_owned());
            }
            sink.lock().unwrap().extend(entries.iter().map(|entry| entry.n));
            Ok(())
        }, 0);
        let writers: Vec<_> = [database.storage.clone(), database.again()]
            .into_iter()
            .map(|storage| tokio::spawn(async move {
                for i in 0..50 {
                    storage.write(move |tx| feed::append(tx, "jti", &i.to_string(), 500, 1)).await.unwrap();
                }
            }))
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(follower.catch_up(Duration::from_secs(2)).await.unwrap(), 100);
        assert_eq!(*heard.lock().unwrap(), (1..=100).collect::<Vec<i64>>());
        // Without being asked: within a second.
        database.storage.write(|tx| feed::append(tx, "sub", "x", 500, 1)).await.unwrap();
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if follower.applied() == 101 {
                break;
            }
        }
        assert_eq!(follower.applied(), 101);
        assert!(follower.age() < Duration::from_secs(2));
        let pairs = [("sub", "x"), ("jti", "3"), ("jti", "none")];
        assert_eq!(database.storage.read(move |c| feed::latest_matching(c, &pairs)).await.unwrap(), Some(101));
        assert_eq!(database.storage.read(|c| feed::latest_matching(c, &[("jti", "none")])).await.unwrap(), None);
        let (live, dead, few) = database.storage.read(|c| Ok((feed::live(c, 500)?.len(), feed::live(c, 501)?.len(), feed::after(c, 99, 1)?))).await.unwrap();
        assert_eq!((live, dead, few.len(), few[0].n), (101, 0, 1, 100));
        assert_eq!(database.storage.read(feed::identity).await.unwrap(), other.read(feed::identity).await.unwrap());
    }

    async fn demanded_looks_are_spaced(database: &Database) {
        let follower = database.storage.follow(|_| Ok(()), 0);
        follower.catch_up(Duration::from_secs(2)).await.unwrap();
        let began = crate::clock::Clock::monotonic();
        for _ in 0..10 {
            follower.catch_up(Duration::from_secs(2)).await.unwrap();
        }
        // The first look may have begun a while ago; the nine after it wait for one another.
        assert!(crate::clock::Clock::since(began) >= Duration::from_millis(45));
    }
}
