use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// `[audit]`: the trail in the database, and where else it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// How long records are kept in the database.
    #[serde(deserialize_with = "super::duration::deserialize")]
    pub retention: Duration,
    /// A file that every record is appended to, one JSON object a line. Made with mode 0600; opened again after a rotation that
    /// renames it.
    pub file: Option<PathBuf>,
    /// A collector that every record is sent to, by RFC 5424 with the record as JSON: `unix:/dev/log`, `udp://host:514` or
    /// `tcp://host:601` (RFC 6587, octet counting).
    pub syslog: Option<String>,
}

impl Default for Audit {
    fn default() -> Self {
        Audit { retention: Duration::from_secs(400 * 86_400), file: None, syslog: None }
    }
}

/// Where `audit.syslog` points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Syslog {
    /// The socket of a syslog on this machine.
    Unix(PathBuf),
    /// Host and port. What the network drops is lost.
    Udp(String),
    /// Host and port.
    Tcp(String),
}

impl Syslog {
    /// Reads `audit.syslog`. Errors: what is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Syslog, String> {
        const FORMS: &str = "write unix:/dev/log, udp://HOST:514 or tcp://HOST:601";
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Syslog::Unix(PathBuf::from(path))),
                false => Err(format!("{text} has no absolute path; {FORMS}")),
            };
        }
        let place = |place: &str| {
            let (host, port) = place.rsplit_once(':')?;
            let bare = host.strip_prefix('[').map_or(Some(host), |host| host.strip_suffix(']'))?;
            let host_is_one = !bare.is_empty() && !bare.contains(['/', '@', '?', '#']) && !bare.contains(char::is_whitespace);
            (host_is_one && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| place.to_owned())
        };
        let wrong = || format!("{text} names no host and port; {FORMS}");
        match text.split_once("://") {
            Some(("udp", rest)) => place(rest).map(Syslog::Udp).ok_or_else(wrong),
            Some(("tcp", rest)) => place(rest).map(Syslog::Tcp).ok_or_else(wrong),
            _ => Err(format!("{text} is no such address; {FORMS}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_syslog_and_nothing_else() {
        assert_eq!(Syslog::parse("unix:/dev/log"), Ok(Syslog::Unix("/dev/log".into())));
        assert_eq!(Syslog::parse("udp://log.example:514"), Ok(Syslog::Udp("log.example:514".to_owned())));
        assert_eq!(Syslog::parse("tcp://[::1]:601"), Ok(Syslog::Tcp("[::1]:601".to_owned())));
        for wrong in ["", "unix:dev/log", "tcp://host", "tcp://host:0", "udp://:514", "tls://host:6514", "tcp://a/b:1", "/dev/log"] {
            assert!(Syslog::parse(wrong).unwrap_err().contains("unix:/dev/log"), "{wrong}");
        }
    }
}
