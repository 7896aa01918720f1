//! `countersign doctor`: looks at everything that a server with this configuration rests on, and says what is wrong and what to do.
//!
//! One file for each thing that is looked at; what is asked of directories and providers is in their rooms. Nothing is changed, and
//! nothing counts as a failed sign-in of anybody: only service accounts bind.

mod clients;
mod configuration;
mod database;
mod issuer;
mod keys;
mod sources;

use super::{CliError, print, print_json};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::identity::finding::{Finding, Findings, Outcome};

#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Look at this source only
    source: Option<String>,
    /// An array of {check, subject, outcome, detail, mend}
    #[arg(long)]
    json: bool,
}

/// Errors: something fails, after all of it is printed.
pub fn run(wanted: &Doctor, loaded: Result<Config, ConfigError>, clock: &Clock) -> Result<(), CliError> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let found = match loaded {
        Ok(config) => examine(wanted.source.as_deref(), &config, clock)?,
        Err(ConfigError(mistakes)) => {
            let mut findings = Findings::about(configuration::SUBJECT);
            configuration::tell(&mut findings, mistakes);
            findings.done()
        }
    };
    match wanted.json {
        true => print_json(&found)?,
        false => lines(&found).iter().try_for_each(|line| print(line))?,
    }
    match found.iter().filter(|finding| finding.outcome == Outcome::Fail).count() {
        0 => Ok(()),
        1 => Err(CliError::Said("1 check fails".to_owned())),
        count => Err(CliError::Said(format!("{count} checks fail"))),
    }
}

fn examine(source: Option<&str>, config: &Config, clock: &Clock) -> Result<Vec<Finding>, CliError> {
    if let Some(name) = source
        && !config.source_names().iter().any(|known| known == name)
    {
        return Err(CliError::Said(format!("there is no source {name}; the configuration has {}", config.source_names().join(", "))));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (database, storage) = database::look(config, clock);
    let mut found = Vec::new();
    if source.is_none() {
        found.extend(configuration::look(config, clock, storage.as_ref()));
        found.extend(runtime.block_on(issuer::look(config, clock)));
        found.extend(database);
        found.extend(keys::look(config, clock, storage.as_ref()));
        found.extend(clients::look(config, clock, storage.as_ref()));
    }
    let withheld = sources::withheld(config, storage.as_ref());
    found.extend(runtime.block_on(sources::look(config, clock, source, &withheld)));
    if source.is_none() {
        found.extend(sources::accounts(storage.as_ref()));
    }
    // A name that is still being resolved must not hold up the end.
    runtime.shutdown_background();
    Ok(found)
}

/// For people: a heading for each subject, a line for each finding, its mend below.
fn lines(found: &[Finding]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut subject = None;
    for finding in found {
        if subject != Some(&finding.subject) {
            subject = Some(&finding.subject);
            lines.push(finding.subject.clone());
        }
        lines.push(format!("  {}  {:<16} {}", finding.outcome.as_str(), finding.check, finding.detail));
        if let Some(mend) = &finding.mend {
            lines.push(format!("        {:<16} → {mend}", ""));
        }
    }
    let count = |outcome| found.iter().filter(|finding| finding.outcome == outcome).count();
    lines.push(format!("{} pass, {} warn, {} fail", count(Outcome::Pass), count(Outcome::Warn), count(Outcome::Fail)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_heading_and_a_mend_stands_below_its_finding() {
        let mut findings = Findings::about("one");
        findings.pass("a", "good");
        findings.warn("b", "odd", "do that");
        let mut other = Findings::about("two");
        other.fail("c", "bad", "mend it");
        findings.add(other.done());
        let expected = [
            "one",
            "  pass  a                good",
            "  warn  b                odd",
            "                         → do that",
            "two",
            "  fail  c                bad",
            "                         → mend it",
            "1 pass, 1 warn, 1 fail",
        ];
        assert_eq!(lines(&findings.done()), expected);
    }
}
