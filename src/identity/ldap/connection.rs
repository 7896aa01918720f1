//! One connection with one owner. Every operation takes it and gives it back only after a whole answer, so that a connection on
//! which anything failed or timed out cannot be used again: an unfinished bind could still change who it speaks as.

use std::future::Future;
use std::time::Duration;

use ldap3::controls::{Control, MatchedValues, PagedResults, RawControl};
use ldap3::{LdapError, LdapResult, Scope, SearchOptions};
use tokio::task::{AbortHandle, JoinSet};

use super::breaker::{Attempt, Fault};
use super::dialer::{Line, Origin};
use super::entry::Entry;
use super::gate;
use super::ppolicy;
use crate::clock::Clock;
use crate::config::Referrals;
use crate::metrics;
use crate::oauth2::{Secret, SourceName};

const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";

/// The directory could not be asked.
#[derive(Clone, Debug)]
pub struct Failure {
    pub reason: String,
    pub kind: FailureKind,
}

/// What can be done about a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The connection broke, rather than the server being slow or saying something: worth another try if it had been idle.
    Lost,
    /// No answer came in time.
    Silent,
    /// The server cannot be reached, or says that it cannot answer.
    Down,
    /// More entries came than were asked for.
    TooMany,
    Other,
}

impl Failure {
    pub fn new(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), kind: FailureKind::Other }
    }

    pub fn down(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), kind: FailureKind::Down }
    }

    /// What it says about the server; none where the server answered.
    fn fault(&self) -> Option<Fault> {
        match self.kind {
            FailureKind::Lost => Some(Fault::Strike),
            FailureKind::Silent => Some(Fault::Silence),
            FailureKind::Down => Some(Fault::Down),
            FailureKind::TooMany | FailureKind::Other => None,
        }
    }
}

impl From<LdapError> for Failure {
    fn from(error: LdapError) -> Failure {
        let spoken = matches!(error, LdapError::FilterParsing | LdapError::LdapResult { .. });
        Failure { reason: error.to_string(), kind: if spoken { FailureKind::Other } else { FailureKind::Lost } }
    }
}

/// Runs `work` in a task of its own, since the library panics on malformed answers, and ends it after `limit` or when the caller
/// goes away.
pub async fn isolated<T: Send + 'static>(limit: Duration, work: impl Future<Output = T> + Send + 'static) -> Result<T, Failure> {
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    match tokio::time::timeout(limit, tasks.join_next()).await {
        Ok(Some(Ok(output))) => Ok(output),
        Ok(_) => Err(Failure { reason: "the directory sent something malformed".to_owned(), kind: FailureKind::Lost }),
        Err(_) => {
            let reason = format!("no answer within {}", humantime::format_duration(limit));
            Err(Failure { reason, kind: FailureKind::Silent })
        }
    }
}

/// The result of a bind.
#[derive(Clone, Debug)]
pub struct BindAnswer {
    pub code: u32,
    /// The server's words, shortened and without control characters.
    pub text: String,
    /// The value of the password policy control, where one came.
    pub policy: Option<Vec<u8>>,
    /// Whether the older control came that says that the password has expired or must be changed.
    pub expired: bool,
    /// From the request to the answer.
    pub took: Duration,
}

impl BindAnswer {
    /// Whether the server says that it decided nothing and is not able to at the moment.
    pub fn is_undecided(&self) -> bool {
        matches!(self.code, BUSY | UNAVAILABLE)
    }
}

/// Results that a server gives about itself rather than about a request (RFC 4511 appendix A.2). "Other" can be either.
const BUSY: u32 = 51;
const UNAVAILABLE: u32 = 52;
const OTHER: u32 = 80;

/// What to look for.
#[derive(Clone, Debug)]
pub struct Search {
    pub base: String,
    pub scope: Scope,
    pub filter: String,
    /// `1.1` for none (RFC 4511 section 4.5.1.8).
    pub attributes: Vec<String>,
    /// Of attributes with very many values only those are wanted that match (RFC 3876). A server may send the others too.
    pub only_values: Option<String>,
    /// The server is asked to send no more, and more are not read.
    pub at_most: usize,
    /// Entries in a page (RFC 2696), for results that may be long.
    pub page_size: Option<i32>,
    pub referrals: Referrals,
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    pub entries: Vec<Entry>,
    pub end: End,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Complete,
    /// There are more than `at_most`, or than the server will send.
    Cut,
    /// The base does not exist, or not for this reader.
    NoBase,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    handle: ldap3::Ldap,
    way: Way,
}

/// What a connection has beside the library's handle, which travels through the tasks of its operations.
#[derive(Debug)]
struct Way {
    _driver: Driver,
    origin: Origin,
    attempt: Attempt,
    /// It has lain idle since its last answer: servers and firewalls close such connections without being down.
    rested: bool,
    operation_timeout: Duration,
    /// For the metrics.
    source: SourceName,
}

/// The tasks that read and write the sockets; they end with the connection.
#[derive(Debug)]
struct Driver([AbortHandle; 2]);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Way {
    /// Waits for one answer, and tells the breaker what became of it.
    async fn ask<T: Send + 'static, E: Into<Failure> + Send + 'static>(
        &mut self,
        operation: &'static str,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Failure> {
        let began = Clock::monotonic();
        self.attempt.wait(self.operation_timeout);
        let done = isolated(self.operation_timeout, work).await.and_then(|done| done.map_err(Into::into));
        metrics::ldap_operation(self.source.as_str(), operation, Clock::since(began));
        let rested = std::mem::take(&mut self.rested);
        match &done {
            // The result code may still speak against it.
            Ok(_) => {}
            Err(failure) => match failure.fault() {
                Some(Fault::Strike) if rested => self.attempt.connected(),
                Some(fault) => self.attempt.failed(fault, &failure.reason),
                None => self.attempt.answered(),
            },
        }
        done
    }

    /// What a result code says about the server.
    fn judge(&mut self, code: u32) {
        match code {
            BUSY | UNAVAILABLE => self.attempt.failed(Fault::Down, &format!("it answers with LDAP result {code}")),
            OTHER => self.attempt.failed(Fault::Strike, "it answers with LDAP result 80"),
            _ => self.attempt.answered(),
        }
    }
}

impl Connection {
    pub fn new(line: Line, origin: Origin, attempt: Attempt, operation_timeout: Duration, source: SourceName) -> Connection {
        let Line { driver, handle, relay } = line;
        let task = tokio::spawn(async move {
            if let Err(error) = driver.drive().await {
                tracing::debug!(%error, "LDAP connection ended");
            }
        });
        let way = Way { _driver: Driver([task.abort_handle(), relay]), origin, attempt, rested: false, operation_timeout, source };
        Connection { handle, way }
    }

    pub fn origin(&self) -> Origin {
        self.way.origin
    }

    /// It is laid aside until somebody needs it.
    pub fn rest(&mut self) {
        self.way.rested = true;
    }

    /// Whether it may be used again: the server has not closed it, and was not held to be down since. A hung server closes nothing.
    pub fn is_sound(&mut self) -> bool {
        !self.handle.is_closed() && self.way.attempt.is_current()
    }

    /// A simple bind with the password policy control. The caller has refused empty passwords: they succeed as anonymous.
    pub async fn bind(self, name: &str, password: &Secret) -> Result<(Connection, BindAnswer), Failure> {
        let Connection { mut handle, mut way } = self;
        let (name, password, began) = (name.to_owned(), password.clone(), Clock::monotonic());
        let work = async move {
            let result = handle.with_controls(ppolicy::request()).simple_bind(&name, password.expose()).await;
            result.map(|result| (handle, result))
        };
        let (handle, result) = way.ask("bind", work).await?;
        way.judge(result.rc);
        let value =
            |oid: &str| result.ctrls.iter().find(|Control(_, control)| control.ctype == oid).map(|Control(_, control)| &control.val);
        // An absent value is as malformed as any other.
        let policy = value(ppolicy::OID).map(|value| value.clone().unwrap_or_default());
        let expired = value(ppolicy::EXPIRED).is_some();
        let answer = BindAnswer { code: result.rc, text: printable(&result.text), policy, expired, took: Clock::since(began) };
        Ok((Connection { handle, way }, answer))
    }

    /// As whom the connection speaks (RFC 4532); none where the server does not tell.
    pub async fn who_am_i(self) -> Result<(Connection, Option<String>), Failure> {
        let Connection { mut handle, mut way } = self;
        let work = async move { handle.extended(ldap3::exop::WhoAmI).await.map(|answer| (handle, answer)) };
        let (handle, ldap3::result::ExopResult(answer, result)) = way.ask("whoami", work).await?;
        way.judge(result.rc);
        let name = answer.val.and_then(|bytes| String::from_utf8(bytes).ok()).map(|name| printable(&name));
        Ok((Connection { handle, way }, name.filter(|_| result.rc == 0)))
    }

    /// Reads one page of at most `at_most` entries, whatever there is beyond it; [`End::Cut`] says that there is more.
    pub async fn sample(self, search: &Search) -> Result<Found, Failure> {
        let Connection { handle, mut way } = self;
        let one_page = Search { page_size: Some(i32::try_from(search.at_most).unwrap_or(i32::MAX)), ..search.clone() };
        let page = way.ask("search", read_page(handle, one_page, Vec::new(), search.at_most)).await?;
        way.judge(page.result.rc);
        let end = match end_of(&page.result)? {
            End::Complete if !next_cookie(&page.result)?.is_empty() => End::Cut,
            end => end,
        };
        Ok(Found { entries: page.entries, end })
    }

    /// Reads all pages.
    pub async fn search(self, search: &Search) -> Result<(Connection, Found), Failure> {
        let Connection { mut handle, mut way } = self;
        let (mut entries, mut cookie) = (Vec::new(), Vec::new());
        loop {
            let room = search.at_most.saturating_sub(entries.len());
            let page = way.ask("search", read_page(handle, search.clone(), cookie, room)).await?;
            way.judge(page.result.rc);
            let end = end_of(&page.result)?;
            cookie = next_cookie(&page.result)?;
            handle = page.handle;
            entries.extend(page.entries);
            if end != End::Complete || cookie.is_empty() {
                return Ok((Connection { handle, way }, Found { entries, end }));
            }
        }
    }
}

struct Page {
    handle: ldap3::Ldap,
    entries: Vec<Entry>,
    result: LdapResult,
}

async fn read_page(mut handle: ldap3::Ldap, search: Search, cookie: Vec<u8>, room: usize) -> Result<Page, Failure> {
    let mut controls: Vec<RawControl> = Vec::new();
    let mut options = SearchOptions::new();
    match search.page_size {
        Some(size) => controls.push(PagedResults { size, cookie }.into()),
        None => options = options.sizelimit(i32::try_from(search.at_most).unwrap_or(i32::MAX)),
    }
    if let Some(values) = &search.only_values {
        controls.push(MatchedValues::new(values));
    }
    handle.with_search_options(options).with_controls(controls);
    let mut stream = handle.streaming_search(&search.base, search.scope, &search.filter, search.attributes).await?;
    let mut entries = Vec::new();
    while let Some(item) = stream.next().await? {
        if item.is_ref() {
            if search.referrals == Referrals::Reject {
                return Err(Failure::new("the result refers to another server, and referrals = \"reject\""));
            }
        } else if !item.is_intermediate() {
            if entries.len() == room {
                // The rest of the answer is still under way: this connection is not given back.
                let reason = format!("the directory sends more than {} entries", search.at_most);
                return Err(Failure { reason, kind: FailureKind::TooMany });
            }
            entries.push(Entry::read(item.0).ok_or_else(|| Failure::new("the directory sent a malformed entry"))?);
        }
    }
    let result = stream.finish().await;
    Ok(Page { handle, entries, result })
}

fn end_of(result: &LdapResult) -> Result<End, Failure> {
    match result.rc {
        0 => Ok(End::Complete),
        4 => Ok(End::Cut),
        32 => Ok(End::NoBase),
        10 => Err(Failure::new("the base is on another server (LDAP result 10); referrals are never followed, name that server in urls")),
        code => {
            let kind = if matches!(code, BUSY | UNAVAILABLE | OTHER) { FailureKind::Down } else { FailureKind::Other };
            Err(Failure { reason: format!("the search failed with LDAP result {code}: {}", printable(&result.text)), kind })
        }
    }
}

fn next_cookie(result: &LdapResult) -> Result<Vec<u8>, Failure> {
    let paged = result.ctrls.iter().find(|Control(_, control)| control.ctype == PAGED_RESULTS);
    let Some(Control(_, control)) = paged else { return Ok(Vec::new()) };
    // Its content is BER inside a string, which the gate has not looked into.
    match &control.val {
        Some(value) if gate::is_shallow(value) => Ok(control.parse::<PagedResults>().cookie),
        _ => Err(Failure::new("the directory sent a malformed page cookie")),
    }
}

/// A server's words for logs and the audit.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
