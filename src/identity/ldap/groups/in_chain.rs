//! A filter that follows membership inside of the server ([MS-ADTS] section 3.1.1.3.4.4.3), for accounts whose tokenGroups cannot be
//! read. A directory that does not know it may well answer success and no group (OpenLDAP), so it is tried on something known first.

use ldap3::Scope;

use super::token_groups::primary;
use super::{Memory, all, below_base, entry_at, parse};
use crate::identity::ldap::Reader;
use crate::identity::ldap::connection::{Failure, FailureKind, Search};
use crate::identity::ldap::entry::Entry;
use crate::identity::ldap::escape::filter_value;
use crate::identity::ldap::plan::Plan;

const RULE: &str = "1.2.840.113556.1.4.1941";

/// Active Directory, and its Lightweight Directory Services.
const CAPABILITIES: [&str; 2] = ["1.2.840.113556.1.4.800", "1.2.840.113556.1.4.1851"];

/// All groups below group_base of the account whose own entry this is, with their memberOf.
pub async fn search(plan: &Plan, memory: &Memory, reader: &mut Reader<'_>, own: &Entry) -> Result<Vec<Entry>, Failure> {
    if let Err(reason) = memory.searches_in_chains.get_or_try_init(|| probe(plan, reader)).await? {
        return Err(Failure::new(format!(
            "the account that searches may not read tokenGroups of {}, and {reason}; let it read tokenGroups, or choose the directory's own preset",
            own.dn
        )));
    }
    // The primary group does not list its members, so that nothing leads to it.
    let primary = primary(plan, reader, own).await?;
    let names = [Some(own.dn.as_str()), primary.as_ref().map(|group| group.dn.as_str())];
    let parts: String = names.into_iter().flatten().map(in_chain).collect();
    let mut found = all(plan, reader, &below_base(plan, &format!("(|{parts})"), vec!["memberOf".to_owned()])).await?;
    if let Some(group) = primary {
        let name = parse(&group.dn)?;
        let listed = found.iter().map(|entry| parse(&entry.dn)).collect::<Result<Vec<_>, _>>()?.contains(&name);
        if !listed && name.is_under(&parse(&plan.group_base)?) {
            found.push(group);
        }
    }
    Ok(found)
}

fn in_chain(name: &str) -> String {
    format!("(member:{RULE}:={})", filter_value(name))
}

/// Whether the directory follows chains, or why not: what it says of itself, and a membership that is known.
async fn probe(plan: &Plan, reader: &mut Reader<'_>) -> Result<Result<(), String>, Failure> {
    let root = entry_at(plan, reader, "", &["supportedCapabilities"]).await?;
    if !root.is_some_and(|root| root.texts("supportedCapabilities").any(|capability| CAPABILITIES.contains(&capability))) {
        return Ok(Err(format!("the directory does not say that it is an Active Directory, which could search in chains ({RULE})")));
    }
    let sample = Search { at_most: 1, page_size: None, ..below_base(plan, "(member=*)", vec!["member".to_owned()]) };
    let Some(group) = reader.search(&sample).await?.entries.into_iter().next() else {
        // No group has a member: whatever it answers is right.
        return Ok(Ok(()));
    };
    let piece = group.piece("member").and_then(|piece| piece.values.first().copied());
    let Some(member) = group.text("member").or(piece) else {
        return Ok(Err(format!("the account that searches may not read member of {}", group.dn)));
    };
    let known = Search { base: group.dn.clone(), scope: Scope::Base, filter: in_chain(member), ..sample };
    match reader.search(&known).await {
        Ok(found) if found.entries.len() == 1 => Ok(Ok(())),
        Ok(_) => Ok(Err(format!("the directory does not search in chains ({RULE}): it does not find {member} in {}", group.dn))),
        Err(failure) if failure.kind == FailureKind::Other => {
            Ok(Err(format!("the directory does not search in chains ({RULE}): {}", failure.reason)))
        }
        Err(failure) => Err(failure),
    }
}
