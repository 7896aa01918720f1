//! A provider ends everything of one of its people (Global Token Revocation, Okta's Universal Logout): every grant of the account,
//! and id tokens that were issued before and not used yet. The reverse of a sign-in, so it is written as one: durable before the
//! answer, in one transaction that a sign-in in flight does not escape.

use std::net::IpAddr;

use crate::app::App;
use crate::audit::{Event, Record, RequestId};
use crate::identity::oidc::{Halt, Oidc, UnverifiedIdToken, VerifiedRevocation};
use crate::identity::{Refusal, TokenRefusal};
use crate::limits::network;
use crate::oauth2::{ErrorCode, OAuth2Error, Secret, SourceName};
use crate::storage::{Connection, StorageError, accounts, audit, feed, used};
use crate::tokens::CLOCK_MARGIN;
use crate::tokens::lifecycle::longest_lifetime;
use crate::tokens::revocation::Kind;

/// The kind of row that remembers the provider's token as used.
const USED: &str = "global_token_revocation";
/// The kind of row that bars id tokens issued before a revocation.
const BAR: &str = "upstream_revoked";

/// Whose everything ends: `iss_sub` of RFC 9493 section 3.2.2.
#[derive(Clone, Debug)]
pub struct UpstreamSubject {
    pub issuer: String,
    pub subject: String,
}

/// A provider that asks, from an address.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a> {
    pub source: &'a SourceName,
    pub oidc: &'a Oidc,
    pub address: IpAddr,
    pub request_id: RequestId,
}

impl Upstream<'_> {
    /// Verifies the bearer token of a request to `endpoint`, the URL of our endpoint for this source.
    ///
    /// Errors: `invalid_token`, 429 for too many bad ones from this address, 503 while the provider's keys cannot be had.
    pub async fn authenticate(&self, app: &App, presented: &Secret, endpoint: &str) -> Result<VerifiedRevocation, OAuth2Error> {
        let key = format!("{} {USED} {}", self.source, network(self.address));
        let throttled = |wait| self.refused(app, "throttled", "", OAuth2Error::too_many_tries(wait));
        // Only after the verification: the address may be shared, and whoever sends rubbish from it must not hold up the provider.
        // Fetches of keys, the only costly part, have a budget of their own.
        let invalid = |refusal: Refusal| {
            if let Err(wait) = app.throttles.exchanges.check(&key) {
                return throttled(wait);
            }
            app.throttles.exchanges.fail(&key);
            let error = OAuth2Error::new(ErrorCode::InvalidToken, "the token of the request is not valid");
            self.refused(app, refusal.reason.as_str(), &refusal.detail, error)
        };
        let malformed = |reason: TokenRefusal| invalid(Refusal::new(crate::identity::RefusalReason::Token(reason), "no JWT"));
        let token = UnverifiedIdToken::parse(presented.expose()).map_err(malformed)?;
        self.oidc.verify_revocation(&token, endpoint).await.map_err(|halt| match halt {
            Halt::No(refusal) => invalid(refusal),
            Halt::Down(outage) => super::attempt::unavailable(outage),
        })
    }

    /// Ends everything of the person. Once more is no error, with another token.
    ///
    /// Errors: `invalid_request` for somebody of another issuer, 404 for somebody unknown here, `invalid_token` for a token that was
    /// used before, 429, 503.
    pub async fn revoke(&self, app: &App, verified: VerifiedRevocation, whose: UpstreamSubject) -> Result<(), OAuth2Error> {
        if !self.oidc.names_people_of(&whose.issuer) {
            let error = OAuth2Error::invalid_request("the subject is of another issuer than this source");
            return Err(self.refused(app, "wrong_issuer", "", error));
        }
        let throttled = |wait| self.refused(app, "throttled", "", OAuth2Error::too_many_tries(wait));
        app.throttles.revocations.take(&format!("{} {USED}", self.source)).map_err(throttled)?;
        app.rv()?;
        let now = app.clock.now();
        let detail = serde_json::json!({ "issuer": whose.issuer, "subject": whose.subject });
        let ending = Ending {
            used: format!("{}\n{}", self.source, verified.token_id),
            source: self.source.to_string(),
            issuer: self.oidc.issuer().to_owned(),
            subject: whose.subject,
            audit: self.record(Record::ok(Event::UpstreamRevoked, now)).detail(detail),
            verified,
            now,
        };
        match app.storage.write(move |tx| ending.write(tx)).await? {
            Ended::All => app.catch_up().await,
            Ended::Nobody => {
                let error = OAuth2Error::invalid_request("nobody with this subject is known here");
                Err(self.refused(app, "unknown_user", "", OAuth2Error { status: 404, ..error }))
            }
            Ended::Replayed => {
                let error = OAuth2Error::new(ErrorCode::InvalidToken, "the token of the request was used before");
                Err(self.refused(app, TokenRefusal::Replayed.as_str(), "", error))
            }
        }
    }

    fn refused(&self, app: &App, reason: &str, detail: &str, error: OAuth2Error) -> OAuth2Error {
        let record = self.record(Record::refused(Event::UpstreamRevoked, app.clock.now(), reason));
        app.refusals.record(record.detail(detail.into()));
        error
    }

    fn record(&self, record: Record) -> Record {
        record.source(self.source.as_str()).address(self.address).request(self.request_id.to_string())
    }
}

/// Whether an id token of this person that is to be remembered until `remember_until` was issued before a revocation.
pub fn barred(tx: &mut Connection, source: &str, issuer: &str, subject: &str, remember_until: i64) -> Result<bool, StorageError> {
    Ok(used::until(tx, BAR, &person(source, issuer, subject))?.is_some_and(|bars_until| remember_until <= bars_until))
}

fn person(source: &str, issuer: &str, subject: &str) -> String {
    format!("{source}\n{issuer}\n{subject}")
}

enum Ended {
    All,
    Nobody,
    Replayed,
}

/// The one write.
struct Ending {
    used: String,
    source: String,
    issuer: String,
    subject: String,
    verified: VerifiedRevocation,
    audit: Record,
    now: i64,
}

impl Ending {
    fn write(self, tx: &mut Connection) -> Result<Ended, StorageError> {
        let Ending { source, issuer, subject, verified, now, .. } = &self;
        if !used::claim(tx, USED, &self.used, verified.remember_until)? {
            return Ok(Ended::Replayed);
        }
        // Also for somebody who is not known yet: their first sign-in may be on its way.
        used::extend(tx, BAR, &person(source, issuer, subject), verified.bars_until)?;
        let account = match accounts::find_by_link(tx, source, issuer, subject)? {
            Some(account) => Some(account),
            // A first sign-in that is being written holds the numbers; one that begins later finds the bar.
            None => {
                accounts::lock_numbers(tx)?;
                accounts::find_by_link(tx, source, issuer, subject)?
            }
        };
        let Some(account) = account else { return Ok(Ended::Nobody) };
        audit::insert(tx, &self.audit.clone().account(&account.id).username(&account.username))?;
        let until = now + longest_lifetime(tx)? + CLOCK_MARGIN;
        feed::append(tx, Kind::Subject.as_str(), &account.id, until, *now)?;
        Ok(Ended::All)
    }
}
