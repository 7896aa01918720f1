//! A sign-in by userPrincipalName: Active Directory decides which account `login@domain` is, by rules of its own (an explicit
//! userPrincipalName first, then the sAMAccountName). So the directory is asked as whom the connection speaks, and only the entry of
//! that very account is taken: nobody signs in as one and is read as another.

use ldap3::Scope;

use super::connection::{Connection, Failure, Search};
use super::entry::Entry;
use super::escape::{all_of, any_equals};
use super::{Ldap, Reader};
use crate::identity::RefusalReason;

const PRINCIPAL: &str = "userPrincipalName";
const IDENTIFIER: &str = "objectSid";

impl Ldap {
    /// As whom entries are read after a bind by template.
    pub(super) fn reader_of(&self, connection: Connection) -> Reader<'_> {
        match &self.service {
            Some(pool) => Reader::Bound(Some(connection), pool),
            None => Reader::Person(Some(connection)),
        }
    }

    /// The entry of the account that the bind was for; without a bind (for `explain`), the one that it would most likely be for.
    pub(super) async fn find_principal(
        &self,
        reader: &mut Reader<'_>,
        login: &str,
    ) -> Result<Result<Entry, (RefusalReason, String)>, Failure> {
        let filter = self.plan.user_filter.as_deref();
        self.principal_within(reader, login, filter).await
    }

    /// Whom a bind would be for, whether or not user_filter admits them: their account can be locked all the same.
    pub(super) async fn find_named(&self, reader: &mut Reader<'_>, login: &str) -> Result<Result<Entry, (RefusalReason, String)>, Failure> {
        self.principal_within(reader, login, None).await
    }

    async fn principal_within(
        &self,
        reader: &mut Reader<'_>,
        login: &str,
        user_filter: Option<&str>,
    ) -> Result<Result<Entry, (RefusalReason, String)>, Failure> {
        let principal = self.plan.bind.fill(login).unwrap_or_default();
        let stem = self.plan.bind.stem(login);
        let plan = &self.plan;
        let speaks_as = self.speaks_as(reader).await?;
        let logins = plan.login_attributes.iter().map(|attribute| (attribute.as_str(), stem));
        let matches = any_equals(logins.chain([(PRINCIPAL, principal.as_str())]));
        let mut search = self.person_search(&plan.user_base, plan.user_scope, &matches);
        search.filter = user_filter.map_or_else(|| matches.clone(), |filter| all_of(&[filter, &matches]));
        search.attributes.extend([PRINCIPAL, IDENTIFIER].map(str::to_owned));
        // One by the sAMAccountName and another by the userPrincipalName are two people, of whom one signed in.
        search.at_most = 10;
        let found = reader.search(&search).await?;
        let is_it = |entry: &Entry| match &speaks_as {
            Some(identifiers) => entry.text(IDENTIFIER).is_some_and(|own| identifiers.iter().any(|identifier| identifier == own)),
            None => entry.text(PRINCIPAL).is_some_and(|own| own.eq_ignore_ascii_case(&principal)),
        };
        let (its, others): (Vec<Entry>, Vec<Entry>) = found.entries.into_iter().partition(is_it);
        let nobody_bound = matches!(reader, Reader::Service(_));
        let mut entries = if its.is_empty() && nobody_bound { others } else { its }.into_iter();
        Ok(match (entries.next(), entries.next()) {
            (Some(entry), None) => Ok(entry),
            (None, _) => Err((RefusalReason::UnknownUser, "no entry of this account matches".to_owned())),
            (Some(_), Some(_)) => Err((RefusalReason::NotEligible, "more than one entry matches".to_owned())),
        })
    }

    /// The security identifiers of the account that bound, its own and its groups' ([MS-ADTS] section 3.1.1.3.2.16). None where nobody
    /// has bound, or where the server does not tell; then only an explicit userPrincipalName is believed.
    async fn speaks_as(&self, reader: &mut Reader<'_>) -> Result<Option<Vec<String>>, Failure> {
        let search = Search {
            base: String::new(),
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: vec!["tokenGroups".to_owned()],
            only_values: None,
            at_most: 1,
            page_size: None,
            referrals: self.plan.referrals,
        };
        let found = match reader {
            Reader::Service(_) | Reader::Bound(None, _) => return Ok(None),
            Reader::Bound(connection, _) => {
                let open = connection.take().ok_or_else(|| Failure::new("the connection was closed"))?;
                open.search(&search).await?.1
            }
            Reader::Person(_) => reader.search(&search).await?,
        };
        let identifiers = found.entries.iter().flat_map(|root| root.texts("tokenGroups")).map(str::to_owned).collect::<Vec<_>>();
        Ok((!identifiers.is_empty()).then_some(identifiers))
    }
}
