//! The lab's Active Directory: a Samba domain controller with the people of tests/peers/samba_people.py.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{peer, peer_script, run, unique};

/// A running domain controller. Its people's passwords are `Passw0rd!NAME`.
#[derive(Debug)]
pub struct Samba {
    /// An address of its own, since the ports are fixed.
    address: String,
    authority: PathBuf,
    /// None for the one that all stories share.
    own: Option<TempDir>,
}

/// Somebody of whom no other story knows.
#[derive(Clone, Debug)]
pub struct AdPerson {
    /// The sAMAccountName.
    pub name: String,
    pub dn: String,
    pub upn: String,
    pub password: String,
}

impl Samba {
    pub const DOMAIN: &str = "DC=lab,DC=example,DC=test";
    pub const STAFF: &str = "OU=Staff,DC=lab,DC=example,DC=test";
    /// A userPrincipalName is as good as a distinguished name here.
    pub const SERVICE: &str = "svc-read@lab.example.test";
    pub const SERVICE_PASSWORD: &str = "Passw0rd!svc";

    /// The one that `tests/run.sh` started. Stories change only people and groups that they added.
    pub fn shared() -> Samba {
        Samba { address: peer("COUNTERSIGN_TEST_AD"), authority: peer("COUNTERSIGN_TEST_AD_CA").into(), own: None }
    }

    /// One of the story's own, which it may stop and hang: a copy of the shared one as it was at its start. Takes about two seconds.
    pub fn private() -> Samba {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let address = free_address();
        let mut script = Command::new("bash");
        script.arg(peer_script("samba.sh")).arg("start").arg(directory.path()).arg(&address).env("FRESH", peer("COUNTERSIGN_TEST_AD_DIR"));
        run(script, "");
        let authority = directory.path().join("ca/ca.crt");
        Samba { address, authority, own: Some(directory) }
    }

    /// `ldap://ADDRESS`: StartTLS, or plaintext.
    pub fn url(&self) -> String {
        format!("ldap://{}", self.address)
    }

    /// `ldaps://ADDRESS`
    pub fn tls_url(&self) -> String {
        format!("ldaps://{}", self.address)
    }

    /// The address behind [`Samba::tls_url`], for a proxy in between.
    pub fn tls_address(&self) -> String {
        format!("{}:636", self.address)
    }

    /// The certificate of the authority that signed the server's. The certificate's names are localhost, samba.lab.test and the address.
    pub fn authority(&self) -> String {
        self.authority.to_string_lossy().into_owned()
    }

    /// `[[source]]` over ldaps with the preset `active-directory`. `more` may set further keys; where it sets `urls`, `preset`,
    /// `user_base` or `group_base`, those are taken instead.
    pub fn section(&self, name: &str, password_file: &str, more: &str) -> String {
        let defaults = [
            ("preset", "\"active-directory\"".to_owned()),
            ("urls", format!("[{:?}]", self.tls_url())),
            ("user_base", format!("{:?}", Samba::STAFF)),
            ("group_base", format!("{:?}", Samba::DOMAIN)),
        ];
        let unset = defaults.iter().filter(|(key, _)| !more.lines().any(|line| line.split('=').next().is_some_and(|k| k.trim() == *key)));
        let defaults: String = unset.map(|(key, value)| format!("{key} = {value}\n")).collect();
        format!(
            "[[source]]\nname = {name:?}\ntype = \"ldap\"\n{defaults}ca_file = {:?}\nbind_dn = {:?}\n\
             bind_password_file = {password_file:?}\n{more}\n",
            self.authority(),
            Samba::SERVICE
        )
    }

    /// The distinguished name of a person or group whose common name needs no escaping.
    pub fn dn(cn: &str) -> String {
        format!("CN={cn},{}", Samba::STAFF)
    }

    /// Adds a person who is a member of these groups (common names).
    pub fn add_person(&self, groups: &[&str]) -> AdPerson {
        let name = unique();
        let person = AdPerson { dn: Samba::dn(&name), upn: format!("{name}@lab.example.test"), password: format!("Passw0rd!{name}"), name };
        let AdPerson { name, dn, upn, password } = &person;
        self.modify(&format!(
            "dn: {dn}\nchangetype: add\nobjectClass: user\nsAMAccountName: {name}\nuserPrincipalName: {upn}\nmail: {name}@example.test\n\
             unicodePwd:: {}\nuserAccountControl: 512\n",
            quoted(password)
        ));
        for group in groups {
            self.join(&Samba::dn(group), dn);
        }
        person
    }

    /// Adds a group with these members (DNs) and answers its common name.
    pub fn add_group(&self, members: &[&str]) -> String {
        let cn = unique();
        let members: String = members.iter().map(|dn| format!("member: {dn}\n")).collect();
        self.modify(&format!("dn: {}\nchangetype: add\nobjectClass: group\nsAMAccountName: {cn}\n{members}", Samba::dn(&cn)));
        cn
    }

    /// Both are DNs.
    pub fn join(&self, group: &str, member: &str) {
        self.modify(&format!("dn: {group}\nchangetype: modify\nadd: member\nmember: {member}\n"));
    }

    /// Both are DNs.
    pub fn leave(&self, group: &str, member: &str) {
        self.modify(&format!("dn: {group}\nchangetype: modify\ndelete: member\nmember: {member}\n"));
    }

    /// Replaces an attribute.
    pub fn set(&self, dn: &str, attribute: &str, value: &str) {
        self.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n"));
    }

    pub fn set_password(&self, dn: &str, password: &str) {
        self.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: unicodePwd\nunicodePwd:: {}\n", quoted(password)));
    }

    pub fn delete(&self, dn: &str) {
        self.modify(&format!("dn: {dn}\nchangetype: delete\n"));
    }

    /// Applies LDIF as the domain's administrator. Passwords may only be set over TLS, which is what this takes.
    pub fn modify(&self, ldif: &str) {
        let mut ldapmodify = Command::new("ldapmodify");
        ldapmodify.args(["-x", "-H", &self.tls_url(), "-D", "Administrator@lab.example.test", "-w", "Passw0rd!Adm1n"]);
        ldapmodify.env("LDAPTLS_CACERT", &self.authority);
        run(ldapmodify, ldif);
    }

    /// What the administrator reads of an entry, as LDIF.
    pub fn read(&self, dn: &str, attributes: &[&str]) -> String {
        let mut ldapsearch = Command::new("ldapsearch");
        ldapsearch.args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &self.url(), "-D", "Administrator@lab.example.test"]);
        ldapsearch.args(["-w", "Passw0rd!Adm1n", "-s", "base", "-b", dn]).args(attributes);
        run(ldapsearch, "")
    }

    /// A bind with a wrong password, past our own server.
    pub fn wrong_password(&self, upn: &str) {
        let mut ldapsearch = Command::new("ldapsearch");
        ldapsearch.args(["-x", "-H", &self.url(), "-D", upn, "-w", "wrong", "-s", "base", "-b", ""]);
        assert!(!ldapsearch.output().expect("ldapsearch runs").status.success(), "a wrong password worked");
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
        self.script("hang");
    }

    pub fn resume(&self) {
        self.script("resume");
    }

    fn directory(&self) -> &Path {
        self.own.as_ref().expect("a story stops only a directory of its own: Samba::private()").path()
    }

    fn script(&self, command: &str) {
        let mut script = Command::new("bash");
        script.arg(peer_script("samba.sh")).arg(command).arg(self.directory());
        run(script, "");
    }
}

impl Drop for Samba {
    fn drop(&mut self) {
        if let Some(directory) = &self.own {
            let _ = Command::new("bash").arg(peer_script("samba.sh")).arg("stop").arg(directory.path()).output();
        }
    }
}

/// An address of loopback where nobody offers LDAP.
fn free_address() -> String {
    loop {
        let mut bytes = [0u8; 3];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
        let address = format!("127.{}.{}.{}", bytes[0].clamp(1, 254), bytes[1], bytes[2].clamp(2, 254));
        if std::net::TcpStream::connect((address.as_str(), 389)).is_err() {
            return address;
        }
    }
}

/// A password as unicodePwd takes it, in base64.
fn quoted(password: &str) -> String {
    use base64::Engine;
    let bytes: Vec<u8> = format!("\"{password}\"").encode_utf16().flat_map(u16::to_le_bytes).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
