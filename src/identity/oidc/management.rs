//! Okta's management API, as far as a source needs it: is this person still one of the organisation's, and in which groups. Asked
//! with an API token of the operator's (SSWS), which goes to `base_url` and nowhere else.
//!
//! A list is whole or an error: every page is read, from the same place, within a bound; a limit ends in "could not ask".

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::LINK;
use serde_json::Value;

use crate::clock::Clock;
use crate::identity::RefusalReason;
use crate::oauth2::Secret;
use crate::outbound::{Address, Client, Fetched};

/// For one question, with all its pages.
const DEADLINE: Duration = Duration::from_secs(10);
/// The most that Okta gives in one page.
const PAGE: &str = "limit=200";
const MOST_PAGES: usize = 20;
const MOST_GROUPS: usize = 2_000;
/// Bounds on how long nothing is asked after a 429.
const PAUSE_BY_DEFAULT: Duration = Duration::from_secs(10);
const PAUSE_AT_MOST: Duration = Duration::from_secs(300);

/// The API of one organisation.
#[derive(Debug)]
pub struct Management {
    base: Address,
    token_file: PathBuf,
    client: Client,
    clock: Clock,
    /// Okta's limit of rates was met: nothing is asked before this.
    paused_until: Mutex<Option<Instant>>,
}

/// Why there is no answer about a person.
#[derive(Debug)]
pub enum Unanswered {
    /// Okta knows nobody with this id.
    Gone,
    /// Not to be had now, for this reason; and when to come back, if Okta says so.
    Down(String, Option<Duration>),
}

fn down(reason: impl Into<String>) -> Unanswered {
    Unanswered::Down(reason.into(), None)
}

impl Management {
    /// Reads the token once, so that a mistake in the file is found at the start; later it is read anew for each request, since
    /// tokens are replaced while the server runs. The error says what is wrong with the file.
    pub fn new(base: Address, token_file: PathBuf, client: Client, clock: Clock) -> Result<Management, String> {
        let text = std::fs::read_to_string(&token_file).map(Secret::new).map_err(|error| error.to_string());
        let management = Management { base, token_file, client, clock, paused_until: Mutex::default() };
        management.token(text)?;
        Ok(management)
    }

    /// The id of the person whom `login` names, an id or a login of Okta's.
    pub async fn id_of(&self, login: &str) -> Result<String, Unanswered> {
        // Dots alone would lead to another place of the API.
        if login.is_empty() || login.len() > 256 || login.bytes().all(|b| b == b'.') || login.contains(char::is_control) {
            return Err(Unanswered::Gone);
        }
        let user = self.user(login).await?;
        user.get("id").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| down("Okta's answer about a user has no id"))
    }

    /// Why this person may no longer be let in; none if nothing is against it.
    pub async fn refusal(&self, subject: &str) -> Result<Option<(RefusalReason, String)>, Unanswered> {
        let user = self.user(okta_id(subject)?).await?;
        // The API finds people by login too: an id that is somebody's login must not become that person.
        if user.get("id").and_then(Value::as_str) != Some(subject) {
            return Err(down("Okta's answer is about another user than the one asked for"));
        }
        let status = user.get("status").and_then(Value::as_str).unwrap_or_default();
        let reason = match status {
            // The last three are states that strangers bring about, by wrong guesses or "forgot password", or that time does: they
            // keep people from signing in at Okta, and end no session here.
            "ACTIVE" | "LOCKED_OUT" | "RECOVERY" | "PASSWORD_EXPIRED" => return Ok(None),
            "SUSPENDED" | "DEPROVISIONED" => RefusalReason::Disabled,
            "STAGED" | "PROVISIONED" => RefusalReason::NotEligible,
            _ => return Err(down("Okta's answer has a status that this version does not know")),
        };
        Ok(Some((reason, format!("status {status}"))))
    }

    /// The names of all groups of this person, sorted.
    pub async fn groups(&self, subject: &str) -> Result<Vec<String>, Unanswered> {
        within_deadline(self.pages(subject)).await
    }

    async fn pages(&self, subject: &str) -> Result<Vec<String>, Unanswered> {
        let mut address = self.base.below(&["api", "v1", "users", okta_id(subject)?, "groups"], Some(PAGE));
        let (mut names, mut read) = (BTreeSet::new(), 0);
        for _ in 0..MOST_PAGES {
            let fetched = self.get(&address).await?;
            let page: Vec<Value> =
                serde_json::from_slice(&fetched.body).map_err(|_| down(format!("GET {address}: the answer is no list of groups")))?;
            read += page.len();
            if read > MOST_GROUPS {
                return Err(down(format!("Okta has more than {MOST_GROUPS} groups for this person")));
            }
            for group in &page {
                let name = group.pointer("/profile/name").and_then(Value::as_str);
                names.insert(name.ok_or_else(|| down(format!("GET {address}: a group without a name")))?.to_owned());
            }
            match next_page(&fetched.headers).map_err(down)? {
                None => return Ok(names.into_iter().collect()),
                // The token goes along, so only to where it was sent before; and what is listed stays this person's.
                Some(next) if next.origin() != self.base.origin() || next.path() != address.path() => {
                    return Err(down(format!("GET {address}: the link to the next page leads elsewhere, to {next}")));
                }
                Some(next) => address = next,
            }
        }
        Err(down(format!("Okta's list of groups has more than {MOST_PAGES} pages")))
    }

    async fn user(&self, who: &str) -> Result<Value, Unanswered> {
        within_deadline(async {
            let address = self.base.below(&["api", "v1", "users", who], None);
            let fetched = self.get(&address).await?;
            serde_json::from_slice(&fetched.body).map_err(|_| down(format!("GET {address}: no JSON")))
        })
        .await
    }

    async fn get(&self, address: &Address) -> Result<Fetched, Unanswered> {
        if let Some(wait) = self.paused() {
            return Err(Unanswered::Down("Okta's limit of rates was met, and it asked for a pause".to_owned(), Some(wait)));
        }
        let text = tokio::fs::read_to_string(&self.token_file).await.map(Secret::new).map_err(|error| error.to_string());
        let authorization = Secret::new(format!("SSWS {}", self.token(text).map_err(down)?.expose()));
        let fetched = self.client.get_as(address, &authorization).await.map_err(|error| down(error.to_string()))?;
        match fetched.status {
            200 => Ok(fetched),
            404 if is_not_found(&fetched.body) => Err(Unanswered::Gone),
            // A path that does not exist, a proxy, another organisation's page: nothing that is said of a person, whose grants would end.
            404 => {
                Err(down(format!("GET {address}: status 404, and not as Okta's API says it; base_url must be the organisation's own URL")))
            }
            status @ (401 | 403) => Err(down(format!(
                "GET {address}: status {status}: Okta does not accept the token in api_token_file ({}); make an API token that may read \
                 users and groups, and write it there",
                self.token_file.display()
            ))),
            429 => {
                let wait = self.pause(&fetched);
                Err(Unanswered::Down(format!("GET {address}: status 429"), Some(wait)))
            }
            status => Err(Unanswered::Down(format!("GET {address}: status {status}"), fetched.retry_after)),
        }
    }

    fn token(&self, text: Result<Secret, String>) -> Result<Secret, String> {
        let shown = self.token_file.display();
        let text = text.map_err(|reason| format!("cannot read {shown}: {reason}"))?;
        match text.expose().trim() {
            "" => Err(format!("{shown} is empty; write an API token of Okta into it")),
            token if !token.bytes().all(|b| b.is_ascii_graphic()) => {
                Err(format!("{shown} holds more than a token; write the API token into it, on one line and without SSWS"))
            }
            token => Ok(Secret::new(token)),
        }
    }

    /// Remembers that Okta's limit was met: `Retry-After`, else `X-Rate-Limit-Reset`, the second at which it counts anew.
    fn pause(&self, fetched: &Fetched) -> Duration {
        let reset =
            fetched.headers.get("x-rate-limit-reset").and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
        let until_reset = reset.map(|at: i64| Duration::from_secs(at.saturating_sub(self.clock.now()).try_into().unwrap_or(0)));
        let wait = fetched.retry_after.or(until_reset).unwrap_or(PAUSE_BY_DEFAULT).clamp(Duration::from_secs(1), PAUSE_AT_MOST);
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Clock::monotonic() + wait);
        wait
    }

    fn paused(&self) -> Option<Duration> {
        let until = (*self.paused_until.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(until.saturating_duration_since(Clock::monotonic())).filter(|wait| !wait.is_zero())
    }
}

async fn within_deadline<T>(work: impl Future<Output = Result<T, Unanswered>>) -> Result<T, Unanswered> {
    let late = |_| Err(down(format!("Okta's API did not answer within {} s", DEADLINE.as_secs())));
    tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(late)
}

/// Whether the body says in Okta's words that there is no such thing.
fn is_not_found(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body.get("errorCode").and_then(Value::as_str) == Some("E0000007"))
}

/// Okta's ids are letters and digits. Anything else could be a login, or lead to another place of the API.
fn okta_id(subject: &str) -> Result<&str, Unanswered> {
    match !subject.is_empty() && subject.len() <= 64 && subject.bytes().all(|b| b.is_ascii_alphanumeric()) {
        true => Ok(subject),
        false => Err(down("sub is no id of an Okta user")),
    }
}

/// The target of `rel="next"` (RFC 8288 section 3). The error says what is wrong with it.
fn next_page(headers: &HeaderMap) -> Result<Option<Address>, String> {
    for value in headers.get_all(LINK) {
        let mut rest = value.to_str().map_err(|_| "a Link header is not text".to_owned())?;
        while let Some((_, after)) = rest.split_once('<') {
            let (target, after) = after.split_once('>').ok_or("a Link header has no end")?;
            let parameters = after.split('<').next().unwrap_or_default();
            let next = |parameter: &str| parameter.trim_matches([' ', ',']).replace('"', "").eq_ignore_ascii_case("rel=next");
            if parameters.split(';').any(next) {
                return Address::parse(target).map(Some).map_err(|reason| format!("the link to the next page {reason}"));
            }
            rest = after.strip_prefix(parameters).unwrap_or_default();
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn next(links: &[&str]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for link in links {
            headers.append(LINK, HeaderValue::from_str(link).unwrap());
        }
        next_page(&headers).map(|found| found.map(|address| address.path().to_owned()))
    }

    #[test]
    fn the_next_page_is_found_among_the_links() {
        let (own, further) = ("<https://org.test/a?limit=2>; rel=\"self\"", "<https://org.test/b?after=x&limit=2>; rel=\"next\"");
        let found = Ok(Some("/b".to_owned()));
        assert_eq!(next(&[own, further]), found);
        assert_eq!(next(&[&format!("{own}, {further}")]), found);
        assert_eq!(next(&[&format!("{further}, {own}")]), found);
        assert_eq!(next(&["<https://org.test/b>; title=\"x\"; REL=next"]), found);
        assert_eq!(next(&[own]), Ok(None));
        assert_eq!(next(&[]), Ok(None));
        for bad in ["<https://org.test/b; rel=next", "<b>; rel=next", "<http://elsewhere.test/b>; rel=next"] {
            next(&[bad]).unwrap_err();
        }
    }

    #[test]
    fn only_okta_says_that_somebody_is_gone() {
        assert!(is_not_found(br#"{"errorCode":"E0000007","errorSummary":"Not found: Resource not found: x (User)"}"#));
        for other in [&b""[..], b"<html>404</html>", b"{}", b"[]", br#"{"errorCode":"E0000022"}"#, br#"{"errorCode":7}"#, br#""E0000007""#]
        {
            assert!(!is_not_found(other), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn ids_cannot_lead_elsewhere() {
        okta_id("00u1a2B3").unwrap();
        for bad in ["", ".", "..", "a/b", "me@example.test", "a%2fb", "a b", &"x".repeat(65)] {
            assert!(okta_id(bad).is_err(), "{bad}");
        }
    }
}
