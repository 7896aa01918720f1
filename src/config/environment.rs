//! The environment over the file: `COUNTERSIGN_SERVER__LISTEN` is `server.listen`.

use std::ffi::OsString;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Config;
use super::location::{Locations, Problem};
use super::read::{self, Mistake, What};

const PREFIX: &str = "COUNTERSIGN_";

/// Lists of tables; they have no name in the environment.
const LISTS: [&str; 5] = ["source", "client", "mapping.rule", "mapping.deny", "mapping.expect"];

/// A variable that names a key.
#[derive(Debug)]
pub(super) struct Variable {
    name: String,
    segments: Vec<String>,
    /// None where it is not UTF-8.
    text: Option<String>,
}

/// The variables that name keys. Only names with `__` after the prefix do, since Kubernetes sets `COUNTERSIGN_PORT` and its like
/// by itself.
pub(super) fn variables(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<Variable> {
    let keys = environment.into_iter().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some(Variable { segments: key_of(&name)?, name, text: value.into_string().ok() })
    });
    keys.collect()
}

/// Puts the variables over `root` and notes their places.
pub(super) fn overlay<'v>(root: &mut DeTable<'v>, locations: &mut Locations, variables: &'v [Variable], problems: &mut Vec<Problem>) {
    for Variable { name, segments, text } in variables {
        let path = segments.join(".");
        locations.set_environment(&path, name);
        match text.as_deref().ok_or("the value is not UTF-8".to_owned()).and_then(|text| interpret(name, segments, text)) {
            Ok(value) => insert(root, segments, value),
            Err(reason) => problems.push(Problem::new(path, reason)),
        }
    }
}

/// `COUNTERSIGN_SERVER__LISTEN` → `["server", "listen"]`; None for names that are no keys.
fn key_of(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.contains("__").then(|| rest.split("__").map(str::to_ascii_lowercase).collect())
}

/// The value of the type that the key wants: the first reading of `text` that its section takes.
fn interpret<'v>(variable: &str, segments: &[String], text: &'v str) -> Result<DeValue<'v>, String> {
    let path = segments.join(".");
    if LISTS.iter().any(|list| path == *list || path.strip_prefix(list).is_some_and(|rest| rest.starts_with('.'))) {
        return Err("lists of tables come from the file".to_owned());
    }
    let mut refusals = Vec::new();
    for value in readings(text) {
        match mistake(segments, value.clone()) {
            None => return Ok(value),
            Some(mistake) => refusals.push(mistake.what),
        }
    }
    // A value of the right type that does not do tells more than that the other types are wrong.
    let best = refusals.iter().find(|what| !matches!(what, What::WrongType(_))).or(refusals.first());
    Err(match best {
        Some(unknown @ What::UnknownKey { key, .. }) => match unknown.meant() {
            Some(meant) => format!("unknown key, did you mean {}?", respell(variable, key, meant)),
            None => unknown.to_string(),
        },
        Some(what) => what.to_string(),
        None => "no value".to_owned(),
    })
}

/// The variable's name with `meant` in the place of the part `key`.
fn respell(variable: &str, key: &str, meant: &str) -> String {
    let rest = variable.strip_prefix(PREFIX).unwrap_or(variable);
    let parts = rest.split("__").map(|part| if part.eq_ignore_ascii_case(key) { meant.to_ascii_uppercase() } else { part.to_owned() });
    format!("{PREFIX}{}", parts.collect::<Vec<_>>().join("__"))
}

/// What `text` may stand for: the string itself, a number or boolean, a list separated by commas.
fn readings(text: &str) -> Vec<DeValue<'_>> {
    let mut readings = vec![DeValue::String(text.into())];
    if let Ok(scalar) = DeValue::parse(text.trim()) {
        let scalar = scalar.into_inner();
        if matches!(scalar, DeValue::Integer(_) | DeValue::Boolean(_)) {
            readings.push(scalar);
        }
    }
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    readings.push(DeValue::Array(items.map(|item| Spanned::new(0..0, DeValue::String(item.into()))).collect::<DeArray<'_>>()));
    readings
}

/// What would be wrong with a configuration of this key alone.
fn mistake(segments: &[String], value: DeValue<'_>) -> Option<Mistake> {
    let mut root = DeTable::new();
    insert(&mut root, segments, value);
    let mut mistakes = Vec::new();
    for (name, value) in root {
        read::section(&mut Config::default(), name.get_ref(), value, &mut mistakes);
    }
    mistakes.into_iter().next()
}

/// Sets one key, making the tables on the way. A file that holds something else in the place of a table is told of that when
/// it is read.
fn insert<'v>(table: &mut DeTable<'v>, segments: &[String], value: DeValue<'v>) {
    let key = |name: &str| Spanned::new(0..0, name.to_owned().into());
    match segments {
        [] => {}
        [last] => {
            table.insert(key(last), Spanned::new(0..0, value));
        }
        [first, rest @ ..] => {
            let inner = table.entry(key(first)).or_insert_with(|| Spanned::new(0..0, DeValue::Table(DeTable::new())));
            if let DeValue::Table(inner) = inner.get_mut() {
                insert(inner, rest, value);
            }
        }
    }
}
