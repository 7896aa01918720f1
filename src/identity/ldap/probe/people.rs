//! The people and groups that the configuration finds, read as the service account.

use std::time::Duration;

use super::{Root, read_root, search, timed};
use crate::clock::Clock;
use crate::identity::Authentication;
use crate::identity::finding::Findings;
use crate::identity::ldap::connection::{End, Found};
use crate::identity::ldap::entry::Entry;
use crate::identity::ldap::escape::{all_of, any_equals};
use crate::identity::ldap::groups::Strategy;
use crate::identity::ldap::plan::Bind;
use crate::identity::ldap::pool::Pool;
use crate::identity::ldap::{Ldap, Reader};

/// Longer than this for a filter that nobody matches, and the directory has read every entry.
const SLOW: Duration = Duration::from_secs(1);
/// People who are looked at one by one.
const SAMPLE: usize = 5;

/// `ours` is the lockout_threshold of the source.
pub async fn look(findings: &mut Findings, ldap: &Ldap, ours: u32) {
    let Some(pool) = &ldap.service else { return };
    let mut reader = Reader::Service(pool);
    // The first search opens the connection, which is not the filter's fault.
    let _ = timed(&mut reader, &search("", ldap3::Scope::Base, "(objectClass=*)", &["1.1"])).await;
    if filter(findings, ldap, &mut reader).await {
        let people = sample(findings, ldap, pool, &mut reader).await;
        groups(findings, ldap, pool).await;
        nesting(findings, ldap, &people).await;
    }
    let theirs = lockout(ldap, &mut reader).await;
    compare(findings, theirs, ours.into());
}

/// The search of a sign-in, for somebody whom nobody knows. Whether the base exists.
async fn filter(findings: &mut Findings, ldap: &Ldap, reader: &mut Reader<'_>) -> bool {
    let plan = &ldap.plan;
    let nobody = "countersign-doctor-nobody";
    let matches = any_equals(plan.login_attributes.iter().map(|attribute| (attribute.as_str(), nobody)));
    let wanted = ldap.person_search(&plan.user_base, plan.user_scope, &matches);
    let began = Clock::monotonic();
    let found = ldap.only_one(reader, &wanted, "nobody").await;
    let took = Clock::since(began);
    let shown = format!("{} below {} in {} ms", wanted.filter.replace(nobody, "…"), plan.user_base, took.as_millis());
    match found {
        Err(failure) => {
            findings.fail("user filter", failure.reason, "correct user_base and user_filter, or let the service account read there");
            return false;
        }
        Ok(_) if took > SLOW => findings.warn(
            "user filter",
            format!("{shown}: the directory seems to read every entry"),
            format!("index {} in the directory (for equality)", plan.login_attributes.join(" and ")),
        ),
        Ok(_) => findings.pass("user filter", shown),
    }
    true
}

/// A few people: each has a subject, and nobody else has the same.
async fn sample(findings: &mut Findings, ldap: &Ldap, pool: &Pool, reader: &mut Reader<'_>) -> Vec<Entry> {
    let plan = &ldap.plan;
    let attribute = plan.login_attributes.first().map_or("uid", String::as_str);
    let mut wanted = ldap.person_search(&plan.user_base, plan.user_scope, &format!("({attribute}=*)"));
    wanted.attributes.push("objectClass".to_owned());
    wanted.at_most = 200;
    let Found { entries: mut people, end } = match pool.sample(&wanted).await {
        Ok(found) => found,
        Err(failure) => {
            findings.warn("people", failure.reason, "see whether the service account may list people, which a sign-in does not need");
            return Vec::new();
        }
    };
    // In Active Directory groups have a sAMAccountName as well.
    people.retain(|entry| !entry.texts("objectClass").any(|class| class.eq_ignore_ascii_case("group")));
    if people.is_empty() {
        let mend = "check user_base and user_filter, and that the service account may read people";
        findings.fail("people", format!("nobody matches {} below {}", wanted.filter, plan.user_base), mend);
        return people;
    }
    findings.pass("people", format!("{}{} match {}", people.len(), or_more(end), wanted.filter));
    let names = plan.subject_attributes.join(" or ");
    for person in people.iter().take(SAMPLE) {
        let subject = match ldap.subject_of(person) {
            Ok(subject) => subject,
            Err(failure) => {
                findings.fail("subject", failure.reason, "choose an attribute that every person has, or let the service account read it");
                return people;
            }
        };
        let same = any_equals(plan.subject_attributes.iter().map(|attribute| (attribute.as_str(), subject)));
        match timed(reader, &ldap.person_search(&plan.user_base, plan.user_scope, &same)).await.0 {
            Ok(found) if found.len() == 1 => {}
            Ok(found) => {
                let detail = format!("{} entries have the {names} of {}, where one should", found.len(), person.dn);
                findings.fail("subject", detail, "choose a subject_attribute that is unique and never changes");
                return people;
            }
            Err(failure) => {
                findings.fail("subject", failure.reason, "choose a subject_attribute that the directory can search for");
                return people;
            }
        }
    }
    findings.pass("subject", format!("{names} is there and unique, in a sample of {}", people.len().min(SAMPLE)));
    people
}

async fn groups(findings: &mut Findings, ldap: &Ldap, pool: &Pool) {
    let plan = &ldap.plan;
    let wanted = search(&plan.group_base, ldap3::Scope::Subtree, &all_of(&[&plan.group_filter]), &["1.1"]);
    let mend = "check group_base and group_filter, and that the service account may read groups";
    match pool.sample(&wanted).await {
        Ok(found) if found.end == End::NoBase => findings.fail("groups", format!("group_base {} does not exist", plan.group_base), mend),
        Ok(found) if found.entries.is_empty() => {
            findings.warn("groups", format!("no group matches {} below {}", plan.group_filter, plan.group_base), mend)
        }
        Ok(found) => {
            let some: Vec<&str> = found.entries.iter().take(3).map(|entry| entry.dn.as_str()).collect();
            findings.pass("groups", format!("{}{}, such as {}", found.entries.len(), or_more(found.end), some.join("; ")));
        }
        Err(failure) => findings.fail("groups", failure.reason, mend),
    }
}

fn or_more(end: End) -> &'static str {
    if end == End::Cut { " or more" } else { "" }
}

/// Whether groups are found the way that the preset finds them, for people who have some if the sample has such.
async fn nesting(findings: &mut Findings, ldap: &Ldap, people: &[Entry]) {
    let plan = &ldap.plan;
    let way = match (plan.strategy, plan.nested) {
        (Strategy::Member, true) => "member, level by level",
        (Strategy::MemberUid, _) => "memberUid and the primary group",
        (Strategy::TokenGroups, true) => "tokenGroups, else a search in chains",
        (Strategy::MemberOf, true) => "memberOf, which the directory keeps transitive",
        (Strategy::DirectMemberOf, false) => "memberOf, direct groups only",
        (Strategy::DirectMemberOf | Strategy::MemberOf, _) => "member, direct or level by level",
        (Strategy::Member | Strategy::TokenGroups, false) => "direct groups and the primary one",
    };
    let attribute = plan.login_attributes.first().map_or("", String::as_str);
    let suffix = if let Bind::Principal(suffix) = &plan.bind { suffix.as_str() } else { "" };
    let mut most: Option<(usize, String)> = None;
    let mut failed = None;
    for person in people.iter().take(SAMPLE) {
        let Some(login) = person.text(attribute) else { continue };
        match ldap.lookup(login.strip_suffix(suffix).unwrap_or(login)).await {
            Authentication::Authenticated(identity) => {
                let count = identity.facts.groups.len();
                if most.as_ref().is_none_or(|(before, _)| *before < count) {
                    most = Some((count, identity.username));
                }
            }
            Authentication::Unavailable(outage) => failed = Some((login, outage.reason)),
            Authentication::Refused(_) => {}
        }
    }
    match (&most, failed) {
        (None, Some((_, reason))) => {
            findings.fail("nesting", reason, "choose the preset of this directory, or let the service account read what it names")
        }
        (Some(_), Some((login, reason))) => {
            findings.warn("nesting", format!("{login} cannot sign in: {reason}"), "mend that entry, or raise the limit that it is beyond")
        }
        _ => {}
    }
    match most {
        Some((count, name)) => findings.pass("nesting", format!("groups by {way}; {name} has {count}, the most in the sample")),
        None if findings.is_sound() => {
            findings.warn("nesting", format!("groups by {way}; there is nobody to try it with"), "run countersign explain for somebody")
        }
        None => {}
    }
}

/// After how many wrong passwords the directory locks an account, where that can be read.
async fn lockout(ldap: &Ldap, reader: &mut Reader<'_>) -> Option<u64> {
    let root = match ldap.dialer.dial().await {
        Ok(connection) => read_root(connection).await.ok().map(|(_, root)| root),
        Err(_) => None,
    };
    match root.as_ref().and_then(Root::domain) {
        Some(domain) => {
            let found = timed(reader, &search(domain, ldap3::Scope::Base, "(objectClass=*)", &["lockoutThreshold"])).await.0;
            found.ok()?.first()?.text("lockoutThreshold")?.parse().ok()
        }
        None => {
            let mut limits = Vec::new();
            for base in root.iter().flat_map(|root| root.0.texts("namingContexts")) {
                let wanted = search(base, ldap3::Scope::Subtree, "(objectClass=pwdPolicy)", &["pwdMaxFailure", "pwdLockout"]);
                let found = timed(reader, &wanted).await.0.unwrap_or_default();
                let locks = found.iter().filter(|entry| entry.text("pwdLockout").is_some_and(|value| value.eq_ignore_ascii_case("TRUE")));
                limits.extend(locks.filter_map(|entry| entry.text("pwdMaxFailure")?.parse::<u64>().ok()));
            }
            limits.into_iter().filter(|limit| *limit > 0).min()
        }
    }
}

/// The shield lets one try less through than the number that it is told, 0 being none: it must not be told more than is true.
fn compare(findings: &mut Findings, theirs: Option<u64>, ours: u64) {
    match theirs {
        None => findings.pass(
            "lockout",
            format!("the directory does not show after how many wrong passwords it locks an account; lockout_threshold = {ours}"),
        ),
        Some(0) => findings.pass("lockout", "the directory locks nobody for wrong passwords"),
        Some(theirs) if ours == 0 || ours > theirs => findings.warn(
            "lockout",
            format!("the directory locks an account after {theirs} wrong passwords, and lockout_threshold = {ours}: strangers could have it lock people"),
            format!("write lockout_threshold = {theirs}, or have the directory be more patient"),
        ),
        Some(theirs) => findings.pass(
            "lockout",
            format!("the directory locks an account after {theirs} wrong passwords, and lockout_threshold = {ours} stays below"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::finding::Outcome;

    #[test]
    fn a_threshold_above_the_directorys_own_is_a_warning() {
        let outcome = |theirs, ours| {
            let mut findings = Findings::about("x");
            compare(&mut findings, theirs, ours);
            findings.done().remove(0).outcome
        };
        for (theirs, ours) in [(None, 5), (Some(0), 5), (Some(5), 5), (Some(10), 5)] {
            assert_eq!(outcome(theirs, ours), Outcome::Pass, "{theirs:?} {ours}");
        }
        assert_eq!(outcome(Some(3), 5), Outcome::Warn);
        assert_eq!(outcome(Some(3), 0), Outcome::Warn, "no shield at all");
    }
}
