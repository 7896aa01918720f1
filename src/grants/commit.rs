//! The one write of a sign-in: single use of what it rests on, account, grant, refresh family and audit record, in one transaction.

use super::Caller;
use super::issue;
use super::sign_in::GrantRecord;
use super::upstream_revocation;
use crate::accounts::{self, LinkError};
use crate::app::App;
use crate::audit::Record;
use crate::identity::Identity;
use crate::storage::accounts::AccountRow;
use crate::storage::causes::{self, Admitted};
use crate::storage::grants::{FamilyRow, GrantRow};
use crate::storage::{Connection, StorageError, audit, clients, feed, grants, used};
use crate::tokens::revocation::Kind;
use crate::tokens::{CLOCK_MARGIN, lifecycle};

/// What came of the one write.
pub enum Written {
    Signed(Box<AccountRow>),
    NoAccount(LinkError),
    /// The id token was used before.
    Replayed,
    /// A revocation that this request had not seen kills what it was about to issue.
    Overtaken,
}

/// Seconds that things of this client live.
#[derive(Clone, Copy)]
pub struct Lifetimes {
    pub access: i64,
    pub refresh: i64,
    pub idle: i64,
}

impl Lifetimes {
    pub fn of(app: &App, caller: &Caller) -> Lifetimes {
        let tokens = &app.config.tokens;
        Lifetimes {
            access: issue::access_lifetime(app, &caller.client),
            refresh: tokens.refresh_lifetime.as_secs() as i64,
            idle: tokens.refresh_idle.as_secs() as i64,
        }
    }
}

/// Everything that the one write needs, owned, since it runs on another thread.
pub struct NewSignIn {
    pub identity: Identity,
    pub first_source: String,
    pub client_id: String,
    pub client_number: i64,
    pub record: GrantRecord,
    pub scope: String,
    pub audience: String,
    pub grant_id: String,
    pub family_id: Option<String>,
    pub lifetimes: Lifetimes,
    pub audit: Record,
    pub rv: i64,
    pub now: i64,
}

impl NewSignIn {
    /// Runs inside of the write transaction.
    pub fn write(mut self, tx: &mut Connection) -> Result<Written, StorageError> {
        let (now, identity) = (self.now, &self.identity);
        let Some(rests_on) = self.admitted(tx)? else { return Ok(Written::Overtaken) };
        if let Some(upstream) = &identity.upstream {
            let key = format!("{}\n{}", upstream.issuer, upstream.token_id);
            if predates_recovery(tx, identity)? {
                return Ok(Written::Replayed);
            }
            if !used::claim(tx, "id_token", &key, upstream.remember_until)? {
                return Ok(Written::Replayed);
            }
        }
        let account = match accounts::link(tx, identity, &self.first_source, now) {
            Ok(account) => account,
            Err(LinkError::Storage(error)) => return Err(error),
            Err(no_account) => return Ok(Written::NoAccount(no_account)),
        };
        // Once more, now that nobody else can make an account: a provider may have revoked before there was one.
        if self.barred(tx)? {
            return Ok(Written::Overtaken);
        }
        self.record.username.clone_from(&account.username);
        let ends = now + if self.family_id.is_some() { self.lifetimes.refresh } else { self.lifetimes.access };
        grants::insert(
            tx,
            &GrantRow {
                id: self.grant_id.clone(),
                account_id: account.id.clone(),
                client_id: self.client_id.clone(),
                source: identity.source.to_string(),
                scope: self.scope.clone(),
                record: serde_json::to_string(&self.record).map_err(|reason| StorageError::Invalid(reason.to_string()))?,
                rv: self.rv,
                auth_time: identity.auth_time,
                identity_checked_at: identity.checked_at,
                created_at: now,
                expires_at: ends + self.lifetimes.access + CLOCK_MARGIN,
            },
            &rests_on,
        )?;
        if let Some(id) = &self.family_id {
            grants::insert_family(
                tx,
                &FamilyRow {
                    id: id.clone(),
                    grant_id: self.grant_id.clone(),
                    client_id: self.client_id.clone(),
                    scope: self.scope.clone(),
                    audience: self.audience.clone(),
                    generation: 1,
                    rotated_at: now,
                    dead: false,
                    created_at: now,
                    expires_at: now + self.lifetimes.refresh,
                    idle_expires_at: now + self.lifetimes.idle,
                },
            )?;
        }
        let mut audit = self.audit.account(&account.id).username(&account.username);
        if let Some(detail) = audit.detail.as_object_mut() {
            detail.insert("grant_id".to_owned(), self.grant_id.into());
        }
        audit::insert(tx, &audit)?;
        Ok(Written::Signed(Box::new(account)))
    }

    /// What the grant rests on; None if a revocation that this request had not seen would kill what it is about to issue. (One that
    /// commits after this look has a higher number than `rv` and kills it by that; one by cause waits until this transaction ends.)
    fn admitted(&self, tx: &mut Connection) -> Result<Option<Admitted>, StorageError> {
        let identity = &self.identity;
        let Some(rests_on) = causes::admit(tx, self.record.causes(identity.source.as_str()), self.rv)? else { return Ok(None) };
        // Whoever was the client when the request began must still be, or what is issued would be inherited by a namesake.
        let client = clients::find(tx, &self.client_id)?;
        if client.is_none_or(|(row, _)| row.disabled || row.number != self.client_number) {
            return Ok(None);
        }
        if self.barred(tx)? {
            return Ok(None);
        }
        let account = crate::storage::accounts::find_by_link(tx, identity.source.as_str(), &identity.issuer, &identity.subject)?;
        let local = account.map(|a| a.id).unwrap_or_else(|| identity.subject.clone());
        let mut properties = vec![
            (Kind::All.as_str(), ""),
            (Kind::Client.as_str(), self.client_id.as_str()),
            (Kind::Source.as_str(), identity.source.as_str()),
        ];
        properties.push((Kind::Subject.as_str(), local.as_str()));
        let overtaken = feed::latest_matching(tx, &properties)?.is_some_and(|n| n > self.rv);
        Ok((!overtaken).then_some(rests_on))
    }

    /// Whether the provider has revoked everything of this person since it issued the token that this sign-in rests on.
    fn barred(&self, tx: &mut Connection) -> Result<bool, StorageError> {
        let identity = &self.identity;
        let Some(upstream) = &identity.upstream else { return Ok(false) };
        upstream_revocation::barred(tx, identity.source.as_str(), &identity.issuer, &identity.subject, upstream.remember_until)
    }
}

/// Whether the id token was issued before the database was last recovered from a backup: then it may have been used in the time that
/// the backup has forgotten, and counts as used.
fn predates_recovery(tx: &mut Connection, identity: &Identity) -> Result<bool, StorageError> {
    let Some(recovered) = lifecycle::recovered_at(tx)? else { return Ok(false) };
    let issued_at = identity.facts.claims.get("iat").and_then(serde_json::Value::as_f64);
    Ok(issued_at.is_none_or(|issued_at| issued_at <= recovered as f64))
}
