//! Active Directory works out all security groups of an account, the primary one and nested ones included, and answers their
//! security identifiers ([MS-ADTS] section 3.1.1.4.5.19). Only a search of the entry itself gives them.

use std::collections::HashMap;

use super::{Memory, NAMES_IN_A_FILTER, all, below_base, entry_at, in_chain, member, own_entry, parse, paths, whole};
use crate::identity::ldap::Reader;
use crate::identity::ldap::binary::sibling;
use crate::identity::ldap::connection::Failure;
use crate::identity::ldap::entry::Entry;
use crate::identity::ldap::escape::any_equals;
use crate::identity::ldap::plan::Plan;
use crate::roles::facts::Group;

const OWN: [&str; 4] = ["tokenGroups", "memberOf", "objectSid", "primaryGroupID"];

/// All groups below group_base.
pub async fn read(plan: &Plan, memory: &Memory, reader: &mut Reader<'_>, person: &Entry, with_paths: bool) -> Result<Vec<Group>, Failure> {
    let own = own_entry(plan, reader, person, &OWN).await?;
    let identifiers = whole(plan, reader, &own, "tokenGroups").await?;
    // Every account has a primary group, so that none at all means that they cannot be read.
    let found = if identifiers.is_empty() {
        in_chain::search(plan, memory, reader, &own).await?
    } else {
        let attributes = if with_paths { "memberOf" } else { "1.1" };
        let mut found = Vec::new();
        for identifiers in identifiers.chunks(NAMES_IN_A_FILTER) {
            let pairs = identifiers.iter().map(|identifier| ("objectSid", identifier.as_str()));
            let search = below_base(plan, &any_equals(pairs), vec![attributes.to_owned()]);
            found.extend(all(plan, reader, &search).await?);
        }
        found
    };
    if !with_paths {
        return Ok(found.into_iter().map(|entry| Group { dn: entry.dn, via: Vec::new() }).collect());
    }
    let mut edges = HashMap::new();
    let mut direct = whole(plan, reader, &own, "memberOf").await?;
    direct.extend(primary(plan, reader, &own).await?.map(|group| group.dn));
    edges.insert(parse(&own.dn)?, direct);
    for group in &found {
        edges.insert(parse(&group.dn)?, whole(plan, reader, group, "memberOf").await?);
    }
    paths::along(&own.dn, found.into_iter().map(|entry| entry.dn).collect(), &edges)
}

/// The groups that list the person, and the primary one, which does not.
pub async fn direct(plan: &Plan, reader: &mut Reader<'_>, person: &Entry) -> Result<Vec<Group>, Failure> {
    let own = own_entry(plan, reader, person, &OWN).await?;
    let mut groups = member::direct(plan, reader, &own.dn).await?;
    let base = parse(&plan.group_base)?;
    if let Some(group) = primary(plan, reader, &own).await?
        && parse(&group.dn)?.is_under(&base)
    {
        groups.push(Group { dn: group.dn, via: Vec::new() });
    }
    Ok(groups)
}

/// The primary group, wherever it lies; none where this reader may not see it.
pub async fn primary(plan: &Plan, reader: &mut Reader<'_>, own: &Entry) -> Result<Option<Entry>, Failure> {
    let identifier = own.text("objectSid").zip(own.text("primaryGroupID")).and_then(|(account, last)| sibling(account, last));
    let Some(identifier) = identifier else {
        return Err(Failure::new(format!("the account that searches may not read objectSid and primaryGroupID of {}", own.dn)));
    };
    // An alternative form of a name ([MS-ADTS] section 3.1.1.3.1.2.4).
    entry_at(plan, reader, &format!("<SID={identifier}>"), &["memberOf"]).await
}
