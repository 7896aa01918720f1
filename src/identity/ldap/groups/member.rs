//! Groups that list their members by name: those that list the person, those that list these, and so on.

use std::collections::{HashMap, HashSet};

use super::{NAMES_IN_A_FILTER, all, below_base, parse, too_many, whole};
use crate::identity::ldap::Reader;
use crate::identity::ldap::connection::{Failure, Search};
use crate::identity::ldap::entry::Entry;
use crate::identity::ldap::escape::{any_equals, filter_value};
use crate::identity::ldap::plan::Plan;
use crate::roles::dn::Dn;
use crate::roles::facts::Group;

/// One group whose parents are looked for next, with the path to them.
struct Step {
    dn: Dn,
    via: Vec<String>,
}

/// Breadth-first, one OR-ed filter a level. Names are compared parsed, so a cycle ends wherever it closes.
pub async fn read(plan: &Plan, reader: &mut Reader<'_>, person: &str) -> Result<Vec<Group>, Failure> {
    let person = parse(person)?;
    let mut seen = HashSet::from([person.clone()]);
    let mut groups = Vec::new();
    let mut level = vec![Step { dn: person, via: Vec::new() }];
    for depth in 1.. {
        let mut next = Vec::new();
        for steps in level.chunks(NAMES_IN_A_FILTER) {
            for entry in parents(plan, reader, steps, depth).await? {
                let dn = parse(&entry.dn)?;
                if !seen.insert(dn.clone()) {
                    continue;
                }
                if depth > plan.max_depth {
                    return Err(Failure::new(format!("{} is nested deeper than max_depth = {}", entry.dn, plan.max_depth)));
                }
                if groups.len() == plan.max_groups {
                    return Err(too_many(plan));
                }
                let via = path(plan, reader, steps, &entry, depth).await?;
                next.push(Step { dn, via: via.iter().cloned().chain([entry.dn.clone()]).collect() });
                groups.push(Group { dn: entry.dn, via });
            }
        }
        level = next;
        if level.is_empty() || !plan.nested {
            break;
        }
    }
    Ok(groups)
}

/// The groups that list the person.
pub async fn direct(plan: &Plan, reader: &mut Reader<'_>, person: &str) -> Result<Vec<Group>, Failure> {
    let step = Step { dn: parse(person)?, via: Vec::new() };
    let found = parents(plan, reader, &[step], 1).await?;
    Ok(found.into_iter().map(|entry| Group { dn: entry.dn, via: Vec::new() }).collect())
}

async fn parents(plan: &Plan, reader: &mut Reader<'_>, steps: &[Step], depth: usize) -> Result<Vec<Entry>, Failure> {
    let names: Vec<String> = steps.iter().map(|step| step.dn.to_string()).collect();
    let pairs = || names.iter().flat_map(|name| plan.member_attributes.iter().map(move |attribute| (attribute.as_str(), name.as_str())));
    let direct = depth == 1;
    let search = Search {
        // Which of them a group lists matters only for the path.
        only_values: (!direct).then(|| {
            let items: String = pairs().map(|(attribute, name)| format!("({attribute}={})", filter_value(name))).collect();
            format!("({items})")
        }),
        ..below_base(plan, &any_equals(pairs()), if direct { vec!["1.1".to_owned()] } else { plan.member_attributes.clone() })
    };
    all(plan, reader, &search).await
}

/// The groups between the person and `entry`, nearest first.
async fn path(plan: &Plan, reader: &mut Reader<'_>, steps: &[Step], entry: &Entry, depth: usize) -> Result<Vec<String>, Failure> {
    if depth == 1 {
        return Ok(Vec::new());
    }
    let by_name: HashMap<&Dn, &Step> = steps.iter().map(|step| (&step.dn, step)).collect();
    for attribute in &plan.member_attributes {
        let members = whole(plan, reader, entry, attribute).await?;
        let step = members.iter().filter_map(|text| Dn::parse(text).ok()).find_map(|member| by_name.get(&member).copied());
        if let Some(step) = step {
            return Ok(step.via.clone());
        }
    }
    Err(Failure::new(format!("the account that searches may not read {} of {}", plan.member_attributes.join(" or "), entry.dn)))
}
