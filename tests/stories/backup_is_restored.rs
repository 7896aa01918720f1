//! A backup is restored, as docs/operate.md says: what was revoked, rotated or used since the backup is forgotten by the database, and
//! `keys recover` sees to it that none of it counts again.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::harness::{ASSERTION_TYPE, Answer, Client, ClientKey, Database, Oidc, Server, Setup, eventually, form, within_a_second};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const APP: [&str; 10] =
    ["--grant", "password", "--grant", "refresh_token", "--grant", "client_credentials", "--grant", EXCHANGE, "--scope", "read"];
const PASSWORD: &str = "a lamp beside 7 green doors";
/// One issuer for both nodes.
const CONFIG: &str = "[server]\nissuer = \"https://tokens.example\"\n[tokens]\nmax_staleness = \"1s\"\n\
                      [[source]]\nname = \"local\"\ntype = \"local\"\n[mapping.defaults]\nokta = [\"user\"]\n";

/// Everything that was ever issued before the restore, and who holds it.
struct Before {
    app: Client,
    jwt: Client,
    access: Vec<String>,
    refresh: Vec<String>,
    /// Used after the backup, which the backup does not know.
    id_token: String,
    feed: Vec<String>,
    /// A client that proves itself by its key.
    signer: (Client, ClientKey),
    /// Used after the backup too.
    assertion: String,
}

impl Before {
    /// An assertion that the client says it has made at `now + later`.
    fn sign(&self, later: i64) -> String {
        let (client, key) = &self.signer;
        let mut claims = ClientKey::claims(client.id.as_str(), "https://tokens.example");
        claims["iat"] = json!(claims["iat"].as_i64().unwrap() + later);
        key.sign(&json!({"alg": "ES256", "kid": key.kid}), &claims)
    }
}

async fn by_assertion(server: &Server, assertion: &str) -> Answer {
    let own = [("grant_type", "client_credentials"), ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)];
    server.raw("/oauth2/token", &[], form(&own)).await
}

async fn before_the_backup(server: &Server) -> Before {
    server.user_add("anna", PASSWORD, &[]).await;
    let app = server.client_add(&APP).await;
    let jwt = server.client_add(&[&APP[..], &["--token-format", "jwt"]].concat()).await;
    let (kept, revoked) = (server.sign_in(&app, "anna", PASSWORD).await, server.sign_in(&app, "anna", PASSWORD).await);
    let access = vec![kept.access_token(), revoked.access_token(), server.own_token(&jwt).await];
    let refresh = vec![kept.text("refresh_token"), revoked.text("refresh_token")];
    let key = ClientKey::new("ES256");
    let file = server.directory().join("signer.json");
    std::fs::write(&file, key.jwks().to_string()).unwrap();
    let file = file.to_str().unwrap();
    let signer = ["--grant", "client_credentials", "--scope", "read", "--auth-method", "private_key_jwt", "--jwks", file];
    let signer = (server.client_add(&signer).await, key);
    let (id_token, assertion) = (String::new(), String::new());
    Before { app, jwt, access, refresh, id_token, feed: server.rows("SELECT id FROM feed"), signer, assertion }
}

/// What happens in the time that will be lost.
async fn after_the_backup(server: &Server, okta: &Oidc, before: &mut Before) {
    let (app, jwt) = (&before.app.clone(), &before.jwt.clone());
    server.user_add("bert", PASSWORD, &[]).await;
    let lost = server.sign_in(app, "bert", PASSWORD).await;
    before.id_token = okta.mint("alice").await;
    let exchanged = server.exchange(app, &before.id_token, &[]).await.access_token();
    before.assertion = before.sign(0);
    by_assertion(server, &before.assertion).await.ok();
    server.revoke(app, &before.refresh[1]).await.ok();
    let next = server.refresh(app, &before.refresh[0]).await;
    server.cli(&["keys", "rotate"]).await.ok();
    let jwt = server.own_token(jwt).await;
    before.access.extend([lost.access_token(), exchanged, next.access_token(), jwt]);
    before.refresh.extend([lost.text("refresh_token"), next.text("refresh_token")]);
}

/// Nothing of before counts, and everybody can begin again.
async fn nothing_of_the_lost_time_counts(server: &Server, before: &Before) {
    for token in &before.access {
        let caller = if token.contains('.') { &before.jwt } else { &before.app };
        assert!(!server.is_active(caller, token).await);
    }
    for token in &before.refresh {
        server.refresh(&before.app, token).await.refused(400, "invalid_grant");
    }
    server.exchange(&before.app, &before.id_token, &[]).await.refused(400, "invalid_grant");
    by_assertion(server, &before.assertion).await.refused(401, "invalid_client");
    let newer = async || by_assertion(server, &before.sign(25)).await.status == 200;
    eventually(Duration::from_secs(30), "what was surely signed since is good", newer).await;
    server
        .token(&before.app, &[("grant_type", "password"), ("username", "bert"), ("password", PASSWORD)])
        .await
        .refused(400, "invalid_grant");

    for client in [&before.app, &before.jwt] {
        let token = server.own_token(client).await;
        assert!(server.is_active(client, &token).await, "clients work with the secrets they have");
    }
    let again = server.sign_in(&before.app, "anna", PASSWORD).await;
    assert!(server.is_active(&before.app, &again.access_token()).await);
    server.refresh(&before.app, &again.text("refresh_token")).await.ok();
    assert_ne!(server.rows("SELECT id FROM feed"), before.feed, "the feed has another name");
    assert_eq!(server.rows("SELECT count(*) FROM audit_records WHERE event = 'keys_recovered'"), ["1"]);
    let kids = server.get("/oauth2/jwks").await.ok()["keys"].as_array().unwrap().len();
    assert_eq!(kids, 3, "one new key of each algorithm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    let okta = Oidc::issuer().await;
    let mut server = Setup::new(Database::sqlite()).okta("okta", &okta, "").config(CONFIG).start().await;
    let mut before = before_the_backup(&server).await;
    let said = server.cli(&["backup", "copy.db"]).await.ok();
    assert!(said.contains("copy.db") && said.contains("key-encryption key"), "{said}");
    let copy = server.directory().join("copy.db");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&copy).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let size = std::fs::metadata(&copy).unwrap().len();
    assert!(server.cli(&["backup", "copy.db"]).await.failed(1).contains("exists"));
    assert_eq!(std::fs::metadata(&copy).unwrap().len(), size, "a copy is never written over");
    assert!(!server.directory().join("copy.db.partial").exists());
    std::fs::write(server.directory().join("other.db.partial"), "").unwrap();
    assert!(server.cli(&["backup", "other.db"]).await.failed(1).contains("other.db.partial exists"));
    assert!(!server.directory().join("other.db").exists());
    after_the_backup(&server, &okta, &mut before).await;

    server.kill();
    for file in ["countersign.db", "countersign.db-wal", "countersign.db-shm"] {
        let file = server.directory().join(file);
        let _ = std::fs::rename(&file, file.with_extension("broken"));
    }
    let _ = std::fs::remove_file(server.directory().join("countersign.db-wal"));
    std::fs::rename(&copy, server.directory().join("countersign.db")).unwrap();
    let said = Setup::beside(&server).okta("okta", &okta, "").config(CONFIG).refused().await;
    assert!(said.contains("is a backup") && said.contains("keys recover"), "{said}");
    let said = server.cli(&["keys", "recover"]).await.ok();
    assert!(said.contains("new ones are in use") && said.contains("must be done again"), "{said}");
    server.restart().await;
    nothing_of_the_lost_time_counts(&server, &before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let database = Database::postgres();
    let url = database.url();
    let okta = Oidc::issuer().await;
    let mut server = Setup::new(database).okta("okta", &okta, "").config(CONFIG).start().await;
    let stays = Setup::beside(&server).okta("okta", &okta, "").config(CONFIG).start().await;
    let mut before = before_the_backup(&server).await;
    let said = server.cli(&["backup", "copy.db"]).await.failed(1);
    assert!(said.contains("pg_dump"), "{said}");
    let dump = server.directory().join("dump.sql");
    let done = Command::new("pg_dump").args(["--no-owner", "--dbname", &url, "--file"]).arg(&dump).status().unwrap();
    assert!(done.success());
    after_the_backup(&server, &okta, &mut before).await;

    server.kill();
    let (name, mut admin) = (url::Url::parse(&url).unwrap().path()[1..].to_owned(), url::Url::parse(&url).unwrap());
    admin.set_path("postgres");
    let psql = |url: &str, arguments: &[&str]| {
        let done = Command::new("psql").args([url, "-Xq", "-v", "ON_ERROR_STOP=1"]).args(arguments).stdout(Stdio::null()).status();
        assert!(done.unwrap().success(), "{arguments:?}");
    };
    psql(admin.as_str(), &["-c", &format!("DROP DATABASE {name} WITH (FORCE)")]);
    psql(admin.as_str(), &["-c", &format!("CREATE DATABASE {name}")]);
    psql(&url, &["-f", &dump.to_string_lossy()]);
    // A node that was left running knows more than its database, and says nothing rather than something wrong.
    let ready = async || stays.get("/readyz").await.status == 200;
    eventually(Duration::from_secs(10), "the node that stayed notices", async || !ready().await).await;
    stays.introspect(&before.app, &before.access[0]).await.refused(503, "temporarily_unavailable");

    server.cli(&["keys", "recover"]).await.ok();
    server.restart().await;
    nothing_of_the_lost_time_counts(&server, &before).await;
    eventually(Duration::from_secs(10), "the node that stayed takes over keys and feed by itself", ready).await;
    for token in &before.access {
        let caller = if token.contains('.') { &before.jwt } else { &before.app };
        assert!(!stays.is_active(caller, token).await);
    }
    let token = server.own_token(&before.app).await;
    assert!(stays.is_active(&before.app, &token).await && server.is_active(&before.app, &stays.own_token(&before.app).await).await);
    server.revoke(&before.app, &token).await;
    within_a_second("a revocation of the new feed", async || !stays.is_active(&before.app, &token).await).await;
}

/// Without a restore too, beside running servers, and even with another key-encryption key than the lost one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_key_encryption_key_costs_every_token_and_nothing_else() {
    let mut server = Setup::new(Database::sqlite()).config("[tokens]\nmax_staleness = \"1s\"").start().await;
    let client = server.client_add(&APP).await;
    let old = server.own_token(&client).await;
    server.cli(&["keys", "recover"]).await.ok();
    within_a_second("the running server takes over the new keys", async || !server.is_active(&client, &old).await).await;
    let next = server.own_token(&client).await;
    eventually(Duration::from_secs(5), "what it issues lives", async || {
        server.is_active(&client, &next).await || server.is_active(&client, &server.own_token(&client).await).await
    })
    .await;

    server.kill();
    std::fs::remove_file(server.directory().join("key-encryption-key")).unwrap();
    assert!(Setup::beside(&server).refused().await.contains("key-encryption-key is missing"));
    server.cli(&["keys", "recover"]).await.ok();
    server.restart().await;
    assert!(!server.is_active(&client, &next).await);
    assert!(server.is_active(&client, &server.own_token(&client).await).await);
}
