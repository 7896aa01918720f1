//! What `countersign doctor` finds, wherever it looks.

use serde::Serialize;

/// One line of the doctor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `tls`, `service bind` …
    pub check: &'static str,
    /// At whom: `database`, the name of a source, or that and one of its servers.
    pub subject: String,
    pub outcome: Outcome,
    /// What was seen. Never a secret.
    pub detail: String,
    /// What to do; none for a pass.
    pub mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Pass,
    /// It works, and will not always, or not for everybody.
    Warn,
    /// It does not work.
    Fail,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Warn => "warn",
            Outcome::Fail => "fail",
        }
    }
}

/// Collects the findings about one subject.
#[derive(Debug)]
pub struct Findings {
    subject: String,
    found: Vec<Finding>,
}

impl Findings {
    pub fn about(subject: impl Into<String>) -> Findings {
        Findings { subject: subject.into(), found: Vec::new() }
    }

    pub fn pass(&mut self, check: &'static str, detail: impl Into<String>) {
        self.note(check, Outcome::Pass, detail.into(), None);
    }

    pub fn warn(&mut self, check: &'static str, detail: impl Into<String>, mend: impl Into<String>) {
        self.note(check, Outcome::Warn, detail.into(), Some(mend.into()));
    }

    pub fn fail(&mut self, check: &'static str, detail: impl Into<String>, mend: impl Into<String>) {
        self.note(check, Outcome::Fail, detail.into(), Some(mend.into()));
    }

    /// A fail or a warning or a pass, by how far two clocks are apart: `theirs` and `ours` in seconds.
    pub fn clock(&mut self, whose: &str, theirs: i64, ours: i64) {
        let apart = theirs - ours;
        let which = if apart > 0 { "behind" } else { "ahead of" };
        let detail = format!("ours is {} s {which} that of {whose}", apart.abs());
        let mend = "set both by NTP: tokens and certificates are judged by the time";
        match apart.abs() {
            0..=5 => self.pass("clock", format!("ours and that of {whose} agree within 5 s")),
            6..=60 => self.warn("clock", detail, mend),
            _ => self.fail("clock", detail, mend),
        }
    }

    pub fn add(&mut self, others: Vec<Finding>) {
        self.found.extend(others);
    }

    /// Whether nothing failed yet.
    pub fn is_sound(&self) -> bool {
        self.found.iter().all(|finding| finding.outcome != Outcome::Fail)
    }

    pub fn done(self) -> Vec<Finding> {
        self.found
    }

    fn note(&mut self, check: &'static str, outcome: Outcome, detail: String, mend: Option<String>) {
        // A server's words may hold anything; one line stays one line.
        let detail = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.found.push(Finding { check, subject: self.subject.clone(), outcome, detail, mend });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_told_which_way() {
        let outcome = |theirs, ours| {
            let mut findings = Findings::about("x");
            findings.clock("y", theirs, ours);
            let sound = findings.is_sound();
            let found = findings.done().remove(0);
            (found.outcome, sound, found.detail)
        };
        assert_eq!(outcome(100, 105).0, Outcome::Pass);
        assert_eq!(outcome(100, 106), (Outcome::Warn, true, "ours is 6 s ahead of that of y".to_owned()));
        assert_eq!(outcome(161, 100), (Outcome::Fail, false, "ours is 61 s behind that of y".to_owned()));
    }

    #[test]
    fn what_a_server_says_stays_on_its_line() {
        let mut findings = Findings::about("x");
        findings.pass("vendor", "a\nfail  b\u{1b}[31m");
        assert_eq!(findings.done().remove(0).detail, "a fail  b [31m");
    }
}
