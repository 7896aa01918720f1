//! A resource server checks JWT access tokens (RFC 9068) by itself, with keys from our JWKS; introspection knows them as well.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, TokenData, Validation};
use serde_json::{Value, json};

use crate::harness::{Database, Oidc, Server, Setup, on_both_databases};

const SERVICE: [&str; 4] = ["--grant", "client_credentials", "--scope", "read"];
const JWT: [&str; 2] = ["--token-format", "jwt"];
const PASSWORD: &str = "correct horse battery staple";

/// What a resource server does: the key by `kid`, then signature, issuer, audience and times.
async fn validate(server: &Server, token: &str, audience: &str) -> TokenData<Value> {
    let keys: JwkSet = serde_json::from_value(server.get("/oauth2/jwks").await.ok().clone()).expect("a JWK set");
    let header = jsonwebtoken::decode_header(token).expect("a JWT");
    let jwk = keys.find(header.kid.as_deref().expect("a kid")).expect("the key is published");
    assert_eq!(jwk.common.key_algorithm.map(|a| a.to_string()), Some(format!("{:?}", header.alg)), "alg of the key and of the token");
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[server.origin()]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    jsonwebtoken::decode(token, &DecodingKey::from_jwk(jwk).expect("a public key"), &validation).expect("the token is valid")
}

/// The token with another header and the signature that it had.
fn with_header(token: &str, change: &Value) -> String {
    let (header, rest) = token.split_once('.').unwrap();
    let mut members: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    for (name, value) in change.as_object().unwrap() {
        members[name] = value.clone();
    }
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(members.to_string()))
}

fn claims_of(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn sorted(value: &Value) -> Vec<&str> {
    let mut texts: Vec<&str> = value.as_array().unwrap_or_else(|| panic!("no array: {value}")).iter().filter_map(Value::as_str).collect();
    texts.sort_unstable();
    texts
}

async fn start(database: Database) -> Server {
    Setup::new(database).start().await
}

on_both_databases! {
    async fn each_algorithm_verifies_through_the_jwks(database) {
        let server = start(database).await;
        for (name, algorithm) in [("ES256", Algorithm::ES256), ("RS256", Algorithm::RS256), ("EdDSA", Algorithm::EdDSA)] {
            let client = server.client_add(&[&SERVICE[..], &JWT, &["--signing-algorithm", name, "--role", "backup"]].concat()).await;
            let answer = server.token(&client, &[("grant_type", "client_credentials")]).await;
            assert_eq!((answer.text("token_type").as_str(), answer.ok()["expires_in"].as_i64()), ("Bearer", Some(900)));
            let token = validate(&server, &answer.access_token(), &server.origin()).await;
            assert_eq!((token.header.alg, token.header.typ.as_deref()), (algorithm, Some("at+jwt")));
            // RFC 9068 section 2.2: all that is required, and nobody's roles unless asked for.
            let claims = token.claims;
            assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(client.id), &json!(client.id)));
            assert_eq!((&claims["iss"], &claims["scope"]), (&json!(server.origin()), &json!("read")));
            assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
            assert!(claims["jti"].is_string(), "{claims}");
            for absent in ["roles", "groups", "username", "auth_time", "amr", "source"] {
                assert!(claims.get(absent).is_none(), "{absent} in {claims}");
            }
            assert!(server.is_active(&client, &answer.access_token()).await);
        }
    }

    async fn the_tokens_of_a_person(database) {
        let server = start(database).await;
        server.user_add("dana", PASSWORD, &["--role", "reader", "--role", "writer"]).await;
        let grants = ["--grant", "password", "--grant", "refresh_token", "--scope", "read"];
        let plain = server.client_add(&[&grants[..], &JWT].concat()).await;
        let with_roles = server.client_add(&[&grants[..], &JWT, &["--jwt-claim", "roles"]].concat()).await;

        let silent = server.sign_in(&plain, "dana", PASSWORD).await;
        let claims = validate(&server, &silent.access_token(), &server.origin()).await.claims;
        assert!(claims["sub"].as_str().unwrap().len() == 32 && claims["auth_time"].is_i64(), "{claims}");
        assert_eq!((&claims["amr"], claims.get("roles"), claims.get("username")), (&json!(["pwd"]), None, None));
        assert!(!claims.to_string().contains("dana"), "no name in a token that everybody can read: {claims}");

        // Introspection tells what the token does not.
        let meaning = server.introspect(&plain, &silent.access_token()).await;
        assert_eq!(meaning.ok()["active"], json!(true));
        assert_eq!(sorted(&meaning.ok()["roles"]), ["reader", "writer"]);
        assert_eq!((&meaning.ok()["username"], &meaning.ok()["source"]), (&json!("dana"), &json!("local")));

        let open = server.sign_in(&with_roles, "dana", PASSWORD).await;
        let claims = validate(&server, &open.access_token(), &server.origin()).await.claims;
        assert_eq!((sorted(&claims["roles"]), claims.get("groups")), (vec!["reader", "writer"], None));

        let renewed = server.refresh(&with_roles, &open.text("refresh_token")).await;
        let again = validate(&server, &renewed.access_token(), &server.origin()).await.claims;
        assert_eq!((&again["sub"], &again["auth_time"], sorted(&again["roles"])), (&claims["sub"], &claims["auth_time"], vec!["reader", "writer"]));
        assert_ne!(again["jti"], claims["jti"]);
    }

    async fn groups_where_the_client_asks(database) {
        let okta = Oidc::issuer().await;
        let server = Setup::new(database).okta("okta", &okta, "").start().await;
        let grants = ["--grant", "urn:ietf:params:oauth:grant-type:token-exchange"];
        let client = server.client_add(&[&grants[..], &JWT, &["--jwt-claim", "groups"]].concat()).await;
        let token = server.exchange(&client, &okta.mint("alice").await, &[]).await.access_token();
        let claims = validate(&server, &token, &server.origin()).await.claims;
        assert_eq!(sorted(&claims["groups"]), ["Everyone", "app-admins", "eng-backend"]);
        assert_eq!(claims.get("roles"), None);

        // A header of more than 4 KiB is what proxies cut, so such a token is not given out.
        let many: Vec<String> = (0..99).map(|n| format!("group-{n}-{}", "x".repeat(50))).collect();
        let answer = server.exchange(&client, &okta.mint_with(json!({"claims": {"groups": many}})).await, &[]).await;
        answer.refused(400, "invalid_request");
    }

    async fn roles_that_are_too_many_for_a_header(database) {
        let server = start(database).await;
        let roles: Vec<String> = (0..60).map(|n| format!("role-{n}-{}", "x".repeat(80))).collect();
        let flags: Vec<&str> = roles.iter().flat_map(|role| ["--role", role.as_str()]).collect();
        let opaque = server.client_add(&[&SERVICE[..], &flags].concat()).await;
        let open = server.client_add(&[&SERVICE[..], &JWT, &["--jwt-claim", "roles"], &flags].concat()).await;
        let silent = server.client_add(&[&SERVICE[..], &JWT, &flags].concat()).await;
        for client in [&opaque, &open] {
            server.token(client, &[("grant_type", "client_credentials")]).await.refused(400, "invalid_request");
        }
        let meaning = server.introspect(&silent, &server.own_token(&silent).await).await;
        assert_eq!(meaning.ok()["roles"].as_array().unwrap().len(), 60);
    }

    async fn tokens_that_are_not_ours_or_not_anymore(database) {
        let server = start(database).await;
        let stranger = Setup::new(Database::sqlite()).start().await;
        let client = server.client_add(&[&SERVICE[..], &JWT, &["--introspect", "any"]].concat()).await;
        let other = stranger.client_add_named(&client.id, &[&SERVICE[..], &JWT].concat()).await;
        let token = server.own_token(&client).await;
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        let foreign = stranger.own_token(&other).await;

        // A public key as if it were a shared secret (RFC 8725 section 2.1).
        let published = server.get("/oauth2/jwks").await.body;
        let mut header = Header::new(Algorithm::HS256);
        (header.kid, header.typ) = (Some(kid.clone()), Some("at+jwt".to_owned()));
        let symmetric = jsonwebtoken::encode(&header, &claims_of(&token), &EncodingKey::from_secret(published.as_bytes())).unwrap();
        let mut more = claims_of(&token);
        more["scope"] = json!("read admin");
        let parts: Vec<&str> = token.split('.').collect();

        for (what, forged) in [
            ("of another issuer", foreign.clone()),
            ("of another issuer, with our kid", with_header(&foreign, &json!({"kid": kid}))),
            ("typ JWT", with_header(&token, &json!({"typ": "JWT"}))),
            ("alg RS256", with_header(&token, &json!({"alg": "RS256"}))),
            ("alg none", with_header(&token, &json!({"alg": "none"}))),
            ("crit", with_header(&token, &json!({"crit": ["exp"]}))),
            ("unsigned", format!("{}.", with_header(&token, &json!({"alg": "none"})).rsplit_once('.').unwrap().0)),
            ("HS256 by the public key", symmetric),
            ("other claims", format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(more.to_string()), parts[2])),
            ("two parts", format!("{}.{}", parts[0], parts[1])),
            ("four parts", format!("{token}.AAAA")),
        ] {
            assert_eq!(server.introspect(&client, &forged).await.ok(), &json!({"active": false}), "{what}");
        }
        assert!(server.is_active(&client, &token).await);
        assert_eq!(server.revoke(&client, &token).await.status, 200);
        assert_eq!(server.introspect(&client, &token).await.ok(), &json!({"active": false}));
    }

    async fn the_audience_is_what_was_asked_for(database) {
        let server = start(database).await;
        let [api, files] = ["https://api.test/", "https://files.test/"];
        let client = server.client_add(&[&SERVICE[..], &JWT, &["--audience", api, "--audience", files]].concat()).await;
        for (asked, expected) in [
            (vec![], json!(api)),
            (vec![("resource", files)], json!(files)),
            (vec![("resource", api), ("resource", files)], json!([api, files])),
        ] {
            let token = server.token(&client, &[&[("grant_type", "client_credentials")][..], &asked].concat()).await.access_token();
            let claims = validate(&server, &token, expected.as_str().unwrap_or(files)).await.claims;
            assert_eq!(claims["aud"], expected);
            assert_eq!(server.introspect(&client, &token).await.ok()["aud"], expected);
        }
        for wrong in ["https://elsewhere.test/", "https://api.test", "https://API.test/", &server.origin()] {
            let asked = [("grant_type", "client_credentials"), ("resource", api), ("resource", wrong)];
            server.token(&client, &asked).await.refused(400, "invalid_target");
        }
        let none = server.client_add(&SERVICE).await;
        let asked = [("grant_type", "client_credentials"), ("resource", api)];
        server.token(&none, &asked).await.refused(400, "invalid_target");
    }

    async fn who_may_introspect(database) {
        let server = start(database).await;
        let [api, files] = ["https://api.test/", "https://files.test/"];
        let by_id = server.client_add(&[]).await;
        let by_uri = server.client_add(&["--resource", api]).await;
        let elsewhere = server.client_add(&["--resource", "https://api.test/v2"]).await;
        let any = server.client_add(&["--introspect", "any"]).await;
        for format in ["jwt", "opaque"] {
            let audiences = ["--audience", api, "--audience", &by_id.id, "--audience", files];
            let client = server.client_add(&[&SERVICE[..], &["--token-format", format], &audiences].concat()).await;
            for (target, sees) in [
                (api, [true, false, true, false, true]),
                (&by_id.id, [true, true, false, false, true]),
                (files, [true, false, false, false, true]),
            ] {
                let asked = [("grant_type", "client_credentials"), ("resource", target)];
                let token = server.token(&client, &asked).await.access_token();
                for (caller, expected) in [&client, &by_id, &by_uri, &elsewhere, &any].into_iter().zip(sees) {
                    assert_eq!(server.is_active(caller, &token).await, expected, "{format} for {target}, asked by {}", caller.id);
                }
            }
        }
    }
}
