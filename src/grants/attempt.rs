//! A try with a password, and what is written down when it fails.

use unicode_normalization::UnicodeNormalization;

use super::Caller;
use crate::app::App;
use crate::audit::{Event, Record};
use crate::identity::{Outage, Refusal};
use crate::limits::network;
use crate::oauth2::OAuth2Error;

/// One try with a password, counted before the source is asked, so that many at once cannot slip past the throttle.
#[derive(Debug)]
pub struct Attempt {
    login: String,
    address: String,
}

impl Attempt {
    /// Errors: 429 for too many failed tries with this login or from this address.
    pub fn begin(app: &App, caller: &Caller, login: &str) -> Result<Attempt, OAuth2Error> {
        let attempt = Attempt { login: fold(login), address: network(caller.address) };
        let throttles = &app.throttles;
        let throttled = |wait| {
            crate::metrics::sign_in_refused("throttled");
            app.refusals.record(refusal_record(caller, "throttled", app.clock.now()).username(login));
            OAuth2Error::too_many_tries(wait)
        };
        throttles.addresses.take(&attempt.address).map_err(throttled)?;
        throttles.logins.take(&attempt.login).map_err(|wait| {
            throttles.addresses.forgive(&attempt.address);
            throttled(wait)
        })?;
        Ok(attempt)
    }

    /// Not counted after all. Failures before it stay counted: they may be somebody else's.
    pub fn succeeded(self, app: &App) {
        app.throttles.addresses.forgive(&self.address);
        app.throttles.logins.forgive(&self.login);
    }

    /// Counted. One text for every reason.
    pub fn refused(self, app: &App, caller: &Caller, login: &str, refusal: &Refusal, now: i64) -> OAuth2Error {
        crate::metrics::sign_in_refused(refusal.reason.as_str());
        let detail = serde_json::json!({ "detail": refusal.detail, "subject": refusal.subject });
        let record = refusal_record(caller, refusal.reason.as_str(), now).username(login).detail(detail);
        app.refusals.record(match &refusal.source {
            Some(source) => record.source(source.as_str()),
            None => record,
        });
        OAuth2Error::invalid_grant()
    }

    /// Outages do not count.
    pub fn could_not_ask(self, app: &App, outage: Outage) -> OAuth2Error {
        app.throttles.addresses.forgive(&self.address);
        app.throttles.logins.forgive(&self.login);
        unavailable(outage)
    }
}

/// The login that is throttled: directories ignore case, compatibility forms and how many spaces there are.
fn fold(login: &str) -> String {
    let folded: String = login.nfkc().flat_map(char::to_lowercase).collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
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
