//! All groups of a person, by the way that their kind of directory knows them: one file each. Complete, or an error.

mod in_chain;
mod member;
mod member_of;
mod member_uid;
mod paths;
mod token_groups;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ldap3::Scope;
use tokio::sync::OnceCell;

use super::Reader;
use super::connection::{End, Failure, FailureKind, Found, Search};
use super::entry::Entry;
use super::escape::all_of;
use super::plan::Plan;
use crate::clock::Clock;
use crate::roles::dn::Dn;
use crate::roles::facts::Group;

/// Names in one filter: below the 256 KB that OpenLDAP takes in one request.
const NAMES_IN_A_FILTER: usize = 300;

/// Pieces of one attribute that are followed: at 1,500 values each, far more than a group can hold.
const PIECES: usize = 10_000;

/// People whose groups are remembered.
const REMEMBERED: usize = 10_000;

/// How a directory tells the groups of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Groups list their members by name; breadth-first.
    Member,
    /// Groups list their members by uid, and people have a primary group (RFC 2307).
    MemberUid,
    /// Active Directory works the whole list out.
    TokenGroups,
    /// The person's memberOf, which the server keeps transitive.
    MemberOf,
    /// The person's memberOf, which has direct groups only.
    DirectMemberOf,
}

/// The groups of `person`. With `paths` the way to each is looked for as well, where that costs searches of its own.
pub async fn read(plan: &Plan, memory: &Memory, reader: &mut Reader<'_>, person: &Entry, paths: bool) -> Result<Vec<Group>, Failure> {
    let groups = match (plan.strategy, plan.nested) {
        (Strategy::MemberUid, _) => member_uid::read(plan, reader, person).await?,
        (Strategy::TokenGroups, true) => token_groups::read(plan, memory, reader, person, paths).await?,
        (Strategy::TokenGroups, false) => token_groups::direct(plan, reader, person).await?,
        (Strategy::MemberOf, true) => member_of::transitive(plan, reader, person, paths).await?,
        (Strategy::DirectMemberOf, false) => member_of::direct(plan, reader, person).await?,
        (Strategy::Member, _) | (Strategy::MemberOf, false) | (Strategy::DirectMemberOf, true) => {
            member::read(plan, reader, &person.dn).await?
        }
    };
    if groups.len() > plan.max_groups {
        return Err(too_many(plan));
    }
    Ok(groups)
}

/// A search below group_base.
fn below_base(plan: &Plan, filter: &str, attributes: Vec<String>) -> Search {
    Search {
        base: plan.group_base.clone(),
        scope: Scope::Subtree,
        filter: all_of(&[&plan.group_filter, filter]),
        attributes,
        only_values: None,
        at_most: plan.max_groups.saturating_add(1),
        page_size: Some(plan.page_size),
        referrals: plan.referrals,
    }
}

/// Every entry that such a search finds, or an error.
async fn all(plan: &Plan, reader: &mut Reader<'_>, search: &Search) -> Result<Vec<Entry>, Failure> {
    match reader.search(search).await {
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

/// Attributes of one entry; none where it is not there for this reader.
async fn entry_at(plan: &Plan, reader: &mut Reader<'_>, dn: &str, attributes: &[&str]) -> Result<Option<Entry>, Failure> {
    let search = Search {
        base: dn.to_owned(),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: attributes.iter().map(|&attribute| attribute.to_owned()).collect(),
        only_values: None,
        at_most: 1,
        page_size: None,
        referrals: plan.referrals,
    };
    Ok(reader.search(&search).await?.entries.into_iter().next())
}

/// The person's own entry once more, for attributes that only such a search gives.
async fn own_entry(plan: &Plan, reader: &mut Reader<'_>, person: &Entry, attributes: &[&str]) -> Result<Entry, Failure> {
    let entry = entry_at(plan, reader, &person.dn, attributes).await?;
    entry.ok_or_else(|| Failure::new(format!("{} cannot be read a second time; it was changed or removed meanwhile", person.dn)))
}

/// Every value of an attribute of an entry that was read, with the pieces that the server did not send along.
async fn whole(plan: &Plan, reader: &mut Reader<'_>, entry: &Entry, attribute: &str) -> Result<Vec<String>, Failure> {
    let unreadable = |reason| Failure::new(format!("{attribute} of {} cannot be read: {reason}", entry.dn));
    let mut values = owned(&entry.all_texts(attribute).map_err(unreadable)?);
    let mut piece = entry.piece(attribute).map_err(unreadable)?.map(|piece| (owned(&piece.values), piece.next));
    for _ in 0..PIECES {
        let Some((more, next)) = piece else { return Ok(values) };
        values.extend(more);
        let Some(next) = next else { return Ok(values) };
        let rest = format!("{attribute};range={next}-*");
        let missing = || Failure::new(format!("the directory does not send the values of {attribute} of {} beyond {next}", entry.dn));
        let found = entry_at(plan, reader, &entry.dn, &[&rest]).await?.ok_or_else(missing)?;
        // An empty piece would be asked for for ever.
        let more = found.piece(attribute).map_err(unreadable)?.filter(|piece| !piece.values.is_empty()).ok_or_else(missing)?;
        piece = Some((owned(&more.values), more.next));
    }
    Err(Failure::new(format!("{attribute} of {} has no end", entry.dn)))
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

fn parse(dn: &str) -> Result<Dn, Failure> {
    Dn::parse(dn).map_err(|e| Failure::new(format!("the directory sent a name that is none, {dn:?}: {e}")))
}

fn too_many(plan: &Plan) -> Failure {
    Failure::new(format!("more groups than max_groups = {}", plan.max_groups))
}

/// One person's groups.
#[derive(Debug)]
struct Known {
    since: Instant,
    /// When the directory was asked, in seconds.
    at: i64,
    groups: Vec<Group>,
}

/// What is known of a directory's groups: the last complete answer for each subject, for a short while, and whether it searches in
/// chains. Failures are never kept.
#[derive(Debug)]
pub struct Memory {
    keep: Duration,
    entries: Mutex<HashMap<String, Known>>,
    /// Probed once; the reason why not.
    searches_in_chains: OnceCell<Result<(), String>>,
}

impl Memory {
    pub fn new(keep: Duration) -> Memory {
        Memory { keep, entries: Mutex::default(), searches_in_chains: OnceCell::new() }
    }

    /// When the directory was asked, in seconds, and what it said.
    pub fn get(&self, subject: &str) -> Option<(i64, Vec<Group>)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(subject).filter(|known| Clock::since(known.since) < self.keep).map(|known| (known.at, known.groups.clone()))
    }

    pub fn put(&self, subject: &str, at: i64, groups: &[Group]) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= REMEMBERED && !entries.contains_key(subject) {
            entries.retain(|_, known| Clock::since(known.since) < self.keep);
            if entries.len() >= REMEMBERED {
                entries.clear();
            }
        }
        entries.insert(subject.to_owned(), Known { since: Clock::monotonic(), at, groups: groups.to_vec() });
    }
}
