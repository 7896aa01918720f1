//! A try with a password, and what is written down when it fails.
//!
//! Two throttles bound the work of this node before anybody is asked: by the login as typed and by the network that the request
//! comes from. They are coarse; what one person's account can take is counted by the shield (`identity::shield`), for all nodes and
//! however the login is written. A login that others are guessing at stays open to networks that it signed in from before.

use super::Caller;
use crate::app::App;
use crate::audit::{Event, Record};
use crate::identity::shield::fold;
use crate::identity::{Outage, Refusal, RefusalReason, Try};
use crate::limits::{Throttle, network};
use crate::oauth2::{OAuth2Error, Secret};

/// One try with a password, counted before the source is asked, so that many at once cannot slip past the throttle.
#[derive(Debug)]
pub struct Attempt {
    login: String,
    address: String,
    /// Whether the login is counted for this network alone.
    familiar: bool,
    fingerprint: String,
}

impl Attempt {
    /// Errors: 429 for too many failed tries with this login or from this address, 503 for the database.
    pub async fn begin(app: &App, caller: &Caller, login: &str, password: &Secret) -> Result<Attempt, OAuth2Error> {
        let address = network(caller.address);
        let attempt = Try { login, password, network: &address, shield: &app.shield, house: None };
        let fingerprint = app.shield.fingerprint(caller.client.id.as_str(), &attempt);
        let throttles = &app.throttles;
        let throttled = |wait| {
            crate::metrics::sign_in_refused("throttled");
            app.refusals.record(refusal_record(caller, "throttled", app.clock.now()).username(login));
            OAuth2Error::too_many_tries(wait)
        };
        throttles.repeats.check(&fingerprint).map_err(throttled)?;
        throttles.addresses.take(&address).map_err(throttled)?;
        let mut attempt = Attempt { login: fold(login), address, familiar: false, fingerprint };
        if let Err(wait) = throttles.logins.take(&attempt.login) {
            // One look in the database, at most as often as the address may try.
            let familiar = app.shield.is_familiar(login, &attempt.address).await;
            attempt.familiar = familiar.inspect_err(|_| throttles.addresses.forgive(&attempt.address))?;
            let wait = if attempt.familiar { throttles.familiar_logins.take(&attempt.own_login()).err() } else { Some(wait) };
            if let Some(wait) = wait {
                // A stranger's address has used up one of its tries, or it could make us look in the database without end.
                if attempt.familiar {
                    throttles.addresses.forgive(&attempt.address);
                }
                return Err(throttled(wait));
            }
        }
        Ok(attempt)
    }

    /// Who tries what, for the sources.
    pub fn of<'a>(&'a self, app: &'a App, login: &'a str, password: &'a Secret) -> Try<'a> {
        Try { login, password, network: &self.address, shield: &app.shield, house: None }
    }

    /// Not counted after all. Failures before it stay counted: they may be somebody else's.
    pub fn succeeded(self, app: &App) {
        self.forgive(app);
    }

    /// Counted, unless it was the same wrong password again: that is no guess, and a forgotten job must not keep its whole network out.
    /// One text for every reason.
    pub fn refused(self, app: &App, caller: &Caller, login: &str, refusal: &Refusal, now: i64) -> OAuth2Error {
        crate::metrics::sign_in_refused(refusal.reason.as_str());
        let detail = serde_json::json!({ "detail": refusal.detail, "subject": refusal.subject });
        let record = refusal_record(caller, refusal.reason.as_str(), now).username(login).detail(detail);
        app.refusals.record(match &refusal.source {
            Some(source) => record.source(source.as_str()),
            None => record,
        });
        if refusal.reason == RefusalReason::KnownBadPassword {
            app.throttles.repeats.fail(&self.fingerprint);
            self.forgive(app);
        }
        refusal.wait.map_or_else(OAuth2Error::invalid_grant, OAuth2Error::too_many_tries)
    }

    /// Outages do not count.
    pub fn could_not_ask(self, app: &App, outage: Outage) -> OAuth2Error {
        self.forgive(app);
        unavailable(outage)
    }

    fn forgive(&self, app: &App) {
        let (throttle, key): (&Throttle, _) = match self.familiar {
            true => (&app.throttles.familiar_logins, self.own_login()),
            false => (&app.throttles.logins, self.login.clone()),
        };
        throttle.forgive(&key);
        app.throttles.addresses.forgive(&self.address);
    }

    fn own_login(&self) -> String {
        format!("{} {}", self.address, self.login)
    }
}

pub fn unavailable(outage: Outage) -> OAuth2Error {
    let error = OAuth2Error::unavailable("the identity source cannot be asked now; nothing was decided");
    OAuth2Error { retry_after: outage.retry_after.or(error.retry_after), ..error }.because(outage)
}

/// An audit record of a refused sign-in.
pub fn refusal_record(caller: &Caller, reason: &str, now: i64) -> Record {
    of_caller(Record::refused(Event::SignInRefused, now, reason), caller)
}

/// Adds who asked, and from where.
pub fn of_caller(record: Record, caller: &Caller) -> Record {
    record.client(caller.client.id.as_str()).address(caller.address).request(caller.request_id.to_string())
}
