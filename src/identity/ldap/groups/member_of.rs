//! What the person's memberOf says. 389-ds and FreeIPA keep it transitive by a plugin; elsewhere it has direct groups only.

use std::collections::{HashMap, HashSet};

use super::{NAMES_IN_A_FILTER, all, below_base, member, own_entry, parse, paths, whole};
use crate::identity::ldap::Reader;
use crate::identity::ldap::connection::Failure;
use crate::identity::ldap::entry::Entry;
use crate::identity::ldap::escape::any_equals;
use crate::identity::ldap::plan::Plan;
use crate::roles::dn::Dn;
use crate::roles::facts::Group;

const MEMBER_OF: &str = "memberOf";

/// All groups. Where memberOf is missing, the groups are asked: the plugin may be off, or the attribute may be hidden, and then nobody
/// knows all groups.
pub async fn transitive(plan: &Plan, reader: &mut Reader<'_>, person: &Entry, with_paths: bool) -> Result<Vec<Group>, Failure> {
    let groups = listed(plan, reader, person).await?;
    if groups.is_empty() {
        let direct = member::direct(plan, reader, &person.dn).await?;
        return match direct.first() {
            None => Ok(Vec::new()),
            Some(group) => Err(Failure::new(format!(
                "{} lists {} as a member, whose memberOf does not say so; switch on the directory's memberOf plugin and let the account \
                 that searches read memberOf, or use preset = \"openldap\"",
                group.dn, person.dn
            ))),
        };
    }
    if !with_paths {
        return Ok(groups.into_iter().map(|dn| Group { dn, via: Vec::new() }).collect());
    }
    let edges = edges(plan, reader, &person.dn, &groups).await?;
    paths::along(&person.dn, groups, &edges)
}

/// Direct groups; those that list the person where the person's entry names none.
pub async fn direct(plan: &Plan, reader: &mut Reader<'_>, person: &Entry) -> Result<Vec<Group>, Failure> {
    let groups = listed(plan, reader, person).await?;
    if groups.is_empty() {
        return member::direct(plan, reader, &person.dn).await;
    }
    Ok(groups.into_iter().map(|dn| Group { dn, via: Vec::new() }).collect())
}

/// The values that are groups: FreeIPA's memberOf names roles and rules of its own too, which lie elsewhere.
async fn listed(plan: &Plan, reader: &mut Reader<'_>, person: &Entry) -> Result<Vec<String>, Failure> {
    let own = own_entry(plan, reader, person, &[MEMBER_OF]).await?;
    let base = parse(&plan.group_base)?;
    let mut seen = HashSet::new();
    let mut groups = Vec::new();
    for dn in whole(plan, reader, &own, MEMBER_OF).await? {
        let name = parse(&dn)?;
        if name.is_under(&base) && seen.insert(name) {
            groups.push(dn);
        }
    }
    Ok(groups)
}

/// Which of these groups lists whom: from a member to the groups above it.
async fn edges(plan: &Plan, reader: &mut Reader<'_>, person: &str, groups: &[String]) -> Result<HashMap<Dn, Vec<String>>, Failure> {
    let mut edges: HashMap<Dn, Vec<String>> = HashMap::new();
    let names: Vec<&str> = [person].into_iter().chain(groups.iter().map(String::as_str)).collect();
    for names in names.chunks(NAMES_IN_A_FILTER) {
        let pairs = names.iter().flat_map(|&name| plan.member_attributes.iter().map(move |attribute| (attribute.as_str(), name)));
        let search = below_base(plan, &any_equals(pairs), plan.member_attributes.clone());
        for group in all(plan, reader, &search).await? {
            for attribute in &plan.member_attributes {
                for member in whole(plan, reader, &group, attribute).await? {
                    edges.entry(parse(&member)?).or_default().push(group.dn.clone());
                }
            }
        }
    }
    Ok(edges)
}
