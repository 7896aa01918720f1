//! An evaluation for people: a tree of text, or JSON.

use std::fmt;

use serde::Serialize;

use super::dn::Dn;
use super::evaluation::{Denial, Evaluation, Matched, Reason};

/// Why somebody has the roles that they have. `Display` writes the tree; serde writes the JSON of `explain --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub source: String,
    pub user: String,
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

impl Explanation {
    /// `evaluation` comes from [`super::Rules::explain`]; `user` is the name to begin each path with.
    pub fn new(source: &str, user: &str, evaluation: Evaluation) -> Explanation {
        Explanation { source: source.to_owned(), user: user.to_owned(), evaluation }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evaluation { roles, denied, admitted_by, dropped, taken_away, over_ceiling, near_misses } = &self.evaluation;
        match denied {
            Some(denied) => {
                writeln!(f, "{} of {}: the sign-in is denied", clean(&self.user), self.source)?;
                writeln!(f, "  {}", clean(&denied.to_string()))?;
                if let Denial::Deny { id, matched, via } = denied {
                    writeln!(f, "  {}", clean(&path(&self.user, via, matched, &format!("deny {id}"))))?;
                }
            }
            None => writeln!(f, "{} of {}: {}", clean(&self.user), self.source, count(roles.len()))?,
        }
        for granted in roles {
            writeln!(f, "  {}", granted.role)?;
            for because in &granted.because {
                writeln!(f, "    ← {}", clean(&reason(because, &self.user)))?;
            }
        }
        section(f, "let in by", admitted_by.iter().map(|by| format!("{}: {}", by.selector, by.matched)))?;
        let taken = taken_away.iter().map(|taken| format!("{}: deny {} matches {}", taken.role, taken.deny, taken.matched));
        section(f, "taken away", taken)?;
        let drops = dropped.iter().map(|drop| format!("{:?} of rule {}, {}: {}", drop.role, drop.rule, drop.matched, drop.reason));
        section(f, "dropped", drops)?;
        section(f, "not let through by the client", over_ceiling.iter().cloned())?;
        section(f, "near misses", near_misses.iter().map(|miss| format!("{}: {}: {}", miss.condition, miss.found, miss.reason)))
    }
}

fn count(roles: usize) -> String {
    match roles {
        0 => "no roles".to_owned(),
        1 => "1 role".to_owned(),
        n => format!("{n} roles"),
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, lines: impl Iterator<Item = String>) -> fmt::Result {
    for (i, line) in lines.enumerate() {
        if i == 0 {
            writeln!(f, "{title}")?;
        }
        writeln!(f, "  {}", clean(&line))?;
    }
    Ok(())
}

/// `rule team: jdoe → lvl1 → app-red-read (CN=app-red-read,OU=…)`; without a user the path is left out.
pub(super) fn reason(reason: &Reason, user: &str) -> String {
    match reason {
        Reason::Rule { id, matched, .. } if user.is_empty() => format!("rule {id}, {matched}"),
        Reason::Rule { id, matched, via } => path(user, via, matched, &format!("rule {id}")),
        Reason::Default { source } => format!("default of {source}"),
        Reason::Assigned => "given to the account itself".to_owned(),
    }
}

/// `jdoe → lvl1 → lvl2 → rule team (CN=lvl2,OU=…)`
fn path(user: &str, via: &[String], matched: &Matched, end: &str) -> String {
    let mut steps = vec![user.to_owned()];
    steps.extend(via.iter().map(|dn| short(dn)));
    match matched {
        Matched::Group(dn) => {
            steps.push(short(dn));
            format!("{} → {end} ({dn})", steps.join(" → "))
        }
        Matched::Claim { pointer, value } => format!("{user} → {value} → {end} (claim {pointer})"),
    }
}

/// The common name of a group, else its whole name.
fn short(dn: &str) -> String {
    Dn::parse(dn).ok().and_then(|name| name.cn().map(str::to_owned)).unwrap_or_else(|| dn.to_owned())
}

/// Names come from directories and providers: what would move the cursor of a terminal is written as an escape.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::{Dropped, GrantedRole, NearMiss, TakenAway};

    fn example() -> Explanation {
        let group = Matched::Group("CN=lvl2,OU=Roles,DC=corp".to_owned());
        let rule = Reason::Rule { id: "team".to_owned(), matched: group.clone(), via: vec!["cn=lvl1,dc=corp".to_owned()] };
        let default = Reason::Default { source: "corp-ad".to_owned() };
        let near = NearMiss { condition: "rule admins".to_owned(), found: group.clone(), reason: "it is not under ou=x".to_owned() };
        let drop = Dropped { role: "a b".to_owned(), rule: "t".to_owned(), matched: group.clone(), reason: "not a role".to_owned() };
        let evaluation = Evaluation {
            roles: vec![GrantedRole { role: "red:read".to_owned(), because: vec![rule, default] }],
            taken_away: vec![TakenAway { role: "admin".to_owned(), deny: "d".to_owned(), matched: group }],
            near_misses: vec![near],
            dropped: vec![drop],
            ..Evaluation::default()
        };
        Explanation::new("corp-ad", "jd\u{1b}oe", evaluation)
    }

    #[test]
    fn the_tree() {
        let expected = "jd\\u{1b}oe of corp-ad: 1 role
  red:read
    ← jd\\u{1b}oe → lvl1 → lvl2 → rule team (CN=lvl2,OU=Roles,DC=corp)
    ← default of corp-ad
taken away
  admin: deny d matches group CN=lvl2,OU=Roles,DC=corp
dropped
  \"a b\" of rule t, group CN=lvl2,OU=Roles,DC=corp: not a role
near misses
  rule admins: group CN=lvl2,OU=Roles,DC=corp: it is not under ou=x
";
        assert_eq!(example().to_string(), expected);
    }

    #[test]
    fn a_denied_sign_in() {
        let matched = Matched::Claim { pointer: "/groups".to_owned(), value: "gone".to_owned() };
        let denied = Some(Denial::Deny { id: "leavers".to_owned(), matched, via: Vec::new() });
        let text = Explanation::new("okta", "jdoe", Evaluation { denied, ..Evaluation::default() }).to_string();
        assert!(text.starts_with("jdoe of okta: the sign-in is denied\n  deny leavers matches claim /groups = gone\n"), "{text}");
    }

    #[test]
    fn the_json() {
        let json = serde_json::to_value(example()).unwrap();
        assert_eq!(json["source"], "corp-ad");
        assert_eq!(json["roles"][0]["because"][0]["because"], "rule");
        assert_eq!(json["roles"][0]["because"][0]["matched"]["group"], "CN=lvl2,OU=Roles,DC=corp");
        assert_eq!(json["roles"][0]["because"][0]["via"][0], "cn=lvl1,dc=corp");
        assert_eq!(json["near_misses"][0]["condition"], "rule admins");
    }
}
