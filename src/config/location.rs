//! From the path of a key to the place where it stands: a line of the file, or a variable of the environment.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

/// A mistake, as a room reports it: the path of the key (`mapping.rule[2].match.cn_regex`) and the reason with its mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: String,
    pub reason: String,
}

impl Problem {
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Problem {
        Problem { path: path.into(), reason: reason.into() }
    }
}

/// Every mistake that was found, one line each: `countersign.toml:3:1: server.lisen: unknown key, did you mean listen?`
#[derive(Debug)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Where each key stands.
#[derive(Clone, Debug, Default)]
pub struct Locations {
    /// The file's name as it was given; None without a file.
    file: Option<String>,
    places: BTreeMap<String, Place>,
}

/// Ordered as the problems are told: down the file, then the environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    File { line: usize, column: usize },
    Environment(String),
    Nowhere,
}

impl Locations {
    /// The places of all keys and list items of `root`, which was parsed from `text`.
    pub(super) fn of(file: Option<&str>, text: &str, root: &DeTable<'_>) -> Locations {
        let mut locations = Locations { file: file.map(str::to_owned), places: BTreeMap::new() };
        locations.add_table(text, "", root);
        locations
    }

    fn add_table(&mut self, text: &str, parent: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = join(parent, key.get_ref());
            self.places.insert(path.clone(), place(text, key.span().start));
            self.add_value(text, &path, value.get_ref());
        }
    }

    fn add_value(&mut self, text: &str, path: &str, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.add_table(text, path, table),
            DeValue::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    let path = format!("{path}[{i}]");
                    self.places.insert(path.clone(), place(text, item.span().start));
                    self.add_value(text, &path, item.get_ref());
                }
            }
            _ => {}
        }
    }

    /// Notes that the key at `path` comes from the environment, whatever the file says.
    pub(super) fn set_environment(&mut self, path: &str, variable: &str) {
        self.places.insert(path.to_owned(), Place::Environment(variable.to_owned()));
    }

    pub(super) fn is_environment(&self, path: &str) -> bool {
        matches!(self.places.get(path), Some(Place::Environment(_)))
    }

    /// Whether a key of this path was set, in the file or by the environment.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// Where `path` stands, such as `countersign.toml:3:1` or `environment COUNTERSIGN_SERVER__LISTEN`. A key that is absent
    /// stands where its nearest parent does; None where nothing of it was written.
    pub fn find(&self, path: &str) -> Option<String> {
        match self.place(path) {
            Place::File { line, column } => self.file.as_ref().map(|file| format!("{file}:{line}:{column}")),
            Place::Environment(variable) => Some(format!("environment {variable}")),
            Place::Nowhere => self.file.clone(),
        }
    }

    fn place(&self, path: &str) -> Place {
        let mut rest = path;
        loop {
            if let Some(place) = self.places.get(rest) {
                return place.clone();
            }
            match rest.rfind(['.', '[']).and_then(|end| rest.get(..end)) {
                Some(parent) => rest = parent,
                None => return Place::Nowhere,
            }
        }
    }

    /// Puts the place before each problem, in the order of the file. Problems of the environment's values name the variable
    /// alone, since its name is the path.
    pub fn explain(&self, problems: Vec<Problem>) -> ConfigError {
        let mut problems: Vec<_> = problems.into_iter().map(|p| (self.place(&p.path), p)).collect();
        problems.sort_by(|a, b| a.0.cmp(&b.0));
        let lines = problems.into_iter().map(|(place, Problem { path, reason })| match (&place, &self.file) {
            (Place::Environment(variable), _) => format!("environment {variable}: {reason}"),
            (Place::File { line, column }, Some(file)) => format!("{file}:{line}:{column}: {path}: {reason}"),
            (_, Some(file)) => format!("{file}: {path}: {reason}"),
            (_, None) => format!("{path}: {reason}"),
        });
        let mut lines: Vec<_> = lines.collect();
        lines.dedup();
        ConfigError(lines)
    }
}

/// The path of `key` within `parent`.
pub(super) fn join(parent: &str, key: &str) -> String {
    match (parent.is_empty(), key.starts_with('[')) {
        (true, _) => key.to_owned(),
        (false, true) => format!("{parent}{key}"),
        (false, false) => format!("{parent}.{key}"),
    }
}

/// Line and column (in characters) of a byte offset, both counted from 1.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

fn place(text: &str, offset: usize) -> Place {
    let (line, column) = line_and_column(text, offset);
    Place::File { line, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_its_key_or_its_nearest_parent() {
        let text = "[server]\nlisten = 1\n\n[[client]]\nid = \"a\"\n\n[[client]]\ngrants = [\n  \"é\", \"b\",\n]\n[[mapping.rule]]\nmatch.dn = \"x\"\n";
        let root = DeTable::parse(text).unwrap();
        let mut locations = Locations::of(Some("c.toml"), text, root.get_ref());
        locations.set_environment("tokens.format", "COUNTERSIGN_TOKENS__FORMAT");
        for (path, place) in [
            ("server.listen", "c.toml:2:1"),
            ("server.issuer", "c.toml:1:2"),
            ("client[0].id", "c.toml:5:1"),
            ("client[0].secrets_file", "c.toml:4:1"),
            ("client[1].grants[1]", "c.toml:9:8"),
            ("client[1].grants[5]", "c.toml:8:1"),
            ("mapping.rule[0].match.dn", "c.toml:12:7"),
            ("mapping.rule[0].match.cn", "c.toml:12:1"),
            ("tokens.format", "environment COUNTERSIGN_TOKENS__FORMAT"),
            ("audit.retention", "c.toml"),
        ] {
            assert_eq!(locations.find(path).as_deref(), Some(place), "{path}");
        }
        assert_eq!(Locations::default().find("server"), None);
    }
}
