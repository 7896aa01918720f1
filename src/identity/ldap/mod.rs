//! People of an LDAP directory. The only room that names the ldap3 crate.
//!
//! A sign-in, in order: refuse what no directory should see → search as the service account (or make the name from a template) →
//! ask the shield whether there is a try left → bind as the person on a connection of its own → read the account's state and groups →
//! answer. An unknown person costs a bind too, and as much time ([`pace`]).
//! A connection has one owner and is thrown away after anything but a whole answer. Whatever goes wrong on our side or the
//! directory's is [`Authentication::Unavailable`], never a bad password and never a shorter list of groups.

mod account;
mod binary;
mod breaker;
mod connection;
mod dialer;
mod entry;
mod escape;
mod gate;
mod groups;
mod pace;
mod plan;
mod pool;
mod ppolicy;
mod preset;
mod principal;
pub mod probe;
mod sign_in;
mod stamp;
mod state;
mod tls;
mod verdict;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use ldap3::Scope;

use self::connection::{Connection, End, Failure, FailureKind, Found, Search};
use self::dialer::Dialer;
use self::entry::Entry;
use self::escape::{all_of, any_equals};
use self::groups::Memory;
use self::pace::Pace;
use self::plan::{Bind, Plan};
use self::pool::Pool;
use super::shield::Limits;
use super::{Authentication, Facts, Identity, Outage, Refusal, RefusalReason};
use crate::clock::Clock;
use crate::config::{LdapSource, Problem};
use crate::oauth2::{Secret, SourceName};

/// Longest login and password, in bytes.
const LONGEST: usize = 256;

/// A directory.
#[derive(Debug)]
pub struct Ldap {
    name: SourceName,
    clock: Clock,
    plan: Plan,
    dialer: Dialer,
    service: Option<Pool>,
    memory: Memory,
    lockout: Option<Limits>,
    pace: Pace,
    login_deadline: Duration,
}

/// Why there is no identity.
enum Halt {
    No(Refusal),
    Down(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Halt {
        Halt::Down(failure)
    }
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Halt {
        Halt::No(refusal)
    }
}

/// As whom entries are read.
enum Reader<'a> {
    Service(&'a Pool),
    /// The person, where there is no service account. None once a search has failed.
    Person(Option<Connection>),
    /// The service account, once it is known as whom the connection of a sign-in by userPrincipalName speaks.
    Bound(Option<Connection>, &'a Pool),
}

impl Reader<'_> {
    async fn search(&mut self, search: &Search) -> Result<Found, Failure> {
        match self {
            Reader::Service(pool) | Reader::Bound(_, pool) => pool.search(search).await,
            Reader::Person(connection) => {
                let open = connection.take().ok_or_else(|| Failure::new("the connection was closed"))?;
                let (open, found) = open.search(search).await?;
                *connection = Some(open);
                Ok(found)
            }
        }
    }
}

impl Ldap {
    /// Checks the whole configuration and reads its files; connects nowhere. Paths of problems are relative to the source.
    pub fn new(name: SourceName, config: &LdapSource, clock: Clock) -> Result<Ldap, Vec<Problem>> {
        let (plan, dialer, account, lockout) = match (plan::read(&name, config), sign_in::lockout(config)) {
            (Ok((plan, dialer, account)), Ok(lockout)) => (plan, dialer, account, lockout),
            (read, lockout) => return Err(read.err().into_iter().chain(lockout.err()).flatten().collect()),
        };
        let service = account.map(|account| Pool::new(dialer.clone(), account, config.pool.clone()));
        let memory = Memory::new(config.group_cache);
        Ok(Ldap { name, clock, plan, dialer, service, memory, lockout, pace: Pace::default(), login_deadline: config.login_deadline })
    }

    /// Whether [`Ldap::recheck`] and [`Ldap::lookup`] can ask: they need the service account. Without it no refresh token should be
    /// issued, since nobody could tell when the person is gone.
    pub fn can_recheck(&self) -> bool {
        self.service.is_some()
    }

    /// Whether every server is known to be down: the breakers of all its URLs are open. Not so for a directory that answers but
    /// refuses us, nor before the first failure.
    pub fn is_cut_off(&self) -> bool {
        self.dialer.is_cut_off()
    }

    /// The person whom `login` names, with fresh groups and whatever the state of the account, read as the service account. For
    /// `explain`: nobody has proved to be that person, and `auth_time` is 0.
    pub async fn lookup(&self, login: &str) -> Authentication {
        if unusable(login) {
            return Authentication::Refused(Refusal::new(RefusalReason::UnknownUser, "no usable login"));
        }
        self.within_deadline(async {
            let mut reader = self.service_reader()?;
            let entry = self.find(&mut reader, login).await?.map_err(|(reason, detail)| Refusal::new(reason, detail))?;
            self.identity(&mut reader, &entry, Freshness::WithPaths).await
        })
        .await
    }

    /// The person with this subject, if they are still there and eligible, with fresh groups. For refreshing; `auth_time` is 0.
    pub async fn recheck(&self, subject: &str) -> Authentication {
        self.within_deadline(async {
            let mut reader = self.service_reader()?;
            let matches = any_equals(self.plan.subject_attributes.iter().map(|attribute| (attribute.as_str(), subject)));
            let search = self.person_search(&self.plan.user_base, self.plan.user_scope, &matches);
            let found = self.only_one(&mut reader, &search, "gone, or outside user_base and user_filter").await?;
            let entry = found.map_err(|(reason, detail)| with_subject(Refusal::new(reason, detail), subject))?;
            if let Some(refusal) = state::refusal(&entry, self.clock.now()) {
                return Err(with_subject(refusal, subject).into());
            }
            let identity = self.identity(&mut reader, &entry, Freshness::AskNow).await?;
            // An entry may have got a better attribute since; it is still the same person.
            Ok(Identity { subject: subject.to_owned(), ..identity })
        })
        .await
    }

    async fn within_deadline(&self, work: impl Future<Output = Result<Identity, Halt>>) -> Authentication {
        match tokio::time::timeout(self.login_deadline, work).await {
            Ok(done) => self.answer(done),
            Err(_) => Authentication::Unavailable(self.too_late()),
        }
    }

    fn too_late(&self) -> Outage {
        Outage::new(&self.name, format!("not done within login_deadline = {}", humantime::format_duration(self.login_deadline)))
    }

    fn answer(&self, done: Result<Identity, Halt>) -> Authentication {
        match done {
            Ok(identity) => Authentication::Authenticated(Box::new(identity)),
            Err(Halt::No(refusal)) => Authentication::Refused(refusal),
            Err(Halt::Down(failure)) => Authentication::Unavailable(Outage::new(&self.name, failure.reason)),
        }
    }

    fn service_reader(&self) -> Result<Reader<'_>, Failure> {
        let missing = || Failure::new("this needs the service account: set bind_dn and bind_password_file");
        self.service.as_ref().map(Reader::Service).ok_or_else(missing)
    }

    /// The entry that `login` names, else why there is none.
    async fn find(&self, reader: &mut Reader<'_>, login: &str) -> Result<Result<Entry, (RefusalReason, String)>, Failure> {
        if let Bind::Principal(_) = &self.plan.bind {
            return self.find_principal(reader, login).await;
        }
        let search = match self.plan.bind.fill(login) {
            // The very entry that the bind named, so that nobody signs in as one and is read as another.
            Some(dn) => self.person_search(&dn, Scope::Base, "(objectClass=*)"),
            None => {
                let matches = any_equals(self.plan.login_attributes.iter().map(|attribute| (attribute.as_str(), login)));
                self.person_search(&self.plan.user_base, self.plan.user_scope, &matches)
            }
        };
        self.only_one(reader, &search, "no entry matches").await
    }

    async fn only_one(
        &self,
        reader: &mut Reader<'_>,
        search: &Search,
        none: &str,
    ) -> Result<Result<Entry, (RefusalReason, String)>, Failure> {
        let several = || Ok(Err((RefusalReason::NotEligible, "more than one entry matches".to_owned())));
        let found = match reader.search(search).await {
            Err(failure) if failure.kind == FailureKind::TooMany => return several(),
            found => found?,
        };
        if found.end == End::NoBase && search.scope != Scope::Base {
            let base = &self.plan.user_base;
            return Err(Failure::new(format!("user_base {base} does not exist, or the account that searches may not see it")));
        }
        let mut entries = found.entries.into_iter();
        match (entries.next(), entries.next(), found.end) {
            (_, Some(_), _) | (_, _, End::Cut) => several(),
            (Some(entry), None, _) => Ok(Ok(entry)),
            (None, None, _) => Ok(Err((RefusalReason::UnknownUser, none.to_owned()))),
        }
    }

    fn person_search(&self, base: &str, scope: Scope, matches: &str) -> Search {
        let plan = &self.plan;
        let named =
            plan.subject_attributes.iter().chain([&plan.email_attribute]).chain(&plan.login_attributes).chain(&plan.name_attributes);
        Search {
            base: base.to_owned(),
            scope,
            filter: plan.user_filter.as_deref().map_or_else(|| matches.to_owned(), |filter| all_of(&[filter, matches])),
            attributes: named.cloned().chain(state::ATTRIBUTES.into_iter().chain([sign_in::PASSWORD_CHANGED]).map(str::to_owned)).collect(),
            only_values: None,
            at_most: 2,
            page_size: None,
            referrals: plan.referrals,
        }
    }

    fn subject_of<'a>(&'a self, entry: &'a Entry) -> Result<&'a str, Failure> {
        let attributes = &self.plan.subject_attributes;
        for attribute in attributes {
            let mut values = entry.texts(attribute);
            match (values.next(), values.next()) {
                (None, _) => (),
                (Some(subject), None) if !subject.is_empty() => return Ok(subject),
                _ => break,
            }
        }
        let names = attributes.join(" or ");
        Err(Failure::new(format!("{} has not exactly one readable {names}; check subject_attribute and access rules", entry.dn)))
    }

    async fn identity(&self, reader: &mut Reader<'_>, entry: &Entry, freshness: Freshness) -> Result<Identity, Halt> {
        let subject = self.subject_of(entry)?;
        let username = self.plan.login_attributes.first().and_then(|attribute| entry.text(attribute));
        let username = username.ok_or_else(|| {
            let attribute = self.plan.login_attributes.first().map_or("", String::as_str);
            with_subject(Refusal::new(RefusalReason::NotEligible, format!("{} has no {attribute}", entry.dn)), subject)
        })?;
        let cached = if freshness == Freshness::Cached { self.memory.get(subject) } else { None };
        let (checked_at, groups) = match cached {
            Some(known) => known,
            None => {
                // Before the directory looks: what changes there meanwhile may be missing.
                let at = self.clock.now();
                let groups = groups::read(&self.plan, &self.memory, reader, entry, freshness == Freshness::WithPaths).await?;
                self.memory.put(subject, at, &groups);
                (at, groups)
            }
        };
        Ok(Identity {
            source: self.name.clone(),
            issuer: String::new(),
            subject: subject.to_owned(),
            username: username.to_owned(),
            dn: Some(entry.dn.clone()),
            email: entry.text(&self.plan.email_attribute).map(str::to_owned),
            // In many directories people write their own address.
            email_verified: false,
            name: self.plan.name_attributes.iter().find_map(|attribute| entry.text(attribute)).map(str::to_owned),
            facts: Facts { groups, claims: serde_json::Value::Null },
            claimed_groups: Vec::new(),
            assigned_roles: Vec::new(),
            auth_time: 0,
            checked_at,
            amr: Vec::new(),
            upstream: None,
            must_change_password: false,
            password_never_changed: false,
        })
    }
}

/// Whether groups may come from a sign-in a moment ago.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Cached,
    AskNow,
    /// And the way to each group, for a person to read.
    WithPaths,
}

fn with_subject(refusal: Refusal, subject: &str) -> Refusal {
    Refusal { subject: Some(subject.to_owned()), ..refusal }
}

/// Before any I/O. A bind with a name and an empty password succeeds as anonymous (RFC 4513 section 5.1.2): it proves nothing.
fn refuse_unasked(login: &str, password: &Secret) -> Option<Refusal> {
    let typed = password.expose();
    if typed.is_empty() {
        Some(Refusal::new(RefusalReason::BadPassword, "the password is empty"))
    } else if typed.contains('\0') || typed.len() > LONGEST {
        Some(Refusal::new(RefusalReason::BadPassword, "the password holds NUL or is longer than 256 bytes"))
    } else if unusable(login) {
        Some(Refusal::new(RefusalReason::UnknownUser, "the login is empty, holds NUL or is longer than 256 bytes"))
    } else {
        None
    }
}

fn unusable(login: &str) -> bool {
    login.trim().is_empty() || login.contains('\0') || login.len() > LONGEST
}
