//! Each row of the error table: the right status, the right code, never a panic and never a 500.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::{Answer, Client, Server, Setup, on_both_databases};

const GRANTS: [&str; 6] = ["--grant", "client_credentials", "--grant", "password", "--scope", "read"];
const FORM: &str = "application/x-www-form-urlencoded";

async fn server_and_client(database: crate::harness::Database) -> (Server, Client) {
    let server = Setup::new(database).start().await;
    let client = server.client_add(&GRANTS).await;
    (server, client)
}

/// POST to the token endpoint with the client's Basic header and this very body.
async fn body(server: &Server, client: &Client, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    server.raw("/oauth2/token", &[("authorization", &client.basic()), ("content-type", content_type)], body).await
}

on_both_databases! {
    async fn parameters_that_are_missing_repeated_or_malformed(database) {
        let (server, client) = server_and_client(database).await;
        for bad in [
            &b""[..],
            b"scope=read",
            b"grant_type=",
            b"grant_type=client_credentials&grant_type=client_credentials",
            b"grant_type=client_credentials&scope=read&scope=read",
            b"grant_type=client_credentials&scope=&scope=",
            b"grant_type=password&username=alice",
            b"grant_type=password&password=secret",
            b"grant_type=password&username=&password=secret",
            b"grant_type=client_credentials&scope=re%00ad",
            b"grant_type=client_credentials&scope=\0",
            b"grant_type=client_credentials&scope=\xff\xfe",
            b"grant_type=client_credentials&scope=%e9",
            b"grant_type=client_credentials&scope=%zz",
            b"grant_type=client_credentials&scope=%4",
            b"grant_type=password&username=a%ff&password=b",
        ] {
            body(&server, &client, FORM, bad.to_vec()).await.refused(400, "invalid_request");
        }
        for path in ["/oauth2/introspect", "/oauth2/revoke"] {
            for form in ["", "token=", "token=a&token=b", "token=%00", "token=%ff"] {
                server.raw(path, &[("authorization", &client.basic())], form).await.refused(400, "invalid_request");
            }
        }
        // An empty parameter counts as missing (RFC 6749 section 3.2).
        body(&server, &client, FORM, "grant_type=client_credentials&scope=").await.ok();
        // A charset is no other content type.
        body(&server, &client, "application/x-www-form-urlencoded; charset=UTF-8", "grant_type=client_credentials").await.ok();
    }

    async fn content_types_that_are_no_form(database) {
        let (server, client) = server_and_client(database).await;
        for other in ["application/json", "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencodedx"] {
            body(&server, &client, other, "grant_type=client_credentials").await.refused(400, "invalid_request");
        }
    }

    async fn bodies_over_the_limit(database) {
        let (server, client) = server_and_client(database).await;
        let fits = format!("grant_type=client_credentials&padding={}", "x".repeat(64 * 1024 - 38));
        assert_eq!(fits.len(), 64 * 1024);
        body(&server, &client, FORM, fits.clone()).await.ok();
        for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
            server.raw(path, &[("authorization", &client.basic())], fits.clone() + "x").await.refused(413, "invalid_request");
        }
        // Without Content-Length, in chunks.
        let chunks = (0..80).map(|_| Ok::<_, std::io::Error>("x".repeat(1024)));
        let stream = reqwest::Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(
            chunks.map(|chunk| chunk.map(|text| hyper::body::Frame::data(bytes::Bytes::from(text)))),
        )));
        body(&server, &client, FORM, stream).await.refused(413, "invalid_request");
    }

    async fn grants_that_nobody_knows(database) {
        let (server, client) = server_and_client(database).await;
        for grant in ["implicit", "urn:ietf:params:oauth:grant-type:saml2-bearer", "CLIENT_CREDENTIALS", "client_credentials "] {
            server.token(&client, &[("grant_type", grant)]).await.refused(400, "unsupported_grant_type");
        }
    }

    async fn clients_that_do_not_authenticate(database) {
        let (server, client) = server_and_client(database).await;
        let own = [("grant_type", "client_credentials")];
        let mut changed = client.secret().to_owned();
        changed.pop();
        let secrets = ["".to_owned(), changed, format!("{}x", client.secret()), client.secret().to_uppercase()];
        for wrong in secrets.iter().map(|secret| Client::new(&client.id, secret)).chain([Client::new("nobody", client.secret())]) {
            for (path, form) in [("/oauth2/token", &own[..]), ("/oauth2/introspect", &[("token", "x")]), ("/oauth2/revoke", &[("token", "x")])] {
                let answer = server.post(path, &wrong, form).await;
                assert!(answer.refused(401, "invalid_client").header("www-authenticate").starts_with("Basic"), "{:?}", answer.headers);
            }
        }
        for wrong in secrets {
            let posted = format!("grant_type=client_credentials&client_id={}&client_secret={wrong}", client.id);
            let answer = server.raw("/oauth2/token", &[], posted).await;
            answer.refused(401, "invalid_client");
        }
        server.raw("/oauth2/token", &[], "grant_type=client_credentials").await.refused(401, "invalid_client");
        server.raw("/oauth2/introspect", &[], "token=x").await.refused(401, "invalid_client");
        server.raw("/oauth2/token", &[], format!("grant_type=client_credentials&client_id={}", client.id)).await.refused(401, "invalid_client");
    }

    async fn basic_that_is_broken(database) {
        let (server, client) = server_and_client(database).await;
        let encoded = |bytes: &[u8]| format!("Basic {}", STANDARD.encode(bytes));
        for broken in [
            "Basic".to_owned(),
            "Basic ".to_owned(),
            "Basic !!!".to_owned(),
            "Basic Zm9v=".to_owned(),
            encoded(b"no colon"),
            encoded(b":"),
            encoded(format!("{}:", client.id).as_bytes()),
            encoded(b"\xff\xfe:\xff"),
            encoded(b"a%zz:b"),
            encoded(b"a%00:b"),
            encoded(b"a\0:b"),
        ] {
            let answer = server.raw("/oauth2/token", &[("authorization", &broken)], "grant_type=client_credentials").await;
            assert!(answer.refused(401, "invalid_client").header("www-authenticate").starts_with("Basic"), "{broken}");
        }
        let twice = [("authorization", client.basic()), ("authorization", client.basic())];
        let twice: Vec<(&str, &str)> = twice.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = server.raw("/oauth2/token", &twice, "grant_type=client_credentials").await;
        assert!([400, 401].contains(&answer.status), "{}", answer.body);
    }

    async fn two_ways_to_authenticate_at_once(database) {
        let (server, client) = server_and_client(database).await;
        let both = format!("grant_type=client_credentials&client_id={}&client_secret={}", client.id, client.secret());
        body(&server, &client, FORM, both).await.refused(400, "invalid_request");
        // The id alone beside Basic is no second way, as long as it is the same.
        body(&server, &client, FORM, format!("grant_type=client_credentials&client_id={}", client.id)).await.ok();
        let other = body(&server, &client, FORM, "grant_type=client_credentials&client_id=other").await;
        assert!([400, 401].contains(&other.status), "{}", other.body);
    }

    async fn tokens_that_mean_nothing(database) {
        let (server, client) = server_and_client(database).await;
        let watcher = server.client_add(&["--introspect", "any"]).await;
        let jwt_client = server.client_add(&["--grant", "client_credentials", "--token-format", "jwt"]).await;
        for token in [server.own_token(&client).await, server.own_token(&jwt_client).await] {
            assert!(server.is_active(&watcher, &token).await);
            for bad in mutations(&token) {
                assert_eq!(server.introspect(&watcher, &bad).await.ok(), &json!({"active": false}), "{bad}");
                assert_eq!(server.revoke(&client, &bad).await.status, 200, "an invalid token is no error (RFC 7009 section 2.2)");
            }
            assert!(server.is_active(&watcher, &token).await, "revoking what is no token changed something");
        }
        // Things of another purpose, and of nobody.
        let token = server.own_token(&client).await;
        let other_purpose = token.replacen("cs_at_", "cs_rt_", 1);
        let foreign = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2Vsc2V3aGVyZS50ZXN0In0.";
        for bad in [other_purpose.as_str(), foreign, client.secret(), "cs_at_", "cs_at_AA", "cs_rt_AA", "x", "é", "..", "a.b.c"] {
            assert_eq!(server.introspect(&watcher, bad).await.ok(), &json!({"active": false}), "{bad}");
        }
        server.introspect(&watcher, &"x".repeat(60_000)).await.ok();
        server.get_as("/oauth2/token", &token).await; // only that it answers
    }

    async fn one_server_does_not_open_what_another_sealed(database) {
        let (server, client) = server_and_client(database).await;
        let other = Setup::new(crate::harness::Database::sqlite()).start().await;
        let watcher = other.client_add(&["--introspect", "any"]).await;
        let token = server.own_token(&client).await;
        assert!(!other.is_active(&watcher, &token).await);
    }

    async fn revoking_what_belongs_to_another(database) {
        let (server, client) = server_and_client(database).await;
        let stranger = server.client_add(&GRANTS).await;
        let token = server.own_token(&client).await;
        server.revoke(&stranger, &token).await.refused(400, "unauthorized_client");
        assert!(server.is_active(&client, &token).await);
        assert_eq!(server.revoke(&client, &token).await.status, 200);
        assert!(!server.is_active(&client, &token).await, "revocation holds at once on its node");
        assert_eq!(server.revoke(&client, &token).await.status, 200, "twice is as good as once");
    }

    async fn paths_and_methods_that_do_not_exist(database) {
        let (server, _) = server_and_client(database).await;
        for (path, status) in [("/", 404), ("/oauth2", 404), ("/oauth2/nothing", 404), ("/oauth2/token", 405), ("/oauth2/introspect", 405)] {
            let answer = server.get(path).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
            assert!(answer.json["error"].is_string(), "{path} answers no JSON: {}", answer.body);
        }
    }
}

/// The token cut short, lengthened, and with one bit changed at every place.
fn mutations(token: &str) -> Vec<String> {
    let mut bad = vec![token[..token.len() - 1].to_owned(), token[..token.len() / 2].to_owned(), format!("{token}A"), format!("A{token}")];
    bad.extend([format!("{token} "), format!("{token}="), token.to_uppercase()]);
    for at in (0..token.len()).step_by(7).chain([token.len() - 1]) {
        // The low bit of a base64url digit is always significant but at the very end, where a strict decoder refuses the change.
        let mut bytes = token.as_bytes().to_vec();
        bytes[at] = match bytes[at] {
            b'A' => b'B',
            b'.' => b'A',
            _ => b'A',
        };
        bad.extend(String::from_utf8(bytes).ok().filter(|changed| changed != token));
    }
    bad
}
