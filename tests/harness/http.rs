//! Raw HTTP against a server: exactly the bytes a story wants to send.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use serde_json::Value;

use super::Server;

/// How a request says which client it comes from.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    /// None for a public client, or nobody.
    pub secret: Option<String>,
    pub secret_id: Option<String>,
}

impl Client {
    pub fn new(id: &str, secret: &str) -> Client {
        Client { id: id.to_owned(), secret: Some(secret.to_owned()), secret_id: None }
    }

    /// What `client add --json` and `client secret add --json` print.
    pub fn from_json(value: &Value) -> Client {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Client { id: text("client_id").expect("client_id"), secret: text("client_secret"), secret_id: text("secret_id") }
    }

    /// The secret of a confidential client.
    pub fn secret(&self) -> &str {
        self.secret.as_deref().expect("the client has a secret")
    }

    /// The value of the Authorization header: id and secret form-encoded first, as RFC 6749 section 2.3.1 asks.
    pub fn basic(&self) -> String {
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        format!("Basic {}", STANDARD.encode(format!("{}:{}", encode(&self.id), encode(self.secret()))))
    }
}

/// One answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    /// Null where the body is no JSON.
    pub json: Value,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Answer {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.expect("the answer is read");
        let json = serde_json::from_str(&body).unwrap_or(Value::Null);
        Answer { status, headers, body, json }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The JSON of an answer that must be 200.
    #[track_caller]
    pub fn ok(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.body);
        &self.json
    }

    /// A text member of an answer that must be 200.
    #[track_caller]
    pub fn text(&self, member: &str) -> String {
        self.ok()[member].as_str().unwrap_or_else(|| panic!("no {member} in {}", self.body)).to_owned()
    }

    #[track_caller]
    pub fn access_token(&self) -> String {
        self.text("access_token")
    }

    /// The roles of an introspection that must be 200 and active, sorted.
    #[track_caller]
    pub fn roles(&self) -> Vec<String> {
        assert_eq!(self.ok()["active"], Value::Bool(true), "{}", self.body);
        let roles = self.json["roles"].as_array().unwrap_or_else(|| panic!("no roles in {}", self.body));
        let mut roles: Vec<String> = roles.iter().map(|role| role.as_str().expect("a role is a text").to_owned()).collect();
        roles.sort_unstable();
        roles
    }

    /// An answer that says: could not ask, nothing was decided, come back later.
    #[track_caller]
    pub fn unavailable(&self) {
        let wait: u64 = self.refused(503, "temporarily_unavailable").header("retry-after").parse().expect("Retry-After in seconds");
        assert!(wait >= 1, "{:?}", self.headers);
    }

    /// An error answer of RFC 6749 section 5.2: status and code, JSON, a description of allowed characters, never cached.
    #[track_caller]
    pub fn refused(&self, status: u16, error: &str) -> &Answer {
        assert_eq!((self.status, self.json["error"].as_str()), (status, Some(error)), "{}", self.body);
        let description = self.json["error_description"].as_str().unwrap_or_default();
        assert!(!description.is_empty(), "no error_description in {}", self.body);
        let allowed = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
        assert!(description.chars().all(allowed), "characters that RFC 6749 section 5.2 forbids: {description:?}");
        assert!(self.header("content-type").starts_with("application/json"), "{:?}", self.headers);
        assert_eq!(self.header("cache-control"), "no-store", "{:?}", self.headers);
        self
    }
}

/// A client that follows no redirect; trusts the certificates of `authority` too.
pub fn client(authority: Option<&Path>) -> reqwest::Client {
    // Fails where another test of this process was first, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(Duration::from_secs(30));
    if let Some(authority) = authority {
        let pem = std::fs::read(authority).expect("the authority's certificate can be read");
        builder = builder.add_root_certificate(reqwest::Certificate::from_pem(&pem).expect("it is a PEM certificate"));
    }
    builder.build().expect("an HTTP client can be made")
}

/// `application/x-www-form-urlencoded`
pub fn form(parameters: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

impl Server {
    /// POST /oauth2/token with Basic, or with `client_id` alone for a public client.
    pub async fn token(&self, client: &Client, parameters: &[(&str, &str)]) -> Answer {
        self.post("/oauth2/token", client, parameters).await
    }

    /// A client_credentials token with all scopes of the client.
    pub async fn own_token(&self, client: &Client) -> String {
        self.token(client, &[("grant_type", "client_credentials")]).await.access_token()
    }

    /// The password grant.
    pub async fn sign_in(&self, client: &Client, username: &str, password: &str) -> Answer {
        self.token(client, &[("grant_type", "password"), ("username", username), ("password", password)]).await
    }

    pub async fn refresh(&self, client: &Client, refresh_token: &str) -> Answer {
        self.token(client, &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }

    /// RFC 8693 with an id token as subject token.
    pub async fn exchange(&self, client: &Client, id_token: &str, more: &[(&str, &str)]) -> Answer {
        let mut parameters = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", id_token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ];
        parameters.extend_from_slice(more);
        self.token(client, &parameters).await
    }

    pub async fn introspect(&self, client: &Client, token: &str) -> Answer {
        self.post("/oauth2/introspect", client, &[("token", token)]).await
    }

    /// Signs a person in, who must be let in, and asks what the token means.
    pub async fn introspect_person(&self, client: &Client, username: &str, password: &str) -> Answer {
        let token = self.sign_in(client, username, password).await.access_token();
        self.introspect(client, &token).await
    }

    /// Whether the token is active, to this client.
    pub async fn is_active(&self, client: &Client, token: &str) -> bool {
        let answer = self.introspect(client, token).await;
        answer.ok()["active"].as_bool().unwrap_or_else(|| panic!("no active in {}", answer.body))
    }

    pub async fn revoke(&self, client: &Client, token: &str) -> Answer {
        self.post("/oauth2/revoke", client, &[("token", token)]).await
    }

    pub async fn post(&self, path: &str, client: &Client, parameters: &[(&str, &str)]) -> Answer {
        if client.secret.is_some() {
            return self.raw(path, &[("authorization", &client.basic())], form(parameters)).await;
        }
        let mut parameters = parameters.to_vec();
        parameters.push(("client_id", &client.id));
        self.raw(path, &[], form(&parameters)).await
    }

    /// POST of these very bytes; a form unless `headers` names another content type.
    pub async fn raw(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
        let mut request = self.http.post(self.url(path)).body(body);
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await.expect("the server answers")).await
    }

    /// POST of a form by a client, None if no whole answer came: what the server did is then unknown.
    pub async fn attempt(&self, path: &str, client: &Client, parameters: &[(&str, &str)]) -> Option<Answer> {
        let request = self.http.post(self.url(path)).header(AUTHORIZATION, client.basic());
        let response = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form(parameters)).send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.ok()?;
        let json = serde_json::from_str(&body).unwrap_or(Value::Null);
        Some(Answer { status, headers, body, json })
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.http.get(self.url(path)).send().await.expect("the server answers")).await
    }

    /// GET with a bearer token.
    pub async fn get_as(&self, path: &str, token: &str) -> Answer {
        let request = self.http.get(self.url(path)).header(AUTHORIZATION, format!("Bearer {token}"));
        Answer::of(request.send().await.expect("the server answers")).await
    }
}
