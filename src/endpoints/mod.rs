//! The OAuth endpoints: one endpoint, one file, and every route on this screen.

mod event_stream;
mod federation;
mod health;
mod introspection;
mod jwks;
mod metadata;
mod revocation;
mod revocations;
mod token;

use std::sync::Arc;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reject::Rejection;

use crate::app::App;
use crate::web::{Answer, reply, request, under};

/// Routes of the server, those of `others` (dialects) behind ours. The busy ones come first: each `.or` that is passed costs time.
pub fn routes(app: &Arc<App>, others: Option<BoxedFilter<(Answer,)>>) -> BoxedFilter<(Answer,)> {
    let base = base_path(&app.issuer);
    // Without a path of the issuer, the busy routes are spared the look at it.
    let oauth2 = warp::path::path("oauth2");
    if base.is_empty() { mount(app, oauth2, &base, others) } else { mount(app, under(&base).and(oauth2), &base, others) }
}

// One route, one line.
#[rustfmt::skip]
fn mount<F>(app: &Arc<App>, at: F, base: &[String], others: Option<BoxedFilter<(Answer,)>>) -> BoxedFilter<(Answer,)>
where
    F: Filter<Extract = (), Error = Rejection> + Clone + Send + Sync + 'static,
{
    let ask = || request(app.clone());
    let (get, post) = (warp::get, warp::post);
    let end = warp::path::end;
    let path = warp::path::path::<&'static str>;

    let oauth2 = path("token").and(end()).and(post()).and(ask()).then(token::token)
        .or(path("introspect").and(end()).and(post()).and(ask()).then(introspection::introspect)).unify()
        .or(path("revoke").and(end()).and(post()).and(ask()).then(revocation::revoke).boxed()).unify()
        .or(path("revocations").and(end()).and(get().or(post()).unify()).and(ask()).and(warp::method()).and(query()).and(warp::ext::optional())
            .then(revocations::revocations).boxed()).unify()
        .or(path("jwks").and(end()).and(get()).and(ask()).then(jwks::jwks).boxed()).unify();
    let oauth2 = at.and(oauth2);

    // RFC 8414 section 3.1 inserts the well-known name before the issuer's path; OpenID Connect Discovery appends it.
    let documents = || path("openid-configuration").or(path("oauth-authorization-server")).unify();
    let inserted = path(".well-known").and(documents()).and(under(base)).and(end()).and(get()).and(ask()).then(metadata::metadata);
    let appended = under(base).and(path(".well-known")).and(documents()).and(end()).and(get()).and(ask()).then(metadata::metadata);

    let health = path("healthz").and(end()).and(get()).map(health::alive)
        .or(path("readyz").and(end()).and(get()).and(ask()).then(health::ready)).unify();

    let federation = under(base).and(path("federation")).and(warp::path::param::<String>());
    let revoked = path("global-token-revocation").and(end()).and(post()).and(ask());
    let federation = federation.and(revoked).then(federation::global_token_revocation).boxed();

    let rest = inserted.or(appended).unify().or(health).unify().or(federation).unify().boxed();
    let rest = match others {
        Some(others) => rest.or(others).unify().boxed(),
        None => rest,
    };
    oauth2.or(rest).unify().recover(reply::rejected).unify().boxed()
}

/// The query of a request, empty without one.
fn query() -> impl Filter<Extract = (String,), Error = std::convert::Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// The path of the issuer, under which everything is served.
fn base_path(issuer: &str) -> Vec<String> {
    let url = url::Url::parse(issuer).ok();
    let segments = url.as_ref().and_then(url::Url::path_segments).into_iter().flatten();
    segments.filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}
