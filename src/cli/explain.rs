//! `countersign explain`: from a live user to each role, by rule and path, with near misses and denies. Asks the source itself, now,
//! as the service account; nobody signs in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::keys::when;
use super::{CliError, explain_diff, open, print, print_json};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::local::{Hasher, Local};
use crate::identity::{Authentication, Facts};
use crate::roles::Explanation;

#[derive(Debug, Args)]
pub struct Explain {
    /// The source, as configured
    #[arg(long, required_unless_present = "diff")]
    source: Option<String>,
    /// The login, as the person types it; with --diff the username
    #[arg(long, required_unless_present = "diff")]
    user: Option<String>,
    /// For an Okta or OIDC source, which cannot be asked without a token: a file with the claims of an id token, as JSON
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// What this configuration would change for people who signed in lately, in the place of the mapping in force: roles lost and gained,
    /// and sign-ins that would end. --source and --user narrow it down. No source is asked
    #[arg(long, value_name = "FILE", conflicts_with = "claims")]
    diff: Option<PathBuf>,
    /// With --diff: how far back a sign-in counts
    #[arg(long, value_name = "DURATION", requires = "diff", default_value = "30d", value_parser = humantime::parse_duration)]
    recent: Duration,
    #[arg(long)]
    json: bool,
}

pub fn run(explain: Explain, config: Config, clock: &Clock) -> Result<(), CliError> {
    if let Some(file) = &explain.diff {
        let filter = (explain.source.as_deref(), explain.user.as_deref());
        return explain_diff::run(file, filter, explain.recent, explain.json, &config, clock);
    }
    let (Some(source_name), Some(user)) = (&explain.source, &explain.user) else {
        return Err(CliError::Said("--source and --user say who; or compare mappings with --diff FILE".to_owned()));
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (facts, assigned, rules, origin) = match &explain.claims {
        Some(file) => {
            let (sources, rules) = app::wire(&config, clock, |_| None)?;
            sources.find(source_name).ok_or_else(|| unknown(&config, source_name))?;
            (Facts { groups: Vec::new(), claims: read(file)? }, Vec::new(), rules, Origin::File(file.display().to_string()))
        }
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let local = config.source_names().contains(source_name) && is_local(&config, source_name);
            let storage = if local { Some((open(&config)?, Arc::new(Hasher::new(&config.accounts)?))) } else { None };
            let make = |name| storage.as_ref().map(|(storage, hasher)| Local::new(name, storage.clone(), hasher.clone(), clock.clone()));
            let (sources, rules) = app::wire(&config, clock, make)?;
            let source = sources.find(source_name).ok_or_else(|| unknown(&config, source_name))?;
            let asked_at = clock.now();
            match runtime.block_on(source.lookup(user)) {
                Authentication::Authenticated(identity) => (identity.facts, identity.assigned_roles, rules, Origin::Asked(when(asked_at))),
                Authentication::Refused(refusal) => {
                    let reason = refusal.reason.as_str();
                    return Err(CliError::Said(format!("{} in {}: {reason}: {}", user, source_name, refusal.detail)));
                }
                Authentication::Unavailable(outage) => return Err(CliError::Said(outage.to_string())),
            }
        }
    };
    let evaluation = rules.explain(source_name, &facts, &assigned).map_err(|reason| CliError::Said(reason.to_string()))?;
    let explanation = Explanation::new(source_name, user, evaluation);
    if explain.json {
        return print_json(&Dated { explanation, origin });
    }
    print(explanation.to_string().trim_end())?;
    match origin {
        Origin::Asked(at) => print(&format!("asked now, {at}")),
        Origin::File(file) => print(&format!("claims from {file}")),
    }
}

/// How old the data is.
#[derive(Serialize)]
enum Origin {
    /// The source was asked, at this time.
    #[serde(rename = "asked_at")]
    Asked(String),
    #[serde(rename = "claims_from")]
    File(String),
}

#[derive(Serialize)]
struct Dated {
    #[serde(flatten)]
    explanation: Explanation,
    #[serde(flatten)]
    origin: Origin,
}

fn is_local(config: &Config, name: &str) -> bool {
    config.sources.iter().find(|source| source.name == name).is_none_or(|source| matches!(source.kind, crate::config::SourceKind::Local(_)))
}

fn unknown(config: &Config, name: &str) -> CliError {
    CliError::Said(format!("there is no source {name}; the configuration has {}", config.source_names().join(", ")))
}

fn read(file: &PathBuf) -> Result<serde_json::Value, CliError> {
    let wrong =
        |reason: String| CliError::Said(format!("{}: {reason}; write the claims of an id token as one JSON object", file.display()));
    let text = std::fs::read_to_string(file).map_err(|reason| wrong(reason.to_string()))?;
    let claims: serde_json::Value = serde_json::from_str(&text).map_err(|reason| wrong(reason.to_string()))?;
    if claims.is_object() { Ok(claims) } else { Err(wrong("is no object".to_owned())) }
}
