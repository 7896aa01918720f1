//! A sign-in at a directory: whose entry it is, the shield, the bind on a connection of its own, the state of the account, the groups.

use super::connection::{Connection, Failure, FailureKind};
use super::entry::Entry;
use super::pace::Whose;
use super::verdict::{self, Verdict};
use super::{Bind, Freshness, Halt, Ldap, Reader, refuse_unasked, state, with_subject};
use crate::config::{LdapSource, Problem};
use crate::identity::shield::{self, Limits, Proof, Target, Try};
use crate::identity::{Authentication, Identity, Refusal, RefusalReason};
use crate::oauth2::Secret;

/// When the password was changed (draft-behera-ldap-password-policy section 5.3.2): to be asked for by name.
pub const PASSWORD_CHANGED: &str = "pwdChangedTime";
/// What changes with the password.
const PASSWORD_STATE: [&str; 2] = [PASSWORD_CHANGED, "pwdLastSet"];

/// How a bind ended.
enum Bound {
    Yes(Connection),
    No(Refusal),
    /// Refused, and perhaps not for the password.
    Unexplained(Refusal),
    /// The directory was not asked, or said that it decided nothing.
    Undecided(Failure),
    /// The password was sent, and no answer came, or one that leaves open whether the directory counts it.
    InDoubt(Failure),
}

/// The limits of the shield; none for a directory that locks nobody.
///
/// Errors: a threshold that leaves strangers no try, so that nobody could ever sign in for the first time.
pub fn lockout(config: &LdapSource) -> Result<Option<Limits>, Vec<Problem>> {
    let mut problems = Vec::new();
    let threshold = config.lockout_threshold;
    if matches!(threshold, 1 | 2) {
        let reason = format!(
            "{threshold} leaves strangers no try, so nobody could sign in for the first time; let the directory lock after 3 or more wrong \
             passwords and write that number, or 0 if it never locks"
        );
        problems.push(Problem::new("lockout_threshold", reason));
    }
    if threshold > 10_000 {
        problems.push(Problem::new(
            "lockout_threshold",
            format!("{threshold} is not between 3 and 10000; write 0 if the directory never locks"),
        ));
    }
    let (window, least, most) = (config.lockout_window, 60, 10 * 31_557_600);
    if !(least..=most).contains(&window.as_secs()) {
        let reason = format!("{} is not between 1m and 10y", humantime::format_duration(window));
        problems.push(Problem::new("lockout_window", reason));
    }
    match (problems.is_empty(), threshold) {
        (false, _) => Err(problems),
        (true, 0) => Ok(None),
        (true, _) => Ok(Some(Limits::below(threshold, window))),
    }
}

/// Whom a try by a name made from the login is for.
enum Named {
    /// A person of this subject, with what changes when the password does.
    Person(String, String),
    /// Nobody can tell before the directory does, so the count is for the name. A userPrincipalName may be one of several.
    OnlyName {
        of_several: bool,
    },
    Nobody(Refusal),
}

impl Ldap {
    /// The limits of the shield; none for a directory that locks nobody.
    pub fn lockout(&self) -> Option<Limits> {
        // One account is found under two names at least, its userPrincipalName and its sAMAccountName, and each is counted by itself.
        if self.counts_by_name() { self.lockout.map(Limits::halved) } else { self.lockout }
    }

    /// Whether tries of one person are counted under whatever name was typed.
    pub fn counts_by_name(&self) -> bool {
        matches!(self.plan.bind, Bind::Principal(_)) && self.service.is_none()
    }

    /// Signs a person in. Somebody unknown is said to be so at once, for another source to be asked: see [`Ldap::pretend`].
    pub async fn authenticate(&self, attempt: &Try<'_>) -> Authentication {
        if let Some(refusal) = refuse_unasked(attempt.login, attempt.password) {
            return Authentication::Refused(refusal);
        }
        // Boxed, as what is large and rare: it shall not make the future of every request larger.
        self.in_time(Box::pin(self.sign_in(attempt))).await
    }

    /// What [`Ldap::authenticate`] does with somebody known, for somebody whom no source knows: shield and bind, and always a no.
    pub async fn pretend(&self, attempt: &Try<'_>) -> Authentication {
        if let Some(refusal) = refuse_unasked(attempt.login, attempt.password) {
            return Authentication::Refused(refusal);
        }
        self.in_time(Box::pin(self.refuse_alike(attempt, RefusalReason::UnknownUser, "no entry matches".to_owned()))).await
    }

    async fn in_time(&self, work: impl Future<Output = Authentication>) -> Authentication {
        match tokio::time::timeout(self.login_deadline, work).await {
            Ok(answer) => answer,
            Err(_) => Authentication::Unavailable(self.too_late()),
        }
    }

    async fn sign_in(&self, attempt: &Try<'_>) -> Authentication {
        if let Some(name) = self.plan.bind.fill(attempt.login) {
            let (subject, password_state, limits) = match self.named(attempt.login).await {
                Ok(Named::Person(subject, password_state)) => (subject, password_state, self.lockout),
                Ok(Named::OnlyName { of_several: false }) => (shield::pretended_name(&name), String::new(), self.lockout),
                Ok(Named::OnlyName { of_several: true }) => {
                    (shield::pretended_name(&name), String::new(), self.lockout.map(Limits::halved))
                }
                Ok(Named::Nobody(refusal)) => return Authentication::Refused(refusal),
                Err(failure) => return self.answer(Err(failure.into())),
            };
            let work = async {
                match self.bind(&name, attempt.password, Whose::Unsure).await {
                    Bound::Yes(connection) => {
                        let reader = self.reader_of(connection);
                        (Proof::Right, self.answer(self.read_bound(reader, attempt.login).await))
                    }
                    bound => self.not_bound(bound, None),
                }
            };
            let target = Target { limits, ..self.target(&subject, &password_state) };
            return attempt.shield.guard(target, attempt, work).await;
        }
        let found = async {
            let mut reader = self.service_reader()?;
            let found = self.find(&mut reader, attempt.login).await?;
            Ok::<_, Failure>((reader, found))
        };
        let (reader, entry) = match found.await {
            Ok((reader, Ok(entry))) => (reader, entry),
            Ok((_, Err((RefusalReason::UnknownUser, detail)))) => {
                return Authentication::Refused(Refusal::new(RefusalReason::UnknownUser, detail));
            }
            Ok((_, Err((reason, detail)))) => return Box::pin(self.refuse_alike(attempt, reason, detail)).await,
            Err(failure) => return self.answer(Err(failure.into())),
        };
        let subject = match self.subject_of(&entry) {
            Ok(subject) => subject.to_owned(),
            Err(failure) => return self.answer(Err(failure.into())),
        };
        let password_state = password_state(&entry);
        let work = async {
            match self.bind(&entry.dn, attempt.password, Whose::Person).await {
                Bound::Yes(_) => (Proof::Right, self.answer(self.read_person(reader, &entry).await)),
                bound => self.not_bound(bound, Some(&subject)),
            }
        };
        attempt.shield.guard(self.target(&subject, &password_state), attempt, work).await
    }

    /// Who signs in by userPrincipalName: an account has several such names, and one count.
    async fn named(&self, login: &str) -> Result<Named, Failure> {
        let of_several = matches!(self.plan.bind, Bind::Principal(_));
        if !of_several || self.service.is_none() {
            return Ok(Named::OnlyName { of_several });
        }
        let mut reader = self.service_reader()?;
        match self.find_named(&mut reader, login).await? {
            Ok(entry) => Ok(Named::Person(self.subject_of(&entry)?.to_owned(), password_state(&entry))),
            Err((RefusalReason::UnknownUser, detail)) => Ok(Named::Nobody(Refusal::new(RefusalReason::UnknownUser, detail))),
            Err(_) => Ok(Named::OnlyName { of_several }),
        }
    }

    fn target<'a>(&'a self, subject: &'a str, password_state: &'a str) -> Target<'a> {
        Target { source: &self.name, subject, limits: self.lockout(), password_state }
    }

    /// The entry that a bind by the template named.
    async fn read_bound(&self, mut reader: Reader<'_>, login: &str) -> Result<Identity, Halt> {
        let entry = self.find(&mut reader, login).await?;
        // The password was right: there is such a person, only not one who may sign in.
        let entry = entry.map_err(|(_, detail)| Refusal::new(RefusalReason::NotEligible, detail))?;
        self.read_person(reader, &entry).await
    }

    async fn read_person(&self, mut reader: Reader<'_>, entry: &Entry) -> Result<Identity, Halt> {
        if let Some(refusal) = state::refusal(entry, self.clock.now()) {
            return Err(with_subject(refusal, self.subject_of(entry)?).into());
        }
        let identity = self.identity(&mut reader, entry, Freshness::Cached).await?;
        Ok(Identity { auth_time: self.clock.now(), amr: vec!["pwd".to_owned()], ..identity })
    }

    /// Whether a bind that was no success counts, and what to answer.
    fn not_bound(&self, bound: Bound, subject: Option<&str>) -> (Proof, Authentication) {
        use RefusalReason::{AccountExpired, BadPassword, NotNow, PasswordChangeRequired, PasswordExpired, UnknownUser};
        match bound {
            Bound::No(refusal) => {
                let proof = match refusal.reason {
                    BadPassword => Proof::Wrong,
                    // Directories say so to the right password only, and then count nothing.
                    PasswordExpired | PasswordChangeRequired | AccountExpired | NotNow => Proof::Uncounted,
                    // There is no account that could be locked; whether another source knows the login is seen then.
                    UnknownUser => Proof::Uncounted,
                    _ => Proof::Refused,
                };
                let refusal = match subject {
                    Some(subject) => with_subject(refusal, subject),
                    None => refusal,
                };
                (proof, Authentication::Refused(refusal))
            }
            // It counts, and the same password may be tried again.
            Bound::Unexplained(refusal) => {
                let refusal = Refusal { subject: subject.map(str::to_owned), ..refusal };
                (Proof::Refused, Authentication::Refused(refusal))
            }
            Bound::Undecided(failure) => (Proof::Uncounted, self.answer(Err(failure.into()))),
            Bound::InDoubt(failure) => (Proof::InDoubt, self.answer(Err(failure.into()))),
            Bound::Yes(_) => (Proof::Uncounted, self.answer(Err(Failure::new("a bind was taken for none").into()))),
        }
    }

    /// As much work, and as few tries, as for somebody who exists.
    async fn refuse_alike(&self, attempt: &Try<'_>, reason: RefusalReason, detail: String) -> Authentication {
        // A bind by this name was asked for already, for which nothing was counted: the directory knows nobody of this name.
        if let (true, Some(name)) = (self.counts_by_name() && reason == RefusalReason::UnknownUser, self.plan.bind.fill(attempt.login)) {
            let work = async { (Proof::Wrong, Authentication::Refused(Refusal::new(reason, detail))) };
            return attempt.shield.guard(self.target(&shield::pretended_name(&name), ""), attempt, work).await;
        }
        let subject = shield::pretended(attempt.login);
        let work = async {
            // The name has random bits, so it never exists.
            let nobody = Secret::generate("nobody-");
            let name = format!("cn={},{}", nobody.expose(), self.plan.user_base);
            match self.bind(&name, &nobody, Whose::Nobody).await {
                Bound::Yes(_) | Bound::No(_) | Bound::Unexplained(_) => {
                    (Proof::Wrong, Authentication::Refused(Refusal::new(reason, detail)))
                }
                undecided => self.not_bound(undecided, None),
            }
        };
        attempt.shield.guard(self.target(&subject, ""), attempt, work).await
    }

    /// Tries the password on a new connection that nothing else uses before or after, but the person's own searches.
    async fn bind(&self, name: &str, password: &Secret, whose: Whose) -> Bound {
        match self.dialer.bind(name, password).await {
            Ok((connection, answer)) => match verdict::of(&answer) {
                Verdict::Yes => {
                    self.pace.right(answer.took);
                    Bound::Yes(connection)
                }
                Verdict::No(reason, codes) => {
                    drop(connection);
                    match reason {
                        RefusalReason::BadPassword => self.pace.wrong(whose, answer.took).await,
                        // A locked account's password, too, need not have been hashed.
                        _ => self.pace.hold(answer.took).await,
                    }
                    Bound::No(Refusal::new(reason, codes))
                }
                Verdict::Unexplained(codes) => {
                    drop(connection);
                    self.pace.hold(answer.took).await;
                    Bound::Unexplained(Refusal::new(RefusalReason::BadPassword, codes))
                }
                Verdict::InDoubt(reason) => Bound::InDoubt(Failure::new(reason)),
                Verdict::Unknown(reason) => Bound::Undecided(Failure::new(reason)),
            },
            // Nobody could be reached, so nothing was sent.
            Err(failure) if failure.kind == FailureKind::Down => Bound::Undecided(failure),
            Err(failure) => Bound::InDoubt(failure),
        }
    }
}

fn password_state(entry: &Entry) -> String {
    PASSWORD_STATE.iter().filter_map(|attribute| entry.text(attribute)).collect()
}
