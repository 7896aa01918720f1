//! The time that a no takes does not tell whether there is such a person: a directory hashes passwords for those alone that it has.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{Client, Database, DirSrv, Server, Setup};

/// Ten times those of 389-ds, so that the hash is most of the time that a sign-in takes, even in this build on a slow machine.
const ROUNDS: u32 = 100_000;

/// As 389-ds stores it.
fn pbkdf2(password: &str) -> String {
    let (salt, mut hash) = (b"sixteen bytes...", [0u8; 64]);
    let rounds = ROUNDS.try_into().unwrap();
    aws_lc_rs::pbkdf2::derive(aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA512, rounds, salt, password.as_bytes(), &mut hash);
    format!("{{PBKDF2-SHA512}}{ROUNDS}${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
}

/// How long a wrong password takes.
async fn refused(server: &Server, client: &Client, username: &str, password: &str) -> Duration {
    let began = Instant::now();
    server.sign_in(client, username, password).await.refused(400, "invalid_grant");
    began.elapsed()
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_time_that_a_no_takes() {
    let dirsrv = DirSrv::private();
    // Else it would lock, and hash anew, as it does itself, with whatever is right.
    dirsrv.set("cn=config", "passwordLockout", "off");
    dirsrv.set("cn=config", "nsslapd-enable-upgrade-hash", "off");
    let limits = "[limits]\nlogin_failures = \"1000/5m\"\naddress_failures = \"10000/5m\"\n";
    let server = Setup::new(Database::sqlite()).dirsrv("ds", &dirsrv, "lockout_threshold = 0").config(limits).start().await;
    let client = server.client_add(&["--grant", "password"]).await;
    let person = dirsrv.add_person(&[]);
    dirsrv.set(&person.dn, "userPassword", &pbkdf2(&person.password));
    // The first of anything takes longer, and one sign-in is what the pace is learnt from.
    server.sign_in(&client, &person.uid, &person.password).await.ok();
    refused(&server, &client, "nobody", "wrong").await;

    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for n in 0..20 {
        known.push(refused(&server, &client, &person.uid, &format!("wrong-{n}")).await);
        unknown.push(refused(&server, &client, &format!("nobody-{n}"), &format!("wrong-{n}")).await);
    }
    let (known, unknown) = (median(known), median(unknown));
    eprintln!("a wrong password: {known:?} for somebody, {unknown:?} for nobody");
    // The rest of the request is a tenth; without the hold nobody's would be some five times as fast.
    assert!(known < unknown * 2 && unknown < known * 2, "{known:?} for somebody, {unknown:?} for nobody");
}
