//! Counters and gauges, for Prometheus.
//!
//! What the hot path counts is looked up once, in [`install`]; counting is then one atomic addition. Where no metrics listener is
//! configured nothing is installed and nothing is counted.

mod route;

pub use route::Route;

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::oauth2::ErrorCode;
use crate::oauth2::request::GrantType;

const TOKENS: &str = "countersign_tokens_issued_total";
const INTROSPECTIONS: &str = "countersign_introspections_total";
const SIGN_INS: &str = "countersign_sign_ins_total";
const REFUSALS: &str = "countersign_refusals_total";
const SIGN_IN_REFUSALS: &str = "countersign_sign_in_refusals_total";
const AUDIT_LOST: &str = "countersign_audit_records_lost_total";
const AUDIT_SINK_RECORDS: &str = "countersign_audit_sink_records_total";
const AUDIT_SINK_FAILURES: &str = "countersign_audit_sink_failures_total";
const AUDIT_SINK_LAG: &str = "countersign_audit_sink_lag_seconds";
const REQUESTS: &str = "countersign_http_requests_total";
const CONNECTIONS: &str = "countersign_http_connections";
const PURGED: &str = "countersign_purged_rows_total";
const FEED_APPLIED: &str = "countersign_feed_applied";
const REVOCATIONS: &str = "countersign_revocations";
const FEED_AGE: &str = "countersign_feed_age_seconds";
const LDAP: &str = "countersign_ldap_operation_seconds";
const LDAP_BREAKER: &str = "countersign_ldap_breaker_open";
const LDAP_FAILOVERS: &str = "countersign_ldap_failovers_total";
const HASH_QUEUE: &str = "countersign_password_hash_queue";

/// Upper bounds of the buckets for calls to directories, in seconds.
const LATENCIES: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

static HOT: OnceLock<Hot> = OnceLock::new();

/// What is counted on every request.
struct Hot {
    tokens: [Counter; GrantType::ALL.len()],
    active: Counter,
    inactive: Counter,
    requests: [[Counter; STATUSES.len()]; Route::ALL.len()],
    connections: Gauge,
}

/// The statuses with a counter of their own at hand; others are looked up.
const STATUSES: [(u16, &str); 8] =
    [(200, "200"), (304, "304"), (400, "400"), (401, "401"), (404, "404"), (429, "429"), (500, "500"), (503, "503")];

/// Renders what was counted.
#[derive(Clone)]
pub struct Handle(PrometheusHandle);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("metrics::Handle")
    }
}

impl From<PrometheusHandle> for Handle {
    fn from(handle: PrometheusHandle) -> Handle {
        Handle(handle)
    }
}

impl Handle {
    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds the observations of histograms together; without it they pile up between two scrapes. Call it every few seconds.
    pub fn fold(&self) {
        self.0.run_upkeep();
    }
}

/// Starts counting. To be called once, before anything that counts. Errors: a recorder is there already.
pub fn install() -> Result<Handle, BuildError> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Full(LDAP.to_owned()), &LATENCIES)?;
    let handle = builder.install_recorder()?;
    describe();
    let hot = Hot {
        tokens: GrantType::ALL.map(|grant| counter!(TOKENS, "grant" => grant.as_str())),
        active: counter!(INTROSPECTIONS, "active" => "true"),
        inactive: counter!(INTROSPECTIONS, "active" => "false"),
        requests: Route::ALL.map(|route| STATUSES.map(|(_, status)| counter!(REQUESTS, "route" => route.as_str(), "status" => status))),
        connections: gauge!(CONNECTIONS),
    };
    let _ = HOT.set(hot);
    Ok(Handle(handle))
}

fn describe() {
    describe_counter!(TOKENS, "Access tokens issued, by grant type.");
    describe_counter!(INTROSPECTIONS, "Introspections answered, by whether the token was active.");
    describe_counter!(
        SIGN_INS,
        "Sign-ins of people, by source and outcome: ok, refused, or unavailable where the source could not be asked."
    );
    describe_counter!(REFUSALS, "Requests refused, by the OAuth error code of the answer.");
    describe_counter!(SIGN_IN_REFUSALS, "Sign-ins and refreshes of people refused, by reason.");
    describe_counter!(AUDIT_LOST, "Records of refusals that the database did not take in time.");
    describe_counter!(AUDIT_SINK_RECORDS, "Audit records that this node handed to a sink.");
    describe_counter!(AUDIT_SINK_FAILURES, "Attempts to hand audit records to a sink that failed; the records wait in the database.");
    describe_gauge!(AUDIT_SINK_LAG, Unit::Seconds, "Age of the oldest audit record that has not reached a sink.");
    describe_counter!(REQUESTS, "HTTP requests answered, by route and status.");
    describe_gauge!(CONNECTIONS, "HTTP connections that are open.");
    describe_counter!(PURGED, "Expired rows deleted, by table.");
    describe_gauge!(FEED_APPLIED, "The number of the last feed entry (revocations and changes) that this node has applied.");
    describe_gauge!(REVOCATIONS, "Revocations that this node holds in memory.");
    describe_gauge!(FEED_AGE, Unit::Seconds, "How long ago this node last saw the head of the feed.");
    describe_histogram!(LDAP, Unit::Seconds, "How long calls to directories took, by source and operation.");
    describe_gauge!(LDAP_BREAKER, "Whether a directory server is held to be down (1) or not (0), by source and server.");
    describe_counter!(LDAP_FAILOVERS, "How often connections went over to a later server, by source.");
    describe_gauge!(HASH_QUEUE, "Password hashes that wait for a thread.");
}

/// An access token was issued.
pub fn token_issued(grant: GrantType) {
    let position = GrantType::ALL.iter().position(|other| *other == grant);
    if let Some(counter) = HOT.get().zip(position).and_then(|(hot, at)| hot.tokens.get(at)) {
        counter.increment(1);
    }
}

/// An introspection was answered.
pub fn introspected(active: bool) {
    if let Some(hot) = HOT.get() {
        if active { hot.active.increment(1) } else { hot.inactive.increment(1) }
    }
}

/// A request was answered.
pub fn request_answered(route: Route, status: u16) {
    let Some(hot) = HOT.get() else { return };
    let column = STATUSES.iter().position(|(known, _)| *known == status);
    match hot.requests.get(route as usize).zip(column).and_then(|(row, at)| row.get(at)) {
        Some(counter) => counter.increment(1),
        None => counter!(REQUESTS, "route" => route.as_str(), "status" => status.to_string()).increment(1),
    }
}

/// A connection was opened; it counts as open until the value is dropped.
pub fn connection_opened() -> OpenConnection {
    if let Some(hot) = HOT.get() {
        hot.connections.increment(1.0);
    }
    OpenConnection(())
}

/// An open connection, see [`connection_opened`].
#[derive(Debug)]
#[must_use]
pub struct OpenConnection(());

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(hot) = HOT.get() {
            hot.connections.decrement(1.0);
        }
    }
}

/// How a sign-in ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    Ok,
    Refused,
    /// The source could not be asked.
    Unavailable,
}

/// Somebody tried to sign in at `source`.
pub fn signed_in(source: &str, outcome: SignIn) {
    if HOT.get().is_some() {
        let outcome = match outcome {
            SignIn::Ok => "ok",
            SignIn::Refused => "refused",
            SignIn::Unavailable => "unavailable",
        };
        counter!(SIGN_INS, "source" => source.to_owned(), "outcome" => outcome).increment(1);
    }
}

/// A person was not let in, and why: one of few words, the same as in the audit.
pub fn sign_in_refused(reason: &'static str) {
    if HOT.get().is_some() {
        counter!(SIGN_IN_REFUSALS, "reason" => reason).increment(1);
    }
}

/// Audit records of refusals did not reach the database.
pub fn audit_lost(records: u64) {
    counter!(AUDIT_LOST).increment(records);
}

/// A sink of the audit (file, syslog) took records.
pub fn audit_sink_took(sink: &'static str, records: u64) {
    counter!(AUDIT_SINK_RECORDS, "sink" => sink).increment(records);
}

/// A sink of the audit did not take what it was handed.
pub fn audit_sink_failed(sink: &'static str) {
    counter!(AUDIT_SINK_FAILURES, "sink" => sink).increment(1);
}

/// How old the oldest record is that a sink of the audit has not got yet, in seconds.
pub fn audit_sink_lag(sink: &'static str, seconds: i64) {
    gauge!(AUDIT_SINK_LAG, "sink" => sink).set(seconds as f64);
}

/// A request was answered with an OAuth error.
pub fn refused(code: ErrorCode) {
    if HOT.get().is_some() {
        counter!(REFUSALS, "reason" => code.as_str()).increment(1);
    }
}

/// The purge deleted `rows` of `table`.
pub fn purged(table: &'static str, rows: u64) {
    counter!(PURGED, "table" => table).increment(rows);
}

/// How far this node has followed the feed; to be set before each rendering.
pub fn feed(applied: i64, age: Duration) {
    gauge!(FEED_APPLIED).set(applied as f64);
    gauge!(FEED_AGE).set(age.as_secs_f64());
}

/// How many revocations are held in memory; to be set before each rendering.
pub fn revocations(count: usize) {
    gauge!(REVOCATIONS).set(count as f64);
}

/// How many password hashes wait for a thread; to be set before each rendering.
pub fn hash_queue(waiting: usize) {
    gauge!(HASH_QUEUE).set(waiting as f64);
}

/// A directory answered, or did not, after `took`. `operation` is one of few: bind, search, connect.
pub fn ldap_operation(source: &str, operation: &'static str, took: Duration) {
    if HOT.get().is_some() {
        histogram!(LDAP, "source" => source.to_owned(), "operation" => operation).record(took.as_secs_f64());
    }
}

/// Whether the server (`host:port`) of a directory is held to be down.
pub fn ldap_breaker(source: &str, server: &str, open: bool) {
    if HOT.get().is_some() {
        gauge!(LDAP_BREAKER, "source" => source.to_owned(), "server" => server.to_owned()).set(if open { 1.0 } else { 0.0 });
    }
}

/// Connections of a directory go to a later server than before.
pub fn ldap_failover(source: &str) {
    if HOT.get().is_some() {
        counter!(LDAP_FAILOVERS, "source" => source.to_owned()).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered() {
        let handle = install().unwrap();
        token_issued(GrantType::ClientCredentials);
        token_issued(GrantType::ClientCredentials);
        introspected(false);
        request_answered(Route::Token, 200);
        request_answered(Route::Other, 418);
        signed_in("corp", SignIn::Unavailable);
        refused(ErrorCode::InvalidGrant);
        purged("grants", 3);
        feed(7, Duration::from_millis(1500));
        revocations(5);
        hash_queue(2);
        ldap_operation("corp", "bind", Duration::from_millis(3));
        let open = connection_opened();
        handle.fold();
        let text = handle.render();
        for line in [
            "countersign_tokens_issued_total{grant=\"client_credentials\"} 2",
            "countersign_tokens_issued_total{grant=\"password\"} 0",
            "countersign_introspections_total{active=\"false\"} 1",
            "countersign_http_requests_total{route=\"token\",status=\"200\"} 1",
            "countersign_http_requests_total{route=\"other\",status=\"418\"} 1",
            "countersign_sign_ins_total{source=\"corp\",outcome=\"unavailable\"} 1",
            "countersign_refusals_total{reason=\"invalid_grant\"} 1",
            "countersign_purged_rows_total{table=\"grants\"} 3",
            "countersign_feed_applied 7",
            "countersign_feed_age_seconds 1.5",
            "countersign_revocations 5",
            "countersign_password_hash_queue 2",
            "countersign_ldap_operation_seconds_bucket{source=\"corp\",operation=\"bind\",le=\"0.005\"} 1",
            "countersign_http_connections",
            "# HELP countersign_tokens_issued_total Access tokens issued",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        drop(open);
        assert!(install().is_err());
    }
}
