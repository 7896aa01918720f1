//! One connection with one owner. Every operation takes it and gives it back only after a whole answer, so that a connection on
//! which anything failed or timed out cannot be used again: an unfinished bind could still change who it speaks as.

use std::future::Future;
use std::time::Duration;

use ldap3::controls::{Control, MatchedValues, PagedResults, RawControl};
use ldap3::{LdapConnAsync, LdapError, LdapResult, Scope, SearchOptions};
use tokio::task::{AbortHandle, JoinSet};

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
    /// More entries came than were asked for.
    TooMany,
    Other,
}

impl Failure {
    pub fn new(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), kind: FailureKind::Other }
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
        Ok(_) => Err(Failure::new("the directory sent something malformed")),
        Err(_) => Err(Failure::new(format!("no answer within {}", humantime::format_duration(limit)))),
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
}

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
    driver: Driver,
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

impl Connection {
    /// `relay` is the task that carries the bytes.
    pub fn new(
        driver: LdapConnAsync,
        handle: ldap3::Ldap,
        relay: AbortHandle,
        operation_timeout: Duration,
        source: SourceName,
    ) -> Connection {
        let task = tokio::spawn(async move {
            if let Err(error) = driver.drive().await {
                tracing::debug!(%error, "LDAP connection ended");
            }
        });
        Connection { handle, driver: Driver([task.abort_handle(), relay]), operation_timeout, source }
    }

    /// Whether the server has closed it. A hung server has not.
    pub fn is_closed(&mut self) -> bool {
        self.handle.is_closed()
    }

    /// A simple bind with the password policy control. The caller has refused empty passwords: they succeed as anonymous.
    pub async fn bind(self, name: &str, password: &Secret) -> Result<(Connection, BindAnswer), Failure> {
        let Connection { mut handle, driver, operation_timeout, source } = self;
        let (name, password) = (name.to_owned(), password.clone());
        let work = async move {
            let result = handle.with_controls(ppolicy::request()).simple_bind(&name, password.expose()).await;
            result.map(|result| (handle, result))
        };
        let began = Clock::monotonic();
        let done = isolated(operation_timeout, work).await;
        metrics::ldap_operation(source.as_str(), "bind", Clock::since(began));
        let (handle, result) = done??;
        let policy = result.ctrls.iter().find(|Control(_, control)| control.ctype == ppolicy::OID);
        // An absent value is as malformed as any other.
        let policy = policy.map(|Control(_, control)| control.val.clone().unwrap_or_default());
        let answer = BindAnswer { code: result.rc, text: printable(&result.text), policy };
        Ok((Connection { handle, driver, operation_timeout, source }, answer))
    }

    /// Reads all pages.
    pub async fn search(self, search: &Search) -> Result<(Connection, Found), Failure> {
        let Connection { mut handle, driver, operation_timeout, source } = self;
        let (mut entries, mut cookie) = (Vec::new(), Vec::new());
        loop {
            let room = search.at_most.saturating_sub(entries.len());
            let began = Clock::monotonic();
            let page = isolated(operation_timeout, read_page(handle, search.clone(), cookie, room)).await;
            metrics::ldap_operation(source.as_str(), "search", Clock::since(began));
            let page = page??;
            handle = page.handle;
            cookie = page.cookie;
            entries.extend(page.entries);
            if page.end != End::Complete || cookie.is_empty() {
                return Ok((Connection { handle, driver, operation_timeout, source }, Found { entries, end: page.end }));
            }
        }
    }
}

struct Page {
    handle: ldap3::Ldap,
    entries: Vec<Entry>,
    cookie: Vec<u8>,
    end: End,
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
    let end = end_of(&result)?;
    Ok(Page { handle, entries, cookie: next_cookie(&result)?, end })
}

fn end_of(result: &LdapResult) -> Result<End, Failure> {
    match result.rc {
        0 => Ok(End::Complete),
        4 => Ok(End::Cut),
        32 => Ok(End::NoBase),
        10 => Err(Failure::new("the base is on another server (LDAP result 10); referrals are never followed, name that server in urls")),
        code => Err(Failure::new(format!("the search failed with LDAP result {code}: {}", printable(&result.text)))),
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
