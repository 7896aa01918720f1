//! What Active Directory and 389-ds say about an account: one answer to the caller, the exact reason in the audit and the metrics.

use std::process::Command;

use crate::harness::{Client, DirSrv, Samba, Server, Setup, free_port, on_both_databases};

const PASSWORD: [&str; 2] = ["--grant", "password"];

async fn start(setup: Setup) -> (Server, Client, u16) {
    let port = free_port();
    let server = setup.config(&format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n")).start().await;
    let client = server.client_add(&PASSWORD).await;
    (server, client, port)
}

/// Each (login, password) is refused with one text for all, and for the reason beside it.
async fn are_refused(server: &Server, client: &Client, metrics: u16, refusals: &[(&str, &str, &str)]) {
    let mut bodies = Vec::new();
    for (username, password, _) in refusals {
        let answer = server.sign_in(client, username, password).await;
        answer.refused(400, "invalid_grant");
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "one answer tells more than the others");
    let mut audit = server.rows_when(refusals.len(), "SELECT username, reason FROM audit_records WHERE event = 'sign_in_refused'").await;
    let mut expected: Vec<String> = refusals.iter().map(|(username, _, why)| format!("{username}|{why}")).collect();
    audit.sort_unstable();
    expected.sort_unstable();
    assert_eq!(audit, expected);
    let text = reqwest::get(format!("http://127.0.0.1:{metrics}/metrics")).await.unwrap().text().await.unwrap();
    for (_, _, why) in refusals {
        let line = format!("countersign_sign_in_refusals_total{{reason=\"{why}\"}}");
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
    assert!(server.rows("SELECT id FROM grants").is_empty(), "somebody was let in");
}

/// Guesses wrong as often as the domain allows, past Countersign.
fn lock(samba: &Samba, upn: &str) {
    for _ in 0..3 {
        let guess = Command::new("ldapwhoami").args(["-x", "-H", &samba.url(), "-D", upn, "-w", "wrong"]).output().unwrap();
        assert!(!guess.status.success());
    }
}

on_both_databases! {
    async fn of_active_directory(database) {
        let samba = Samba::shared();
        let (server, client, metrics) = start(Setup::new(database).active_directory("ad", &samba, "")).await;
        let [locked, disabled, left] = [samba.add_person(&[]), samba.add_person(&[]), samba.add_person(&[])];
        lock(&samba, &locked.upn);
        samba.set(&disabled.dn, "userAccountControl", "514");
        samba.set(&left.dn, "accountExpires", "120000000000000000");
        let refusals = [
            ("hours", "Passw0rd!hours", "not_now"),
            ("ws", "Passw0rd!ws", "not_now"),
            ("pwexp", "Passw0rd!pwexp", "password_expired"),
            ("disabled", "Passw0rd!disabled", "disabled"),
            ("acctexp", "Passw0rd!acctexp", "account_expired"),
            ("mustchange", "Passw0rd!mustchange", "password_change_required"),
            (&locked.name, &locked.password, "locked"),
            (&disabled.name, "wrong", "bad_password"),
            (&left.name, "wrong", "bad_password"),
            ("nobody-at-all", "wrong", "unknown_user"),
        ];
        are_refused(&server, &client, metrics, &refusals).await;
        server.sign_in(&client, "ok", "Passw0rd!ok").await.ok();
        [locked, disabled, left].iter().for_each(|person| samba.delete(&person.dn));
    }

    async fn of_389_ds(database) {
        let (server, client, metrics) = start(Setup::new(database).dirsrv("ds", &DirSrv::shared(), "")).await;
        let refusals = [
            ("inactive", "pw-inactive", "disabled"),
            ("inactive", "wrong", "disabled"),
            ("locked", "pw-locked", "locked"),
            // Their binds are answered with success, and a control that says otherwise.
            ("mustchange", "pw-mustchange", "password_change_required"),
            ("expired", "pw-expired", "password_expired"),
            ("nobody-at-all", "wrong", "unknown_user"),
        ];
        are_refused(&server, &client, metrics, &refusals).await;
        server.sign_in(&client, "alice", "pw-alice").await.ok();
    }
}
