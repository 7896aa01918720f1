//! File, environment and secrets files, put together.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::location::{ConfigError, Locations, Problem, line_and_column};
use super::{Client, Config, Croit, environment, paths, read, validate};

/// Where the configuration stands if no file is named.
const DEFAULT_FILE: &str = "config/countersign.toml";

/// Reads `file`, or `config/countersign.toml` if there is one, or takes the built-in defaults; then the environment over it.
///
/// Errors: every mistake that was found, each with its place and mend. No value of a secret is in them.
pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    let default = Path::new(DEFAULT_FILE);
    let Some(file) = file.or_else(|| default.exists().then_some(default)) else {
        return parse(None, std::env::vars_os());
    };
    let name = file.display().to_string();
    let text = fs::read(file).map_err(|e| ConfigError(vec![format!("{name}: cannot be read: {e}")]))?;
    let text = String::from_utf8(text).map_err(|e| {
        let valid = String::from_utf8_lossy(e.as_bytes().get(..e.utf8_error().valid_up_to()).unwrap_or_default()).into_owned();
        let (line, column) = line_and_column(&valid, valid.len());
        ConfigError(vec![format!("{name}:{line}:{column}: not UTF-8, which TOML must be")])
    })?;
    let directory = file.parent().map(Path::to_path_buf).unwrap_or_default();
    parse(Some(File { name, text, directory }), std::env::vars_os())
}

/// A configuration file that was read.
#[derive(Clone, Debug)]
pub struct File {
    /// As it stands in messages.
    pub name: String,
    pub text: String,
    /// What the paths in it are relative to.
    pub directory: PathBuf,
}

/// [`load`] for a text and an environment.
pub fn parse(file: Option<File>, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Config, ConfigError> {
    let (name, text, directory) = match &file {
        Some(file) => (Some(file.name.as_str()), file.text.as_str(), file.directory.as_path()),
        None => (None, "", Path::new("")),
    };
    let variables = environment::variables(variables);
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax(name.unwrap_or_default(), text, &errors));
    }
    let mut root = root.into_inner();
    let mut problems = Vec::new();
    let mut locations = Locations::of(name, text, &root);
    refuse_key_in_file(&mut root, &mut problems);
    environment::overlay(&mut root, &mut locations, &variables, &mut problems);
    let embedded = !holds_key(&DeValue::Table(root.clone()));

    let mut mistakes = Vec::new();
    let mut config = Config { embedded, ..read::config(root, &mut mistakes) };
    if embedded {
        config.dialects.croit = Some(Croit::default());
    }
    problems.extend(mistakes.into_iter().map(Problem::from));
    problems.extend(paths::resolve(&mut config, directory, &locations));
    // What a section's mistakes leave behind are defaults; do not judge those.
    let reported: Vec<_> = problems.iter().map(|p| area(&p.path).to_owned()).collect();
    let judged = validate::validate(&config).into_iter().chain(paths::unreadable(&config)).chain(paths::lent(&config));
    problems.extend(judged.filter(|p| !reported.iter().any(|area_of| area_of == area(&p.path))));

    if !problems.is_empty() {
        return Err(locations.explain(problems));
    }
    Ok(Config { locations, ..config })
}

/// One client from the text of a file with the keys of `[[client]]`, and where they stand: for the command line. `name` is the file's
/// name in messages. Errors: keys and types; what keys may combine is [`super::check_client`]'s.
pub fn read_client(name: &str, text: &str) -> Result<(Client, Locations), ConfigError> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax(name, text, &errors));
    }
    let root = root.into_inner();
    let locations = Locations::of(Some(name), text, &root);
    let mut mistakes = Vec::new();
    let client = read::settle("", Spanned::new(0..text.len(), DeValue::Table(root)), &mut mistakes);
    if !mistakes.is_empty() {
        return Err(locations.explain(mistakes.into_iter().map(Problem::from).collect()));
    }
    Ok((client, locations))
}

/// The section, or the item of a list, that a path belongs to.
fn area(path: &str) -> &str {
    path.split_once('.').map_or(path, |(area, _)| area)
}

/// Mistakes of TOML itself, one a line: what follows on the same line is a consequence.
fn syntax(name: &str, text: &str, errors: &[toml::de::Error]) -> ConfigError {
    let mut lines = Vec::new();
    let mut last = 0;
    for error in errors {
        let (line, column) = line_and_column(text, error.span().map_or(0, |span| span.start));
        if line != last {
            lines.push(format!("{name}:{line}:{column}: {}", error.message()));
        }
        last = line;
    }
    ConfigError(lines)
}

/// The key that seals all others does not belong into a file that is copied, mailed and committed.
fn refuse_key_in_file(root: &mut DeTable<'_>, problems: &mut Vec<Problem>) {
    if let Some(DeValue::Table(keys)) = root.get_mut("keys").map(toml::Spanned::get_mut)
        && keys.remove("encryption_key").is_some()
    {
        let mend = "this key is taken from the environment only (COUNTERSIGN_KEYS__ENCRYPTION_KEY); in a file, name a file that holds it \
                    by encryption_key_file";
        problems.push(Problem::new("keys.encryption_key", mend));
    }
}

/// Whether anything is set; headers alone set nothing.
fn holds_key(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(table) => table.values().any(|value| holds_key(value.get_ref())),
        _ => true,
    }
}
