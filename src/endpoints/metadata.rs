//! GET /.well-known/oauth-authorization-server (RFC 8414) and /.well-known/openid-configuration: only what works.

use http::{HeaderValue, header};
use serde_json::json;

use crate::clients::assertion;
use crate::config::SigningAlgorithm;
use crate::oauth2::request::GrantType;
use crate::web::{Answer, Request, reply};

pub async fn metadata(request: Request) -> Answer {
    let issuer = request.app.issuer.trim_end_matches('/');
    let endpoint = |name: &str| format!("{issuer}/oauth2/{name}");
    let methods = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
    let or_none: Vec<&str> = methods.into_iter().chain(["none"]).collect();
    let algorithms = assertion::ALGORITHMS.map(|(name, _)| name);
    let scopes: Vec<&str> = request.app.config.scopes.keys().map(String::as_str).collect();
    let mut document = json!({
        "issuer": *request.app.issuer,
        "token_endpoint": endpoint("token"),
        "introspection_endpoint": endpoint("introspect"),
        "revocation_endpoint": endpoint("revoke"),
        "jwks_uri": endpoint("jwks"),
        "grant_types_supported": GrantType::ALL.map(GrantType::as_str),
        // Required by RFC 8414 section 2; there is no authorization endpoint yet.
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": or_none,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_signing_alg_values_supported": SigningAlgorithm::ALL.map(SigningAlgorithm::as_str),
        "revocation_endpoint_auth_methods_supported": or_none,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
    });
    if let Some(members) = document.as_object_mut().filter(|_| !scopes.is_empty()) {
        members.insert("scopes_supported".to_owned(), json!(scopes));
    }
    let mut answer = reply::json(document.to_string());
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    answer
}
