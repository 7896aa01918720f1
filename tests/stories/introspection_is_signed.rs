//! A resource server that asks for it gets the answer of introspection signed (RFC 9701), as evidence that it can keep.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, Setup, form, on_both_databases};

const MEDIA_TYPE: &str = "application/token-introspection+jwt";
const SERVICE: [&str; 4] = ["--grant", "client_credentials", "--scope", "read"];

async fn ask(server: &Server, caller: &Client, token: &str, accept: &str) -> Answer {
    let headers = [("authorization", caller.basic()), ("accept", accept.to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    server.raw("/oauth2/introspect", &headers, form(&[("token", token)])).await
}

/// What the answer says, once it is verified as a resource server would: key by kid, signature, issuer, audience.
async fn verified(server: &Server, answer: &Answer, caller: &Client, algorithm: Algorithm) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((answer.header("content-type"), answer.header("cache-control")), (MEDIA_TYPE, "no-store"));
    assert_eq!(answer.header("vary"), "Accept");
    let keys: JwkSet = serde_json::from_value(server.get("/oauth2/jwks").await.ok().clone()).expect("a JWK set");
    let header = jsonwebtoken::decode_header(&answer.body).expect("a JWT");
    assert_eq!((header.alg, header.typ.as_deref()), (algorithm, Some("token-introspection+jwt")));
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[&caller.id]);
    validation.set_issuer(&[server.origin()]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    let key = DecodingKey::from_jwk(keys.find(header.kid.as_deref().expect("a kid")).expect("the key is published")).expect("a public key");
    let claims = jsonwebtoken::decode::<Value>(&answer.body, &key, &validation).expect("the answer verifies").claims;
    let mut members: Vec<_> = claims.as_object().unwrap().keys().cloned().collect();
    members.sort();
    assert_eq!(members, ["aud", "iat", "iss", "token_introspection"], "and nothing that an access token has (RFC 9701 section 5)");
    claims["token_introspection"].clone()
}

on_both_databases! {
    async fn the_signed_answer_says_what_the_plain_one_does(database) {
        let server = Setup::new(database).start().await;
        for (name, algorithm) in [("", Algorithm::RS256), ("ES256", Algorithm::ES256), ("EdDSA", Algorithm::EdDSA)] {
            let more = ["--introspection-signed-response-alg", name];
            let client = server.client_add(&[&SERVICE[..], if name.is_empty() { &[] } else { &more }].concat()).await;
            let token = server.own_token(&client).await;
            let plain = server.introspect(&client, &token).await;
            let signed = verified(&server, &ask(&server, &client, &token, MEDIA_TYPE).await, &client, algorithm).await;
            for member in ["active", "sub", "client_id", "scope", "aud", "iss", "exp", "iat", "jti", "token_type", "roles"] {
                assert_eq!(signed[member], plain.ok()[member], "{member}");
            }
            assert_eq!(signed["active"], json!(true));
            server.revoke(&client, &token).await;
            for inactive in [token.as_str(), "rubbish"] {
                let answer = ask(&server, &client, inactive, MEDIA_TYPE).await;
                assert_eq!(verified(&server, &answer, &client, algorithm).await, json!({"active": false}));
            }
        }
        let metadata = server.get("/.well-known/openid-configuration").await;
        assert_eq!(metadata.ok()["introspection_signing_alg_values_supported"], json!(["ES256", "RS256", "EdDSA"]));
    }

    async fn it_is_signed_only_for_who_asks_and_only_for_its_caller(database) {
        let server = Setup::new(database).start().await;
        let (owner, stranger) = (server.client_add(&SERVICE).await, server.client_add(&SERVICE).await);
        let token = server.own_token(&owner).await;
        for accept in ["*/*", "application/*", "application/json", "application/token-introspection+jwt;q=0", "application/json, application/token-introspection+jwt;q=0.5"] {
            let answer = ask(&server, &owner, &token, accept).await;
            assert_eq!((&answer.ok()["active"], answer.header("content-type")), (&json!(true), "application/json"), "{accept}");
        }
        for accept in ["application/json;q=0.9, application/token-introspection+jwt", "Application/Token-Introspection+JWT, */*;q=0.1"] {
            let answer = ask(&server, &owner, &token, accept).await;
            assert_eq!(verified(&server, &answer, &owner, Algorithm::RS256).await["active"], json!(true), "{accept}");
        }
        let seen = verified(&server, &ask(&server, &stranger, &token, MEDIA_TYPE).await, &stranger, Algorithm::RS256).await;
        assert_eq!(seen, json!({"active": false}), "not for this caller");
        // Errors stay JSON.
        ask(&server, &Client::new(&owner.id, "wrong"), &token, MEDIA_TYPE).await.refused(401, "invalid_client");
        ask(&server, &owner, "", MEDIA_TYPE).await.refused(400, "invalid_request");
    }
}
