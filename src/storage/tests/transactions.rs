use super::*;
use crate::storage::{Connection, StorageError, feed, settings, used};

fn number(c: &mut Connection, name: &str) -> Result<i64, StorageError> {
    Ok(settings::get(c, name)?.map_or(0, |text| text.parse().unwrap()))
}

on_both! {
    async fn two_writers_lose_nothing(database: &Database) {
        database.storage.write(|tx| settings::put(tx, "sum", "0")).await.unwrap();
        let writers: Vec<_> = [database.storage.clone(), database.again()]
            .into_iter()
            .map(|storage| tokio::spawn(async move {
                for _ in 0..300 {
                    // The counter's row is the lock: a guarded update, then a read and a write that rest on it.
                    storage.write(|tx| {
                        feed::append(tx, "sum", "1", 0, 0)?;
                        let sum = number(tx, "sum")?;
                        settings::put(tx, "sum", &(sum + 1).to_string())
                    }).await.unwrap();
                }
            }))
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(database.storage.read(|c| number(c, "sum")).await.unwrap(), 600);
        assert_eq!(database.storage.read(feed::head).await.unwrap(), 600);
    }

    async fn a_claim_is_won_once(database: &Database) {
        let (one, other) = (database.storage.clone(), database.again());
        let claims: Vec<_> = (0..16)
            .map(|i| if i % 2 == 0 { one.clone() } else { other.clone() })
            .map(|storage| tokio::spawn(async move { storage.write(|tx| used::claim(tx, "jti", "x", 100)).await.unwrap() }))
            .collect();
        let mut won = 0;
        for claim in claims {
            won += usize::from(claim.await.unwrap());
        }
        assert_eq!(won, 1);
        // A claim that was rolled back can be made again, and losing one does not end the transaction.
        let lost: Result<(), _> = one.write(|tx| {
            assert!(used::claim(tx, "jti", "y", 100)?);
            Err(StorageError::Query("changed my mind".to_owned()))
        }).await;
        assert!(matches!(lost, Err(StorageError::Query(_))));
        let both = one.write(|tx| Ok((used::claim(tx, "jti", "y", 100)?, used::claim(tx, "jti", "y", 100)?, number(tx, "sum")?))).await;
        assert_eq!(both.unwrap(), (true, false, 0));
    }

    async fn errors_and_panics_roll_back_alone(database: &Database) {
        let storage = &database.storage;
        // The first write holds the writer until the others wait behind it, so that SQLite commits them together.
        let slow = storage.write(|tx| { std::thread::sleep(Duration::from_millis(10)); settings::put(tx, "slow", "1") });
        let refused = storage.write(|tx| { settings::put(tx, "refused", "1")?; Err::<(), _>(StorageError::Query("no".to_owned())) });
        let good = storage.write(|tx| settings::put(tx, "good", "1"));
        let panicked = storage.write(|tx| {
            settings::put(tx, "panicked", "1")?;
            diesel::Connection::transaction::<(), StorageError, _>(tx, |_| panic!("deep inside"))
        });
        let last = storage.write(|tx| settings::put(tx, "last", "1"));
        let (slow, refused, good, panicked, last) = tokio::join!(slow, refused, good, panicked, last);
        assert!(slow.is_ok() && good.is_ok() && last.is_ok());
        assert!(matches!(refused, Err(StorageError::Query(text)) if text == "no"));
        assert!(matches!(panicked, Err(StorageError::Query(text)) if text.contains("deep inside")));
        let found = storage.read(|c| ["slow", "refused", "good", "panicked", "last"].map(|name| number(c, name)).into_iter().collect::<Result<Vec<_>, _>>());
        assert_eq!(found.await.unwrap(), [1, 0, 1, 0, 1]);
    }

    async fn reads_cannot_write_and_swallowed_errors_do_not_commit(database: &Database) {
        let storage = &database.storage;
        assert!(storage.read(|tx| settings::put(tx, "a", "1")).await.is_err());
        let broken = storage.write(|tx| {
            settings::put(tx, "b", "1")?;
            let _ = diesel::RunQueryDsl::execute(diesel::sql_query("SELECT nothing FROM nowhere"), tx);
            Ok(())
        }).await;
        let kept = storage.read(|c| number(c, "b")).await.unwrap();
        assert_eq!(kept == 1, broken.is_ok(), "what is answered is what happened");
        assert_eq!(storage.write(|tx| settings::raise(tx, "most", 7)).await.unwrap(), 7);
        assert_eq!(storage.write(|tx| settings::raise(tx, "most", 5)).await.unwrap(), 7);
        assert_eq!(storage.write(|tx| settings::raise(tx, "most", 10)).await.unwrap(), 10);
        let blocking = storage.clone();
        std::thread::spawn(move || {
            blocking.write_blocking(|tx| settings::put(tx, "c", "1")).unwrap();
            assert_eq!(blocking.read_blocking(|c| number(c, "c")).unwrap(), 1);
        }).join().unwrap();
    }
}
