//! `countersign doctor` against real directories and a real provider: nothing fails where all is well, and each fault is named with
//! its mend.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Database, DirSrv, Ldap, Oidc, Output, Samba, Setup, free_port};

/// What it found, and its exit code.
pub struct Found {
    pub status: i32,
    pub lines: Vec<Value>,
}

pub fn read(output: Output) -> Found {
    let lines = serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}:\n{}{}", output.stdout, output.stderr));
    Found { status: output.status, lines }
}

pub async fn doctor(setup: &Setup, arguments: &[&str]) -> Found {
    read(setup.cli(&[&["doctor", "--json"], arguments].concat()).await)
}

impl Found {
    /// There is such a line about a subject with this in its name, and `detail` holds this text.
    #[track_caller]
    pub fn says(&self, outcome: &str, subject: &str, check: &str, detail: &str) -> &Found {
        let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let it = |line: &&Value| {
            text(line, "outcome") == outcome
                && text(line, "subject").contains(subject)
                && text(line, "check") == check
                && text(line, "detail").contains(detail)
        };
        assert!(self.lines.iter().any(|line| it(&line)), "no {outcome} of {subject}, {check}: {detail}\n{}", self.shown());
        assert_eq!(self.status, i32::from(self.lines.iter().any(|line| line["outcome"] == "fail")), "the exit code\n{}", self.shown());
        self
    }

    /// The checks that fail.
    pub fn fails(&self) -> BTreeSet<String> {
        let failing = self.lines.iter().filter(|line| line["outcome"] == "fail");
        failing.map(|line| line["check"].as_str().unwrap().to_owned()).collect()
    }

    pub fn shown(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// A database that is there and migrated, and nothing else.
async fn migrated(setup: Setup) -> Setup {
    setup.cli(&["migrate"]).await.ok();
    setup
}

fn section_of(ldap: &Ldap, more: &str) -> Setup {
    Setup::new(Database::sqlite()).ldap("lab", ldap, more)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_well_nothing_fails() {
    let (ldap, samba, dirsrv, okta) = (Ldap::shared(), Samba::shared(), DirSrv::shared(), Oidc::issuer().await);
    let setup = Setup::new(Database::sqlite()).ldap("lab", &ldap, "").active_directory("corp", &samba, "").dirsrv("ds", &dirsrv, "");
    let setup = migrated(setup.okta("okta", &okta, "")).await;
    let found = doctor(&setup, &[]).await;
    assert!(found.fails().is_empty(), "{}", found.shown());
    assert_eq!(found.status, 0);
    for (subject, check, detail) in [
        ("configuration", "file", "understood"),
        ("database", "reachable", "SQLite 3"),
        ("database", "migrations", "none is missing"),
        ("database", "disk", "MiB are free"),
        ("lab ldaps://", "tls", "TLS 1.3, and the certificate is for 127.0.0.1"),
        ("lab ldaps://", "certificate", "issued by CN=Countersign test authority"),
        ("lab ldaps://", "service bind", Ldap::SERVICE_DN),
        ("lab ldaps://", "whoami", Ldap::SERVICE_DN),
        ("lab ldaps://", "vendor", "OpenLDAP"),
        ("lab ldaps://", "password policy", "password policy control"),
        ("lab", "subject", "entryUUID is there and unique"),
        ("lab", "groups", "such as cn="),
        ("lab", "nesting", "member, level by level"),
        ("corp ldaps://", "vendor", "Samba Active Directory, 4."),
        ("corp ldaps://", "clock", "agree"),
        ("corp ldaps://", "empty password", "refused"),
        ("corp", "subject", "objectGUID is there and unique"),
        ("corp", "nesting", "tokenGroups"),
        ("lab", "lockout", "locks an account after 5"),
        ("ds ldap", "vendor", "389-Directory/"),
        ("ds", "nesting", "memberOf"),
        ("okta", "issuer", "exactly"),
        ("okta", "keys", "for RS256"),
        ("okta", "clock", "agree"),
        ("okta", "userinfo", "has a userinfo endpoint"),
    ] {
        found.says("pass", subject, check, detail);
    }
    // Its lab allows that, which is for the story of the empty password.
    found.says("warn", "lab ldaps://", "empty password", "refuses such passwords itself");
    found.says("warn", "corp", "lockout", "after 3 wrong passwords, and lockout_threshold = 5");
    found.says("warn", "issuer", "reachable", "refused");
    for line in &found.lines {
        let names: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["check", "detail", "mend", "outcome", "subject"]);
        assert_eq!(line["mend"].is_null(), line["outcome"] == "pass", "{line}");
    }

    let only = doctor(&setup, &["ds"]).await;
    assert!(only.lines.iter().all(|line| line["subject"].as_str().unwrap().starts_with("ds")), "{}", only.shown());
    let unknown = setup.cli(&["doctor", "nowhere"]).await.failed(1);
    assert!(unknown.contains("there is no source nowhere") && unknown.contains("lab, corp, ds, okta"), "{unknown}");
    let text = setup.cli(&["doctor", "lab"]).await.ok();
    assert!(text.contains("  pass  service bind") && text.contains(" → ") && text.ends_with(" 0 fail\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_a_directory_is_named() {
    let ldap = Ldap::shared();
    let stranger = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/stranger-ca.crt");
    let setup = Setup::new(Database::sqlite()).file("lab.password", Ldap::SERVICE_PASSWORD);
    let trusting = ldap.section("lab", "lab.password", "").replace(&ldap.authority(), stranger);
    let found = doctor(&setup.config(&trusting), &["lab"]).await;
    found.says("fail", "lab ldaps://", "tls", "was issued by CN=Countersign test authority, whom we do not trust");

    let found = doctor(&section_of(&ldap, "server_name = \"other.lab.test\""), &["lab"]).await;
    found.says("fail", "lab ldaps://", "tls", "is for localhost, slapd.lab.test, 127.0.0.1, and not for other.lab.test");

    let closed = free_port();
    let found = doctor(&section_of(&ldap, &format!("urls = [\"ldaps://127.0.0.1:{closed}\"]")), &["lab"]).await;
    found.says("fail", "lab ldaps://", "tcp", "refused");
    let first_down = format!("urls = [\"ldaps://127.0.0.1:{closed}\", {:?}]", ldap.tls_url());
    let found = doctor(&section_of(&ldap, &first_down), &["lab"]).await;
    found.says("warn", &closed.to_string(), "tcp", "sign-ins go to another server meanwhile").says("pass", "lab", "user filter", "uid=");
    assert_eq!(found.status, 0, "{}", found.shown());

    let found = doctor(&section_of(&ldap, "urls = [\"ldaps://nowhere.invalid\"]"), &["lab"]).await;
    found.says("fail", "lab ldaps://", "dns", "nowhere.invalid");

    let setup = section_of(&ldap, "");
    let elsewhere = ldap.section("lab", "lab.password", "").replace("ou=people,dc=lab,dc=test", "ou=nobody,dc=lab,dc=test");
    let found = doctor(&Setup::new(Database::sqlite()).file("lab.password", Ldap::SERVICE_PASSWORD).config(&elsewhere), &["lab"]).await;
    found.says("fail", "lab", "user filter", "user_base ou=nobody,dc=lab,dc=test does not exist");
    drop(setup);

    let found = doctor(&section_of(&ldap, "preset = \"posix\"").config(""), &[]).await;
    assert_eq!(found.status, 1, "the key is there twice: {}", found.shown());
    found.says("fail", "configuration", "file", "duplicate key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_is_tried_once_and_never_shown() {
    let ldap = Ldap::shared();
    let both = format!("urls = [{:?}, {:?}]", ldap.tls_url(), ldap.url());
    let setup = section_of(&ldap, &both).file("lab.password", "not-the-password\n");
    let output = setup.cli(&["doctor", "lab", "--json"]).await;
    assert!(!(output.stdout.clone() + &output.stderr).contains("not-the-password"));
    let found = read(output);
    found.says("fail", "lab ldaps://", "service bind", "bad_password (LDAP result 49").says(
        "warn",
        "lab ldap://",
        "service bind",
        "not tried",
    );
    found.says("pass", "lab ldap://", "starttls", "goes over to TLS").says("fail", "lab", "people", "no server takes");
    assert_eq!(found.fails().len(), 2, "{}", found.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_kept_back_from_hosts_that_never_had_it() {
    let ldap = Ldap::shared();
    let mut server = section_of(&ldap, &format!("urls = [{:?}]", ldap.tls_url())).start().await;
    server.edit_config("ldaps://127.0.0.1:", "ldaps://localhost:");
    let found = read(server.cli(&["doctor", "--json"]).await);
    found.says("fail", "configuration", "file", "localhost would be sent the secret").says(
        "fail",
        "lab ldaps://localhost",
        "service bind",
        "not tried",
    );
    found.says("pass", "lab ldaps://localhost", "tls", "localhost").says("pass", "lab ldaps://localhost", "vendor", "OpenLDAP");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preset_that_cannot_work_here_is_named() {
    let ldap = Ldap::shared();
    let section = ldap.section("lab", "lab.password", "").replace("\"openldap\"", "\"active-directory\"");
    let more = format!(
        "{section}login_attributes = [\"uid\"]\nsubject_attribute = \"entryUUID\"\ngroup_filter = \"(objectClass=groupOfNames)\"\n"
    );
    let found = doctor(&Setup::new(Database::sqlite()).file("lab.password", Ldap::SERVICE_PASSWORD).config(&more), &["lab"]).await;
    found.says("warn", "lab ldaps://", "preset", "active-directory is not made for OpenLDAP");
    found.says("fail", "lab", "nesting", "does not show that it searches in chains");
    let section = ldap.section("lab", "lab.password", "").replace("\"openldap\"", "\"389ds\"");
    let found = doctor(&Setup::new(Database::sqlite()).file("lab.password", Ldap::SERVICE_PASSWORD).config(&section), &["lab"]).await;
    found.says("warn", "lab ldaps://", "preset", "389ds is not made for OpenLDAP");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_a_provider_is_named() {
    let okta = Oidc::issuer().await;
    let with = |change: &dyn Fn(String) -> String, more: &str| Setup::new(Database::sqlite()).config(&change(okta.section("okta", more)));
    let url = okta.url();

    let found = doctor(&with(&|section| section.replace(&url, &format!("{url}/")), ""), &["okta"]).await;
    found.says("fail", "okta", "issuer", "they differ by a slash at the end, which counts");

    let found = doctor(&with(&|section| section.replace(&url, &format!("{url}-gone/x")), ""), &["okta"]).await;
    found.says("fail", "okta", "discovery", "status 404");

    let closed = format!("http://127.0.0.1:{}", free_port());
    let found = doctor(&with(&|section| section.replace(&url, &closed), ""), &["okta"]).await;
    found.says("fail", "okta", "tcp", "refused");

    let found = doctor(&with(&|section| section, "algorithms = [\"ES384\"]"), &["okta"]).await;
    found.says("fail", "okta", "algorithms", "we accept ES384, and the provider signs with RS256");
    found.says("fail", "okta", "keys", "0 for ES384");

    okta.break_keys(503).await;
    let found = doctor(&with(&|section| section, ""), &["okta"]).await;
    found.says("fail", "okta", "keys", "status 503").says("pass", "okta", "issuer", &url);
}
