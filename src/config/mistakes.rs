//! Tests: each kind of mistake, and the line that tells of it.

use std::ffi::OsString;
use std::fs;

use super::{Config, ConfigError, File, parse};

/// Parses `text` as the file c.toml beside a readable file named `present`.
fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("present"), "").unwrap();
    fs::write(directory.path().join("url"), "postgres://me:hunter2@db/cs\n").unwrap();
    let file = File { name: "c.toml".to_owned(), text: text.to_owned(), directory: directory.path().to_owned() };
    parse(Some(file), environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)))).map_err(
        |ConfigError(lines)| {
            let hide = format!("{}/", directory.path().display());
            ConfigError(lines.into_iter().map(|line| line.replace(&hide, "DIR/")).collect())
        },
    )
}

fn mistakes(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    read(text, environment).err().map(|e| e.0).unwrap_or_default()
}

#[test]
fn each_mistake_in_a_file_has_its_line_and_mend() {
    let client = "[[client]]\nid = \"a\"\nsecrets_file = \"present\"\n";
    let public = "[[client]]\nid = \"a\"\npublic = true\n";
    let table: &[(&str, &str)] = &[
        // Keys that do not exist.
        ("[server]\n\nlisen = \"127.0.0.1:1\"", "c.toml:3:1: server.lisen: unknown key, did you mean listen?"),
        ("[servr]\nlisten = \"127.0.0.1:1\"", "c.toml:1:2: servr: unknown key, did you mean server?"),
        (
            "server.quux = 1",
            "c.toml:1:8: server.quux: unknown key; the keys here are listen, issuer, tls_certificate, tls_key, trusted_proxies",
        ),
        (
            "[[source]]\nname = \"a\"\ntype = \"ldap\"\nbind_pasword_file = \"p\"",
            "c.toml:4:1: source[0].bind_pasword_file: unknown key, did you mean bind_password_file?",
        ),
        ("[[source]]\nname = \"a\"\ntype = \"ldap\"\npool.sise = 1", "c.toml:4:6: source[0].pool.sise: unknown key, did you mean size?"),
        ("[[source]]\nname = \"a\"\ntype = \"local\"\nurls = []", "c.toml:4:1: source[0].urls: unknown key; there are no keys here"),
        (
            "[[mapping.rule]]\nid = \"a\"\n\n[[mapping.rule]]\nmatch.cn_regexp = \"x\"",
            "c.toml:5:7: mapping.rule[1].match.cn_regexp: unknown key, did you mean cn_regex?",
        ),
        ("[dialect.croitt]\nenabled = true", "c.toml:1:10: dialect.croitt: unknown key, did you mean croit?"),
        ("[scope.read]\nrequire_role = \"a\"", "c.toml:2:1: scope.read.require_role: unknown key, did you mean requires_role?"),
        (
            "[database]\nurl = \"mysql://x\"\nuser = \"x\"",
            "c.toml:3:1: database.user: unknown key; the keys here are url, url_file, pool_size, acquire_timeout",
        ),
        // Values of the wrong type or form; nothing of what may be a secret is repeated.
        ("database = \"postgres://u:hunter2@h\"", "c.toml:1:1: database: expected a table"),
        (
            "database.url_file = \"postgres://u:hunter2@h\"",
            "c.toml:1:10: database.url_file: this is a URL; set it as url, or write it into a file and name that here",
        ),
        (
            "[database]\npool_size = \"many\"",
            "c.toml:2:1: database.pool_size: expected a whole number, 0 or above, not the string \"many\"",
        ),
        ("[database]\npool_size = -1", "c.toml:2:1: database.pool_size: the integer -1 does not do, expected a whole number, 0 or above"),
        ("[database]\nurl = 12345", "c.toml:2:1: database.url: expected a string"),
        ("server = 5", "c.toml:1:1: server: expected a table, not the integer 5"),
        ("source = 5", "c.toml:1:1: source: expected a list of tables; write [[source]]"),
        ("[source]\nname = \"a\"", "c.toml:1:2: source: expected a list of tables; write [[source]]"),
        ("[[client]]\nid = \"a\"\ngrants = \"password\"", "c.toml:3:1: client[0].grants: expected a list, not the string \"password\""),
        ("[[client]]\nid = \"a\"\npublic = \"yes\"", "c.toml:3:1: client[0].public: expected true or false, not the string \"yes\""),
        ("[[source]]\nname = 1\ntype = \"local\"", "c.toml:2:1: source[0].name: expected a string, not an integer"),
        ("[[source]]\nname = \"a\"", "c.toml:1:1: source[0].type: every source needs a type: local, ldap, okta or oidc"),
        ("[[source]]\nname = \"a\"\ntype = \"ldpa\"", "c.toml:3:1: source[0].type: unknown type ldpa; did you mean ldap?"),
        ("[tokens]\nformat = \"jtw\"", "c.toml:2:1: tokens.format: unknown value jtw, did you mean jwt?"),
        ("[tokens]\nsigning_algorithm = \"ES25\"", "c.toml:2:1: tokens.signing_algorithm: unknown value ES25, did you mean ES256?"),
        (
            "[tokens]\naccess_lifetime = \"soon\"",
            "c.toml:2:1: tokens.access_lifetime: expected number at 0; write a duration such as 30s, 15m or 90d",
        ),
        ("[tokens]\naccess_lifetime = 900", "c.toml:2:1: tokens.access_lifetime: expected a string, not the integer 900"),
        ("[tokens]\nrefresh_grace = \"0s\"", "c.toml:2:1: tokens.refresh_grace: the duration is zero"),
        ("[limits]\nlogin_failures = \"ten\"", "c.toml:2:1: limits.login_failures: write a rate such as 10/5m"),
        (
            "[server]\nlisten = \"8080\"",
            "c.toml:2:1: server.listen: no address with a port; write one such as 127.0.0.1:8080 or [::1]:8080",
        ),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"proxy\"]",
            "c.toml:2:34: server.trusted_proxies[1]: no network; write one such as 10.0.0.0/8 or 192.0.2.7/32",
        ),
        (
            "[[source]]\nname = \"a\"\ntype = \"ldap\"\nurls = [\"ldap.corp\"]",
            "c.toml:4:9: source[0].urls[0]: no URL (relative URL without a base); write one such as ldaps://ldap.example.org",
        ),
        // Keys that need, exclude or bound one another.
        (
            "[server]\nlisten = \"0.0.0.0:80\"",
            "c.toml:2:1: server.listen: plain http on 0.0.0.0:80 would send passwords and tokens in the clear; set tls_certificate and tls_key, or name the reverse proxies that end TLS in trusted_proxies, or listen on 127.0.0.1",
        ),
        (
            "[server]\nlisten = \"0.0.0.0:80\"\ntrusted_proxies = [\"10.0.0.1/32\"]",
            "c.toml:1:2: server.issuer: missing: off loopback the public https URL of this server must be named, such as https://auth.example.org",
        ),
        (
            "[server]\nissuer = \"auth\"",
            "c.toml:2:1: server.issuer: no absolute URL (relative URL without a base); write one such as https://auth.example.org",
        ),
        ("[server]\nissuer = \"http://auth.test\"", "c.toml:2:1: server.issuer: off loopback the issuer must begin with https://"),
        (
            "[server]\nissuer = \"https://auth.test?a\"",
            "c.toml:2:1: server.issuer: an issuer has no query and no fragment (RFC 8414 section 2)",
        ),
        (
            "[server]\nissuer = \"https://auth.test/\"",
            "c.toml:2:1: server.issuer: write it without the slash at the end; tokens are compared with it letter by letter",
        ),
        ("[server]\ntls_certificate = \"present\"", "c.toml:2:1: server.tls_certificate: tls_key is missing; TLS needs both"),
        (
            "[server]\ntls_certificate = \"gone\"\ntls_key = \"present\"",
            "c.toml:2:1: server.tls_certificate: cannot read DIR/gone: No such file or directory (os error 2)",
        ),
        (
            "[keys]\nencryption_key = \"hunter2\"",
            "c.toml:2:1: keys.encryption_key: this key is taken from the environment only (COUNTERSIGN_KEYS__ENCRYPTION_KEY); in a file, name a file that holds it by encryption_key_file",
        ),
        ("[keys]\nrotation = \"1m\"", "c.toml:2:1: keys.rotation: 1m is not between 2h and 10years"),
        (
            "[database]\nurl = \"mysql://u:hunter2@h/d\"",
            "c.toml:2:1: database.url: the scheme mysql is no database that can be used; write sqlite:PATH or postgres://USER@HOST/DATABASE",
        ),
        (
            "[database]\nurl = \"hunter2\"",
            "c.toml:2:1: database.url: no URL of a database; write sqlite:PATH or postgres://USER@HOST/DATABASE",
        ),
        (
            "[database]\nurl = \"sqlite::memory:\"",
            "c.toml:2:1: database.url: SQLite needs a file: the database is shared by several connections; write sqlite:PATH",
        ),
        (
            "[database]\nurl = \"sqlite:a\"\nurl_file = \"url\"",
            "c.toml:3:1: database.url_file: database.url is set too (c.toml:2:1); set one of the two",
        ),
        ("[database]\nurl_file = \"gone\"", "c.toml:2:1: database.url_file: cannot read DIR/gone: No such file or directory (os error 2)"),
        ("[tokens]\naccess_lifetime = \"2d\"", "c.toml:2:1: tokens.access_lifetime: 2days is not between 1s and 1day"),
        (
            "[tokens]\nrefresh_lifetime = \"1d\"",
            "c.toml:1:2: tokens.refresh_idle: refresh_idle (7days) is longer than refresh_lifetime (1day), which ends the family anyway",
        ),
        ("[accounts]\npassword_min_score = 5", "c.toml:2:1: accounts.password_min_score: 5 is not between 0 and 4"),
        (
            "[[source]]\nname = \"A b\"\ntype = \"local\"",
            "c.toml:2:1: source[0].name: a source's name has 1 to 40 characters of a-z, 0-9 and the hyphen",
        ),
        (
            "[[source]]\nname = \"a\"\ntype = \"okta\"\n[[source]]\nname = \"a\"\ntype = \"local\"",
            "c.toml:5:1: source[1].name: source[0] is named a already",
        ),
        ("[mapping.defaults]\ncorp = [\"user\"]", "c.toml:2:1: mapping.defaults.corp: there is no source corp; the sources are local"),
        (
            "[scope.\"a b\"]\ndescription = \"x\"",
            "c.toml:1:8: scope.a b: the name of a scope has visible ASCII characters without quote and backslash (RFC 6749 section 3.3)",
        ),
        (
            "[dialect.croit]\nmount = \"/oauth2/x\"",
            "c.toml:2:1: dialect.croit.mount: /oauth2 is taken by our own endpoints; write another such as /api",
        ),
        (
            "[dialect.croit]\nmount = \"api/\"",
            "c.toml:2:1: dialect.croit.mount: api/ is no path to begin with; write one such as /api, without a slash at the end",
        ),
        (
            "[dialect.croit]\nclient = \"x\"",
            "c.toml:2:1: dialect.croit.client: there is no [[client]] x; declare it, or leave the key out for the built-in one",
        ),
        ("[dialect.croit]\nsource = \"local\"", "c.toml:2:1: dialect.croit.source: there is no okta or oidc source local; those are: "),
        // Clients.
        (&format!("{client}{client}"), "c.toml:5:1: client[1].id: client[0] has the id a already"),
        ("[[client]]\nsecrets_file = \"present\"", "c.toml:1:1: client[0].id: a client id has 1 to 200 characters"),
        (
            "[[client]]\nid = \"a\"",
            "c.toml:1:1: client[0]: the client has nothing to authenticate with; set secrets_file, auth_method = \"private_key_jwt\" with its keys, or public = true if it can keep no secret",
        ),
        (
            "[[client]]\nid = \"a\"\nsecrets_file = \"gone\"",
            "c.toml:3:1: client[0].secrets_file: cannot read DIR/gone: No such file or directory (os error 2)",
        ),
        (
            &format!("{client}grants = [\"pasword\"]"),
            "c.toml:4:11: client[0].grants[0]: unknown grant type pasword; the known ones are client_credentials, password, refresh_token, urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        (
            &format!("{public}identity_max_age = \"5m\""),
            "c.toml:4:1: client[0].identity_max_age: this is for a resource server that introspects, which a public client may not (RFC 7662 section 2.1)",
        ),
        (
            &format!("{public}grants = [\"refresh_token\"]\noffline_policy = {{ grace = \"1y\" }}"),
            "c.toml:5:20: client[0].offline_policy.grace: 1year is not between 1s and 30days",
        ),
        (
            &format!("{public}access_lifetime = \"1m\"\ngrants = [\"refresh_token\"]\noffline_policy = {{ grace = \"4h\" }}"),
            "c.toml:6:1: client[0].offline_policy.access_lifetime: 5m is not between 1s and 1m",
        ),
        (
            &format!("{public}offline_policy = {{ grace = \"4h\" }}"),
            "c.toml:4:1: client[0].offline_policy: this is about refreshing, and grants has no refresh_token; add it, or leave the policy out",
        ),
        (
            &format!("{public}grants = [\"client_credentials\"]"),
            "c.toml:4:11: client[0].grants[0]: a public client has no credentials of its own (RFC 6749 section 4.4)",
        ),
        (
            &format!("{public}secrets_file = \"present\""),
            "c.toml:4:1: client[0].secrets_file: a public client keeps no secrets; take away secrets_file or public",
        ),
        (
            &format!("{public}introspect = \"any\""),
            "c.toml:4:1: client[0].introspect: a public client may not introspect (RFC 7662 section 2.1)",
        ),
        (
            &format!("{client}auth_method = \"none\""),
            "c.toml:4:1: client[0].auth_method: none is for public clients; set public = true, or another method",
        ),
        (
            "[[source]]\nname = \"a\"\ntype = \"okta\"\nissuer = \"https://x.test\"\nclient_id = \"1\"\n[[source]]\nname = \"b\"\ntype = \"oidc\"\nissuer = \"https://x.test\"\nclient_id = \"2\"",
            "c.toml:9:1: source[1].issuer: source[0] has this issuer already; its id tokens could belong to either",
        ),
        (
            &format!("{client}roles = [\"Countersign:admin\"]"),
            "c.toml:4:10: client[0].roles[0]: roles that begin countersign: administer Countersign, and no client may have them",
        ),
        (&format!("{client}sources = [\"corp\"]"), "c.toml:4:12: client[0].sources[0]: there is no source corp; the sources are local"),
        (
            &format!("{client}scopes = [\"a b\"]"),
            "c.toml:4:11: client[0].scopes[0]: a scope has visible ASCII characters without quote, backslash and space (RFC 6749 section 3.3)",
        ),
        (&format!("{client}jwt_claims = [\"email\"]"), "c.toml:4:15: client[0].jwt_claims[0]: unknown claim email; write roles or groups"),
        (
            &format!("{client}resources = [\"api\"]"),
            "c.toml:4:14: client[0].resources[0]: a resource is an absolute URI without a fragment (RFC 8707 section 2)",
        ),
        // Not TOML.
        ("[server]\nlisten = ", "c.toml:2:10: string values must be quoted, expected literal string"),
        ("[server]\nlisten = \"a\"\nlisten = \"b\"", "c.toml:3:1: duplicate key"),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in table {
        let found = mistakes(text, &[]);
        if found != [*expected] {
            wrong.push(format!("{text}\n expected {expected}\n found    {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn each_mistake_in_the_environment_names_its_variable() {
    for (name, value, expected) in [
        ("COUNTERSIGN_SERVER__LISEN", "x", "unknown key, did you mean COUNTERSIGN_SERVER__LISTEN?"),
        ("COUNTERSIGN_SERVR__LISTEN", "x", "unknown key, did you mean COUNTERSIGN_SERVER__LISTEN?"),
        ("COUNTERSIGN_DATABASE__POOL_SIZE", "many", "expected a whole number, 0 or above, not the string \"many\""),
        ("COUNTERSIGN_SERVER__TRUSTED_PROXIES", "10.0.0.0/8,x", "no network; write one such as 10.0.0.0/8 or 192.0.2.7/32"),
        ("COUNTERSIGN_SOURCE__NAME", "x", "lists of tables come from the file"),
        ("COUNTERSIGN_MAPPING__RULE", "x", "lists of tables come from the file"),
        ("COUNTERSIGN_SERVER__ISSUER", "http://auth.test", "off loopback the issuer must begin with https://"),
        ("COUNTERSIGN_DATABASE__URL", "hunter2", "no URL of a database; write sqlite:PATH or postgres://USER@HOST/DATABASE"),
    ] {
        let found = mistakes("[server]\n", &[(name, value)]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(&format!("environment {name}: {expected}")), "{found:#?}");
    }
    let both = mistakes("[keys]\nencryption_key_file = \"present\"", &[("COUNTERSIGN_KEYS__ENCRYPTION_KEY", "hunter2")]);
    assert_eq!(
        both,
        [
            "c.toml:2:1: keys.encryption_key_file: keys.encryption_key is set too (environment COUNTERSIGN_KEYS__ENCRYPTION_KEY); set one of the two"
        ]
    );
}

#[test]
fn the_environment_is_read_as_the_type_that_the_key_wants() {
    let config = read(
        "[server]\nlisten = \"127.0.0.1:1\"\n[tokens]\nrefresh_grace = \"5s\"",
        &[
            ("COUNTERSIGN_SERVER__LISTEN", "127.0.0.1:2"),
            ("COUNTERSIGN_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, ::1/128"),
            ("COUNTERSIGN_DATABASE__POOL_SIZE", "4"),
            ("COUNTERSIGN_DATABASE__URL", "sqlite:here.db"),
            ("COUNTERSIGN_KEYS__ENCRYPTION_KEY", "12345"),
            ("COUNTERSIGN_DIALECT__CROIT__ENABLED", "false"),
            ("COUNTERSIGN_MAPPING__REQUIRE_ANY", ""),
            ("COUNTERSIGN_PORT", "tcp://10.0.0.1:80"),
            ("OTHER__THING", "x"),
        ],
    )
    .unwrap();
    assert_eq!((config.server.listen.port(), config.server.trusted_proxies.len(), config.database.pool_size), (2, 2, 4));
    assert_eq!(config.database.url.expose(), "sqlite:here.db");
    assert_eq!(config.keys.encryption_key.unwrap().expose(), "12345");
    assert!(!config.dialects.croit.unwrap().enabled && !config.embedded);
    assert_eq!(config.tokens.refresh_grace.as_secs(), 5);
}

#[test]
fn paths_of_the_file_are_relative_to_it_and_secrets_are_read() {
    let config = read("[database]\nurl_file = \"url\"\n[keys]\nencryption_key_file = \"present\"", &[]).unwrap();
    assert_eq!(config.database.url.expose(), "postgres://me:hunter2@db/cs");
    assert!(config.keys.encryption_key_file.unwrap().is_absolute());
    let config = read("[database]\nurl = \"sqlite:a.db\"", &[]).unwrap();
    assert!(config.database.url.expose().starts_with("sqlite:/") && config.database.url.expose().ends_with("/a.db"));
    assert_eq!(read("[log]\nlevel = \"warn\"", &[]).unwrap().database.url.expose(), "sqlite:data/countersign.db");
}

#[test]
fn mistakes_are_told_together_in_the_order_of_the_file() {
    let text = "[tokens]\nformat = \"x\"\nrefresh_idle = 7\n[server]\nlisen = 1\nissuer = \"x\"\n[[client]]\nid = \"a\"\npublik = true\n[[client]]\nid = \"b\"\n";
    let lines: Vec<_> =
        mistakes(text, &[("COUNTERSIGN_LOG__LEVL", "x")]).iter().map(|l| l.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["c.toml:2:1", "c.toml:3:1", "c.toml:5:1", "c.toml:9:1", "c.toml:10:1", "environment COUNTERSIGN_LOG__LEVL"]);
}
