//! A record as it is read back, and how it looks outside: a line of JSON, a line for people, a syslog message.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

/// A record of the trail as the database has it. Its words are text, since a newer version may have written them.
///
/// As JSON its members are those of [`super::Record`], in this order, with `time` beside `at`: stable for whoever reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: String,
    /// Seconds since the epoch.
    pub at: i64,
    pub event: String,
    pub outcome: String,
    pub client_id: Option<String>,
    pub account_id: Option<String>,
    pub username: Option<String>,
    pub source: Option<String>,
    pub address: Option<String>,
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub detail: Value,
}

#[derive(Serialize)]
struct Json<'a> {
    id: &'a str,
    time: String,
    at: i64,
    event: &'a str,
    outcome: &'a str,
    client_id: &'a Option<String>,
    account_id: &'a Option<String>,
    username: &'a Option<String>,
    source: &'a Option<String>,
    address: &'a Option<String>,
    reason: &'a Option<String>,
    request_id: &'a Option<String>,
    detail: &'a Value,
}

impl Entry {
    /// One JSON object without a line break.
    pub fn json(&self) -> String {
        let Entry { id, event, outcome, client_id, account_id, username, source, address, reason, request_id, detail, .. } = self;
        let (time, at) = (self.time(), self.at);
        let json = Json { id, time, at, event, outcome, client_id, account_id, username, source, address, reason, request_id, detail };
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// One line for people. What strangers wrote cannot steer a terminal: control characters are escaped.
    pub fn text(&self) -> String {
        let mut line = format!("{} {:<18} {:<7}", self.time(), self.event, self.outcome);
        let named = [
            ("reason", &self.reason),
            ("user", &self.username),
            ("account", &self.account_id),
            ("client", &self.client_id),
            ("source", &self.source),
            ("address", &self.address),
            ("request", &self.request_id),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                let _ = write!(line, " {name}={}", plain(value));
            }
        }
        if !self.detail.is_null() {
            let _ = write!(line, " {}", plain(&self.detail.to_string()));
        }
        line
    }

    /// A syslog message (RFC 5424 section 6) of the facility authpriv; the record as JSON is its text, the event its MSGID.
    pub fn syslog(&self, host: &str, process: u32) -> String {
        const AUTHPRIV: u8 = 10;
        let severity = match self.outcome.as_str() {
            "ok" => 6,
            "refused" => 5,
            _ => 4,
        };
        // PRINTUSASCII of at most 32 characters.
        let id: String = self.event.chars().filter(char::is_ascii_graphic).take(32).collect();
        format!("<{}>1 {} {host} countersign {process} {id} - {}", AUTHPRIV * 8 + severity, self.time(), self.json())
    }

    /// RFC 3339, in UTC.
    fn time(&self) -> String {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.at.max(0) as u64)).to_string()
    }
}

fn plain(text: &str) -> String {
    let steers = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if steers(c) {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            id: "00abc".to_owned(),
            at: 1_800_000_000,
            event: "sign_in_refused".to_owned(),
            outcome: "refused".to_owned(),
            client_id: Some("app".to_owned()),
            account_id: None,
            username: Some("an\x1b[2Jna\n".to_owned()),
            source: None,
            address: Some("192.0.2.7".to_owned()),
            reason: Some("bad_password".to_owned()),
            request_id: None,
            detail: serde_json::json!({ "rule": "a\u{202e}b" }),
        }
    }

    #[test]
    fn json_keeps_its_members_and_is_one_line() {
        let json = entry().json();
        assert_eq!(
            json,
            r#"{"id":"00abc","time":"2027-01-15T08:00:00Z","at":1800000000,"event":"sign_in_refused","outcome":"refused","client_id":"app","account_id":null,"username":"an\u001b[2Jna\n","source":null,"address":"192.0.2.7","reason":"bad_password","request_id":null,"detail":{"rule":"a"#
                .to_owned() + "\u{202e}" + r#"b"}}"#
        );
    }

    #[test]
    fn text_steers_no_terminal() {
        let line = entry().text();
        assert!(
            line.starts_with("2027-01-15T08:00:00Z sign_in_refused    refused reason=bad_password user=an\\u{1b}[2Jna\\u{a} client=app"),
            "{line}"
        );
        assert!(!line.contains(char::is_control) && !line.contains('\u{202e}'), "{line}");
    }

    #[test]
    fn syslog_has_the_form_of_rfc_5424() {
        let message = entry().syslog("host", 7);
        assert!(message.starts_with("<85>1 2027-01-15T08:00:00Z host countersign 7 sign_in_refused - {\"id\":"), "{message}");
        assert!(Entry { outcome: "ok".into(), ..entry() }.syslog("-", 7).starts_with("<86>1 "));
        assert!(Entry { outcome: "error".into(), ..entry() }.syslog("-", 7).starts_with("<84>1 "));
    }
}
