//! The lab's 389 Directory Server, with the people of tests/peers/dirsrv389_people.py.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::ldap::Person;
use super::server::send_signal;
use super::{free_port, peer, peer_script, run, unique};

/// A running ns-slapd. Its people's passwords are `pw-UID`.
#[derive(Debug)]
pub struct DirSrv {
    url: String,
    tls_url: String,
    authority: PathBuf,
    /// None for the one that all stories share.
    own: Option<TempDir>,
}

const PEOPLE: &str = "ou=people,dc=lab,dc=test";
const GROUPS: &str = "ou=groups,dc=lab,dc=test";

impl DirSrv {
    pub const SERVICE_DN: &str = "cn=svc,ou=services,dc=lab,dc=test";
    pub const SERVICE_PASSWORD: &str = "svcpw";

    /// The one that `tests/run.sh` started. Stories change only people and groups that they added.
    pub fn shared() -> DirSrv {
        let authority = peer("COUNTERSIGN_TEST_389_CA").into();
        DirSrv { url: peer("COUNTERSIGN_TEST_389"), tls_url: peer("COUNTERSIGN_TEST_389S"), authority, own: None }
    }

    /// One of the story's own, which it may stop and hang. Takes about two seconds.
    pub fn private() -> DirSrv {
        DirSrv::start(&[])
    }

    /// One of the story's own whose entries have no entryUUID.
    pub fn without_entry_uuid() -> DirSrv {
        DirSrv::start(&[("ENTRYUUID", "off")])
    }

    fn start(environment: &[(&str, &str)]) -> DirSrv {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let (plain, tls) = (free_port(), free_port());
        let mut script = Command::new("bash");
        script.arg(peer_script("dirsrv389.sh")).arg("start").arg(directory.path()).args([plain.to_string(), tls.to_string()]);
        script.envs(environment.iter().copied());
        run(script, "");
        let authority = directory.path().join("ca/ca.crt");
        let (url, tls_url) = (format!("ldap://127.0.0.1:{plain}"), format!("ldaps://127.0.0.1:{tls}"));
        DirSrv { url, tls_url, authority, own: Some(directory) }
    }

    /// `ldap://127.0.0.1:PORT`: StartTLS, or plaintext.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// `ldaps://127.0.0.1:PORT`
    pub fn tls_url(&self) -> String {
        self.tls_url.clone()
    }

    /// The address behind [`DirSrv::tls_url`], for a proxy in between.
    pub fn tls_address(&self) -> String {
        self.tls_url.trim_start_matches("ldaps://").to_owned()
    }

    /// The certificate of the authority that signed the server's.
    pub fn authority(&self) -> String {
        self.authority.to_string_lossy().into_owned()
    }

    /// `[[source]]` over ldaps with the preset `389ds`. `more` may set further keys; where it sets `urls` or `preset`, those are
    /// taken instead.
    pub fn section(&self, name: &str, password_file: &str, more: &str) -> String {
        let sets = |key: &str| more.lines().any(|line| line.split('=').next().is_some_and(|k| k.trim() == key));
        let urls = if sets("urls") { String::new() } else { format!("urls = [{:?}]\n", self.tls_url) };
        let preset = if sets("preset") { "" } else { "preset = \"389ds\"\n" };
        format!(
            "[[source]]\nname = {name:?}\ntype = \"ldap\"\n{preset}{urls}ca_file = {:?}\nbind_dn = {:?}\n\
             bind_password_file = {password_file:?}\nuser_base = {PEOPLE:?}\ngroup_base = {GROUPS:?}\n{more}\n",
            self.authority(),
            DirSrv::SERVICE_DN
        )
    }

    /// The distinguished name of a group.
    pub fn group_dn(cn: &str) -> String {
        format!("cn={cn},{GROUPS}")
    }

    /// The distinguished name of a person.
    pub fn person_dn(uid: &str) -> String {
        format!("uid={uid},{PEOPLE}")
    }

    /// Adds a person who is a member of these groups (names, not DNs).
    pub fn add_person(&self, groups: &[&str]) -> Person {
        let uid = unique();
        let person = Person { dn: DirSrv::person_dn(&uid), password: format!("pw-{uid}"), uid };
        let Person { uid, dn, password } = &person;
        self.modify(&format!(
            "dn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: inetUser\nuid: {uid}\ncn: {uid}\nsn: {uid}\n\
             mail: {uid}@lab.test\nuserPassword: {password}\n"
        ));
        for group in groups {
            self.join(group, dn);
        }
        person
    }

    /// Adds a group with these members (DNs) and answers its name.
    pub fn add_group(&self, members: &[&str]) -> String {
        let cn = unique();
        let members: String = members.iter().map(|dn| format!("member: {dn}\n")).collect();
        let dn = DirSrv::group_dn(&cn);
        self.modify(&format!("dn: {dn}\nchangetype: add\nobjectClass: groupOfNames\nobjectClass: nsMemberOf\ncn: {cn}\n{members}"));
        cn
    }

    pub fn join(&self, group: &str, member_dn: &str) {
        self.modify(&format!("dn: {}\nchangetype: modify\nadd: member\nmember: {member_dn}\n", DirSrv::group_dn(group)));
    }

    pub fn leave(&self, group: &str, member_dn: &str) {
        self.modify(&format!("dn: {}\nchangetype: modify\ndelete: member\nmember: {member_dn}\n", DirSrv::group_dn(group)));
    }

    /// Replaces an attribute.
    pub fn set(&self, dn: &str, attribute: &str, value: &str) {
        self.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n"));
    }

    pub fn delete(&self, dn: &str) {
        self.modify(&format!("dn: {dn}\nchangetype: delete\n"));
    }

    /// Applies LDIF as the directory's administrator.
    pub fn modify(&self, ldif: &str) {
        let mut ldapmodify = Command::new("ldapmodify");
        ldapmodify.args(["-x", "-H", &self.url, "-D", "cn=Directory Manager", "-w", "dmpassword"]);
        run(ldapmodify, ldif);
    }

    /// Stops it. Only for one of the story's own, like the three below.
    pub fn stop(&self) {
        self.script("stop");
    }

    /// Starts it again with its data.
    pub fn start_again(&self) {
        self.script("again");
    }

    /// It keeps its connections and answers nothing.
    pub fn hang(&self) {
        send_signal("STOP", self.process());
    }

    pub fn resume(&self) {
        send_signal("CONT", self.process());
    }

    fn directory(&self) -> &Path {
        self.own.as_ref().expect("a story stops only a directory of its own: DirSrv::private()").path()
    }

    fn process(&self) -> u32 {
        let text = std::fs::read_to_string(self.directory().join("ns-slapd.pid")).expect("ns-slapd runs");
        text.trim().parse().expect("ns-slapd.pid holds a process id")
    }

    fn script(&self, command: &str) {
        let mut script = Command::new("bash");
        script.arg(peer_script("dirsrv389.sh")).arg(command).arg(self.directory());
        run(script, "");
    }
}

impl Drop for DirSrv {
    /// At once: its data go with it.
    fn drop(&mut self) {
        if let Some(directory) = &self.own {
            let _ = Command::new("bash").arg(peer_script("dirsrv389.sh")).arg("end").arg(directory.path()).output();
        }
    }
}
