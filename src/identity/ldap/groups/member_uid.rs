//! The groups of RFC 2307: those that list the uid, and the one whose gidNumber the person has. They do not nest.

use super::{all, below_base, own_entry, whole};
use crate::identity::ldap::Reader;
use crate::identity::ldap::connection::Failure;
use crate::identity::ldap::entry::Entry;
use crate::identity::ldap::escape::any_equals;
use crate::identity::ldap::plan::Plan;
use crate::roles::facts::Group;

pub async fn read(plan: &Plan, reader: &mut Reader<'_>, person: &Entry) -> Result<Vec<Group>, Failure> {
    let own = own_entry(plan, reader, person, &["uid", "gidNumber"]).await?;
    let uids = whole(plan, reader, &own, "uid").await?;
    if uids.is_empty() {
        return Err(Failure::new(format!("{} has no readable uid, by which its groups would list it", person.dn)));
    }
    let primary = whole(plan, reader, &own, "gidNumber").await?;
    let numbers = primary.iter().map(|number| ("gidNumber", number.as_str()));
    let listed = uids.iter().flat_map(|uid| plan.member_attributes.iter().map(move |attribute| (attribute.as_str(), uid.as_str())));
    let search = below_base(plan, &any_equals(numbers.chain(listed)), vec!["1.1".to_owned()]);
    let found = all(plan, reader, &search).await?;
    Ok(found.into_iter().map(|entry| Group { dn: entry.dn, via: Vec::new() }).collect())
}
