//! The lab's directory: OpenLDAP with the people of tests/peers/openldap_people.py.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::server::send_signal;
use super::{free_port, peer, peer_script, run, unique};

/// A running slapd. Its people's passwords are `pw-UID`.
#[derive(Debug)]
pub struct Ldap {
    plain: u16,
    tls: u16,
    authority: PathBuf,
    /// None for the one that all stories share.
    own: Option<TempDir>,
}

/// Somebody of whom no other story knows.
#[derive(Clone, Debug)]
pub struct Person {
    pub uid: String,
    pub dn: String,
    pub password: String,
}

const PEOPLE: &str = "ou=people,dc=lab,dc=test";
const GROUPS: &str = "ou=groups,dc=lab,dc=test";

impl Ldap {
    pub const SERVICE_DN: &str = "cn=svc,ou=services,dc=lab,dc=test";
    pub const SERVICE_PASSWORD: &str = "svcpw";

    /// The one that `tests/run.sh` started. Stories change only people and groups that they added.
    pub fn shared() -> Ldap {
        let port = |variable| {
            let url = url::Url::parse(&peer(variable)).unwrap_or_else(|e| panic!("{variable}: {e}"));
            url.port().unwrap_or_else(|| panic!("{variable} has no port"))
        };
        let authority = PathBuf::from(peer("COUNTERSIGN_TEST_LDAP_CA"));
        Ldap { plain: port("COUNTERSIGN_TEST_LDAP"), tls: port("COUNTERSIGN_TEST_LDAPS"), authority, own: None }
    }

    /// One of the story's own, which it may stop and hang.
    pub fn private() -> Ldap {
        Ldap::private_with("never")
    }

    /// The same, but by TLS it talks to nobody without a certificate of its authority, such as [`Ldap::client_pair`].
    pub fn private_with_client_certificates() -> Ldap {
        Ldap::private_with("demand")
    }

    fn private_with(client_tls: &str) -> Ldap {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let (plain, tls) = (free_port(), free_port());
        let mut script = Command::new("bash");
        script
            .arg(peer_script("openldap.sh"))
            .arg("start")
            .arg(directory.path())
            .args([plain.to_string(), tls.to_string()])
            .env("PEOPLE", "0")
            .env("CLIENT_TLS", client_tls);
        run(script, "");
        let authority = directory.path().join("ca/ca.crt");
        Ldap { plain, tls, authority, own: Some(directory) }
    }

    /// `ldap://127.0.0.1:PORT`: StartTLS, or plaintext.
    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.plain)
    }

    /// `ldaps://127.0.0.1:PORT`
    pub fn tls_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.tls)
    }

    /// The address behind [`Ldap::tls_url`], for a proxy in between.
    pub fn tls_address(&self) -> String {
        format!("127.0.0.1:{}", self.tls)
    }

    /// The address behind [`Ldap::url`].
    pub fn plain_address(&self) -> String {
        format!("127.0.0.1:{}", self.plain)
    }

    /// The certificate of the authority that signed the server's.
    pub fn authority(&self) -> String {
        self.authority.to_string_lossy().into_owned()
    }

    /// A certificate and its key, as PEM, that it takes from a client; of a private one only.
    pub fn client_pair(&self) -> [String; 2] {
        ["ca/client.crt", "ca/client.key"].map(|file| std::fs::read_to_string(self.directory().join(file)).expect("openldap.sh made it"))
    }

    /// `[[source]]` over ldaps. `more` may set further keys; where it sets `urls`, those are taken instead.
    pub fn section(&self, name: &str, password_file: &str, more: &str) -> String {
        let urls = if more.lines().any(|l| l.starts_with("urls")) { String::new() } else { format!("urls = [{:?}]\n", self.tls_url()) };
        format!(
            "[[source]]\nname = {name:?}\ntype = \"ldap\"\npreset = \"openldap\"\n{urls}ca_file = {:?}\nbind_dn = {:?}\n\
             bind_password_file = {password_file:?}\nuser_base = {PEOPLE:?}\ngroup_base = {GROUPS:?}\n{more}\n",
            self.authority(),
            Ldap::SERVICE_DN
        )
    }

    /// The same in plain text through these proxies, which can then read what is asked.
    pub fn plain_section(&self, name: &str, password_file: &str, proxies: &[&super::Proxy], more: &str) -> String {
        let urls: Vec<String> = proxies.iter().map(|proxy| format!("\"ldap://127.0.0.1:{}\"", proxy.port())).collect();
        let more = format!("urls = [{}]\ntls = \"none\"\ninsecure_plaintext = true\n{more}", urls.join(", "));
        self.section(name, password_file, &more)
            .lines()
            .filter(|line| !line.starts_with("ca_file"))
            .map(|line| format!("{line}\n"))
            .collect()
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
        let person = Person { dn: Ldap::person_dn(&uid), password: format!("pw-{uid}"), uid };
        let Person { uid, dn, password } = &person;
        self.modify(&format!(
            "dn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: {uid}\nmail: {uid}@lab.test\n\
             userPassword: {password}\n"
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
        self.modify(&format!("dn: {}\nchangetype: add\nobjectClass: groupOfNames\ncn: {cn}\n{members}", Ldap::group_dn(&cn)));
        cn
    }

    pub fn join(&self, group: &str, member_dn: &str) {
        self.modify(&format!("dn: {}\nchangetype: modify\nadd: member\nmember: {member_dn}\n", Ldap::group_dn(group)));
    }

    pub fn leave(&self, group: &str, member_dn: &str) {
        self.modify(&format!("dn: {}\nchangetype: modify\ndelete: member\nmember: {member_dn}\n", Ldap::group_dn(group)));
    }

    pub fn delete(&self, dn: &str) {
        self.modify(&format!("dn: {dn}\nchangetype: delete\n"));
    }

    /// Applies LDIF as the directory's administrator.
    pub fn modify(&self, ldif: &str) {
        let mut ldapmodify = Command::new("ldapmodify");
        ldapmodify.args(["-x", "-H", &self.url(), "-D", "cn=admin,dc=lab,dc=test", "-w", "adminpw"]);
        run(ldapmodify, ldif);
    }

    /// The values of an attribute, as the administrator reads them.
    pub fn values(&self, dn: &str, attribute: &str) -> Vec<String> {
        let mut ldapsearch = Command::new("ldapsearch");
        ldapsearch.args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &self.url(), "-D", "cn=admin,dc=lab,dc=test", "-w", "adminpw"]);
        ldapsearch.args(["-s", "base", "-b", dn, attribute]);
        let prefix = format!("{attribute}: ");
        run(ldapsearch, "").lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// The person changes their own password.
    pub fn change_password(&self, person: &Person, to: &str) {
        let mut ldappasswd = Command::new("ldappasswd");
        ldappasswd.args(["-x", "-H", &self.url(), "-D", &person.dn, "-w", &person.password, "-s", to]);
        run(ldappasswd, "");
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

    fn directory(&self) -> &std::path::Path {
        self.own.as_ref().expect("a story stops only a directory of its own: Ldap::private()").path()
    }

    fn process(&self) -> u32 {
        let text = std::fs::read_to_string(self.directory().join("slapd.pid")).expect("slapd runs");
        text.trim().parse().expect("slapd.pid holds a process id")
    }

    fn script(&self, command: &str) {
        let mut script = Command::new("bash");
        script.arg(peer_script("openldap.sh")).arg(command).arg(self.directory());
        run(script, "");
    }
}

impl Drop for Ldap {
    fn drop(&mut self) {
        if let Some(directory) = &self.own {
            let _ = Command::new("bash").arg(peer_script("openldap.sh")).arg("stop").arg(directory.path()).output();
        }
    }
}
