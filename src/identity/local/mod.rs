//! Accounts of our own: a username and a password that is kept as argon2id.
//!
//! Flow of a sign-in: what cannot be a password is refused → the login is folded and looked up → the shield says whether there is a try
//! left → the password is verified on the [`Hasher`]'s threads, for an unknown login against nothing at the same cost → only then does
//! the state of the account count.
//!
//! A local account is found by its login through a link whose issuer is [`ISSUER`] and whose subject is the folded login. So
//! `Anna` and `anna` are one login, the name is shown as it was written, and it stays the login even where the account had to be
//! called `anna@local` because a directory owns the bare name.

mod argon;
pub mod hasher;
pub mod login;
pub mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use argon::HashError;
pub use hasher::{Hasher, HasherError};

use super::shield::{self, Proof, Target, Try};
use super::{Authentication, Facts, Identity, Outage, Refusal, RefusalReason};
use crate::clock::Clock;
use crate::oauth2::SourceName;
use crate::storage::accounts::{AccountRow, PasswordRow};
use crate::storage::{Connection, Storage, StorageError, accounts};

/// The issuer of local identities: their subject is the account id itself, never a stranger's. No directory has it (theirs is
/// empty) and no provider can (theirs are URLs with an authority).
pub const ISSUER: &str = "countersign:local";

/// A source of `type = "local"`.
#[derive(Clone, Debug)]
pub struct Local {
    name: SourceName,
    storage: Storage,
    hasher: Arc<Hasher>,
    clock: Clock,
}

/// What the database knows about one local account.
struct Record {
    account: AccountRow,
    password: Option<PasswordRow>,
    roles: Vec<String>,
}

impl Local {
    pub fn new(name: SourceName, storage: Storage, hasher: Arc<Hasher>, clock: Clock) -> Local {
        Local { name, storage, hasher, clock }
    }

    /// Signs in with login and password. A password that must be changed still authenticates; the identity says so. Somebody unknown
    /// is said to be so at once, for another source to be asked: see [`Local::pretend`].
    pub async fn authenticate(&self, attempt: &Try<'_>) -> Authentication {
        if !policy::is_possible(attempt.password) {
            return impossible();
        }
        let record = match self.by_login(attempt.login).await {
            Ok(Some(record)) => record,
            Ok(None) => return refused(RefusalReason::UnknownUser, "no such account", None),
            Err(error) => return self.unavailable(error),
        };
        let (subject, stored) = (record.account.id.clone(), record.password.as_ref().map(|password| password.hash.clone()));
        let work = async {
            let verified = match &stored {
                Some(stored) => self.hasher.verify(attempt.password, stored).await,
                None => self.hasher.verify_nobody(attempt.password).await.map(|()| false),
            };
            match verified {
                Ok(true) => (Proof::Right, self.answer(record)),
                Ok(false) => (Proof::Wrong, refused(RefusalReason::BadPassword, "wrong password", Some(record.account))),
                Err(error) => (Proof::Uncounted, self.unavailable(error)),
            }
        };
        // A new password has a new hash.
        let target = Target { source: &self.name, subject: &subject, limits: None, password_state: stored.as_deref().unwrap_or_default() };
        attempt.shield.guard(target, attempt, work).await
    }

    /// What [`Local::authenticate`] does with somebody known, for somebody whom no source knows: as much work, and always a no.
    pub async fn pretend(&self, attempt: &Try<'_>) -> Authentication {
        if !policy::is_possible(attempt.password) {
            return impossible();
        }
        let subject = shield::pretended(attempt.login);
        let work = async {
            match self.hasher.verify_nobody(attempt.password).await {
                Ok(()) => (Proof::Wrong, refused(RefusalReason::UnknownUser, "no such account", None)),
                Err(error) => (Proof::Uncounted, self.unavailable(error)),
            }
        };
        let target = Target { source: &self.name, subject: &subject, limits: None, password_state: "" };
        attempt.shield.guard(target, attempt, work).await
    }

    /// Whom `login` names, without a password: for `explain`.
    pub async fn lookup(&self, login: &str) -> Authentication {
        let record = self.by_login(login).await;
        self.answer_if_found(record)
    }

    /// The person behind an account id as they are now, at refresh. `auth_time` is the time of this look, not of a sign-in.
    pub async fn recheck(&self, subject: &str) -> Authentication {
        let (source, id) = (self.name.clone(), subject.to_owned());
        let record = self.storage.read(move |c| {
            let account = accounts::find(c, &id)?.filter(|account| account.source == source.as_str());
            account.map(|account| Record::of(c, account)).transpose()
        });
        let record = record.await;
        self.answer_if_found(record)
    }

    async fn by_login(&self, login: &str) -> Result<Option<Record>, StorageError> {
        // What cannot be a name is nobody's; PostgreSQL would not even take a NUL.
        let Ok(folded) = login::fold(login) else { return Ok(None) };
        let source = self.name.clone();
        let find = move |c: &mut Connection| {
            let account = accounts::find_by_link(c, source.as_str(), ISSUER, &folded)?;
            account.map(|account| Record::of(c, account)).transpose()
        };
        self.storage.read(find).await
    }

    fn answer_if_found(&self, record: Result<Option<Record>, StorageError>) -> Authentication {
        match record {
            Ok(Some(record)) => self.answer(record),
            Ok(None) => refused(RefusalReason::UnknownUser, "no such account", None),
            Err(error) => self.unavailable(error),
        }
    }

    fn answer(&self, Record { account, password, roles }: Record) -> Authentication {
        if account.disabled {
            return refused(RefusalReason::Disabled, "the account is disabled", Some(account));
        }
        Authentication::Authenticated(Box::new(Identity {
            source: self.name.clone(),
            issuer: ISSUER.to_owned(),
            subject: account.id,
            username: account.username,
            dn: None,
            email: account.email,
            // An administrator wrote it down; nobody has proved that mail arrives.
            email_verified: false,
            name: account.name,
            facts: Facts::default(),
            claimed_groups: Vec::new(),
            assigned_roles: roles,
            auth_time: self.clock.now(),
            checked_at: self.clock.now(),
            amr: vec!["pwd".to_owned()],
            upstream: None,
            must_change_password: password.as_ref().is_some_and(|p| p.must_change),
            password_never_changed: password.is_some_and(|p| p.never_changed),
        }))
    }

    fn unavailable(&self, error: impl std::fmt::Display) -> Authentication {
        Authentication::Unavailable(Outage::new(&self.name, error.to_string()))
    }
}

impl Record {
    fn of(c: &mut Connection, account: AccountRow) -> Result<Record, StorageError> {
        let password = accounts::password(c, &account.id)?;
        let roles = accounts::roles(c, &account.id)?;
        Ok(Record { account, password, roles })
    }
}

fn impossible() -> Authentication {
    refused(RefusalReason::BadPassword, "the password is empty, holds NUL or is too long", None)
}

fn refused(reason: RefusalReason, detail: &str, account: Option<AccountRow>) -> Authentication {
    let subject = account.map(|account| account.id);
    Authentication::Refused(Refusal { subject, ..Refusal::new(reason, detail) })
}
