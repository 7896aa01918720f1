//! From the parsed file to a [`Config`]: section by section and item by item, so that one mistake does not hide the next.
//! Where serde stops at a mistake, the key is reported and dropped, and the section is read again without it.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::location::{Problem, join};
use super::{Config, OidcSource, Source, SourceKind};

/// A mistake while reading, before it becomes a [`Problem`].
#[derive(Debug)]
pub(super) struct Mistake {
    pub path: String,
    pub what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// No such key; the keys that there are.
    UnknownKey { key: String, known: Vec<String> },
    /// A value of another type.
    WrongType(String),
    /// A value of the right type that does not do.
    BadValue(String),
}

impl From<Mistake> for Problem {
    fn from(mistake: Mistake) -> Problem {
        Problem::new(mistake.path, mistake.what.to_string())
    }
}

impl What {
    /// The key that was probably meant by an unknown one.
    pub(super) fn meant(&self) -> Option<&str> {
        match self {
            What::UnknownKey { key, known } => nearest(key, known),
            What::WrongType(_) | What::BadValue(_) => None,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::UnknownKey { key, known } => match nearest(key, known) {
                Some(meant) => write!(f, "unknown key, did you mean {meant}?"),
                None if known.is_empty() => f.write_str("unknown key; there are no keys here"),
                None => write!(f, "unknown key; the keys here are {}", known.join(", ")),
            },
            What::WrongType(reason) | What::BadValue(reason) => f.write_str(reason),
        }
    }
}

/// The sections of the file.
pub(super) const SECTIONS: [&str; 15] = [
    "server", "database", "keys", "tokens", "source", "mapping", "scope", "client", "dialect", "accounts", "limits", "outbound", "metrics",
    "log", "audit",
];

/// The kinds of sources, as `type` names them.
const SOURCE_TYPES: [&str; 4] = ["local", "ldap", "okta", "oidc"];

/// Keys whose values may not be repeated in a message.
const SECRETS: [&str; 4] = ["database", "database.url", "keys", "keys.encryption_key"];

/// Reads every section of `root`.
pub(super) fn config(root: DeTable<'_>, mistakes: &mut Vec<Mistake>) -> Config {
    let mut config = Config::default();
    for (name, value) in root {
        section(&mut config, name.get_ref(), value, mistakes);
    }
    config
}

/// Reads one section into `config`.
pub(super) fn section(config: &mut Config, name: &str, value: Spanned<DeValue<'_>>, mistakes: &mut Vec<Mistake>) {
    match name {
        "server" => config.server = settle(name, value, mistakes),
        "database" => config.database = settle(name, value, mistakes),
        "keys" => config.keys = settle(name, value, mistakes),
        "tokens" => config.tokens = settle(name, value, mistakes),
        "source" => config.sources = items(name, value, mistakes, source),
        "mapping" => config.mapping = settle(name, value, mistakes),
        "scope" => config.scopes = settle(name, value, mistakes),
        "client" => config.clients = items(name, value, mistakes, settle),
        "dialect" => config.dialects = settle(name, value, mistakes),
        "accounts" => config.accounts = settle(name, value, mistakes),
        "limits" => config.limits = settle(name, value, mistakes),
        "outbound" => config.outbound = settle(name, value, mistakes),
        "metrics" => config.metrics = settle(name, value, mistakes),
        "log" => config.log = settle(name, value, mistakes),
        "audit" => config.audit = settle(name, value, mistakes),
        _ => {
            let known = SECTIONS.map(str::to_owned).to_vec();
            mistakes.push(Mistake { path: name.to_owned(), what: What::UnknownKey { key: name.to_owned(), known } });
        }
    }
}

/// Reads a list of tables, each by `read`.
fn items<'de, T>(
    name: &str,
    value: Spanned<DeValue<'de>>,
    mistakes: &mut Vec<Mistake>,
    read: impl Fn(&str, Spanned<DeValue<'de>>, &mut Vec<Mistake>) -> T,
) -> Vec<T> {
    match value.into_inner() {
        DeValue::Array(list) => list.into_iter().enumerate().map(|(i, item)| read(&format!("{name}[{i}]"), item, mistakes)).collect(),
        _ => {
            let what = What::WrongType(format!("expected a list of tables; write [[{name}]]"));
            mistakes.push(Mistake { path: name.to_owned(), what });
            Vec::new()
        }
    }
}

/// Reads one `[[source]]`. `type` is read by hand, since serde's tagged enums lose the line of a mistake.
fn source(path: &str, mut value: Spanned<DeValue<'_>>, mistakes: &mut Vec<Mistake>) -> Source {
    let mut take = |key: &str, mend: &str| -> Option<String> {
        let found = match value.get_mut() {
            DeValue::Table(table) => table.remove(key).map(Spanned::into_inner),
            _ => None,
        };
        let what = match found {
            Some(DeValue::String(text)) => return Some(text.into_owned()),
            Some(other) => What::WrongType(format!("expected a string, not {}", article(other.type_str()))),
            None => What::BadValue(mend.to_owned()),
        };
        mistakes.push(Mistake { path: join(path, key), what });
        None
    };
    let name = take("name", "every source needs a name").unwrap_or_default();
    let kind = take("type", "every source needs a type: local, ldap, okta or oidc");
    let kind = match kind.as_deref() {
        Some("local") => SourceKind::Local(settle(path, value, mistakes)),
        Some("ldap") => SourceKind::Ldap(Box::new(settle(path, value, mistakes))),
        Some("oidc") => SourceKind::Oidc(Box::new(settle(path, value, mistakes))),
        Some("okta") => {
            let source: OidcSource = settle(path, value, mistakes);
            SourceKind::Oidc(Box::new(OidcSource { okta: true, ..source }))
        }
        unknown => {
            if let Some(unknown) = unknown {
                let known = SOURCE_TYPES.map(str::to_owned);
                let meant = nearest(unknown, &known).map(|meant| format!("did you mean {meant}?"));
                let mend = meant.unwrap_or_else(|| format!("the types are {}", known.join(", ")));
                mistakes.push(Mistake { path: join(path, "type"), what: What::BadValue(format!("unknown type {unknown}; {mend}")) });
            }
            SourceKind::Local(super::LocalSource::default())
        }
    };
    Source { name, kind }
}

/// Reads a `T`, dropping each key that is a mistake after reporting it. Ends, since every round has a key less.
pub(super) fn settle<T: DeserializeOwned + Default>(path: &str, mut value: Spanned<DeValue<'_>>, mistakes: &mut Vec<Mistake>) -> T {
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(ValueDeserializer::from(value.clone())) {
            Ok(read) => return read,
            Err(error) => error,
        };
        let segments: Vec<_> = error.path().iter().cloned().collect();
        let inner = match segments.is_empty() {
            true => path.to_owned(),
            false => join(path, &error.path().to_string()),
        };
        let key = match segments.last() {
            Some(Segment::Map { key }) => key.as_str(),
            _ => "",
        };
        let what = what(&inner, key, error.inner().message());
        mistakes.push(Mistake { path: inner, what });
        if !drop_key(&mut value, &segments) {
            return T::default();
        }
    }
}

/// Removes the innermost key of the path (a whole list where an item is wrong, since the others would move up).
fn drop_key(value: &mut Spanned<DeValue<'_>>, segments: &[Segment]) -> bool {
    let Some(last) = segments.iter().rposition(|s| matches!(s, Segment::Map { .. })) else { return false };
    let mut value = value.get_mut();
    for (i, segment) in segments.iter().enumerate() {
        let inner = match (segment, value) {
            (Segment::Map { key }, DeValue::Table(table)) if i == last => return table.remove(key.as_str()).is_some(),
            (Segment::Map { key }, DeValue::Table(table)) => table.get_mut(key.as_str()),
            (Segment::Seq { index }, DeValue::Array(list)) => list.get_mut(*index),
            _ => None,
        };
        match inner {
            Some(inner) => value = inner.get_mut(),
            None => return false,
        }
    }
    false
}

/// What serde's message says, in words for people who do not know Rust.
fn what(path: &str, key: &str, message: &str) -> What {
    if let Some(rest) = message.strip_prefix(&format!("unknown field `{key}`")) {
        let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        return What::UnknownKey { key: key.to_owned(), known };
    }
    if let Some((found, expected)) = message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        let expected = in_plain_words(expected);
        return What::WrongType(match SECRETS.contains(&path) {
            true => format!("expected {expected}"),
            false => format!("expected {expected}, not {}", article(found)),
        });
    }
    if message.starts_with("wanted string or table") {
        return What::WrongType("expected a string".to_owned());
    }
    if let Some((found, expected)) = message.strip_prefix("invalid value: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        return What::BadValue(format!("{} does not do, expected {}", article(found), in_plain_words(expected)));
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        // The value, then what may stand there, each between backquotes.
        let (value, rest) = rest.split_once("`, expected ").unwrap_or((rest, ""));
        let known: Vec<_> = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        return What::BadValue(match nearest(value, &known) {
            Some(meant) => format!("unknown value {value}, did you mean {meant}?"),
            None => format!("unknown value {value}; write {}", known.join(" or ")),
        });
    }
    What::BadValue(match message {
        "invalid socket address syntax" => "no address with a port; write one such as 127.0.0.1:8080 or [::1]:8080".to_owned(),
        "invalid IP address syntax" => "no network; write one such as 10.0.0.0/8 or 192.0.2.7/32".to_owned(),
        other => other.to_owned(),
    })
}

fn in_plain_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or above",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other if other.starts_with("path") => "a path, as a string",
        other => other,
    }
}

fn article(found: &str) -> String {
    match found {
        "sequence" | "array" => "a list".to_owned(),
        "map" | "table" => "a table".to_owned(),
        "integer" => "an integer".to_owned(),
        "string" | "float" | "boolean" | "datetime" => format!("a {found}"),
        other => format!("the {}", other.replace('`', "")),
    }
}

/// The word of `known` that was probably meant.
fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    let distance = |known: &str| strsim::osa_distance(word, known);
    let best = known.iter().min_by_key(|known| distance(known))?;
    // A third of the word may be wrong; or one is the beginning of the other, as in `url` and `url_file`.
    let near = distance(best) <= (word.chars().count() / 3).max(1);
    let begun = known.iter().find(|known| word.len() >= 4 && (known.starts_with(word) || word.starts_with(known.as_str())));
    if near { Some(best) } else { begun.map(String::as_str) }
}
