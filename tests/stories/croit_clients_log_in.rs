//! Clients that were made for croit's management API log in here, and find every path, member and status of its documentation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Oidc, Server, Setup, on_both_databases};

const CROIT: &str = "[dialect.croit]";
const PASSWORD: &str = "five blue herons crossing";
/// One group of alice's gives a role.
const MAPPING: &str = "[[mapping.rule]]\nid = \"backend\"\nsource = \"okta\"\nmatch.claim = \"/groups\"\nequals = \"eng-backend\"\n\
                       roles = [\"dev\"]";
/// A colon, accents and signs that mean something in forms.
const ODD_PASSWORD: &str = "dé:jà vu + 100% naïve & sûr";

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

async fn login(server: &Server, user: &str, password: &str) -> Answer {
    server.raw("/api/auth/login", &[("authorization", &basic(user, password))], "").await
}

async fn login_form(server: &Server, username: &str, password: &str) -> Answer {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("grant_type", "password"), ("username", username), ("password", password)])
        .finish();
    server.raw("/api/auth/login-form", &[], form).await
}

async fn okta_login(server: &Server, id_token: &str) -> Answer {
    let body = json!({"idToken": id_token}).to_string();
    server.raw("/api/auth/okta/login", &[("content-type", "application/json")], body).await
}

/// Exactly the members of the documentation, with their types.
#[track_caller]
fn is_login_answer(answer: &Answer) -> &Value {
    let body = answer.ok();
    let mut members: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["access_token", "expires_in", "passwordWasNeverChanged", "roles", "token_type", "userId"]);
    assert!(body["access_token"].as_str().is_some_and(|token| token.starts_with("cs_at_")), "{body}");
    assert_eq!(body["token_type"], json!("bearer"));
    assert_eq!(body["expires_in"], json!(900));
    assert!(body["roles"].as_array().is_some_and(|roles| roles.iter().all(Value::is_string)), "{body}");
    assert!(body["userId"].as_u64().is_some_and(|id| id < 1 << 53), "{body}");
    assert!(body["passwordWasNeverChanged"].is_boolean(), "{body}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.header("content-type").starts_with("application/json"));
    body
}

async fn server_with_people(database: crate::harness::Database) -> Server {
    let server = Setup::new(database).config(CROIT).start().await;
    server.user_add("anna", PASSWORD, &["--role", "admin", "--role", "viewer"]).await;
    server.user_add("zoë", ODD_PASSWORD, &[]).await;
    server
}

on_both_databases! {
    async fn a_person_logs_in_by_basic_and_by_form(database) {
        let server = server_with_people(database).await;
        let by_basic = login(&server, "anna", PASSWORD).await;
        let by_form = login_form(&server, "anna", PASSWORD).await;
        for answer in [&by_basic, &by_form] {
            let body = is_login_answer(answer);
            assert_eq!(body["roles"], json!(["admin", "viewer"]));
            assert_eq!(body["passwordWasNeverChanged"], json!(false));
        }
        assert_eq!(by_basic.json["userId"], by_form.json["userId"], "the id of a person is stable");
        assert_ne!(by_basic.json["userId"], is_login_answer(&login(&server, "zoë", ODD_PASSWORD).await)["userId"]);

        // The native endpoints know the token, and whose it is.
        let watcher = server.client_add(&["--introspect", "any"]).await;
        let meaning = server.introspect(&watcher, &by_basic.access_token()).await;
        assert_eq!((&meaning.ok()["username"], &meaning.json["client_id"]), (&json!("anna"), &json!("croit")));
    }

    async fn credentials_of_people_are_raw_utf_8(database) {
        let server = server_with_people(database).await;
        is_login_answer(&login(&server, "zoë", ODD_PASSWORD).await);
        is_login_answer(&login_form(&server, "zoë", ODD_PASSWORD).await);
        let encoded: String = url::form_urlencoded::byte_serialize(ODD_PASSWORD.as_bytes()).collect();
        login(&server, "zoë", &encoded).await.refused(401, "invalid_client");
    }

    async fn grant_type_is_optional_and_nothing_else_is_taken(database) {
        let server = server_with_people(database).await;
        let authorization = basic("anna", PASSWORD);
        for (form, works) in [("grant_type=client_credentials", true), ("grant_type=", true), ("", true), ("grant_type=password", false)] {
            let answer = server.raw("/api/auth/login", &[("authorization", &authorization)], form).await;
            match works {
                true => drop(is_login_answer(&answer)),
                false => drop(answer.refused(400, "unsupported_grant_type")),
            }
        }
        let form = format!("username=anna&password={}", PASSWORD.replace(' ', "+"));
        is_login_answer(&server.raw("/api/auth/login-form", &[], form.clone()).await);
        let other = server.raw("/api/auth/login-form", &[], format!("{form}&grant_type=client_credentials")).await;
        other.refused(400, "unsupported_grant_type");
    }

    async fn a_client_logs_in_by_basic(database) {
        let server = server_with_people(database).await;
        let client = server.client_add(&["--grant", "client_credentials", "--role", "backup"]).await;
        let answer = server.raw("/api/auth/login", &[("authorization", &client.basic())], "grant_type=client_credentials").await;
        let body = is_login_answer(&answer);
        assert_eq!((&body["roles"], &body["passwordWasNeverChanged"]), (&json!(["backup"]), &json!(false)));
        let info = server.get_as("/api/auth/token-info", &answer.access_token()).await;
        assert_eq!((&info.ok()["username"], &info.json["roles"]), (&json!(client.id), &json!(["backup"])));

        // What a client may not do it may not do here either.
        let without = server.client_add(&[]).await;
        let answer = server.raw("/api/auth/login", &[("authorization", &without.basic())], "").await;
        answer.refused(400, "unauthorized_client");
    }

    async fn a_known_client_id_is_only_ever_a_client(database) {
        let server = server_with_people(database).await;
        is_login_answer(&login(&server, "anna", PASSWORD).await);
        let client = server.client_add_named("anna", &["--grant", "client_credentials"]).await;
        // The person's password is right, and is not tried.
        login(&server, "anna", PASSWORD).await.refused(401, "invalid_client");
        assert_eq!(server.rows("SELECT count(*) FROM audit_records WHERE event = 'sign_in_refused'"), ["0"]);
        is_login_answer(&server.raw("/api/auth/login", &[("authorization", &client.basic())], "").await);
        is_login_answer(&login_form(&server, "anna", PASSWORD).await);
        // The dialect's own client has no secret, so nobody is it.
        login(&server, "croit", "").await.refused(401, "invalid_client");
        login(&server, "croit", "x").await.refused(401, "invalid_client");
        let nobody = Client { id: "croit".to_owned(), secret: None, secret_id: None };
        server.sign_in(&nobody, "anna", PASSWORD).await.refused(401, "invalid_client");
    }

    async fn who_is_not_let_in(database) {
        let server = server_with_people(database).await;
        for (user, password) in [("anna", "wrong"), ("nobody", PASSWORD), ("anna", ""), ("", PASSWORD), ("anna\0", PASSWORD)] {
            let refused = login(&server, user, password).await;
            let challenge = refused.refused(401, "invalid_client").header("www-authenticate");
            assert!(challenge.starts_with("Basic "), "{challenge}");
        }
        let texts = [login_form(&server, "anna", "wrong").await, login_form(&server, "nobody", PASSWORD).await];
        assert_eq!(texts[0].refused(400, "invalid_grant").body, texts[1].refused(400, "invalid_grant").body);
        for form in ["", "username=anna", "password=x", "username=anna&password=", "username=anna&username=anna&password=x"] {
            server.raw("/api/auth/login-form", &[], form).await.refused(400, "invalid_request");
        }
        for broken in ["Basic", "Basic !", "Bearer x", "Basic Zm9v"] {
            let answer = server.raw("/api/auth/login", &[("authorization", broken)], "").await;
            assert!(answer.refused(401, "invalid_client").header("www-authenticate").starts_with("Basic "), "{broken}");
        }
        let nothing = server.raw("/api/auth/login", &[], "").await;
        assert!(nothing.refused(401, "invalid_client").header("www-authenticate").starts_with("Basic "));
    }

    async fn token_info_tells_name_roles_and_expiry(database) {
        let server = server_with_people(database).await;
        let token = login_form(&server, "anna", PASSWORD).await.access_token();
        let info = server.get_as("/api/auth/token-info", &token).await;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let expiry = info.ok()["expiry"].as_u64().expect("expiry is an integer");
        assert!((now + 800..=now + 905).contains(&expiry), "{expiry} at {now}");
        assert_eq!(info.json, json!({"username": "anna", "roles": ["admin", "viewer"], "expiry": expiry}));
        assert_eq!(info.header("cache-control"), "no-store");
    }

    async fn bearer_tokens_that_are_missing_or_bad(database) {
        let server = server_with_people(database).await;
        let good = login_form(&server, "anna", PASSWORD).await.access_token();
        let ask = async |path: &str, authorization: Option<&str>| {
            let headers: Vec<(&str, &str)> = authorization.map(|value| ("authorization", value)).into_iter().collect();
            if path.ends_with("logout") { return server.raw(path, &headers, "").await; }
            match authorization.and_then(|value| value.strip_prefix("Bearer ")) {
                Some(token) => server.get_as(path, token).await,
                None => server.get(path).await,
            }
        };
        let cut = format!("Bearer {}", &good[..good.len() - 1]);
        for path in ["/api/auth/token-info", "/api/auth/logout"] {
            let missing = ask(path, None).await;
            assert_eq!((missing.status, missing.header("www-authenticate")), (401, "Bearer"), "{path}");
            assert_eq!(missing.body, "", "no error code where no token was sent (RFC 6750 section 3.1)");
            for bad in ["Bearer x", &cut, "Bearer cs_at_AAAA"] {
                let answer = ask(path, Some(bad)).await;
                answer.refused(401, "invalid_token");
                assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"", "{path}");
            }
        }
        server.get_as("/api/auth/token-info", &good).await.ok();
    }

    async fn logout_ends_the_token_and_no_other(database) {
        let server = server_with_people(database).await;
        let watcher = server.client_add(&["--introspect", "any"]).await;
        let token = login_form(&server, "anna", PASSWORD).await.access_token();
        let other = login(&server, "anna", PASSWORD).await.access_token();
        let client = server.client_add(&["--grant", "client_credentials"]).await;
        let own = server.own_token(&client).await;
        for ended in [&token, &own] {
            let bearer = format!("Bearer {ended}");
            let answer = server.raw("/api/auth/logout", &[("authorization", &bearer)], "").await;
            assert_eq!((answer.status, answer.body.as_str()), (204, ""));
            server.get_as("/api/auth/token-info", ended).await.refused(401, "invalid_token");
            server.raw("/api/auth/logout", &[("authorization", &bearer)], "").await.refused(401, "invalid_token");
            assert!(!server.is_active(&watcher, ended).await);
        }
        assert!(server.is_active(&watcher, &other).await);
    }

    async fn without_an_okta_source_its_paths_are_404(database) {
        let server = server_with_people(database).await;
        assert_eq!(server.get("/api/auth/okta/signInConfig").await.status, 404);
        assert_eq!(okta_login(&server, "a.b.c").await.status, 404);
    }

    async fn mounted_elsewhere_it_is_nowhere_else(database) {
        let portal = "[[client]]\nid = \"portal\"\ngrants = [\"password\"]\npublic = true\nrole_ceiling = [\"viewer\"]";
        let setup = Setup::new(database).config("[dialect.croit]\nmount = \"/storage/v1\"\nclient = \"portal\"");
        let server = setup.config(portal).start().await;
        server.user_add("anna", PASSWORD, &["--role", "admin", "--role", "viewer"]).await;
        assert_eq!(login_form(&server, "anna", PASSWORD).await.status, 404);
        let form = format!("username=anna&password={}", PASSWORD.replace(' ', "+"));
        let answer = server.raw("/storage/v1/auth/login-form", &[], form).await;
        assert_eq!(is_login_answer(&answer)["roles"], json!(["viewer"]), "the client's ceiling holds");
        server.get_as("/storage/v1/auth/token-info", &answer.access_token()).await.ok();
    }

    async fn disabled_it_is_not_there(database) {
        let server = Setup::new(database).config("[dialect.croit]\nenabled = false").start().await;
        for path in ["/api/auth/login", "/api/auth/login-form", "/api/auth/logout", "/api/auth/okta/login"] {
            assert_eq!(server.raw(path, &[], "").await.status, 404, "{path}");
        }
        assert_eq!(server.get("/api/auth/token-info").await.status, 404);
        assert_eq!(server.cli(&["client", "list", "--json"]).await.json(), json!([]));
    }

    async fn a_page_signs_in_through_okta(database) {
        let okta = Oidc::issuer().await;
        let setup = Setup::new(database).config("[dialect.croit]\npublish_roles = true").config(MAPPING);
        let server = setup.config("[[source]]\nname = \"local\"\ntype = \"local\"").okta("okta", &okta, "").start().await;

        let config = server.get("/api/auth/okta/signInConfig").await;
        let origin = url::Url::parse(&okta.url()).unwrap().origin().ascii_serialization();
        assert_eq!(config.ok(), &json!({
            "baseUrl": origin, "clientId": Oidc::CLIENT_ID, "issuer": okta.url(), "audience": Oidc::CLIENT_ID,
            "mapRoles": {"eng-backend": ["dev"]},
        }));

        let id_token = okta.mint("alice").await;
        let answer = okta_login(&server, &id_token).await;
        let body = is_login_answer(&answer);
        assert_eq!((&body["roles"], &body["passwordWasNeverChanged"]), (&json!(["dev"]), &json!(false)));
        let info = server.get_as("/api/auth/token-info", &answer.access_token()).await;
        assert_eq!((&info.ok()["username"], &info.json["roles"]), (&json!("alice@okta"), &json!(["dev"])));

        // Used once, and only whole, ours and well-formed.
        let expired = okta.mint_with(json!({"account": "alice", "expires_at": 1})).await;
        let other = Oidc::issuer().await.mint("alice").await;
        for bad in [&id_token, &expired, &other, "x", "a.b.c", ""] {
            let refused = okta_login(&server, bad).await;
            assert_eq!(refused.refused(401, "invalid_token").header("www-authenticate"), "Bearer error=\"invalid_token\"", "{bad}");
        }
        let json = "application/json";
        for (content_type, body) in [(json, "{}"), (json, "{\"idToken\":1}"), (json, "["), ("text/plain", "{\"idToken\":\"x\"}")] {
            server.raw("/api/auth/okta/login", &[("content-type", content_type)], body).await.refused(400, "invalid_request");
        }
    }

    async fn roles_are_not_published_unless_asked_for(database) {
        let okta = Oidc::issuer().await;
        let server = Setup::new(database).config(CROIT).config(MAPPING).okta("okta", &okta, "").start().await;
        assert_eq!(server.get("/api/auth/okta/signInConfig").await.ok()["mapRoles"], json!({}));
        // bob is in no group that a rule names.
        assert_eq!(is_login_answer(&okta_login(&server, &okta.mint("bob").await).await)["roles"], json!([]));
    }
}
