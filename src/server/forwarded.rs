//! Who the client is, behind reverse proxies.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use ipnet::{IpNet, Ipv4Net};

use crate::config;

/// The proxies that are believed, and whether anybody else is answered.
#[derive(Debug)]
pub(super) struct Proxies {
    trusted: Vec<IpNet>,
    /// Plain http off loopback: only the proxies are answered.
    only: bool,
}

impl Proxies {
    pub(super) fn new(server: &config::Server) -> Proxies {
        let plain = server.tls_certificate.is_none();
        Proxies { trusted: server.trusted_proxies.iter().map(fold).collect(), only: plain && !server.listen.ip().is_loopback() }
    }

    /// Nobody is believed and everybody is answered: the metrics listener.
    pub(super) fn none() -> Proxies {
        Proxies { trusted: Vec::new(), only: false }
    }

    /// The address of the client behind a request, or None where the peer may not be answered. The health checks are answered to everybody, since
    /// an orchestrator asks them past the proxy.
    pub(super) fn client(&self, socket: SocketAddr, path: &str, headers: &HeaderMap) -> Option<IpAddr> {
        let socket = socket.ip().to_canonical();
        if self.trusts(socket) {
            return Some(self.rightmost_stranger(socket, headers));
        }
        let answered = !self.only || matches!(path, "/healthz" | "/readyz");
        answered.then_some(socket)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    /// Walks the hops from the nearest to the farthest and stops at the first that is none of ours. What stands to the left of it,
    /// or of something that is no address, was written by strangers and is worth nothing.
    fn rightmost_stranger(&self, socket: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut nearest = socket;
        for value in headers.get_all("x-forwarded-for").iter().rev() {
            for hop in hops(value) {
                match hop {
                    Some(address) if self.trusts(address) => nearest = address,
                    Some(address) => return address,
                    None => return nearest,
                }
            }
        }
        nearest
    }
}

/// The hops of one header from right to left; None for one that is no address.
fn hops(value: &HeaderValue) -> impl Iterator<Item = Option<IpAddr>> {
    value.as_bytes().rsplit(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()).map(|hop| {
        let hop = std::str::from_utf8(hop).ok()?;
        let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
        let address = bare.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
        address.ok().map(|address| address.to_canonical())
    })
}

/// `::ffff:10.0.0.0/104` means `10.0.0.0/8`.
fn fold(net: &IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return *net };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(*net, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(listen: &str, trusted: &[&str]) -> Proxies {
        let trusted_proxies = trusted.iter().map(|net| net.parse().unwrap()).collect();
        Proxies::new(&config::Server { listen: listen.parse().unwrap(), trusted_proxies, ..Default::default() })
    }

    fn address(proxies: &Proxies, socket: &str, forwarded: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(value).unwrap());
        }
        let socket = SocketAddr::new(socket.parse().unwrap(), 4711);
        proxies.client(socket, "/oauth2/token", &headers).map_or("refused".to_owned(), |address| address.to_string())
    }

    #[test]
    fn the_rightmost_hop_that_is_no_proxy_is_the_client() {
        let ours = proxies("0.0.0.0:80", &["10.0.0.0/8", "fd00::/8"]);
        let rows: [(&str, &[&[u8]], &str); 16] = [
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[b"203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &[b"198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &[b"203.0.113.7, 10.9.9.9 ,10.8.8.8"], "203.0.113.7"),
            ("10.0.0.1", &[b"198.51.100.1", b"203.0.113.7", b"10.9.9.9"], "203.0.113.7"),
            ("10.0.0.1", &[b"203.0.113.7", b"10.9.9.9, bogus"], "10.0.0.1"),
            ("10.0.0.1", &[b"203.0.113.7, bogus, 10.9.9.9"], "10.9.9.9"),
            ("10.0.0.1", &[b"203.0.113.7, \xff\xfe, 10.9.9.9"], "10.9.9.9"),
            ("10.0.0.1", &[b"10.2.2.2, 10.3.3.3"], "10.2.2.2"),
            ("10.0.0.1", &[b"203.0.113.7:5555"], "203.0.113.7"),
            ("10.0.0.1", &[b"[2001:db8::1]:443, [fd00::2]"], "2001:db8::1"),
            ("10.0.0.1", &[b"::ffff:203.0.113.7, , ::ffff:10.1.1.1,"], "203.0.113.7"),
            ("::ffff:10.0.0.1", &[b"203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &[b"unknown"], "10.0.0.1"),
            ("203.0.113.9", &[b"192.0.2.1"], "refused"),
            ("127.0.0.1", &[], "refused"),
        ];
        for (socket, forwarded, expected) in rows {
            assert_eq!(address(&ours, socket, forwarded), expected, "{socket} {forwarded:?}");
        }
    }

    #[test]
    fn strangers_are_answered_the_health_checks_alone() {
        let ours = proxies("0.0.0.0:80", &["10.0.0.0/8"]);
        let stranger = SocketAddr::from(([203, 0, 113, 9], 1));
        let ask = |path| ours.client(stranger, path, &HeaderMap::new()).is_some();
        assert!(ask("/healthz") && ask("/readyz"));
        assert!(!ask("/") && !ask("/readyz/") && !ask("/oauth2/token"));
    }

    #[test]
    fn on_loopback_and_with_tls_everybody_is_answered_but_only_proxies_are_believed() {
        assert_eq!(address(&proxies("127.0.0.1:80", &["10.0.0.0/8"]), "127.0.0.1", &[b"192.0.2.1"]), "127.0.0.1");
        assert_eq!(address(&proxies("127.0.0.1:80", &["127.0.0.1/32"]), "127.0.0.1", &[b"192.0.2.1"]), "192.0.2.1");
        let mut server = config::Server { listen: ([0, 0, 0, 0], 443).into(), ..Default::default() };
        server.tls_certificate = Some("certificate.pem".into());
        assert_eq!(address(&Proxies::new(&server), "203.0.113.9", &[b"192.0.2.1"]), "203.0.113.9");
    }

    #[test]
    fn mapped_networks_mean_their_ipv4() {
        assert_eq!(address(&proxies("0.0.0.0:80", &["::ffff:10.0.0.0/104"]), "10.1.1.1", &[b"192.0.2.1"]), "192.0.2.1");
        assert_eq!(address(&proxies("0.0.0.0:80", &["::/0"]), "10.1.1.1", &[]), "refused");
    }
}
