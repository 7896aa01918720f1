//! `countersign explain --diff`: what another configuration would change for people who signed in lately. Their grants are judged by
//! both mappings, as they recorded groups; nobody is asked.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::{CliError, open, print, print_json};
use crate::app::guard;
use crate::app::recent::{self, MOST_PEOPLE, Person, Standing, Sums};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::roles::compare::{Change, Moved};

pub fn run(
    file: &Path,
    (source, user): (Option<&str>, Option<&str>),
    lately: Duration,
    json: bool,
    config: &Config,
    clock: &Clock,
) -> Result<(), CliError> {
    let new = Standing::of(&config::load(Some(file))?)?;
    let storage = open(config)?;
    let since = clock.now().saturating_sub(i64::try_from(lately.as_secs()).unwrap_or(i64::MAX));
    let (in_force, recent) = storage.read_blocking(|c| Ok((guard::in_force(c)?, recent::people(c, since, source, user)?)))?;
    let (today, compared_with) = match in_force {
        Some(Ok(standing)) => (standing, "the mapping in force since the last start"),
        // Never started by this version: the file is the best there is.
        Some(Err(_)) | None => (Standing::of(config)?, "the mapping of the present configuration"),
    };
    let weighed = recent::weigh(&today, &new, &recent.people);
    let sums = Sums::of(&weighed);
    if json {
        let people = weighed.iter().filter(|(_, change)| changes(change)).map(|(person, change)| Told::of(person, change)).collect();
        return print_json(&Comparison { compared_with, sums, lose_percent: sums.percent(), cut: recent.cut, people });
    }
    for (person, change) in weighed.iter().filter(|(_, change)| changes(change)) {
        print(&format!("{} of {}", clean(&person.username), person.source))?;
        for line in lines(change) {
            print(&format!("  {}", clean(&line)))?;
        }
    }
    summary(&sums, recent.cut)?;
    print(&format!("compared with {compared_with}"))
}

fn changes(change: &Result<Change, String>) -> bool {
    change.as_ref().map_or(true, |change| !change.is_none())
}

fn lines(change: &Result<Change, String>) -> Vec<String> {
    let change = match change {
        Ok(change) => change,
        Err(reason) => return vec![format!("? cannot be told: {reason}")],
    };
    let moved = |sign: char| move |moved: &Moved| format!("{sign} {} ({})", moved.role, moved.because.join("; "));
    let mut lines: Vec<String> = Vec::new();
    lines.extend(change.denied.iter().map(|reason| format!("! could not sign in any more: {reason}")));
    lines.extend(change.denied_today.iter().map(|reason| format!("! could sign in again, which is refused today: {reason}")));
    lines.extend(change.lost.iter().map(moved('-')));
    lines.extend(change.gained.iter().map(moved('+')));
    lines
}

fn summary(sums: &Sums, cut: bool) -> Result<(), CliError> {
    let Sums { judged, lose, denied, gain, cannot_be_told } = sums;
    let percent = sums.percent();
    print(&format!(
        "{lose} of {judged} people would lose a role ({percent} %), {denied} of them could not sign in any more; {gain} would gain one"
    ))?;
    if *cannot_be_told > 0 {
        print(&format!("for {cannot_be_told} more it cannot be told"))?;
    }
    if cut {
        print(&format!("there are more people than were looked at (at most {MOST_PEOPLE}): these are the newest"))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Comparison<'a> {
    compared_with: &'a str,
    #[serde(flatten)]
    sums: Sums,
    lose_percent: f64,
    /// There are more people than were looked at.
    cut: bool,
    /// Those for whom something would change, or cannot be told.
    people: Vec<Told<'a>>,
}

#[derive(Serialize)]
struct Told<'a> {
    username: &'a str,
    source: &'a str,
    #[serde(flatten)]
    change: Option<&'a Change>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cannot_be_told: Option<&'a str>,
}

impl<'a> Told<'a> {
    fn of(person: &'a Person, change: &'a Result<Change, String>) -> Told<'a> {
        let cannot_be_told = change.as_ref().err().map(String::as_str);
        Told { username: &person.username, source: &person.source, change: change.as_ref().ok(), cannot_be_told }
    }
}

/// Names come from directories and providers: what would move the cursor of a terminal is written as an escape.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}
