//! What changes in the directory between a sign-in and a refresh.

use std::collections::HashSet;

use ldap3::{LdapConnAsync, Mod};

use super::*;
use RefusalReason::{AccountExpired, BadPassword, Locked, NotEligible, NotNow, PasswordChangeRequired, UnknownUser};

const BEFORE: &str = "20200101000000Z";
const AFTER: &str = "21000101000000Z";

/// The directory's administrator, with a person of its own that other tests do not know.
struct Admin {
    ldap: ldap3::Ldap,
    uid: &'static str,
}

impl Admin {
    async fn hires(uid: &'static str) -> Admin {
        let (connection, mut ldap) = LdapConnAsync::new(&plain_url()).await.unwrap();
        ldap3::drive!(connection);
        ldap.simple_bind(&format!("cn=admin,{BASE}"), "adminpw").await.unwrap().success().unwrap();
        let mut admin = Admin { ldap, uid };
        let _ = admin.ldap.delete(&admin.group()).await.unwrap();
        let _ = admin.ldap.delete(&admin.person()).await.unwrap();
        let (person, group, password) = (admin.person(), admin.group(), format!("pw-{uid}"));
        let one = |value: &str| HashSet::from([value.to_owned()]);
        let attributes = [("objectClass", "inetOrgPerson"), ("uid", uid), ("cn", uid), ("sn", uid), ("userPassword", &password)];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), one(value))).to_vec();
        admin.ldap.add(&person, attributes).await.unwrap().success().unwrap();
        let attributes = [("objectClass", "groupOfNames"), ("cn", uid), ("member", person.as_str())];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), one(value))).to_vec();
        admin.ldap.add(&group, attributes).await.unwrap().success().unwrap();
        admin
    }

    fn person(&self) -> String {
        format!("uid={},ou=people,{BASE}", self.uid)
    }

    fn group(&self) -> String {
        format!("cn={},ou=groups,{BASE}", self.uid)
    }

    /// Replaces an attribute of the person; nothing for none.
    async fn sets(&mut self, attribute: &str, value: &str) {
        let values = if value.is_empty() { HashSet::new() } else { HashSet::from([value]) };
        let person = self.person();
        self.ldap.modify(&person, vec![Mod::Replace(attribute, values)]).await.unwrap().success().unwrap();
    }

    async fn fires(&mut self) {
        let (person, group) = (self.person(), self.group());
        self.ldap.delete(&group).await.unwrap().success().unwrap();
        self.ldap.delete(&person).await.unwrap().success().unwrap();
    }
}

#[tokio::test]
async fn a_person_is_checked_again_by_subject() {
    let mut admin = Admin::hires("rechecked").await;
    let source = Source::at(&plain_url()).with(|config| config.user_filter = Some("(!(description=left))".to_owned()));
    let ldap = source.open();
    let person = accepted(sign_in(&ldap, "rechecked", "pw-rechecked").await);
    let again = accepted(ldap.recheck(&person.subject).await);
    assert_eq!((&again.subject, groups(&again), again.auth_time), (&person.subject, vec!["rechecked"], 0));

    for (attribute, value, reason) in [
        ("pwdAccountLockedTime", "000001010000Z", Locked),
        ("pwdReset", "TRUE", PasswordChangeRequired),
        ("description", "left", UnknownUser),
    ] {
        admin.sets(attribute, value).await;
        assert_eq!(refused(ldap.recheck(&person.subject).await), reason, "{attribute}");
        admin.sets(attribute, "").await;
        accepted(ldap.recheck(&person.subject).await);
    }

    admin.fires().await;
    assert_eq!(refused(ldap.recheck(&person.subject).await), UnknownUser);
    assert_eq!(refused(ldap.recheck("*").await), UnknownUser);
}

#[tokio::test]
async fn times_of_the_account_count_at_a_recheck() {
    let mut admin = Admin::hires("timed").await;
    let ldap = Source::at(&plain_url()).open();
    let subject = accepted(sign_in(&ldap, "timed", "pw-timed").await).subject;
    for (attribute, wrong, reason, right) in [("pwdEndTime", BEFORE, AccountExpired, AFTER), ("pwdStartTime", AFTER, NotNow, BEFORE)] {
        admin.sets(attribute, wrong).await;
        assert_eq!(refused(ldap.recheck(&subject).await), reason);
        admin.sets(attribute, right).await;
        accepted(ldap.recheck(&subject).await);
    }
    // Wrong guesses of anybody lock sign-ins for a while, and must not end sessions.
    admin.sets("pwdAccountLockedTime", BEFORE).await;
    accepted(ldap.recheck(&subject).await);
    admin.fires().await;
}

#[tokio::test]
async fn groups_are_remembered_between_sign_ins_and_read_anew_at_a_recheck() {
    let mut admin = Admin::hires("remembered").await;
    let ldap = Source::at(&plain_url()).open();
    let forgetful = Source::at(&plain_url()).with(|config| config.group_cache = Duration::from_nanos(1)).open();
    let subject = accepted(sign_in(&ldap, "remembered", "pw-remembered").await).subject;
    let group = admin.group();
    admin.ldap.delete(&group).await.unwrap().success().unwrap();
    assert_eq!(groups(&accepted(sign_in(&ldap, "remembered", "pw-remembered").await)), ["remembered"]);
    assert_eq!(refused(sign_in(&ldap, "remembered", "wrong").await), BadPassword, "passwords are never remembered");
    assert!(groups(&accepted(sign_in(&forgetful, "remembered", "pw-remembered").await)).is_empty());
    assert!(groups(&accepted(ldap.recheck(&subject).await)).is_empty());
    assert!(groups(&accepted(sign_in(&ldap, "remembered", "pw-remembered").await)).is_empty(), "the recheck's answer is newer");
}

#[tokio::test]
async fn a_person_without_a_username_is_not_eligible() {
    let source =
        Source::at(&plain_url()).with(|config| config.login_attributes = Some(vec!["employeeNumber".to_owned(), "uid".to_owned()]));
    assert_eq!(refused(sign_in(&source.open(), "alice", "pw-alice").await), NotEligible);
}
