//! A sign-in at a directory: whose entry it is, the bind on a connection of its own, the state of the account, the groups.

use super::connection::{Connection, Failure};
use super::verdict::{self, Verdict};
use super::{Freshness, Halt, Ldap, state, with_subject};
use crate::identity::{Identity, Refusal, RefusalReason};
use crate::oauth2::Secret;

impl Ldap {
    pub(super) async fn sign_in(&self, login: &str, password: &Secret) -> Result<Identity, Halt> {
        let (mut reader, entry) = match self.plan.bind.fill(login) {
            None => {
                let mut reader = self.service_reader()?;
                let entry = match self.find(&mut reader, login).await? {
                    Ok(entry) => entry,
                    Err((reason, detail)) => {
                        self.bind_as_nobody().await?;
                        return Err(Refusal::new(reason, detail).into());
                    }
                };
                let known = self.subject_of(&entry)?;
                self.bind(&entry.dn, password).await?.map_err(|refusal| with_subject(refusal, known))?;
                (reader, entry)
            }
            Some(name) => {
                let connection = self.bind(&name, password).await??;
                let mut reader = self.reader_of(connection);
                let entry = self.find(&mut reader, login).await?;
                // The password was right: there is such a person, only not one who may sign in.
                (reader, entry.map_err(|(_, detail)| Refusal::new(RefusalReason::NotEligible, detail))?)
            }
        };
        if let Some(refusal) = state::refusal(&entry, self.clock.now()) {
            return Err(with_subject(refusal, self.subject_of(&entry)?).into());
        }
        let identity = self.identity(&mut reader, &entry, Freshness::Cached).await?;
        Ok(Identity { auth_time: self.clock.now(), amr: vec!["pwd".to_owned()], ..identity })
    }

    /// Tries the password on a new connection that nothing else uses before or after, but the person's own searches.
    async fn bind(&self, name: &str, password: &Secret) -> Result<Result<Connection, Refusal>, Failure> {
        let (connection, answer) = self.dialer.bind(name, password).await?;
        match verdict::of(&answer) {
            Verdict::Yes => Ok(Ok(connection)),
            Verdict::No(reason, codes) => Ok(Err(Refusal::new(reason, codes))),
            Verdict::Unknown(reason) => Err(Failure::new(reason)),
        }
    }

    /// As much work as for somebody who exists. The name has random bits, so it never does.
    async fn bind_as_nobody(&self) -> Result<(), Failure> {
        let nobody = Secret::generate("nobody-");
        let name = format!("cn={},{}", nobody.expose(), self.plan.user_base);
        self.bind(&name, &nobody).await.map(|_| ())
    }
}
