//! The shape of croit's management API: login by HTTP Basic or form, token-info, Okta sign-in, logout.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use warp::Filter;
use warp::filters::BoxedFilter;

use crate::app::App;
use crate::clients::authenticate::basic;
use crate::clients::{Client, Credentials};
use crate::config;
use crate::grants::{self, Caller, Issued, inspect, revoke};
use crate::identity::Source;
use crate::identity::oidc::{Oidc, UnverifiedIdToken};
use crate::oauth2::request::{Grant, GrantType};
use crate::oauth2::{ErrorCode, Form, OAuth2Error, Secret, SourceName, TokenRequest, form};
use crate::web::{Answer, Request, reply, request, under};

/// What this dialect works with.
#[derive(Clone, Debug)]
struct Dialect {
    client: String,
    source: Option<SourceName>,
    publish_roles: bool,
}

/// The routes under the mount.
pub fn routes(app: &Arc<App>, settings: &config::Croit) -> BoxedFilter<(Answer,)> {
    // The configuration has seen to it that there is at most one where none is named.
    let only = || app.sources.iter().find(|named| matches!(named.source, Source::Oidc(_))).map(|named| named.name.clone());
    let source = settings.source.as_deref().map(SourceName::from).or_else(only);
    let client = settings.client.clone().unwrap_or_else(|| "croit".to_owned());
    let dialect = Arc::new(Dialect { client, source, publish_roles: settings.publish_roles });

    let mount: Vec<String> = settings.mount.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
    let ask = || {
        let dialect = dialect.clone();
        request(app.clone()).and(warp::any().map(move || dialect.clone()))
    };
    let (get, post, path) = (warp::get, warp::post, warp::path::path::<&'static str>);
    let end = warp::path::end;
    let auth = path("login")
        .and(end())
        .and(post())
        .and(ask())
        .then(login)
        .or(path("login-form").and(end()).and(post()).and(ask()).then(login_form))
        .unify()
        .or(path("token-info").and(end()).and(get()).and(ask()).then(token_info))
        .unify()
        .or(path("logout").and(end()).and(post()).and(ask()).then(logout))
        .unify();
    let okta = path("okta").and(
        path("signInConfig")
            .and(end())
            .and(get())
            .and(ask())
            .then(sign_in_config)
            .or(path("login").and(end()).and(post()).and(ask()).then(okta_login))
            .unify(),
    );
    under(&mount).and(path("auth")).and(auth.or(okta).unify()).boxed()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Login<'a> {
    #[serde(rename = "access_token")]
    access_token: &'a str,
    #[serde(rename = "token_type")]
    token_type: &'static str,
    #[serde(rename = "expires_in")]
    expires_in: i64,
    roles: &'a [String],
    /// An integer below 2^53, stable.
    user_id: i64,
    password_was_never_changed: bool,
}

fn login_answer(issued: &Issued, client: &Client) -> Result<Answer, OAuth2Error> {
    let person = issued.person.as_ref();
    reply::to_json(&Login {
        access_token: issued.response.access_token.expose(),
        token_type: "bearer",
        expires_in: issued.response.expires_in,
        roles: &issued.roles,
        user_id: person.map_or(client.number, |p| p.account_number),
        password_was_never_changed: person.is_some_and(|p| p.password_never_changed),
    })
}

/// POST /auth/login: HTTP Basic of a client or a person. A known client_id is only ever a client; a person's credentials are raw
/// UTF-8 and tried once.
async fn login(request: Request, dialect: Arc<Dialect>) -> Answer {
    let answer = async {
        let form = if request.body.is_empty() { Form::parse(b"")? } else { request.form()? };
        if form.get("grant_type").is_some_and(|name| name != GrantType::ClientCredentials.as_str()) {
            return Err(OAuth2Error::new(ErrorCode::UnsupportedGrantType, "grant_type must be client_credentials here"));
        }
        let header = request.authorization()?.ok_or_else(OAuth2Error::invalid_client)?;
        let (user, password) = basic(header).ok_or_else(OAuth2Error::invalid_client)?;
        if is_client(&request.app, &user).await? {
            let credentials = Credentials::read(Some(header), &form)?;
            let client = request.app.authenticate(&credentials).await.inspect_err(|error| request.client_refused(&credentials, error))?;
            let asked = TokenRequest { grant: Grant::ClientCredentials, scope: None, targets: Vec::new() };
            let caller = Caller { authenticated: true, ..request.caller_for(client.clone()) };
            let issued = grants::grant(&request.app, &caller, asked).await?;
            return login_answer(&issued, &client);
        }
        if user.expose().is_empty() || password.expose().is_empty() {
            return Err(OAuth2Error::invalid_client());
        }
        let grant = Grant::Password { username: user.expose().to_owned(), password, source: None };
        // Here the credentials stand in the header, so their refusal is the 401 of HTTP Basic.
        sign_in(&request, &dialect, grant).await.map_err(|error| match error.code {
            ErrorCode::InvalidGrant => OAuth2Error::invalid_client(),
            _ => error,
        })
    };
    let answer = answer.await;
    let challenge = matches!(&answer, Err(error) if error.code == ErrorCode::InvalidClient);
    let mut answer = reply::finish(&request, answer);
    if challenge {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"countersign\", charset=\"UTF-8\""));
    }
    answer
}

/// Whether the user name of HTTP Basic is a client_id, as it stands there or form-decoded as RFC 6749 section 2.3.1 asks: a
/// client's secret must never be tried as somebody's password. One that was just added elsewhere counts, so the node catches up first.
async fn is_client(app: &App, user: &Secret) -> Result<bool, OAuth2Error> {
    let raw = user.expose();
    let decoded = form::decode(raw.as_bytes()).ok();
    let known = || app.clients.find(raw).is_some() || decoded.as_deref().is_some_and(|id| app.clients.find(id).is_some());
    if known() {
        return Ok(true);
    }
    app.catch_up().await?;
    Ok(known())
}

/// POST /auth/login-form: the password grant without client authentication.
async fn login_form(request: Request, dialect: Arc<Dialect>) -> Answer {
    let answer = async {
        let form = request.form()?;
        if form.get("grant_type").is_some_and(|name| name != GrantType::Password.as_str()) {
            return Err(OAuth2Error::new(ErrorCode::UnsupportedGrantType, "grant_type must be password here"));
        }
        let (username, password) = (form.require("username")?.to_owned(), Secret::new(form.require("password")?));
        sign_in(&request, &dialect, Grant::Password { username, password, source: None }).await
    };
    let answer = answer.await;
    reply::finish(&request, answer)
}

/// GET /auth/token-info
async fn token_info(request: Request, _: Arc<Dialect>) -> Answer {
    match bearer_claims(&request).await {
        Ok(Some((_, claims))) => match inspect::complete(&request.app, claims).await {
            Ok(Some(claims)) => {
                let username = claims.username.unwrap_or(claims.sub);
                reply::json(json!({ "username": username, "roles": claims.roles.unwrap_or_default(), "expiry": claims.exp }).to_string())
            }
            Ok(None) => reply::bearer_error(&request, Some(&bad_token())),
            Err(error) => reply::bearer_error(&request, Some(&error)),
        },
        Ok(None) => reply::bearer_error(&request, None),
        Err(error) => reply::bearer_error(&request, Some(&error)),
    }
}

/// POST /auth/logout: the token that is presented dies.
async fn logout(request: Request, _: Arc<Dialect>) -> Answer {
    let answer = async {
        let Some((token, claims)) = bearer_claims(&request).await? else { return Ok(None) };
        let client = request.app.clients.find(claims.client_id.as_str()).ok_or_else(bad_token)?;
        revoke::revoke(&request.app, &request.caller_for(client), token.expose()).await?;
        Ok(Some(reply::empty(StatusCode::NO_CONTENT)))
    };
    match answer.await {
        Ok(Some(answer)) => answer,
        Ok(None) => reply::bearer_error(&request, None),
        Err(error) => reply::bearer_error(&request, Some(&error)),
    }
}

async fn bearer_claims(request: &Request) -> Result<Option<(Secret, crate::tokens::AccessClaims)>, OAuth2Error> {
    let Some(token) = request.bearer()? else { return Ok(None) };
    let claims = inspect::live(&request.app, token.expose()).await?.ok_or_else(bad_token)?;
    Ok(Some((token, claims)))
}

fn bad_token() -> OAuth2Error {
    OAuth2Error::new(ErrorCode::InvalidToken, "the token is not valid")
}

/// GET /auth/okta/signInConfig: public and cacheable, without secrets.
async fn sign_in_config(request: Request, dialect: Arc<Dialect>) -> Answer {
    let Some((name, oidc)) = provider(&request.app, &dialect) else { return no_provider() };
    let roles = if dialect.publish_roles { request.app.rules.literal_roles(name.as_str()) } else { Default::default() };
    let config = oidc.sign_in_config();
    let body = json!({
        "baseUrl": config.base_url, "clientId": config.client_id, "issuer": config.issuer, "audience": config.audience, "mapRoles": roles,
    });
    let mut answer = reply::json(body.to_string());
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    answer
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OktaLogin {
    id_token: Secret,
}

/// POST /auth/okta/login: an id token of Okta for a token of ours. It is used once.
async fn okta_login(request: Request, dialect: Arc<Dialect>) -> Answer {
    let Some((_, oidc)) = provider(&request.app, &dialect) else { return no_provider() };
    let answer = async {
        if !request.has_type("application/json") {
            return Err(OAuth2Error::invalid_request("the body must be application/json"));
        }
        let login: OktaLogin = serde_json::from_slice(&request.body)
            .map_err(|_| OAuth2Error::invalid_request("the body must be a JSON object with the string idToken"))?;
        let refused = || OAuth2Error::new(ErrorCode::InvalidToken, "the id token is not valid");
        if UnverifiedIdToken::parse(login.id_token.expose()).is_ok_and(|token| token.issuer() != oidc.issuer()) {
            return Err(refused());
        }
        let grant = Grant::TokenExchange { subject_token: login.id_token, subject_access_token: None };
        sign_in(&request, &dialect, grant).await.map_err(|error| match error.code {
            ErrorCode::InvalidRequest | ErrorCode::InvalidGrant => refused(),
            _ => error,
        })
    };
    match answer.await {
        Err(error) if error.code == ErrorCode::InvalidToken => reply::bearer_error(&request, Some(&error)),
        answer => reply::finish(&request, answer),
    }
}

fn provider<'a>(app: &'a App, dialect: &Dialect) -> Option<(&'a SourceName, &'a Oidc)> {
    let named = app.sources.find(dialect.source.as_ref()?.as_str())?;
    match &named.source {
        Source::Oidc(oidc) => Some((&named.name, oidc)),
        Source::Local(_) | Source::Ldap(_) => None,
    }
}

fn no_provider() -> Answer {
    let mut answer = reply::error(&OAuth2Error::invalid_request("no Okta source is configured"));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

/// Signs a person in through the client of this dialect.
async fn sign_in(request: &Request, dialect: &Dialect, grant: Grant) -> Result<Answer, OAuth2Error> {
    let client = request.app.clients.find(&dialect.client).filter(|client| !client.disabled);
    let client = client.ok_or_else(|| OAuth2Error::new(ErrorCode::UnauthorizedClient, "the client of this API is gone or disabled"))?;
    let asked = TokenRequest { grant, scope: None, targets: Vec::new() };
    let issued = grants::grant(&request.app, &request.caller_for(client.clone()), asked).await?;
    login_answer(&issued, &client)
}
