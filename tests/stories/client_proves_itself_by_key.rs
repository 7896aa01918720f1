//! private_key_jwt: a client signs an assertion with its own key, and shares no secret with us. Each assertion is good once.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{ASSERTION_TYPE, Answer, Client, ClientKey, Database, KeyPage, Server, Setup, form, on_both_databases};

const GRANTS: [&str; 6] = ["--grant", "client_credentials", "--scope", "read", "--auth-method", "private_key_jwt"];
const OWN: (&str, &str) = ("grant_type", "client_credentials");

/// A client known by `key` alone.
async fn client_of(server: &Server, key: &ClientKey) -> Client {
    let file = server.directory().join(format!("{}.json", key.kid));
    std::fs::write(&file, key.jwks().to_string()).unwrap();
    server.client_add(&[&GRANTS[..], &["--jwks", file.to_str().unwrap()]].concat()).await
}

/// POST with this assertion, and more.
async fn with(server: &Server, path: &str, assertion: &str, more: &[(&str, &str)]) -> Answer {
    let mut parameters = vec![("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)];
    parameters.extend_from_slice(more);
    server.raw(path, &[], form(&parameters)).await
}

fn uses(server: &Server) -> String {
    server.rows("SELECT count(*) FROM used WHERE kind = 'client_assertion'").remove(0)
}

fn reasons(server: &Server) -> Vec<String> {
    server.rows("SELECT DISTINCT reason FROM audit_records WHERE event = 'client_refused' ORDER BY reason")
}

on_both_databases! {
    async fn every_algorithm_at_every_endpoint(database) {
        let server = Setup::new(database).start().await;
        for algorithm in ["ES256", "EdDSA", "RS256", "PS256"] {
            let key = ClientKey::new(algorithm);
            let client = client_of(&server, &key).await;
            assert!(client.secret.is_none(), "it has no secret");
            let fresh = || key.assertion(&client.id, &server.origin());
            let named = [OWN, ("client_id", client.id.as_str())];
            let token = with(&server, "/oauth2/token", &fresh(), &named).await.access_token();
            let seen = with(&server, "/oauth2/introspect", &fresh(), &[("token", &token)]).await;
            assert_eq!((&seen.ok()["active"], &seen.json["sub"]), (&json!(true), &json!(client.id)));
            assert_eq!(with(&server, "/oauth2/revoke", &fresh(), &[("token", &token)]).await.status, 200);
            assert_eq!(with(&server, "/oauth2/introspect", &fresh(), &[("token", &token)]).await.ok(), &json!({"active": false}));
        }
        assert_eq!(uses(&server), "16", "one short row each");
        let metadata = server.get("/.well-known/oauth-authorization-server").await;
        for endpoint in ["token", "introspection", "revocation"] {
            let methods = metadata.ok()[format!("{endpoint}_endpoint_auth_methods_supported")].to_string();
            assert!(methods.contains("private_key_jwt"), "{methods}");
            let algorithms = &metadata.json[format!("{endpoint}_endpoint_auth_signing_alg_values_supported")];
            assert_eq!(algorithms, &json!(["PS256", "ES256", "EdDSA", "RS256"]));
        }
    }

    async fn an_assertion_is_good_once(database) {
        let server = Setup::new(database).start().await;
        let key = ClientKey::new("ES256");
        let client = client_of(&server, &key).await;
        let token_endpoint = server.url("/oauth2/token");
        let assertion = key.assertion(&client.id, &token_endpoint);
        let token = with(&server, "/oauth2/token", &assertion, &[OWN]).await.access_token();
        with(&server, "/oauth2/token", &assertion, &[OWN]).await.refused(401, "invalid_client");
        with(&server, "/oauth2/introspect", &assertion, &[("token", &token)]).await.refused(401, "invalid_client");
        // Another text with the same jti is the same use.
        let mut claims = ClientKey::claims(&client.id, &token_endpoint);
        let header = json!({"alg": "ES256", "kid": key.kid});
        with(&server, "/oauth2/token", &key.sign(&header, &claims), &[OWN]).await.ok();
        claims["exp"] = json!(claims["exp"].as_i64().unwrap() + 5);
        with(&server, "/oauth2/token", &key.sign(&header, &claims), &[OWN]).await.refused(401, "invalid_client");
        assert_eq!(server.rows_when(3, "SELECT reason, client_id FROM audit_records WHERE event = 'client_refused'").await, vec![format!("replayed|{}", client.id); 3]);
        // One that asks for what it may not have is used up all the same.
        let assertion = key.assertion(&client.id, &server.origin());
        with(&server, "/oauth2/token", &assertion, &[OWN, ("scope", "write")]).await.refused(400, "invalid_scope");
        with(&server, "/oauth2/token", &assertion, &[OWN]).await.refused(401, "invalid_client");
        assert_eq!(uses(&server), "3");
    }

    async fn what_is_not_a_good_assertion_is_refused(database) {
        let server = Setup::new(database).start().await;
        let (key, other) = (ClientKey::new("ES256"), ClientKey::new("ES256"));
        let (client, issuer) = (client_of(&server, &key).await, server.origin());
        let now = ClientKey::claims("", "")["iat"].as_i64().unwrap();
        let header = json!({"alg": "ES256", "kid": key.kid});
        let changed = |name: &str, value: Value| {
            let mut claims = ClientKey::claims(&client.id, &issuer);
            claims[name] = value;
            key.sign(&header, &claims)
        };
        let good = ClientKey::claims(&client.id, &issuer);
        let (signed, signature) = (key.sign(&header, &good), "A".repeat(86));
        let unsigned = format!("{}.{signature}", signed.rsplit_once('.').unwrap().0);
        let bad = [
            ("alg_not_allowed", key.sign(&json!({"alg": "none"}), &good)),
            ("alg_not_allowed", key.sign(&json!({"alg": "HS256", "kid": key.kid}), &good)),
            ("bad_signature", unsigned),
            ("bad_signature", other.sign(&header, &good)),
            ("expired", changed("exp", json!(now - 60))),
            ("header_not_allowed", key.sign(&json!({"alg": "ES256", "jku": "https://evil.example"}), &good)),
            ("lives_too_long", changed("exp", json!(now + 3_600))),
            ("missing_claim", changed("jti", json!(""))),
            ("not_yet_valid", changed("nbf", json!(now + 90))),
            ("unknown_client", key.assertion("nobody", &issuer)),
            ("unknown_key", other.assertion(&client.id, &issuer)),
            ("wrong_audience", key.assertion(&client.id, "https://other.example")),
            ("wrong_audience", key.assertion(&client.id, &server.url("/oauth2/revoke"))),
            ("wrong_client", changed("iss", json!("other"))),
        ];
        for (reason, assertion) in &bad {
            let answer = with(&server, "/oauth2/token", assertion, &[OWN]).await;
            answer.refused(401, "invalid_client");
            assert!(!answer.headers.contains_key("www-authenticate"), "{reason}");
            assert!(!answer.body.contains(reason), "the reason is for the audit: {}", answer.body);
        }
        with(&server, "/oauth2/token", &signed, &[OWN, ("client_id", "other")]).await.refused(401, "invalid_client");
        with(&server, "/oauth2/token", "x", &[OWN]).await.refused(401, "invalid_client");
        let mut expected: Vec<_> = bad.iter().map(|(reason, _)| (*reason).to_owned()).collect();
        expected.dedup();
        let all = server.rows_when(expected.len(), "SELECT DISTINCT reason FROM audit_records WHERE event = 'client_refused' ORDER BY reason").await;
        assert_eq!(all, expected, "{:?}", reasons(&server));
        assert_eq!(uses(&server), "0", "nothing is written for what proves nothing");
        // Small differences of the clocks, and an audience among others.
        let ahead = json!({"iss": client.id, "sub": client.id, "aud": ["x", issuer], "iat": now + 8, "nbf": now + 8, "exp": now + 60, "jti": "j"});
        with(&server, "/oauth2/token", &key.sign(&header, &ahead), &[OWN]).await.ok();
    }

    async fn a_key_and_a_secret_do_not_mix(database) {
        let server = Setup::new(database).start().await;
        let key = ClientKey::new("EdDSA");
        let client = client_of(&server, &key).await;
        let said = server.cli(&["client", "secret", "add", &client.id]).await.failed(1);
        assert!(said.contains("private_key_jwt") && said.contains("takes no secret"), "{said}");
        let guess = Client::new(&client.id, "cs_sec_guess");
        server.token(&guess, &[OWN]).await.refused(401, "invalid_client");
        server.raw("/oauth2/token", &[], format!("grant_type=client_credentials&client_id={}", client.id)).await.refused(401, "invalid_client");
        let assertion = key.assertion(&client.id, &server.origin());
        let both = [OWN, ("client_secret", "x")];
        with(&server, "/oauth2/token", &assertion, &both).await.refused(400, "invalid_request");
        let basic = [("authorization", guess.basic())];
        let body = format!("grant_type=client_credentials&client_assertion_type={ASSERTION_TYPE}&client_assertion={assertion}");
        server.raw("/oauth2/token", &[(basic[0].0, &basic[0].1)], body).await.refused(400, "invalid_request");
        // A client with a secret, or a public one, proves nothing by an assertion.
        for arguments in [&["--grant", "client_credentials"][..], &["--public", "--grant", "password"]] {
            let client = server.client_add(arguments).await;
            let assertion = key.assertion(&client.id, &server.origin());
            with(&server, "/oauth2/token", &assertion, &[OWN]).await.refused(401, "invalid_client");
        }
        // The type is the one of RFC 7523, exactly.
        for kind in ["urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "jwt-bearer"] {
            let assertion = key.assertion(&client.id, &server.origin());
            let body = form(&[OWN, ("client_assertion_type", kind), ("client_assertion", &assertion)]);
            server.raw("/oauth2/token", &[], body).await.refused(401, "invalid_client");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_use_holds_across_nodes_under_attack() {
    const COMMON: &str = "[server]\nissuer = \"https://tokens.example\"\n";
    let a = Setup::new(Database::postgres()).config(COMMON).start().await;
    let b = Setup::beside(&a).config(COMMON).start().await;
    let key = ClientKey::new("ES256");
    let client = client_of(&a, &key).await;
    for _ in 0..5 {
        let assertion = key.assertion(&client.id, "https://tokens.example");
        let answers = join_all((0..16).map(|n| with(if n % 2 == 0 { &a } else { &b }, "/oauth2/token", &assertion, &[OWN]))).await;
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(won, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.refused(401, "invalid_client");
        }
    }
    assert_eq!(uses(&a), "5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_keys_are_fetched_kept_and_fetched_again_for_a_new_kid() {
    let server = Setup::new(Database::sqlite()).config("[outbound]\nallow = [\"localhost\"]\n").start().await;
    let (first, second, third) = (ClientKey::new("ES256"), ClientKey::new("EdDSA"), ClientKey::new("ES256"));
    let page = KeyPage::with(&first.jwks()).await;
    page.answer(503, "");
    let client = server.client_add(&[&GRANTS[..], &["--jwks-uri", &page.url()]].concat()).await;
    let ask = async |key: &ClientKey| with(&server, "/oauth2/token", &key.assertion(&client.id, &server.origin()), &[OWN]).await;
    ask(&first).await.unavailable();
    assert_eq!(page.fetches(), 1);
    ask(&first).await.unavailable();
    assert_eq!(page.fetches(), 1, "not again at once");
    page.answer(200, &first.jwks().to_string());
    crate::harness::eventually(std::time::Duration::from_secs(30), "the keys are fetched", async || ask(&first).await.status == 200).await;
    let before = page.fetches();
    ask(&first).await.ok();
    assert_eq!(page.fetches(), before, "the keys are kept");
    page.answer(200, &second.jwks().to_string());
    ask(&second).await.ok();
    assert_eq!(page.fetches(), before + 1, "a new kid");
    ask(&first).await.refused(401, "invalid_client");
    // Three times at once, and then once a minute: whoever makes up key ids does not have us ask all day.
    let before = page.fetches();
    ask(&third).await.refused(401, "invalid_client");
    assert_eq!(page.fetches(), before);
    page.answer(500, "");
    ask(&second).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_keys_come_from_no_machine_of_ours() {
    let page = KeyPage::with(&ClientKey::new("ES256").jwks()).await;
    let key = ClientKey::new("ES256");
    let server = Setup::new(Database::sqlite()).start().await;
    for uri in
        [page.url(), "https://127.0.0.1/jwks".to_owned(), "https://[::ffff:10.0.0.1]/".to_owned(), "https://169.254.169.254/".to_owned()]
    {
        let said = server.cli(&[&["client", "add", "app"], &GRANTS[..], &["--jwks-uri", &uri]].concat()).await.failed(1);
        assert!(said.contains("jwks_uri: ") && said.contains("[outbound] allow"), "{said}");
    }
    // By name it is found out only when the name is resolved.
    let inside = page.url().replace("http:", "https:");
    let client = server.client_add(&[&GRANTS[..], &["--jwks-uri", &inside]].concat()).await;
    with(&server, "/oauth2/token", &key.assertion(&client.id, &server.origin()), &[OWN]).await.unavailable();
    assert_eq!(page.fetches(), 0);
    assert!(server.log().contains("no public address"), "{}", server.log());

    // A redirect is no key set, and is not followed.
    let server = Setup::new(Database::sqlite()).config("[outbound]\nallow = [\"localhost\"]\n").start().await;
    page.answer(302, "");
    let client = server.client_add(&[&GRANTS[..], &["--jwks-uri", &page.url()]].concat()).await;
    with(&server, "/oauth2/token", &key.assertion(&client.id, &server.origin()), &[OWN]).await.unavailable();
    assert_eq!(page.fetches(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declared_clients_have_keys_too_and_mistakes_have_a_place() {
    let key = ClientKey::new("EdDSA");
    let jwks = key.jwks();
    let declared =
        |keys: &str| format!("[[client]]\nid = \"ledger\"\ngrants = [\"client_credentials\"]\nauth_method = \"private_key_jwt\"\n{keys}\n");
    let x = jwks["keys"][0]["x"].as_str().unwrap();
    let table = format!("jwks = {{ keys = [{{ kty = \"OKP\", crv = \"Ed25519\", kid = \"{}\", x = \"{x}\" }}] }}", key.kid);
    for keys in [table, format!("jwks = '{jwks}'")] {
        let server = Setup::new(Database::sqlite()).config(&declared(&keys)).start().await;
        with(&server, "/oauth2/token", &key.assertion("ledger", &server.origin()), &[OWN]).await.ok();
    }
    for (keys, said) in [
        ("", "countersign.toml:4:1: client[0].auth_method: private_key_jwt needs the client's public keys"),
        ("jwks_uri = \"http://app.example/jwks\"", "countersign.toml:5:1: client[0].jwks_uri: is plain http"),
        ("jwks = 'no'", "countersign.toml:5:1: client[0].jwks: is not JSON"),
        ("jwks = { keys = [{ kty = \"oct\", k = \"c2VjcmV0\" }] }", "client[0].jwks: keys[0] holds k, a part of the private key"),
        ("jwks = '{\"keys\": []}'\njwks_uri = \"https://app.example/\"", "client[0].jwks_uri: jwks is set too"),
        ("jwks_uri = \"https://app.example/\"\nsecrets_file = \"x\"", "client[0].secrets_file: "),
    ] {
        let said_instead = Setup::new(Database::sqlite()).config(&declared(keys)).cli(&["check"]).await.failed(1);
        assert!(said_instead.contains(said), "{said_instead} is not {said}");
    }
    let without = declared("jwks_uri = \"https://app.example/\"").replace("auth_method = \"private_key_jwt\"\n", "");
    let said = Setup::new(Database::sqlite()).config(&without).cli(&["check"]).await.failed(1);
    assert!(said.contains("add auth_method = \"private_key_jwt\""), "{said}");
}
