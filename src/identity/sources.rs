//! All sources, in the order of the configuration, and the choice of the one that is asked.

use super::ldap::Ldap;
use super::local::Local;
use super::oidc::Oidc;
use super::shield::Limits;
use super::{Authentication, Refusal, RefusalReason, Try};
use crate::metrics::{self, SignIn};
use crate::oauth2::SourceName;

/// One source. A new kind is one folder and one variant.
#[derive(Debug)]
pub enum Source {
    Local(Local),
    Ldap(Box<Ldap>),
    Oidc(Box<Oidc>),
}

/// A source with its name and the domains that are routed to it.
#[derive(Debug)]
pub struct Named {
    pub name: SourceName,
    /// E-mail or UPN domains, lower-case.
    pub domains: Vec<String>,
    pub source: Source,
}

/// The sources in order. The first owns bare user names.
#[derive(Debug)]
pub struct Sources(Vec<Named>);

impl Sources {
    pub fn new(sources: Vec<Named>) -> Sources {
        Sources(sources)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Named> {
        self.0.iter()
    }

    pub fn find(&self, name: &str) -> Option<&Named> {
        self.0.iter().find(|named| named.name.as_str() == name)
    }

    /// The name of the first source, whose people keep their bare user names.
    pub fn first_name(&self) -> &str {
        self.0.first().map_or("", |named| named.name.as_str())
    }

    /// The source of id tokens that say they are from `issuer` (which is not verified yet) among those that `admits` lets pass.
    /// Issuers are matched exactly: an organisation's and its custom servers' are different ones.
    pub fn for_issuer(&self, issuer: &str) -> Option<(&SourceName, &Oidc)> {
        self.0.iter().find_map(|named| match &named.source {
            Source::Oidc(oidc) if oidc.issuer() == issuer => Some((&named.name, oidc.as_ref())),
            _ => None,
        })
    }

    /// Asks the sources that know passwords: the one named, else those of the login's domain, else all, in order. Only "no such
    /// user" moves on to the next; a bad password or an outage ends it. Somebody whom nobody knows is treated as one of the first.
    pub async fn authenticate(&self, attempt: &Try<'_>, only: Option<&str>, admits: impl Fn(&str) -> bool) -> Authentication {
        let chosen: Vec<&Named> = self.choose(attempt.login, only, admits).collect();
        let limits = chosen.iter().filter_map(|named| match &named.source {
            Source::Local(_) => Some(attempt.shield.limits_of(None)),
            Source::Ldap(ldap) => Some(attempt.shield.limits_of(ldap.lockout())),
            Source::Oidc(_) => None,
        });
        let attempt = &Try { house: limits.reduce(Limits::under), ..*attempt };
        let (mut last, mut first) = (None, None);
        for named in chosen {
            let answer = match &named.source {
                Source::Local(local) => local.authenticate(attempt).await,
                Source::Ldap(ldap) => ldap.authenticate(attempt).await,
                Source::Oidc(_) => continue,
            };
            match answer {
                Authentication::Refused(refusal) if refusal.reason == RefusalReason::UnknownUser => {
                    last = Some(refusal);
                    first.get_or_insert(named);
                }
                decided => return named.decide(decided),
            }
        }
        let unknown = last.unwrap_or_else(|| Refusal::new(RefusalReason::UnknownUser, "no source was asked"));
        let pretended = match first.map(|named| (named, &named.source)) {
            Some((named, Source::Local(local))) => (named, local.pretend(attempt).await),
            Some((named, Source::Ldap(ldap))) => (named, ldap.pretend(attempt).await),
            Some((_, Source::Oidc(_))) | None => return Authentication::Refused(unknown),
        };
        match pretended {
            (named, Authentication::Refused(refusal)) if refusal.reason == RefusalReason::UnknownUser => {
                let refused = Authentication::Refused(unknown);
                refused.count(&named.name);
                refused
            }
            (named, decided) => named.decide(decided),
        }
    }

    fn choose<'a>(&'a self, login: &str, only: Option<&'a str>, admits: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a Named> {
        let domain = login.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase());
        let routed = move |named: &Named| domain.as_ref().is_some_and(|d| named.domains.contains(d));
        let by_domain = only.is_none() && self.0.iter().any(&routed);
        self.0.iter().filter(move |named| {
            admits(named.name.as_str()) && only.is_none_or(|name| named.name.as_str() == name) && (!by_domain || routed(named))
        })
    }
}

impl Authentication {
    /// Counts a sign-in that ended here. One that goes on is counted when its tokens are issued.
    pub fn count(&self, source: &SourceName) {
        match self {
            Authentication::Authenticated(_) => {}
            Authentication::Refused(_) => metrics::signed_in(source.as_str(), SignIn::Refused),
            Authentication::Unavailable(_) => metrics::signed_in(source.as_str(), SignIn::Unavailable),
        }
    }
}

impl Named {
    fn decide(&self, mut decided: Authentication) -> Authentication {
        decided.count(&self.name);
        if let Authentication::Refused(refusal) = &mut decided {
            refusal.source = Some(self.name.clone());
        }
        decided
    }

    /// Asks again about a person who signed in before: still there, still eligible, which groups now.
    pub async fn recheck(&self, subject: &str) -> Authentication {
        match &self.source {
            Source::Local(local) => local.recheck(subject).await,
            Source::Ldap(ldap) => ldap.recheck(subject).await,
            Source::Oidc(oidc) => oidc.recheck(subject).await,
        }
    }

    /// Whether [`Named::recheck`] can work in principle. Where it cannot, no refresh token is issued.
    pub fn can_recheck(&self) -> bool {
        match &self.source {
            Source::Local(_) => true,
            Source::Ldap(ldap) => ldap.can_recheck(),
            Source::Oidc(oidc) => oidc.can_recheck(),
        }
    }

    /// Whether the source is known to be unreachable: every server of it failed lately, and none is tried at the moment. Only then may
    /// a refresh do without it. A provider is never cut off in this sense: what is recorded of its tokens does not tell all claims
    /// that rules look at. Our own accounts are in the database, without which nothing is granted.
    pub fn is_cut_off(&self) -> bool {
        match &self.source {
            Source::Local(_) | Source::Oidc(_) => false,
            Source::Ldap(ldap) => ldap.is_cut_off(),
        }
    }

    /// What the source knows about `login`, without a password: for `countersign explain`.
    pub async fn lookup(&self, login: &str) -> Authentication {
        match &self.source {
            Source::Local(local) => local.lookup(login).await,
            Source::Ldap(ldap) => ldap.lookup(login).await,
            Source::Oidc(oidc) => oidc.lookup(login).await,
        }
    }
}
