//! GET /oauth2/jwks, RFC 7517 section 5. A signing key is here for longer than the answer may be cached before it signs.

use http::{HeaderValue, StatusCode, header};

use crate::tokens::JWKS_MAX_AGE;
use crate::web::{Answer, Request, reply};

pub async fn jwks(request: Request) -> Answer {
    let published = request.app.keys.ring().jwks().clone();
    let unchanged = reply::is_current(&request.headers, &published.etag);
    let mut answer = if unchanged { reply::empty(StatusCode::NOT_MODIFIED) } else { reply::json(published.body) };
    let headers = answer.headers_mut();
    if let (Ok(etag), Ok(age)) = (HeaderValue::from_str(&published.etag), HeaderValue::from_str(&format!("public, max-age={JWKS_MAX_AGE}")))
    {
        headers.insert(header::ETAG, etag);
        headers.insert(header::CACHE_CONTROL, age);
    }
    answer
}
