//! Who somebody is. One file for each kind of source: [`local`], [`ldap`], [`oidc`] (Okta is a preset of it).
//!
//! A source answers one of three things, never two at once: yes with an [`Identity`], no with a [`Refusal`], or that it could not
//! be asked. The raw groups it answers are complete, or the answer is an error.

pub mod certificates;
pub mod checks;
pub mod finding;
pub mod ldap;
pub mod local;
pub mod oidc;
pub mod shield;
mod sources;

pub use crate::roles::facts::{Facts, Group};
pub use shield::{Shield, Try};
pub use sources::{Named, Source, Sources};

use std::time::Duration;

use crate::oauth2::SourceName;

/// A person, as the source that authenticated them knows them.
#[derive(Clone, Debug)]
pub struct Identity {
    pub source: SourceName,
    /// The issuer of an OIDC source; empty for others. With `subject` it names the person for ever.
    pub issuer: String,
    /// Immutable within the source: entryUUID, objectGUID, `sub`, account id.
    pub subject: String,
    /// The first login attribute as the directory stores it, never as typed.
    pub username: String,
    /// The entry's distinguished name, for LDAP.
    pub dn: Option<String>,
    pub email: Option<String>,
    /// Whether the source itself vouches for the e-mail address.
    pub email_verified: bool,
    pub name: Option<String>,
    /// Groups and claims, for `roles`.
    pub facts: Facts,
    /// The values of the groups claim, for OIDC.
    pub claimed_groups: Vec<String>,
    /// Roles that the source's own record gives (local accounts).
    pub assigned_roles: Vec<String>,
    /// `auth_time`: when the person proved who they are, in seconds.
    pub auth_time: i64,
    /// As of when groups and claims are known, in seconds: when the source was asked, or when the provider issued the id token.
    pub checked_at: i64,
    /// RFC 8176.
    pub amr: Vec<String>,
    /// Where an exchanged token came from.
    pub upstream: Option<Upstream>,
    /// The password works, and must be changed at the next sign-in on a page.
    pub must_change_password: bool,
    /// Still the password that was generated for the account.
    pub password_never_changed: bool,
}

impl Identity {
    /// The names of all groups: distinguished names, or the values of the groups claim.
    pub fn group_names(&self) -> Vec<String> {
        self.facts.groups.iter().map(|group| group.dn.clone()).chain(self.claimed_groups.iter().cloned()).collect()
    }
}

/// The upstream token that a sign-in rests on.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    pub issuer: String,
    /// `sid`, where the provider sends one.
    pub session: Option<String>,
    /// `jti`, else the digest of header.payload: what makes it single-use.
    pub token_id: String,
    /// Until when the use must be remembered, in seconds.
    pub remember_until: i64,
}

/// The three outcomes.
#[derive(Clone, Debug)]
pub enum Authentication {
    Authenticated(Box<Identity>),
    Refused(Refusal),
    /// Could not ask; nothing was decided.
    Unavailable(Outage),
}

/// A no, with the reason for the audit. The caller hears one text for all.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub reason: RefusalReason,
    /// The source that said no.
    pub source: Option<SourceName>,
    /// The subject or account, where the source knows it.
    pub subject: Option<String>,
    /// For the audit: codes, never passwords.
    pub detail: String,
    /// When to come again, where that is the reason.
    pub wait: Option<Duration>,
}

impl Refusal {
    pub fn new(reason: RefusalReason, detail: impl Into<String>) -> Refusal {
        Refusal { reason, source: None, subject: None, detail: detail.into(), wait: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    UnknownUser,
    BadPassword,
    Disabled,
    Locked,
    AccountExpired,
    PasswordExpired,
    PasswordChangeRequired,
    /// Found, but outside the filter or not the only match.
    NotEligible,
    /// Not within the hours or from the workstation that the directory asks for.
    NotNow,
    /// The shield let nobody through: too many tries for this person ([`Refusal::wait`]).
    Shielded,
    /// The same wrong password again; the source was not asked.
    KnownBadPassword,
    /// The id token was refused; the detail holds the code of federation rules (`bad_signature` …).
    Token(TokenRefusal),
}

/// Why an id token is refused, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenRefusal {
    Malformed,
    AlgNotAllowed,
    UnknownKey,
    BadSignature,
    WrongIssuer,
    WrongTokenType,
    WrongAudience,
    Expired,
    NotYetValid,
    TooOld,
    NonceMismatch,
    Replayed,
    InsufficientAuthentication,
    SubjectRejected,
    /// The access token that came along is not the id token's, or the provider does not accept it.
    AccessTokenRejected,
    GroupsUnavailable,
}

impl RefusalReason {
    /// The word in audit records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalReason::UnknownUser => "unknown_user",
            RefusalReason::BadPassword => "bad_password",
            RefusalReason::Disabled => "disabled",
            RefusalReason::Locked => "locked",
            RefusalReason::AccountExpired => "account_expired",
            RefusalReason::PasswordExpired => "password_expired",
            RefusalReason::PasswordChangeRequired => "password_change_required",
            RefusalReason::NotEligible => "not_eligible",
            RefusalReason::NotNow => "not_now",
            RefusalReason::Shielded => "shielded",
            RefusalReason::KnownBadPassword => "known_bad_password",
            RefusalReason::Token(token) => token.as_str(),
        }
    }
}

impl TokenRefusal {
    /// Whether anybody can have written the token: these may come before its signature is verified.
    pub fn is_unverified(self) -> bool {
        use TokenRefusal::{AlgNotAllowed, BadSignature, Malformed, UnknownKey};
        matches!(self, Malformed | AlgNotAllowed | UnknownKey | BadSignature)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            TokenRefusal::Malformed => "malformed",
            TokenRefusal::AlgNotAllowed => "alg_not_allowed",
            TokenRefusal::UnknownKey => "unknown_key",
            TokenRefusal::BadSignature => "bad_signature",
            TokenRefusal::WrongIssuer => "wrong_issuer",
            TokenRefusal::WrongTokenType => "wrong_token_type",
            TokenRefusal::WrongAudience => "wrong_audience",
            TokenRefusal::Expired => "expired",
            TokenRefusal::NotYetValid => "not_yet_valid",
            TokenRefusal::TooOld => "too_old",
            TokenRefusal::NonceMismatch => "nonce_mismatch",
            TokenRefusal::Replayed => "replayed",
            TokenRefusal::InsufficientAuthentication => "insufficient_authentication",
            TokenRefusal::SubjectRejected => "subject_rejected",
            TokenRefusal::AccessTokenRejected => "access_token_rejected",
            TokenRefusal::GroupsUnavailable => "groups_unavailable",
        }
    }
}

/// The source could not be asked: down, slow, misconfigured, or its queue is full.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{source_name}: {reason}")]
pub struct Outage {
    pub source_name: SourceName,
    pub reason: String,
    /// When the source wants to be asked again, if it says so.
    pub retry_after: Option<std::time::Duration>,
}

impl Outage {
    pub fn new(source_name: &SourceName, reason: impl Into<String>) -> Outage {
        Outage { source_name: source_name.clone(), reason: reason.into(), retry_after: None }
    }
}
