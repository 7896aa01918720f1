//! The trail to a syslog collector: RFC 5424 messages over a local socket, UDP (RFC 5426) or TCP (RFC 6587, octet counting).

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};

use super::Entry;
use crate::config::Syslog;

/// For a connection, and for each message.
const PATIENCE: Duration = Duration::from_secs(5);

/// A collector, with the connection to it while there is one.
#[derive(Debug)]
pub struct Collector {
    target: Syslog,
    link: Option<Link>,
    host: String,
}

#[derive(Debug)]
enum Link {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Collector {
    pub fn new(target: Syslog) -> Collector {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
        Collector { target, link: None, host: if host.is_empty() { "-".to_owned() } else { host } }
    }

    /// Sends the entries, in order. After an error some of the last may have arrived, and all are to be sent again.
    pub async fn send(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut link = match self.link.take() {
            Some(link) if link.is_alive() => link,
            _ => within(Link::to(&self.target)).await?,
        };
        for entry in entries {
            within(link.send(&entry.syslog(&self.host, std::process::id()))).await?;
        }
        // What the other side closed meanwhile may have taken nothing of it.
        if !link.is_alive() {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the collector closed the connection"));
        }
        self.link = Some(link);
        Ok(())
    }
}

impl Link {
    async fn to(target: &Syslog) -> io::Result<Link> {
        match target {
            Syslog::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Link::Unix(socket))
            }
            Syslog::Udp(place) => {
                let address = tokio::net::lookup_host(place).await?.next().ok_or_else(|| io::Error::other("the name has no address"))?;
                let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
                socket.connect(address).await?;
                Ok(Link::Udp(socket))
            }
            Syslog::Tcp(place) => {
                let stream = TcpStream::connect(place).await?;
                stream.set_nodelay(true)?;
                Ok(Link::Tcp(stream))
            }
        }
    }

    async fn send(&mut self, message: &str) -> io::Result<()> {
        match self {
            Link::Unix(socket) => socket.send(message.as_bytes()).await.map(drop),
            Link::Udp(socket) => socket.send(message.as_bytes()).await.map(drop),
            Link::Tcp(stream) => stream.write_all(format!("{} {message}", message.len()).as_bytes()).await,
        }
    }

    /// False once a TCP peer has closed its side. Collectors send nothing; if one does, it is dropped.
    fn is_alive(&self) -> bool {
        let Link::Tcp(stream) = self else { return true };
        let mut scrap = [0u8; 64];
        loop {
            match stream.try_read(&mut scrap) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(reason) => return reason.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s")),
    }
}
