//! The HTTP clients. [`Client`] fetches small documents from addresses that the operator wrote down; [`Guarded`] from URLs that
//! somebody else supplied, which may lead to no machine of ours.
//!
//! No redirects, no proxies from the environment, bodies under a limit, short deadlines. [`Address`] and [`ForeignUrl`] keep the
//! rules about URLs, so that no request can be made without them. Of the operator's: https anywhere, plain http on loopback only.

mod guarded;
mod public;

pub use guarded::{ForeignUrl, Guarded};

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use url::{Host, Url};

use crate::oauth2::Secret;

/// Largest answer that is read, in bytes. A key set of a large provider has some 10 KB.
const BODY_LIMIT: usize = 512 * 1024;
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// For the whole request, the body included.
const TOTAL_DEADLINE: Duration = Duration::from_secs(6);

/// A URL that the operator configured, or that a configured provider named in its metadata. Its Display shows neither query
/// nor credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Reads `text`. The error says what is wrong with it, as the end of a sentence about the key that holds it.
    pub fn parse(text: &str) -> Result<Address, String> {
        if text.trim() != text {
            return Err("begins or ends with a space; remove it".to_owned());
        }
        let url = Url::parse(text).map_err(|reason| format!("is not a URL ({reason}); write one such as https://login.example.com"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds credentials; remove what stands before the @".to_owned());
        }
        if url.fragment().is_some() {
            return Err("has a fragment; remove what follows the #".to_owned());
        }
        match (url.scheme(), url.host()) {
            ("https", Some(_)) => Ok(Address(url)),
            ("http", Some(host)) if is_loopback(&host) => Ok(Address(url)),
            ("http", Some(_)) => Err("is plain http to another machine; use https (http is for loopback only)".to_owned()),
            (scheme, _) => Err(format!("has the scheme {scheme}; use https")),
        }
    }

    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Scheme, host and port, as in `https://login.example.com`.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// The host without brackets, and the port.
    pub fn place(&self) -> (String, u16) {
        let host = self.0.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        (host.to_owned(), self.0.port_or_known_default().unwrap_or(443))
    }

    pub fn has_query(&self) -> bool {
        self.0.query().is_some()
    }

    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// The address of `segments` below this one, encoded as they need, with `query` as it is.
    pub fn below(&self, segments: &[&str], query: Option<&str>) -> Address {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url.set_query(query);
        Address(url)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.0.path())
    }
}

/// `localhost` counts: RFC 6761 section 6.3 has it resolve to loopback only.
fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => IpAddr::V4(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(*address).is_loopback(),
    }
}

/// An answer of any status.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub status: u16,
    pub body: Bytes,
    /// How long the answer may be reused by its Cache-Control: zero for `no-store` and `no-cache`, None where it does not say.
    pub max_age: Option<Duration>,
    /// `Retry-After` in seconds; one that names a date is taken as absent.
    pub retry_after: Option<Duration>,
    pub headers: HeaderMap,
    /// `Date`, in seconds: the server's clock (RFC 9110 section 6.6.1).
    pub date: Option<i64>,
}

/// No answer came, or one that is too large.
#[derive(Debug, thiserror::Error)]
#[error("GET {address}: {reason}")]
pub struct OutboundError {
    pub address: String,
    pub reason: String,
}

/// Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
}

impl Client {
    /// `ca_file`: PEM certificates of the authorities to trust, instead of the system's. The error says what is wrong with the
    /// file. Installs aws-lc-rs for rustls if the process has no provider yet.
    pub fn new(ca_file: Option<&Path>) -> Result<Client, String> {
        let mut builder = builder(CONNECT_DEADLINE, TOTAL_DEADLINE);
        if let Some(path) = ca_file {
            builder = builder.tls_built_in_root_certs(false);
            for authority in authorities(path)? {
                builder = builder.add_root_certificate(authority);
            }
        }
        let http = builder.build().map_err(|error| format!("cannot set up TLS: {}", causes(&error)))?;
        Ok(Client { http })
    }

    /// GET, asking for JSON. A status other than 200 is an answer like any other, a redirect too.
    pub async fn get(&self, address: &Address) -> Result<Fetched, OutboundError> {
        fetch(self.http.get(address.0.clone()), address.to_string(), BODY_LIMIT).await
    }

    /// The same with `authorization` as the value of that header, which no log shows.
    pub async fn get_as(&self, address: &Address, authorization: &Secret) -> Result<Fetched, OutboundError> {
        let mut value = HeaderValue::from_str(authorization.expose()).map_err(|_| OutboundError {
            address: address.to_string(),
            reason: "the token has characters that no header may have".to_owned(),
        })?;
        value.set_sensitive(true);
        fetch(self.http.get(address.0.clone()).header(AUTHORIZATION, value), address.to_string(), BODY_LIMIT).await
    }
}

/// What both clients have in common.
fn builder(connect: Duration, total: Duration) -> reqwest::ClientBuilder {
    // Fails where main was first, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(connect)
        .timeout(total)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(Duration::from_secs(30))
}

/// Sends `request` and reads at most `limit` bytes of the answer. `address` is for the error.
async fn fetch(request: reqwest::RequestBuilder, address: String, limit: usize) -> Result<Fetched, OutboundError> {
    let failed = |reason: String| OutboundError { address: address.clone(), reason };
    let sent = request.header(ACCEPT, "application/json").send().await;
    let mut response = sent.map_err(|error| failed(causes(&error.without_url())))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let (max_age, retry_after, date) = (max_age(&headers), retry_after(&headers), date(&headers));
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| failed(causes(&error.without_url())))? {
        if body.len() + piece.len() > limit {
            return Err(failed(format!("the answer is larger than {limit} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Fetched { status, body: body.into(), max_age, retry_after, date, headers })
}

fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let shown = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{shown} holds no certificate; it should have BEGIN CERTIFICATE lines")),
        Err(error) => Err(format!("{shown} is not a PEM file of certificates: {}", causes(&error))),
    }
}

/// The error and what caused it: the outer one alone says only that sending failed.
fn causes(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let shown = inner.to_string();
        if !text.contains(&shown) {
            text = format!("{text}: {shown}");
        }
        cause = inner.source();
    }
    text
}

/// RFC 9111 section 5.2.2.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut found = None;
    let values = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    for directive in values.flat_map(|value| value.split(',')).map(|part| part.trim().to_ascii_lowercase()) {
        if directive == "no-store" || directive == "no-cache" {
            return Some(Duration::ZERO);
        }
        if let Some(seconds) = directive.strip_prefix("max-age=").and_then(|text| text.trim_matches('"').parse().ok()) {
            found = Some(Duration::from_secs(seconds));
        }
    }
    found
}

/// RFC 9110 section 10.2.3.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn date(headers: &HeaderMap) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Answers every request with `answer`; yields the address.
    pub(super) async fn server(answer: Vec<u8>) -> Address {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/path?secret=1", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        Address::parse(&address).unwrap()
    }

    #[test]
    fn addresses_are_https_or_loopback() {
        for good in ["https://login.example.com/oauth2/default", "http://127.0.0.1:80/", "http://[::1]:9/x", "http://localhost/"] {
            Address::parse(good).unwrap();
        }
        let refused = [
            ("http://login.example.com", "plain http"),
            ("http://127.0.0.1.example.com", "plain http"),
            ("http://0.0.0.0", "plain http"),
            ("https://login.example.com ", "space"),
            ("https://me:secret@login.example.com", "credentials"),
            ("https://login.example.com/#x", "fragment"),
            ("ftp://login.example.com", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("login.example.com", "not a URL"),
            ("", "not a URL"),
        ];
        for (bad, why) in refused {
            let reason = Address::parse(bad).unwrap_err();
            assert!(reason.contains(why), "{bad}: {reason}");
        }
    }

    #[tokio::test]
    async fn an_answer_comes_with_its_caching_rules() {
        let answer = b"HTTP/1.1 429 Slow\r\ncache-control: public, Max-Age=90\r\nretry-after: 7\r\n\
                       date: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 2\r\n\r\n{}";
        let fetched = Client::new(None).unwrap().get(&server(answer.to_vec()).await).await.unwrap();
        assert_eq!((fetched.status, &fetched.body[..]), (429, &b"{}"[..]));
        assert_eq!((fetched.max_age, fetched.retry_after), (Some(Duration::from_secs(90)), Some(Duration::from_secs(7))));
        assert_eq!(fetched.date, Some(784_111_777));
    }

    #[tokio::test]
    async fn redirects_are_answers() {
        let answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let fetched = Client::new(None).unwrap().get(&server(answer.to_vec()).await).await.unwrap();
        assert_eq!(fetched.status, 302);
    }

    #[tokio::test]
    async fn a_large_body_is_an_error_that_names_the_address_without_its_query() {
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", BODY_LIMIT + 1).into_bytes();
        answer.resize(answer.len() + BODY_LIMIT + 1, b' ');
        let error = Client::new(None).unwrap().get(&server(answer).await).await.unwrap_err().to_string();
        assert!(error.contains("larger than") && error.contains("/path") && !error.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn a_closed_port_is_an_error_with_its_cause() {
        let error = Client::new(None).unwrap().get(&Address::parse("http://127.0.0.1:1/?secret=1").unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("refused") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"no certificate").unwrap();
        assert!(Client::new(Some(file.path())).unwrap_err().contains("holds no certificate"));
        assert!(Client::new(Some(Path::new("/nonexistent/ca.pem"))).unwrap_err().contains("cannot read /nonexistent/ca.pem"));
    }
}
