//! The lab's OpenID provider, which plays Okta.

use serde_json::{Value, json};

use super::{http, peer, unique};

/// One issuer of the provider, with keys of its own, so that a story may rotate and break them.
///
/// Its people are alice, bob and carol of tests/peers/oidc/provider.mjs; anybody else is a person without groups.
#[derive(Debug)]
pub struct Oidc {
    origin: String,
    name: String,
    http: reqwest::Client,
}

impl Oidc {
    /// The client whose id tokens a source accepts.
    pub const CLIENT_ID: &str = "countersign-lab";

    /// A new issuer on the provider that `tests/run.sh` started.
    pub async fn issuer() -> Oidc {
        let oidc = Oidc { origin: peer("COUNTERSIGN_TEST_OIDC"), name: unique(), http: http::client(None) };
        oidc.lab("issuer", json!({})).await;
        oidc
    }

    /// The `iss` of its tokens: a URL with a path.
    pub fn url(&self) -> String {
        format!("{}/oauth2/{}", self.origin, self.name)
    }

    /// `[[source]]` of type okta.
    pub fn section(&self, name: &str, more: &str) -> String {
        format!("[[source]]\nname = {name:?}\ntype = \"okta\"\nissuer = {:?}\nclient_id = {:?}\n{more}\n", self.url(), Oidc::CLIENT_ID)
    }

    /// An id token for `account`, as a browser would get it.
    pub async fn mint(&self, account: &str) -> String {
        self.mint_with(json!({"account": account})).await
    }

    /// An id token with whatever is wrong: `account`, `client` (whose it is), `claims` (added or replaced), `expires_at`
    /// (seconds), `use` (`logout` makes a logout token).
    pub async fn mint_with(&self, request: Value) -> String {
        let answer = self.lab("mint", request).await;
        answer["id_token"].as_str().expect("the provider mints an id token").to_owned()
    }

    /// An emergency: new keys, and the old ones are gone at once.
    pub async fn rotate(&self) {
        self.lab("rotate", json!({})).await;
    }

    /// From now on the key set answers with this status; 0 hangs up, 200 is health.
    pub async fn break_keys(&self, status: u16) {
        self.lab("jwks", json!({"status": status})).await;
    }

    /// The same for the keys of the organisation.
    pub async fn break_org_keys(&self, status: u16) {
        self.lab("jwks", json!({"org": true, "status": status})).await;
    }

    /// How often the key set was fetched.
    pub async fn key_fetches(&self) -> u64 {
        self.lab("fetches", json!({})).await["jwks"].as_u64().expect("a count")
    }

    /// The issuer of the organisation, which has keys of its own and signs Global Token Revocations. Its management API is below it.
    pub fn org_url(&self) -> String {
        format!("{}/org/{}", self.origin, self.name)
    }

    /// An id token of the organisation's own authorization server.
    pub async fn mint_of_org(&self, account: &str) -> String {
        self.mint_with(json!({"account": account, "org": true})).await
    }

    /// An access token for `account`, as a browser gets it beside the id token. Userinfo answers the account's claims with `claims`
    /// over them.
    pub async fn access_token(&self, account: &str, claims: Value) -> String {
        let answer = self.lab("access", json!({"account": account, "claims": claims})).await;
        answer["access_token"].as_str().expect("the provider makes an access token").to_owned()
    }

    /// A JWT that the organisation signs: `header` and `claims` over those that every token has.
    pub async fn sign_as_org(&self, header: Value, claims: Value) -> String {
        let answer = self.lab("sign", json!({"org": true, "header": header, "claims": claims})).await;
        answer["token"].as_str().expect("the provider signs a token").to_owned()
    }

    /// The same, signed by the issuer of [`Oidc::url`].
    pub async fn sign(&self, header: Value, claims: Value) -> String {
        let answer = self.lab("sign", json!({"header": header, "claims": claims})).await;
        answer["token"].as_str().expect("the provider signs a token").to_owned()
    }

    /// How userinfo answers from now on: `status` (0 hangs up, -1 is silent), `headers`, `body` (a lie); `{}` is health.
    pub async fn userinfo(&self, answer: Value) {
        self.lab("userinfo", answer).await;
    }

    /// Changes the stand-in for the management API, see tests/peers/oidc/management.mjs.
    pub async fn okta(&self, settings: Value) {
        self.lab("okta", settings).await;
    }

    /// How often `what` was fetched: metadata, jwks, userinfo, or api.
    pub async fn fetches(&self, what: &str) -> u64 {
        self.lab("fetches", json!({})).await[what].as_u64().expect("a count")
    }

    async fn lab(&self, action: &str, mut request: Value) -> Value {
        request["issuer"] = json!(self.name);
        let response = self.http.post(format!("{}/lab/{action}", self.origin)).body(request.to_string()).send().await;
        let response = response.unwrap_or_else(|e| panic!("the OpenID provider does not answer: {e}"));
        let (status, text) = (response.status(), response.text().await.expect("the answer is read"));
        assert!(status.is_success(), "POST /lab/{action}: {status} {text}");
        serde_json::from_str(&text).expect("the provider answers JSON")
    }
}
