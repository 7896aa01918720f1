//! Where log lines go, and in which shape.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::config::{self, LogFormat, Problem};

/// Starts logging to standard error, for the rest of the process. Request ids come from the span around each request. Errors: the
/// level is neither a level nor a filter, or logging was started before.
pub fn init(log: &config::Log) -> Result<(), Problem> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(&log.level)?).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
    started.map_err(|error| Problem::new("log", format!("logging cannot be started: {error}")))
}

/// What [`init`] would refuse: for `check`.
pub fn check(log: &config::Log) -> Result<(), Problem> {
    filter(&log.level).map(|_| ())
}

/// A filter such as `info` or `info,countersign::identity=debug`.
fn filter(level: &str) -> Result<EnvFilter, Problem> {
    let problem = |reason: String| {
        Problem::new("log.level", format!("{reason}; write error, warn, info, debug or trace, or info,countersign::identity=debug"))
    };
    // A misspelt level would be taken for the name of a module and silence everything else.
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    for part in &parts {
        let is_level = part.eq_ignore_ascii_case("off") || (part.parse::<Level>().is_ok() && part.parse::<u8>().is_err());
        if !is_level && !part.contains('=') {
            return Err(problem(format!("{part:?} is no level")));
        }
    }
    EnvFilter::try_new(parts.join(",")).map_err(|error| problem(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_read_and_misspelt_ones_refused() {
        for good in ["info", "WARN", "off", "info,countersign::identity=debug", "warn, hyper=error"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "3", "info,", "info,countersign::identity", "info,countersign=loud"] {
            let problem = filter(bad).unwrap_err();
            assert_eq!(problem.path, "log.level");
            assert!(problem.reason.contains("write error, warn, info"), "{bad}: {}", problem.reason);
        }
    }
}
