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

const MEMBER_OF: &str = "memberOf";

const RULE: &str = "1.2.840.113556.1.4.1941";

/// Active Directory, and its Lightweight Directory Services.
const CAPABILITIES: [&str; 2] = ["1.2.840.113556.1.4.800", "1.2.840.113556.1.4.1851"];

/// All groups below group_base of the account whose own entry this is, with their memberOf.
pub async fn search(plan: &Plan, memory: &Memory, reader: &mut Reader<'_>, own: &Entry) -> Result<Vec<Entry>, Failure> {
    // The primary group does not list its members, so that nothing leads to it.
    let primary = if is_active_directory(plan, reader).await? { primary(plan, reader, own).await? } else { return Err(unknown(own)) };
    let base = parse(&plan.group_base)?;
    // Groups of another domain are not on this server.
    let is_here = |group: &&str| parse(group).is_ok_and(|name| name.is_under(&base));
    let known =
        [Some(own), primary.as_ref()].into_iter().flatten().find_map(|entry| Some((&*entry.dn, entry.texts(MEMBER_OF).find(is_here)?)));
    // Without a membership that is known there is nothing to find, but for what the entries do not tell.
    if let Some((member, group)) = known {
        let probed = memory.searches_in_chains.get_or_try_init(|| probe(plan, reader, member, group)).await?;
        if let Err(reason) = probed {
            return Err(Failure::new(format!("{}; {reason}", unknown(own).reason)));
        }
    }
    let names = [Some(own.dn.as_str()), primary.as_ref().map(|group| group.dn.as_str())];
    let parts: String = names.into_iter().flatten().map(in_chain).collect();
    let mut found = all(plan, reader, &below_base(plan, &format!("(|{parts})"), vec![MEMBER_OF.to_owned()])).await?;
    if let Some(group) = primary {
        let name = parse(&group.dn)?;
        let listed = found.iter().map(|entry| parse(&entry.dn)).collect::<Result<Vec<_>, _>>()?.contains(&name);
        if !listed && name.is_under(&base) {
            found.push(group);
        }
    }
    Ok(found)
}

fn in_chain(name: &str) -> String {
    format!("(member:{RULE}:={})", filter_value(name))
}

fn unknown(own: &Entry) -> Failure {
    Failure::new(format!(
        "the account that searches may not read tokenGroups of {}, and the directory does not show that it searches in chains ({RULE}); let \
         it read tokenGroups, or choose the directory's own preset",
        own.dn
    ))
}

async fn is_active_directory(plan: &Plan, reader: &mut Reader<'_>) -> Result<bool, Failure> {
    let root = entry_at(plan, reader, "", &["supportedCapabilities"]).await?;
    Ok(root.is_some_and(|root| root.texts("supportedCapabilities").any(|capability| CAPABILITIES.contains(&capability))))
}

/// Whether the directory finds by the chain a membership that is known, or why not.
async fn probe(plan: &Plan, reader: &mut Reader<'_>, member: &str, group: &str) -> Result<Result<(), String>, Failure> {
    let filter = in_chain(member);
    let known =
        Search { base: group.to_owned(), scope: Scope::Base, filter, page_size: None, ..below_base(plan, "", vec!["1.1".to_owned()]) };
    match reader.search(&known).await {
        Ok(found) if found.entries.len() == 1 => Ok(Ok(())),
        Ok(_) => Ok(Err(format!("it does not find {member} in {group}"))),
        Err(failure) if failure.kind == FailureKind::Other => Ok(Err(failure.reason)),
        Err(failure) => Err(failure),
    }
}
