//! The client for URLs that somebody else supplied: a client's `jwks_uri` and its like. Whoever can register such a URL must not be
//! able to make this server ask its own network for them.
//!
//! https only, no redirects and no proxies, small answers, short deadlines. Every address that the name resolves to must be public,
//! and the connection goes to the very addresses that were checked: the check stands within the resolver, so that a name that
//! answers otherwise the second time gains nothing. An address in the URL itself is never resolved, and so is checked before.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::{Fetched, OutboundError, builder, fetch, is_loopback, public::is_public};

/// Largest answer that is read, in bytes.
const BODY_LIMIT: usize = 64 * 1024;
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// For the whole request, the body included.
const TOTAL_DEADLINE: Duration = Duration::from_secs(4);
/// Names resolved at a time. A resolver that hangs holds its thread for longer than we wait.
const LOOKUPS: usize = 8;

/// A URL that somebody else supplied. Only [`Guarded::check`] makes one. Its Display shows neither query nor credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignUrl(Url);

impl fmt::Display for ForeignUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.origin().ascii_serialization(), self.0.path())
    }
}

/// Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Guarded {
    http: reqwest::Client,
    allow: Arc<[String]>,
}

impl Guarded {
    /// `allow`: hosts, by name or address, that need not be public (`[outbound] allow`). The error says why TLS cannot be set up.
    pub fn new(allow: &[String]) -> Result<Guarded, String> {
        let allow: Arc<[String]> = allow.iter().map(|host| host.to_ascii_lowercase()).collect();
        let resolver = Resolver { allow: allow.clone(), lookups: Arc::new(Semaphore::new(LOOKUPS)) };
        let http = builder(CONNECT_DEADLINE, TOTAL_DEADLINE).dns_resolver(Arc::new(resolver)).build();
        Ok(Guarded { http: http.map_err(|error| format!("cannot set up TLS: {}", super::causes(&error)))?, allow })
    }

    /// Reads a URL. The error says what is wrong with it, as the end of a sentence about the key that holds it. What its name
    /// resolves to is checked at each request.
    pub fn check(&self, text: &str) -> Result<ForeignUrl, String> {
        if text.trim() != text {
            return Err("begins or ends with a space; remove it".to_owned());
        }
        let url = Url::parse(text).map_err(|reason| format!("is not a URL ({reason}); write one such as https://app.example.com/jwks"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds credentials; remove what stands before the @".to_owned());
        }
        if url.fragment().is_some() {
            return Err("has a fragment; remove what follows the #".to_owned());
        }
        let Some(host) = url.host() else { return Err("has no host; write one such as https://app.example.com/jwks".to_owned()) };
        let allowed = self.allow.iter().any(|allowed| *allowed == host.to_string());
        match url.scheme() {
            "https" => {}
            "http" if allowed && is_loopback(&host) => {}
            "http" => return Err("is plain http; use https (http is for loopback hosts that [outbound] allow names)".to_owned()),
            scheme => return Err(format!("has the scheme {scheme}; use https")),
        }
        let literal = match host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
        };
        match literal {
            Some(address) if !allowed && !is_public(address) => Err(NotPublic(host.to_string(), address).to_string()),
            _ => Ok(ForeignUrl(url)),
        }
    }

    /// GET, asking for JSON. A status other than 200 is an answer like any other, a redirect too.
    pub async fn get(&self, url: &ForeignUrl) -> Result<Fetched, OutboundError> {
        fetch(self.http.get(url.0.clone()), url.to_string(), BODY_LIMIT).await
    }
}

/// Yields what a name resolves to if all of it is public. One private address among public ones is refused too: a client of HTTP
/// tries them in turn.
#[derive(Debug)]
struct Resolver {
    allow: Arc<[String]>,
    lookups: Arc<Semaphore>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allow.iter().any(|allowed| allowed == name.as_str());
        let lookups = self.lookups.clone();
        Box::pin(async move {
            let permit = lookups.acquire_owned().await?;
            let host = name.as_str().to_owned();
            let found = tokio::task::spawn_blocking(move || {
                let found = (host.as_str(), 0).to_socket_addrs().map(Vec::from_iter);
                drop(permit);
                found
            });
            Ok(checked(name.as_str(), allowed, found.await??)?)
        })
    }
}

fn checked(name: &str, allowed: bool, found: Vec<SocketAddr>) -> Result<Addrs, NotPublic> {
    match found.iter().find(|address| !allowed && !is_public(address.ip())) {
        Some(address) => Err(NotPublic(name.to_owned(), address.ip())),
        None => Ok(Box::new(found.into_iter())),
    }
}

/// A host that leads to an address which is not public.
#[derive(Debug)]
struct NotPublic(String, IpAddr);

impl Error for NotPublic {}

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, address) = (&self.0, &self.1);
        write!(
            f,
            "leads to {address}, which is no public address; if this is an internal host that you trust, write {host} into [outbound] allow"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::server;
    use super::*;

    fn guarded(allow: &[&str]) -> Guarded {
        Guarded::new(&allow.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn urls_are_https_to_public_hosts() {
        let guarded = guarded(&[]);
        for good in ["https://app.example.com/jwks?x=1", "https://8.8.8.8/", "https://[2606:4700::1111]:8443/jwks"] {
            guarded.check(good).unwrap();
        }
        let refused = [
            ("http://app.example.com/jwks", "plain http"),
            ("http://localhost/jwks", "plain http"),
            ("https://127.0.0.1/jwks", "no public address"),
            ("https://0x7f.1/jwks", "no public address"),
            ("https://2130706433/jwks", "no public address"),
            ("https://[::1]/", "no public address"),
            ("https://[::ffff:8.8.8.8]/", "no public address"),
            ("https://[64:ff9b::a9fe:a9fe]/", "no public address"),
            ("https://169.254.169.254/latest/meta-data", "no public address"),
            ("https://me:secret@app.example.com/", "credentials"),
            ("https://app.example.com/#x", "fragment"),
            (" https://app.example.com/", "space"),
            ("file:///etc/passwd", "no host"),
            ("ftp://app.example.com/", "scheme"),
            ("app.example.com", "not a URL"),
        ];
        for (bad, why) in refused {
            let reason = guarded.check(bad).unwrap_err();
            assert!(reason.contains(why) && !reason.contains("secret"), "{bad}: {reason}");
        }
    }

    #[test]
    fn allowed_hosts_are_taken_by_name() {
        let guarded = guarded(&["LOCALHOST", "10.1.2.3", "intern.example"]);
        for good in ["http://localhost:8080/jwks", "https://10.1.2.3/", "https://intern.example/"] {
            guarded.check(good).unwrap();
        }
        for bad in ["http://10.1.2.3/", "http://intern.example/", "http://127.0.0.1/", "https://10.1.2.4/", "http://localhost.example/"] {
            guarded.check(bad).unwrap_err();
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_refused_when_it_is_resolved() {
        // RFC 6761: localhost is loopback. A listener waits there, and is never asked.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let guarded = guarded(&[]);
        let error = guarded.get(&guarded.check(&url).unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("no public address") && error.contains("[outbound] allow"), "{error}");
        assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none());
    }

    #[test]
    fn one_private_address_among_public_ones_is_enough() {
        let [public, private] = ["8.8.8.8:443", "10.0.0.1:443"].map(|text| text.parse::<SocketAddr>().unwrap());
        assert_eq!(checked("x", false, vec![public]).unwrap_or_else(|_| unreachable!()).count(), 1);
        assert!(checked("x", false, vec![public, private]).is_err());
        assert_eq!(checked("x", true, vec![public, private]).unwrap_or_else(|_| unreachable!()).count(), 2);
    }

    #[tokio::test]
    async fn redirects_are_answers_and_large_bodies_errors() {
        let answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec();
        let guarded = guarded(&["127.0.0.1"]);
        assert_eq!(guarded.get(&ForeignUrl(server(answer).await.0)).await.unwrap().status, 302);
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", BODY_LIMIT + 1).into_bytes();
        answer.resize(answer.len() + BODY_LIMIT + 1, b' ');
        let error = guarded.get(&ForeignUrl(server(answer).await.0)).await.unwrap_err().to_string();
        assert!(error.contains("larger than") && error.contains("/path") && !error.contains("secret"), "{error}");
    }
}
