//! All groups of a person: those that list the person, those that list these, and so on. Complete, or an error.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ldap3::Scope;

use super::Reader;
use super::connection::{End, Failure, FailureKind, Found, Search};
use super::entry::Entry;
use super::escape::{all_of, any_equals, filter_value};
use super::plan::Plan;
use crate::clock::Clock;
use crate::roles::dn::Dn;
use crate::roles::facts::Group;

/// Names in one filter: below the 256 KB that OpenLDAP takes in one request.
const NAMES_IN_A_FILTER: usize = 300;

/// People whose groups are remembered.
const REMEMBERED: usize = 10_000;

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
                let via = path(plan, steps, &entry, depth)?;
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

async fn parents(plan: &Plan, reader: &mut Reader<'_>, steps: &[Step], depth: usize) -> Result<Vec<Entry>, Failure> {
    let names: Vec<String> = steps.iter().map(|step| step.dn.to_string()).collect();
    let pairs = || names.iter().flat_map(|name| plan.member_attributes.iter().map(move |attribute| (attribute.as_str(), name.as_str())));
    let direct = depth == 1;
    let search = Search {
        base: plan.group_base.clone(),
        scope: Scope::Subtree,
        filter: all_of(&[&plan.group_filter, &any_equals(pairs())]),
        // Which of them a group lists matters only for the path.
        attributes: if direct { vec!["1.1".to_owned()] } else { plan.member_attributes.clone() },
        only_values: (!direct).then(|| {
            let items: String = pairs().map(|(attribute, name)| format!("({attribute}={})", filter_value(name))).collect();
            format!("({items})")
        }),
        at_most: plan.max_groups.saturating_add(1),
        page_size: Some(plan.page_size),
        referrals: plan.referrals,
    };
    match reader.search(&search).await {
        Ok(Found { entries, end: End::Complete }) => Ok(entries),
        Ok(Found { end: End::Cut, .. }) => Err(Failure::new(format!(
            "the directory cuts the list of groups short (size limit); raise the limit of the account that searches, or lower page_size = {}",
            plan.page_size
        ))),
        Ok(Found { end: End::NoBase, .. }) => {
            Err(Failure::new(format!("group_base {} does not exist, or the account that searches may not see it", plan.group_base)))
        }
        Err(failure) if failure.kind == FailureKind::TooMany => Err(too_many(plan)),
        Err(failure) => Err(failure),
    }
}

/// The groups between the person and `entry`, nearest first.
fn path(plan: &Plan, steps: &[Step], entry: &Entry, depth: usize) -> Result<Vec<String>, Failure> {
    if depth == 1 {
        return Ok(Vec::new());
    }
    let by_name: HashMap<&Dn, &Step> = steps.iter().map(|step| (&step.dn, step)).collect();
    let mut members = plan.member_attributes.iter().flat_map(|attribute| entry.texts(attribute)).filter_map(|text| Dn::parse(text).ok());
    let step = members.find_map(|member| by_name.get(&member).copied());
    let step = step.ok_or_else(|| {
        Failure::new(format!("the account that searches may not read {} of {}", plan.member_attributes.join(" or "), entry.dn))
    })?;
    Ok(step.via.clone())
}

fn parse(dn: &str) -> Result<Dn, Failure> {
    Dn::parse(dn).map_err(|e| Failure::new(format!("the directory sent a name that is none, {dn:?}: {e}")))
}

fn too_many(plan: &Plan) -> Failure {
    Failure::new(format!("more groups than max_groups = {}", plan.max_groups))
}

/// The last complete answer for each subject, for a short while. Failures are never kept.
#[derive(Debug)]
pub struct GroupCache {
    keep: Duration,
    entries: Mutex<HashMap<String, (Instant, Vec<Group>)>>,
}

impl GroupCache {
    pub fn new(keep: Duration) -> GroupCache {
        GroupCache { keep, entries: Mutex::default() }
    }

    pub fn get(&self, subject: &str) -> Option<Vec<Group>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(subject).filter(|(since, _)| Clock::since(*since) < self.keep).map(|(_, groups)| groups.clone())
    }

    pub fn put(&self, subject: &str, groups: &[Group]) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= REMEMBERED && !entries.contains_key(subject) {
            entries.retain(|_, (since, _)| Clock::since(*since) < self.keep);
            if entries.len() >= REMEMBERED {
                entries.clear();
            }
        }
        entries.insert(subject.to_owned(), (Clock::monotonic(), groups.to_vec()));
    }
}
