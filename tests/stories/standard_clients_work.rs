//! Clients that others wrote: the `oauth2` and `openidconnect` crates, and whatever reads our metadata.

use oauth2::basic::BasicClient;
use oauth2::{
    AccessToken, AuthType, ClientId, ClientSecret, IntrospectionUrl, RefreshToken, ResourceOwnerPassword, ResourceOwnerUsername,
    RevocationUrl, Scope, StandardRevocableToken, TokenIntrospectionResponse, TokenResponse, TokenUrl,
};
use openidconnect::core::{CoreClient, CoreJsonWebKeySet};
use openidconnect::{IssuerUrl, JsonWebKeySetUrl};
use serde_json::{Value, json};

use crate::harness::{Answer, Certificates, Client, Server, Setup, on_both_databases};

const GRANTS: [&str; 10] =
    ["--grant", "client_credentials", "--grant", "password", "--grant", "refresh_token", "--scope", "read", "--scope", "write"];
const PASSWORD: &str = "correct horse battery staple";

/// An HTTP client that follows no redirect, as both crates ask for.
fn plain() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("an HTTP client can be made")
}

/// The same, which trusts the certificates of a story.
fn trusting(certificates: &Certificates) -> reqwest::Client {
    let pem = std::fs::read(certificates.authority()).expect("the authority's certificate can be read");
    let authority = reqwest::Certificate::from_pem(&pem).expect("it is a PEM certificate");
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.add_root_certificate(authority).build().expect("an HTTP client can be made")
}

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = headers.iter().fold(plain().get(server.url(path)), |request, (name, value)| request.header(*name, *value));
    Answer::of(request.send().await.expect("the server answers")).await
}

async fn with_dana(setup: Setup) -> (Server, Client) {
    let server = setup.start().await;
    server.user_add("dana", PASSWORD, &["--role", "reader"]).await;
    let client = server.client_add(&GRANTS).await;
    (server, client)
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap_or_else(|| panic!("no array: {value}")).iter().filter_map(Value::as_str).collect()
}

on_both_databases! {
    async fn the_oauth2_crate(database) {
        // The crate revokes over https alone.
        let certificates = Certificates::new(&["server"]);
        let (server, client) = with_dana(Setup::new(database).tls(&certificates, "server")).await;
        let http = trusting(&certificates);
        for auth_type in [AuthType::BasicAuth, AuthType::RequestBody] {
            let crate_client = BasicClient::new(ClientId::new(client.id.clone()))
                .set_client_secret(ClientSecret::new(client.secret().to_owned()))
                .set_auth_type(auth_type)
                .set_token_uri(TokenUrl::new(server.url("/oauth2/token")).unwrap())
                .set_introspection_url(IntrospectionUrl::new(server.url("/oauth2/introspect")).unwrap())
                .set_revocation_url(RevocationUrl::new(server.url("/oauth2/revoke")).unwrap());

            let own = crate_client.exchange_client_credentials().add_scope(Scope::new("read".into())).request_async(&http).await.unwrap();
            assert_eq!(own.scopes().unwrap(), &[Scope::new("read".into())]);
            assert_eq!((own.expires_in().unwrap().as_secs(), own.refresh_token().is_some()), (900, false));

            let (name, password) = (ResourceOwnerUsername::new("dana".into()), ResourceOwnerPassword::new(PASSWORD.into()));
            let signed_in = crate_client.exchange_password(&name, &password).request_async(&http).await.unwrap();
            let refresh_token = signed_in.refresh_token().expect("a refresh token").clone();
            let renewed = crate_client.exchange_refresh_token(&refresh_token).request_async(&http).await.unwrap();
            assert_ne!(renewed.refresh_token().unwrap().secret(), refresh_token.secret());

            let meaning = crate_client.introspect(renewed.access_token()).request_async(&http).await.unwrap();
            assert_eq!((meaning.active(), meaning.username()), (true, Some("dana")));
            assert_eq!(meaning.client_id().map(|id| id.as_str()), Some(client.id.as_str()));
            assert_eq!(meaning.scopes().unwrap().len(), 2);
            assert!(meaning.exp() > meaning.iat() && meaning.jti().is_some() && meaning.sub().is_some());

            let newest: StandardRevocableToken = renewed.refresh_token().unwrap().into();
            crate_client.revoke_token(newest).unwrap().request_async(&http).await.unwrap();
            for dead in [renewed.access_token(), signed_in.access_token()] {
                let meaning = crate_client.introspect(dead).request_async(&http).await.unwrap();
                assert!(!meaning.active(), "the access tokens of a grant die with its refresh token");
            }
            assert!(crate_client.introspect(own.access_token()).request_async(&http).await.unwrap().active());

            // Its errors are typed by RFC 6749 section 5.2.
            let wrong = ResourceOwnerPassword::new("wrong".into());
            match crate_client.exchange_password(&name, &wrong).request_async(&http).await {
                Err(oauth2::RequestTokenError::ServerResponse(error)) => assert_eq!(error.error().as_ref(), "invalid_grant"),
                other => panic!("{other:?}"),
            }
            assert!(crate_client.exchange_refresh_token(&RefreshToken::new("x".into())).request_async(&http).await.is_err());
            assert!(!crate_client.introspect(&AccessToken::new("x".into())).request_async(&http).await.unwrap().active());
        }
    }

    async fn the_openidconnect_crate(database) {
        let (server, client) = with_dana(Setup::new(database)).await;
        let http = plain();
        let url = JsonWebKeySetUrl::new(server.url("/oauth2/jwks")).unwrap();
        let keys = CoreJsonWebKeySet::fetch_async(&url, &http).await.expect("the crate reads our JWKS");
        assert_eq!(keys.keys().len(), 3, "{keys:?}");

        let crate_client = CoreClient::new(ClientId::new(client.id.clone()), IssuerUrl::new(server.origin()).unwrap(), keys)
            .set_client_secret(ClientSecret::new(client.secret().to_owned()))
            .set_token_uri(TokenUrl::new(server.url("/oauth2/token")).unwrap());
        let own = crate_client.exchange_client_credentials().request_async(&http).await.unwrap();
        assert!(server.is_active(&client, own.access_token().secret()).await);
        let (name, password) = (ResourceOwnerUsername::new("dana".into()), ResourceOwnerPassword::new(PASSWORD.into()));
        let signed_in = crate_client.exchange_password(&name, &password).request_async(&http).await.unwrap();
        assert!(signed_in.extra_fields().id_token().is_none());
        let refresh_token = signed_in.refresh_token().expect("a refresh token");
        let renewed = crate_client.exchange_refresh_token(refresh_token).request_async(&http).await.unwrap();
        assert!(server.is_active(&client, renewed.access_token().secret()).await);
    }

    async fn metadata_says_what_works_and_no_more(database) {
        let server = Setup::new(database).config("[scope.read]\ndescription = \"Read\"\n").start().await;
        let documents = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
        let first = server.get(documents[0]).await;
        assert_eq!(first.ok(), server.get(documents[1]).await.ok());
        assert!(first.header("content-type").starts_with("application/json") && first.header("cache-control").contains("max-age"));
        let metadata = first.ok();
        assert_eq!(metadata["issuer"], json!(server.origin()));
        assert_eq!(metadata["scopes_supported"], json!(["read"]));
        assert_eq!(
            texts(&metadata["grant_types_supported"]),
            ["client_credentials", "password", "refresh_token", "urn:ietf:params:oauth:grant-type:token-exchange"]
        );
        assert_eq!(
            texts(&metadata["token_endpoint_auth_methods_supported"]),
            ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
        );
        assert_eq!(metadata["response_types_supported"], json!([]));

        let mut urls = 0;
        for (name, value) in metadata.as_object().unwrap() {
            let Some(url) = value.as_str() else { continue };
            let path = url.strip_prefix(&server.origin()).unwrap_or_else(|| panic!("{name} is elsewhere: {url}"));
            if !path.is_empty() {
                assert!(matches!(server.get(path).await.status, 200 | 405), "{name}: {path}");
                urls += 1;
            }
        }
        assert_eq!(urls, 4, "token, introspection, revocation, jwks: {metadata}");
        for grant in texts(&metadata["grant_types_supported"]) {
            let client = server.client_add(&["--grant", grant]).await;
            let answer = server.token(&client, &[("grant_type", grant)]).await;
            assert!(matches!(answer.json["error"].as_str(), None | Some("invalid_request")), "{grant}: {}", answer.body);
        }
    }

    async fn an_issuer_with_a_path(database) {
        let issuer = "https://id.example.test/auth/cs";
        let server = Setup::new(database).config(&format!("[server]\nissuer = {issuer:?}\n")).start().await;
        for form in [
            "/.well-known/oauth-authorization-server/auth/cs",
            "/.well-known/openid-configuration/auth/cs",
            "/auth/cs/.well-known/oauth-authorization-server",
            "/auth/cs/.well-known/openid-configuration",
        ] {
            let metadata = server.get(form).await;
            assert_eq!(metadata.text("issuer"), issuer, "{form}");
            for (member, path) in [("token_endpoint", "token"), ("introspection_endpoint", "introspect"), ("revocation_endpoint", "revoke")] {
                assert_eq!(metadata.text(member), format!("{issuer}/oauth2/{path}"));
            }
        }
        let client = server.client_add(&[&GRANTS[..], &["--token-format", "jwt"]].concat()).await;
        let own = server.post("/auth/cs/oauth2/token", &client, &[("grant_type", "client_credentials")]).await;
        let meaning = server.post("/auth/cs/oauth2/introspect", &client, &[("token", &own.access_token())]).await;
        assert_eq!((&meaning.ok()["iss"], &meaning.ok()["aud"]), (&json!(issuer), &json!(issuer)));
        assert!(!server.get("/auth/cs/oauth2/jwks").await.ok()["keys"].as_array().unwrap().is_empty());
        assert_eq!(server.post("/auth/cs/oauth2/revoke", &client, &[("token", &own.access_token())]).await.status, 200);
        for elsewhere in ["/oauth2/token", "/oauth2/jwks", "/.well-known/openid-configuration", "/auth/oauth2/jwks"] {
            server.get(elsewhere).await.refused(404, "invalid_request");
        }
    }

    async fn keys_are_public_and_cacheable(database) {
        let server = Setup::new(database).start().await;
        let answer = server.get("/oauth2/jwks").await;
        let mut algorithms = Vec::new();
        for key in answer.ok()["keys"].as_array().unwrap() {
            let members = key.as_object().unwrap();
            for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
                assert!(!members.contains_key(private), "{private} in {key}");
            }
            assert!(key["kid"].is_string() && key["use"] == json!("sig"), "{key}");
            algorithms.push(key["alg"].as_str().unwrap());
        }
        algorithms.sort_unstable();
        assert_eq!(algorithms, ["ES256", "EdDSA", "RS256"]);
        let etag = answer.header("etag").to_owned();
        assert_eq!(answer.header("cache-control"), "public, max-age=3600");

        for known in [etag.clone(), format!("\"other\", {etag}"), format!("W/{etag}"), "*".to_owned()] {
            let again = get(&server, "/oauth2/jwks", &[("if-none-match", &known)]).await;
            assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", etag.as_str()), "{known}");
        }
        assert_eq!(get(&server, "/oauth2/jwks", &[("if-none-match", "\"other\"")]).await.ok(), answer.ok());
    }

    async fn the_host_header_never_matters(database) {
        let server = Setup::new(database).start().await;
        let forged = [("host", "evil.test"), ("x-forwarded-host", "evil.test"), ("forwarded", "host=evil.test;proto=https")];
        for path in ["/.well-known/openid-configuration", "/oauth2/jwks"] {
            let answer = get(&server, path, &forged).await;
            assert_eq!(answer.ok(), server.get(path).await.ok(), "{path}");
            assert!(!answer.body.contains("evil.test"));
        }
        let client = server.client_add(&[&GRANTS[..], &["--token-format", "jwt"]].concat()).await;
        let basic = client.basic();
        let headers = [&[("authorization", basic.as_str())][..], &forged].concat();
        let own = server.raw("/oauth2/token", &headers, "grant_type=client_credentials").await;
        assert_eq!(server.introspect(&client, &own.access_token()).await.ok()["iss"], json!(server.origin()));
    }

    async fn what_is_not_there_says_so_in_json(database) {
        let server = Setup::new(database).start().await;
        for path in ["/", "/oauth2", "/oauth2/", "/oauth2/authorize", "/oauth2/token/x", "/.well-known/", "/api/auth/login"] {
            server.get(path).await.refused(404, "invalid_request");
        }
        for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
            server.get(path).await.refused(405, "invalid_request");
        }
        for path in ["/oauth2/jwks", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
            server.raw(path, &[], "a=b").await.refused(405, "invalid_request");
        }
    }
}
