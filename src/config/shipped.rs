//! Tests: the files under config/ say what the code does.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::location::join;
use super::*;

const SHIPPED: &str = include_str!("../../config/countersign.toml");
const COMPOSE: &str = include_str!("../../docker/countersign.toml");
const LAB: &str = include_str!("../../config/lab.toml");

/// Keys without a default; what stands in the file is an example.
const EXAMPLES: &[&str] = &[
    "server.issuer",
    "server.tls_certificate",
    "server.tls_key",
    "database.url_file",
    "keys.encryption_key_file",
    "keys.previous_encryption_key_file",
    "audit.file",
    "audit.syslog",
    "metrics.listen",
    "mapping.under",
    "mapping.max_loss",
    "mapping.defaults",
    "mapping.rule",
    "mapping.deny",
    "mapping.expect",
    "scope.reports",
    "dialect.croit.client",
    "dialect.croit.source",
    "source.name",
    "source.type",
    "client.id",
    "client.secrets_file",
    "client.auth_method",
    "client.jwks",
    "client.jwks_uri",
    "client.introspection_signed_response_alg",
    "client.grants",
    "client.scopes",
    "client.roles",
    "client.role_ceiling",
    "client.sources",
    "client.audiences",
    "client.resources",
    "client.token_format",
    "client.signing_algorithm",
    "client.jwt_claims",
    "client.access_lifetime",
    "client.identity_max_age",
    "client.offline_policy",
    "source.urls",
    "source.tls",
    "source.ca_file",
    "source.client_certificate",
    "source.client_key",
    "source.server_name",
    "source.bind_dn",
    "source.bind_password_file",
    "source.bind_template",
    "source.user_base",
    "source.user_filter",
    "source.login_attributes",
    "source.group_base",
    "source.group_filter",
    "source.nested",
    "source.subject_attribute",
    "source.attributes",
    "source.issuer",
    "source.client_id",
    "source.audiences",
    "source.base_url",
    "source.api_token_file",
    "source.global_token_revocation_issuer",
    "source.max_auth_age",
];

/// The file with its keys taken up: one comment sign removed, two kept.
fn uncommented() -> String {
    let lines = SHIPPED.lines().map(|line| if line.starts_with("##") { line } else { line.strip_prefix("# ").unwrap_or(line) });
    lines.collect::<Vec<_>>().join("\n")
}

fn file(text: &str) -> Option<File> {
    Some(File { name: "config/x.toml".to_owned(), text: text.to_owned(), directory: PathBuf::from("config") })
}

#[test]
fn the_shipped_file_sets_nothing_and_counts_as_embedded() {
    let config = parse(file(SHIPPED), []).unwrap();
    assert!(config.embedded);
    assert!(parse(None, []).unwrap().embedded);
    assert!(!parse(file("[server]\nlisten = \"127.0.0.1:1\""), []).unwrap().embedded);
    assert!(SHIPPED.lines().all(|line| line.is_empty() || line.starts_with("# ") || line.starts_with("##")));
}

/// Each key alone, read into an empty configuration, is the default or a known example.
#[test]
fn its_keys_are_the_defaults() {
    let text = uncommented();
    let root = DeTable::parse(&text).unwrap().into_inner();
    let mut keys = Vec::new();
    leaves(&[], &DeValue::Table(root.clone()), &mut keys);
    assert!(keys.len() > 130, "{}", keys.len());
    for (path, segments) in keys {
        let plain = without_indices(&path);
        if EXAMPLES.iter().any(|e| plain == *e || plain.starts_with(&format!("{e}."))) {
            continue;
        }
        let alone = only(&DeValue::Table(root.clone()), &segments);
        let mut bare = only(&DeValue::Table(root.clone()), &segments);
        empty(&mut bare);
        assert_eq!(read(alone), read(bare), "{path} is not the default");
    }
}

#[test]
fn taken_up_as_a_whole_it_reads_without_a_mistake() {
    let text = uncommented();
    let mut mistakes = Vec::new();
    let config = read::config(DeTable::parse(&text).unwrap().into_inner(), &mut mistakes);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    assert_eq!(validate::validate(&Config { database: Database::default(), ..config }), []);
}

#[test]
fn every_key_of_every_section_is_in_it() {
    let text = uncommented();
    let mut written = Vec::new();
    leaves(&[], &DeValue::Table(DeTable::parse(&text).unwrap().into_inner()), &mut written);
    let written: BTreeSet<String> = written.iter().map(|(path, _)| without_indices(path)).collect();
    let mut missing = Vec::new();
    let mut look = |section: &str, keys: &[&str]| {
        for path in keys.iter().map(|key| join(section, key)) {
            // The one key that a file may not set.
            if path != "keys.encryption_key" && !written.iter().any(|w| *w == path || w.starts_with(&format!("{path}."))) {
                missing.push(path);
            }
        }
    };
    look("", &read::SECTIONS);
    look("server", fields::<Server>());
    look("database", fields::<Database>());
    look("keys", fields::<Keys>());
    look("tokens", fields::<Tokens>());
    look("source", fields::<LdapSource>());
    look("source.pool", fields::<LdapPool>());
    look("source.attributes", fields::<Attributes>());
    look("source", fields::<OidcSource>());
    look("mapping", fields::<Mapping>());
    look("mapping.rule", fields::<Rule>());
    look("mapping.rule.match", fields::<Match>());
    look("mapping.deny", fields::<Deny>());
    look("mapping.deny.match", fields::<Match>());
    look("mapping.expect", fields::<Expect>());
    look("scope.reports", fields::<ScopeSettings>());
    look("client", fields::<Client>());
    look("client.offline_policy", fields::<OfflinePolicy>());
    look("dialect", fields::<Dialects>());
    look("dialect.croit", fields::<Croit>());
    look("accounts", fields::<Accounts>());
    look("limits", fields::<Limits>());
    look("outbound", fields::<Outbound>());
    look("metrics", fields::<Metrics>());
    look("log", fields::<Log>());
    look("audit", fields::<Audit>());
    assert!(missing.is_empty(), "config/countersign.toml lacks {missing:?}");
}

#[test]
fn the_lab_reads_without_a_mistake_but_for_files_that_its_script_makes() {
    let Err(error) = parse(file(LAB), []) else { return };
    assert!(error.0.iter().all(|line| line.contains("cannot read config/../data/lab/")), "{error}");
    assert_eq!(error.0.len(), 5, "{error}");
}

#[test]
fn the_configuration_of_compose_reads_but_for_its_secrets() {
    let Err(error) = parse(file(COMPOSE), []) else { return };
    assert!(error.0.iter().all(|line| line.contains("cannot read /run/secrets/") || line.contains("cannot read /ldap-tls/")), "{error}");
    assert_eq!(error.0.len(), 4, "{error}");
}

fn read(table: DeTable<'_>) -> String {
    let mut mistakes = Vec::new();
    let config = read::config(table, &mut mistakes);
    format!("{config:?} {:?} {mistakes:?}", config.database.url.expose())
}

/// Every key that holds no table, with its path and the path's segments.
fn leaves(segments: &[String], value: &DeValue<'_>, found: &mut Vec<(String, Vec<String>)>) {
    let inner: Vec<(String, &DeValue<'_>)> = match value {
        DeValue::Table(table) => table.iter().map(|(key, value)| (key.get_ref().to_string(), value.get_ref())).collect(),
        DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
            items.iter().enumerate().map(|(i, item)| (format!("[{i}]"), item.get_ref())).collect()
        }
        _ => return found.push((segments.iter().fold(String::new(), |path, key| join(&path, key)), segments.to_vec())),
    };
    for (key, value) in inner {
        leaves(&[segments, &[key]].concat(), value, found);
    }
}

/// `value` with no other key than the one of these segments; an item of a list keeps its name and type.
fn only<'i>(value: &DeValue<'i>, segments: &[String]) -> DeTable<'i> {
    let mut root = DeTable::new();
    let (first, rest) = segments.split_first().unwrap();
    let (key, inner) = value.as_table().unwrap().get_key_value(first.as_str()).unwrap();
    let inner = match (inner.get_ref(), rest) {
        (DeValue::Array(items), [index, rest @ ..]) => {
            let item = items[index.trim_matches(['[', ']']).parse::<usize>().unwrap()].get_ref();
            let mut kept = if rest.is_empty() { DeTable::new() } else { only(item, rest) };
            for key in ["name", "type"] {
                if let Some((key, value)) = item.as_table().unwrap().get_key_value(key) {
                    kept.insert(key.clone(), value.clone());
                }
            }
            DeValue::Array([Spanned::new(0..0, DeValue::Table(kept))].into_iter().collect())
        }
        (DeValue::Table(_), [_, ..]) => DeValue::Table(only(inner.get_ref(), rest)),
        (other, _) => other.clone(),
    };
    root.insert(key.clone(), Spanned::new(0..0, inner));
    root
}

/// Takes the values away: all but tables, and the name and type of a list's item.
fn empty(table: &mut DeTable<'_>) {
    let tables = |value: &DeValue<'_>| value.is_table() || value.as_array().is_some_and(|a| a.iter().any(|item| item.get_ref().is_table()));
    let kept = |key: &str, value: &DeValue<'_>| ["name", "type"].contains(&key) || tables(value);
    *table = std::mem::take(table).into_iter().filter(|(key, value)| kept(key.get_ref(), value.get_ref())).collect();
    for (_, value) in table.iter_mut() {
        match value.get_mut() {
            DeValue::Table(inner) => empty(inner),
            DeValue::Array(items) => items
                .iter_mut()
                .filter_map(|item| match item.get_mut() {
                    DeValue::Table(inner) => Some(inner),
                    _ => None,
                })
                .for_each(empty),
            _ => {}
        }
    }
}

fn without_indices(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// The names of a struct's keys, as serde knows them.
fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Probe<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("only the names were wanted"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
            tuple_struct map enum identifier ignored_any
        }
    }
    let mut fields: &'static [&'static str] = &[];
    let _ = T::deserialize(Probe(&mut fields));
    fields
}
