//! The database stops, its disk is full, a migration fails: 503 meanwhile, recovery by itself, and everything that was answered is
//! still there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use crate::harness::{Answer, Client, Cluster, Database, Disk, Server, Setup, eventually, on_both_databases};

const PASSWORD: &str = "a lamp beside 7 green doors";
const APP: [&str; 6] = ["--grant", "client_credentials", "--grant", "password", "--grant", "refresh_token"];
const LIMITS: &str = "[tokens]\nmax_staleness = \"1s\"\n[limits]\nrevocations = \"100000/1m\"\n";

/// What people were told while everything else was failing.
#[derive(Default)]
struct Told {
    revoked: Vec<String>,
    signed_in: Vec<(String, String)>,
    unavailable: usize,
}

/// Either what was asked for, or an honest "come back later"; never anything else.
fn judge(answer: &Answer, told: &mut Told) -> bool {
    if answer.status == 503 {
        answer.unavailable();
        told.unavailable += 1;
        return false;
    }
    answer.ok();
    true
}

/// Signs in, introspects and revokes until `stop`.
async fn live_on(server: &Server, client: &Client, stop: &AtomicBool) -> Told {
    let mut told = Told::default();
    while !stop.load(Ordering::SeqCst) {
        let answer = server.sign_in(client, "anna", PASSWORD).await;
        if judge(&answer, &mut told) {
            let (access, refresh) = (answer.access_token(), answer.text("refresh_token"));
            let means = server.introspect(client, &access).await;
            if judge(&means, &mut told) {
                assert_eq!(means.json["active"], true, "a failure of the database is never a dead token: {}", means.body);
            }
            told.signed_in.push((access, refresh));
        }
        let own = server.token(client, &[("grant_type", "client_credentials")]).await;
        if judge(&own, &mut told) {
            let token = own.access_token();
            let answer = server.revoke(client, &token).await;
            if answer.status == 503 {
                told.unavailable += 1;
            } else {
                assert_eq!(answer.status, 200, "{}", answer.body);
                told.revoked.push(token);
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    told
}

/// Everything that was answered is still so.
async fn nothing_was_lost(server: &Server, client: &Client, told: &[Told]) {
    for told in told {
        for token in &told.revoked {
            assert!(!server.is_active(client, token).await, "a revoked token is active again");
        }
        for (access, refresh) in &told.signed_in {
            assert!(server.is_active(client, access).await, "a token that was issued is not active");
            server.refresh(client, refresh).await.ok();
        }
    }
}

async fn is_back(server: &Server) {
    eventually(Duration::from_secs(30), "the server is ready again", async || server.get("/readyz").await.status == 200).await;
}

async fn house(setup: Setup) -> (Server, Client) {
    let server = setup.config(LIMITS).start().await;
    server.user_add("anna", PASSWORD, &[]).await;
    let client = server.client_add(&APP).await;
    (server, client)
}

/// Runs `trouble` under load and answers what everybody was told.
async fn under_load(server: &Server, client: &Client, trouble: impl AsyncFnOnce()) -> Vec<Told> {
    let stop = AtomicBool::new(false);
    let script = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        trouble().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (told, ()) = tokio::join!(join_all((0..4).map(|_| live_on(server, client, &stop))), script);
    let count = |of: fn(&Told) -> usize| told.iter().map(of).sum::<usize>();
    let (revoked, signed_in, unavailable) = (count(|t| t.revoked.len()), count(|t| t.signed_in.len()), count(|t| t.unavailable));
    eprintln!("{signed_in} sign-ins and {revoked} revocations were answered, {unavailable} times 503");
    assert!(revoked > 0 && signed_in > 0 && unavailable > 0, "there was load, and it noticed");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_stopped_and_started_under_load() {
    let cluster = Cluster::start();
    let (server, client) = house(Setup::new(Database::Own(cluster.url()))).await;
    let told = under_load(&server, &client, async || {
        for _ in 0..2 {
            cluster.stop();
            eventually(Duration::from_secs(10), "the server notices", async || server.get("/readyz").await.status == 503).await;
            cluster.start_again();
            is_back(&server).await;
        }
    })
    .await;
    nothing_was_lost(&server, &client, &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_of_postgres_is_full() {
    let disk = Disk::new(160);
    let cluster = Cluster::start_on(&disk);
    let (server, client) = house(Setup::new(Database::Own(cluster.url()))).await;
    let told = under_load(&server, &client, async || {
        disk.fill();
        // It goes on in what it had set aside, until a write finds no room.
        eventually(Duration::from_secs(60), "a write fails", async || server.sign_in(&client, "anna", PASSWORD).await.status == 503).await;
        disk.relieve();
        // Without room for its log PostgreSQL ends, and its operator starts it again.
        tokio::time::sleep(Duration::from_millis(500)).await;
        if !cluster.answers() {
            cluster.start_again();
        }
        is_back(&server).await;
        eventually(Duration::from_secs(30), "people sign in again", async || server.sign_in(&client, "anna", PASSWORD).await.status == 200)
            .await;
    })
    .await;
    nothing_was_lost(&server, &client, &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_of_sqlite_is_full() {
    let disk = Disk::new(16);
    let file = disk.path().join("countersign.db");
    let (server, client) = house(Setup::new(Database::sqlite()).config(&format!("[database]\nurl = \"sqlite:{}\"", file.display()))).await;
    let told = under_load(&server, &client, async || {
        disk.fill();
        // Long enough for everybody to notice.
        let mut failed = 0;
        eventually(Duration::from_secs(60), "writes fail", async || {
            failed += usize::from(server.sign_in(&client, "anna", PASSWORD).await.status == 503);
            failed == 20
        })
        .await;
        disk.relieve();
        eventually(Duration::from_secs(30), "people sign in again", async || server.sign_in(&client, "anna", PASSWORD).await.status == 200)
            .await;
    })
    .await;
    is_back(&server).await;
    nothing_was_lost(&server, &client, &told).await;
}

on_both_databases! {
    async fn a_migration_that_fails_changes_nothing(database) {
        let (mut server, client) = house(Setup::new(database)).await;
        let signed_in = server.sign_in(&client, "anna", PASSWORD).await;
        let last = server.rows("SELECT max(version) FROM __diesel_schema_migrations").remove(0);
        // As if the last migration were missing and something stood in its way: its table.
        server.rows(&format!("DELETE FROM __diesel_schema_migrations WHERE version = '{last}'"));
        assert!(server.is_active(&client, &signed_in.access_token()).await, "who runs goes on");
        let said = server.cli(&["migrate"]).await.failed(1);
        assert!(said.contains("already exists"), "the database's own reason: {said}");
        // Another node that starts meanwhile does not come up, and takes nothing from who runs.
        let said = Setup::beside(&server).config(LIMITS).refused().await;
        assert!(said.contains("already exists"), "the database's own reason: {said}");
        assert!(server.is_active(&client, &signed_in.access_token()).await);
        assert_eq!(server.get("/readyz").await.status, 200);
        server.sign_in(&client, "anna", PASSWORD).await.ok();
        let versions = server.rows("SELECT version FROM __diesel_schema_migrations ORDER BY version");
        assert!(!versions.contains(&last), "what failed does not count as done");
        // The obstacle is removed: here by believing that it was done.
        server.rows(&format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{last}')"));
        server.restart().await;
        assert!(server.is_active(&client, &signed_in.access_token()).await);
        server.refresh(&client, &signed_in.text("refresh_token")).await.ok();
    }
}
