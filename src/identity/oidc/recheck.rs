//! Asking again about somebody who is not there: only Okta can be asked, by its management API, and only for what it answers, the
//! state of the account and the groups. A mapping that looks at other claims of the token could not be applied again, so with such
//! a mapping nobody is asked for again, and exchanges yield no refresh token.

use serde_json::{Value, json};

use super::{Management, Oidc, Unanswered, refusal};
use crate::identity::{Authentication, Facts, Identity, Outage, Refusal, RefusalReason, TokenRefusal};

impl Oidc {
    /// Tells which claims the mapping looks at, by JSON Pointer; those that Okta cannot be asked for are remembered.
    pub fn mapping_looks_at<'a>(&mut self, pointers: impl IntoIterator<Item = &'a str>) {
        let groups = self.settings.groups.text();
        self.other_claims = pointers.into_iter().filter(|pointer| *pointer != groups).map(str::to_owned).collect();
        if self.management.is_some() && !self.other_claims.is_empty() {
            let (source, claims) = (self.name.as_str(), self.other_claims.join(", "));
            tracing::warn!(source, claims, "the mapping looks at claims that Okta's API does not tell: exchanges yield no refresh token");
        }
    }

    /// Whether the source can be asked about a person again without them: not with id tokens alone.
    pub fn can_recheck(&self) -> bool {
        self.management.is_some() && self.other_claims.is_empty()
    }

    /// Whom it can be asked by, else why not.
    fn asked(&self) -> Result<&Management, Authentication> {
        let cannot = |reason: String| Authentication::Unavailable(Outage::new(&self.name, reason));
        match &self.management {
            None => Err(cannot(
                "the provider cannot be asked about a person without a token of theirs (Okta can, with api_token_file)".to_owned(),
            )),
            Some(_) if !self.other_claims.is_empty() => {
                let claims = self.other_claims.join(", ");
                Err(cannot(format!("Okta's API does not tell what the mapping looks at: {claims}")))
            }
            Some(management) => Ok(management),
        }
    }

    fn unanswered(&self, subject: Option<&str>, unanswered: Unanswered) -> Authentication {
        match unanswered {
            Unanswered::Gone => {
                let refusal = Refusal::new(RefusalReason::UnknownUser, "Okta has no such user");
                Authentication::Refused(Refusal { subject: subject.map(str::to_owned), ..refusal })
            }
            Unanswered::Down(reason, retry_after) => Authentication::Unavailable(Outage { retry_after, ..Outage::new(&self.name, reason) }),
        }
    }

    /// The person whom `login`, a login or an id of Okta's, names, as [`Oidc::recheck`] finds them: for `explain`.
    pub async fn lookup(&self, login: &str) -> Authentication {
        let management = match self.asked() {
            Ok(management) => management,
            Err(Authentication::Unavailable(outage)) => {
                let reason = format!("{}; pass the claims with --claims FILE", outage.reason);
                return Authentication::Unavailable(Outage { reason, ..outage });
            }
            Err(other) => return other,
        };
        match management.id_of(login).await {
            Ok(subject) => self.recheck(&subject).await,
            Err(unanswered) => self.unanswered(None, unanswered),
        }
    }

    /// The person with this subject, if they are still there, with the groups of now; `auth_time` is 0. The claims hold nothing but
    /// `sub` and the groups.
    pub async fn recheck(&self, subject: &str) -> Authentication {
        let management = match self.asked() {
            Ok(management) => management,
            Err(cannot) => return cannot,
        };
        let refused = |refusal: Refusal| Authentication::Refused(Refusal { subject: Some(subject.to_owned()), ..refusal });
        let checked_at = self.clock.now();
        let answer = async {
            match management.refusal(subject).await? {
                Some(refusal) => Ok(Err(refusal)),
                None => management.groups(subject).await.map(Ok),
            }
        };
        let names = match answer.await {
            Ok(Ok(names)) => names,
            Ok(Err((reason, detail))) => return refused(Refusal::new(reason, detail)),
            Err(unanswered) => return self.unanswered(Some(subject), unanswered),
        };
        let mut claims = json!({ "sub": subject });
        if !self.settings.groups.put(&mut claims, Value::from(names.clone())) {
            return refused(refusal(TokenRefusal::GroupsUnavailable, "groups_claim points into sub"));
        }
        Authentication::Authenticated(Box::new(Identity {
            source: self.name.clone(),
            issuer: self.settings.issuer.clone(),
            subject: subject.to_owned(),
            username: subject.to_owned(),
            dn: None,
            email: None,
            email_verified: false,
            name: None,
            facts: Facts { groups: Vec::new(), claims },
            claimed_groups: names,
            assigned_roles: Vec::new(),
            auth_time: 0,
            checked_at,
            amr: Vec::new(),
            upstream: None,
            must_change_password: false,
            password_never_changed: false,
        }))
    }
}
