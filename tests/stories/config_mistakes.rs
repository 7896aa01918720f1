//! A configuration with a mistake: `countersign check` exits 1 and names file, line, key and mend.

use std::fs;

use tempfile::TempDir;

use crate::harness::countersign;

/// A mistake: the line it stands on, the key, words of the mend, and the file.
struct Mistake {
    line: usize,
    key: &'static str,
    mend: &'static [&'static str],
    text: &'static str,
}

const fn mistake(line: usize, key: &'static str, mend: &'static [&'static str], text: &'static str) -> Mistake {
    Mistake { line, key, mend, text }
}

/// Eight lines without a mistake.
const LDAP: &str = r#"[[source]]
name = "corp"
type = "ldap"
urls = ["ldaps://ldap.corp.test"]
user_base = "ou=people,dc=corp,dc=test"
group_base = "ou=groups,dc=corp,dc=test"
bind_dn = "cn=svc,dc=corp,dc=test"
bind_password_file = "svc.password"
"#;

fn check(text: &str) -> (i32, String) {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("countersign.toml"), text).unwrap();
    fs::write(directory.path().join("svc.password"), "secret").unwrap();
    let output = countersign(directory.path(), &["check", "--config", "countersign.toml"], &[]);
    (output.status, output.stdout + &output.stderr)
}

fn assert_named(mistake: &Mistake) {
    let (status, said) = check(mistake.text);
    let place = format!("countersign.toml:{}:", mistake.line);
    let line = said.lines().find(|l| l.contains(&place) && l.contains(mistake.key));
    assert!(status == 1 && line.is_some(), "exit {status}; wanted {place} … {}, got:\n{said}\nfor:\n{}", mistake.key, mistake.text);
    for word in mistake.mend {
        assert!(line.is_some_and(|l| l.contains(word)), "the mend should name {word}: {said}");
    }
}

#[test]
fn each_kind_of_mistake_in_a_key_is_named_with_file_line_and_mend() {
    for mistake in [
        mistake(2, "server.lisen", &["unknown", "listen"], "[server]\nlisen = \"127.0.0.1:8080\"\n"),
        mistake(2, "servr", &["unknown", "server"], "\n[servr]\nlisten = \"127.0.0.1:8080\"\n"),
        mistake(3, "database.pool_size", &[], "[database]\n\npool_size = \"many\"\n"),
        mistake(2, "server.listen", &[], "[server]\nlisten = \"localhost\"\n"),
        mistake(2, "tokens.access_lifetime", &["15m"], "[tokens]\naccess_lifetime = \"soon\"\n"),
        mistake(2, "tokens.access_lifetime", &["zero"], "[tokens]\naccess_lifetime = \"0s\"\n"),
        mistake(2, "tokens.format", &["opaque", "jwt"], "[tokens]\nformat = \"paseto\"\n"),
        mistake(2, "tokens.signing_algorithm", &["S256"], "[tokens]\nsigning_algorithm = \"HS256\"\n"),
        mistake(2, "limits.login_failures", &["10/5m"], "[limits]\nlogin_failures = \"10\"\n"),
        mistake(2, "database.url", &["sqlite:", "postgres://"], "[database]\nurl = \"mysql://db.test/x\"\n"),
        mistake(3, "source[0].type", &["ldap", "okta"], "[[source]]\nname = \"corp\"\ntype = \"kerberos\"\n"),
        mistake(3, "client[0].grant", &["unknown", "grants"], "[[client]]\nid = \"web\"\ngrant = [\"password\"]\n"),
    ] {
        assert_named(&mistake);
    }
}

#[test]
fn what_does_not_fit_together_is_named_too() {
    for mistake in [
        mistake(2, "server.listen", &["tls_certificate", "trusted_proxies"], "[server]\nlisten = \"0.0.0.0:8080\"\n"),
        mistake(2, "server.tls_certificate", &["missing.pem"], "[server]\ntls_certificate = \"missing.pem\"\ntls_key = \"missing.pem\"\n"),
        mistake(4, "source[0].urls[0]", &[], "[[source]]\nname = \"corp\"\ntype = \"ldap\"\nurls = [\"ldap:///\"]\n"),
        mistake(4, "source[0].urls[0]", &[], "[[source]]\nname = \"corp\"\ntype = \"ldap\"\nurls = [\"http://ldap.corp.test\"]\n"),
        mistake(
            4,
            "source[0].issuer",
            &[],
            "[[source]]\nname = \"okta\"\ntype = \"okta\"\nissuer = \"http://corp.okta.test\"\nclient_id = \"x\"\n",
        ),
        mistake(
            4,
            "mapping.rule[0].match.cn_regex",
            &[],
            "[[mapping.rule]]\nid = \"teams\"\nunder = \"dc=corp,dc=test\"\nmatch.cn_regex = \"team-(\"\nroles = [\"team\"]\n",
        ),
        mistake(
            6,
            "mapping.rule[1].id",
            &["admins"],
            "[[mapping.rule]]\nid = \"admins\"\nmatch.dn = \"cn=a,dc=x\"\nroles = [\"a\"]\n[[mapping.rule]]\nid = \"admins\"\nmatch.dn = \"cn=b,dc=x\"\nroles = [\"b\"]\n",
        ),
        mistake(
            3,
            "mapping.rule[0].source",
            &["nowhere", "local"],
            "[[mapping.rule]]\nid = \"a\"\nsource = \"nowhere\"\nmatch.dn = \"cn=a,dc=x\"\nroles = [\"a\"]\n",
        ),
        mistake(
            4,
            "mapping.rule[0].roles",
            &["privileged"],
            "[[mapping.rule]]\nid = \"a\"\nmatch.dn = \"cn=a,dc=x\"\nroles = [\"countersign:admin\"]\n",
        ),
        mistake(3, "client[0].grants", &["implicit"], "[[client]]\nid = \"web\"\ngrants = [\"implicit\"]\npublic = true\n"),
        mistake(4, "client[0].sources", &["nowhere"], "[[client]]\nid = \"web\"\npublic = true\nsources = [\"nowhere\"]\n"),
    ] {
        assert_named(&mistake);
    }
}

#[test]
fn a_file_that_is_no_toml_is_named_with_its_line() {
    let (status, said) = check("[server]\nlisten = \n");
    assert!(status == 1 && said.contains("countersign.toml:2:"), "{status}: {said}");
}

#[test]
fn a_file_that_a_key_names_must_be_there() {
    let (status, said) = check(&LDAP.replace("svc.password", "no-such-file"));
    assert!(status == 1 && said.contains("countersign.toml:8:") && said.contains("no-such-file"), "{status}: {said}");
}

#[test]
fn an_expectation_that_fails_is_a_mistake() {
    let rule = "[[mapping.rule]]\nid = \"admins\"\nmatch.dn = \"cn=admins,dc=corp,dc=test\"\nroles = [\"admin\"]\n";
    let expect = "[[mapping.expect]]\nsource = \"corp\"\ngroups = [\"cn=admins,dc=corp,dc=test\"]\n";
    let (status, said) = check(&format!("{LDAP}{rule}{expect}roles = [\"admin\"]\n"));
    assert_eq!(status, 0, "{said}");
    let (status, said) = check(&format!("{LDAP}{rule}{expect}roles = [\"owner\"]\n"));
    assert!(status == 1 && said.contains("mapping.expect[0]") && said.contains("admin"), "{status}: {said}");
    let place = |line: usize| said.contains(&format!("countersign.toml:{line}:"));
    assert!((13..=16).any(place), "no line of the expectation: {said}");
}

#[test]
fn every_mistake_is_told_at_once() {
    let (status, said) = check("[server]\nlisen = \"127.0.0.1:8080\"\n[tokens]\naccess_lifetme = \"15m\"\n");
    assert!(status == 1 && said.contains(":2:") && said.contains(":4:"), "{status}: {said}");
}

#[test]
fn a_variable_with_a_mistake_is_named() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("countersign.toml"), "[server]\nlisten = \"127.0.0.1:8080\"\n").unwrap();
    let check = |variables: &[(&str, &str)]| countersign(directory.path(), &["check", "--config", "countersign.toml"], variables);
    for (variable, value) in [("COUNTERSIGN_SERVER__LISEN", "127.0.0.1:1"), ("COUNTERSIGN_DATABASE__POOL_SIZE", "many")] {
        let said = check(&[(variable, value)]).failed(1);
        assert!(said.contains(variable), "{variable} is not named: {said}");
    }
    // Kubernetes sets COUNTERSIGN_PORT for a service of this name: no key without two underscores.
    check(&[("COUNTERSIGN_PORT", "tcp://10.0.0.1:80"), ("COUNTERSIGN_DATABASE__POOL_SIZE", "4")]).ok();
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let directory = TempDir::new().unwrap();
    let said = countersign(directory.path(), &["check", "--config", "elsewhere.toml"], &[]).failed(1);
    assert!(said.contains("elsewhere.toml"), "{said}");
}

#[test]
fn what_is_right_passes() {
    for right in ["", "# nothing set\n", "[server]\nlisten = \"127.0.0.1:9000\"\nissuer = \"https://id.corp.test/auth\"\n", LDAP] {
        let (status, said) = check(right);
        assert_eq!(status, 0, "{said}\nfor:\n{right}");
    }
}
