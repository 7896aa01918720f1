//! From `[mapping]` to [`Rules`]: every mistake with the path of its key and the mend.

use std::collections::HashSet;

use regex::{Regex, RegexBuilder};

use super::dn::{Dn, fold};
use super::matcher::Matcher;
use super::pattern::Pattern;
use super::template::Template;
use super::{Deny, Rule, Rules, Selector, expect, is_privileged, is_role};
use crate::config::{self, Effect, Problem};

/// Bytes that a compiled expression may take. Enough for `\w{1,64}` and the like.
const REGEX_SIZE: usize = 4 << 20;

impl Rules {
    /// Checks and compiles `[mapping]` for the sources that there are, and runs its `expect` cases.
    pub fn compile(mapping: &config::Mapping, sources: &[String]) -> Result<Rules, Vec<Problem>> {
        let mut compiler = Compiler { sources, ids: Vec::new(), problems: Vec::new() };
        let rules = compiler.mapping(mapping);
        if compiler.problems.is_empty() {
            compiler.problems = expect::failures(&rules, &mapping.expect);
        }
        // Two cn: selectors miss the same key.
        let mut seen = HashSet::new();
        compiler.problems.retain(|problem| seen.insert((problem.path.clone(), problem.reason.clone())));
        if compiler.problems.is_empty() { Ok(rules) } else { Err(compiler.problems) }
    }
}

struct Compiler<'a> {
    sources: &'a [String],
    /// Of rules and denies: a revocation by rule names one thing only.
    ids: Vec<&'a str>,
    problems: Vec<Problem>,
}

/// The keys that say what a rule or a deny looks for.
struct Wanted<'a> {
    path: &'a str,
    matches: &'a config::Match,
    under: &'a Option<String>,
    glob: &'a Option<String>,
    equals: &'a Option<String>,
}

impl<'a> Compiler<'a> {
    fn problem(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.problems.push(Problem::new(path, reason));
    }

    fn mapping(&mut self, mapping: &'a config::Mapping) -> Rules {
        let rules = mapping.rules.iter().enumerate().filter_map(|(i, rule)| self.rule(&format!("mapping.rule[{i}]"), rule)).collect();
        let denies = mapping.deny.iter().enumerate().filter_map(|(i, deny)| self.deny(&format!("mapping.deny[{i}]"), deny)).collect();
        let require_any = self.selectors("mapping.require_any", &mapping.require_any, &mapping.under);
        let require_all = self.selectors("mapping.require_all", &mapping.require_all, &mapping.under);
        if mapping.under.is_some() && !mapping.require_any.iter().chain(&mapping.require_all).any(|text| text.starts_with("cn:")) {
            self.problem("mapping.under", "is for cn: selectors in require_any and require_all, and there is none; remove it");
        }
        for (source, roles) in &mapping.defaults {
            let path = format!("mapping.defaults.{source}");
            self.source(&path, source);
            for (i, role) in roles.iter().enumerate() {
                self.role(&format!("{path}[{i}]"), role, false);
            }
        }
        for (i, case) in mapping.expect.iter().enumerate() {
            self.source(&format!("mapping.expect[{i}].source"), &case.source);
            if case.denied && !case.roles.is_empty() {
                self.problem(format!("mapping.expect[{i}].roles"), "a denied sign-in has no roles; remove roles or denied = true");
            }
        }
        if mapping.max_roles == 0 {
            self.problem("mapping.max_roles", "is 0, and nobody could have a role; set it to 1 or more (the default is 64)");
        }
        let defaults = mapping.defaults.clone();
        Rules { sources: self.sources.to_vec(), require_any, require_all, rules, denies, defaults, max_roles: mapping.max_roles }
    }

    fn rule(&mut self, path: &str, rule: &'a config::Rule) -> Option<Rule> {
        self.id(path, &rule.id);
        self.source_of(path, &rule.source);
        let wanted = Wanted { path, matches: &rule.matches, under: &rule.under, glob: &rule.glob, equals: &rule.equals };
        let matcher = self.matcher(&wanted);
        let literal = matcher.as_ref().is_none_or(Matcher::is_literal);
        if rule.privileged && !literal {
            let mend = "takes a match of one group: match.dn, match.cn, or match.claim with equals; never an expression or a glob";
            self.problem(format!("{path}.privileged"), mend);
        }
        if rule.roles.is_empty() {
            self.problem(format!("{path}.roles"), "gives no role; name at least one, such as roles = [\"admin\"]");
        }
        let mut roles = Vec::new();
        for (i, text) in rule.roles.iter().enumerate() {
            let path = format!("{path}.roles[{i}]");
            match Template::parse(text) {
                None => self.problem(path, format!("in {text}, a $ must begin a capture such as ${{team}}")),
                Some(template) => {
                    self.template(&path, &template, matcher.as_ref(), rule.privileged);
                    roles.push(template);
                }
            }
        }
        let captured = roles.iter().any(|template| template.literal().is_none());
        if captured && rule.allow_roles.is_empty() {
            let mend = "is needed for roles made of captures: patterns of what may come out, such as [\"*:read\"]";
            self.problem(format!("{path}.allow_roles"), mend);
        }
        if !captured && !rule.allow_roles.is_empty() && roles.len() == rule.roles.len() {
            self.problem(format!("{path}.allow_roles"), "is for roles made of captures (${name}), and there is none; remove it");
        }
        let allow = self.patterns(&format!("{path}.allow_roles"), &rule.allow_roles);
        Some(Rule { id: rule.id.clone(), source: rule.source.clone(), matcher: matcher?, roles, allow, privileged: rule.privileged })
    }

    fn template(&mut self, path: &str, template: &Template, matcher: Option<&Matcher>, privileged: bool) {
        if let Some(role) = template.literal() {
            return self.role(path, role, privileged);
        }
        if is_privileged(template.start()) {
            self.problem(path, "roles that begin countersign: are never made of captures; name the role in a rule with privileged = true");
        }
        for name in template.captures() {
            match matcher {
                Some(Matcher::CnRegex { regex, .. }) => {
                    let known: Vec<&str> = regex.capture_names().flatten().collect();
                    if !known.contains(&name) {
                        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                        self.problem(path, format!("{name} is no capture of match.cn_regex (it has {known}); write (?<{name}>…) there"));
                    }
                }
                Some(_) => self.problem(path, format!("${{{name}}} needs match.cn_regex with a capture (?<{name}>…)")),
                None => {}
            }
        }
    }

    fn deny(&mut self, path: &str, deny: &'a config::Deny) -> Option<Deny> {
        self.id(path, &deny.id);
        self.source_of(path, &deny.source);
        let wanted = Wanted { path, matches: &deny.matches, under: &deny.under, glob: &deny.glob, equals: &deny.equals };
        let matcher = self.matcher(&wanted);
        let roles_path = format!("{path}.roles");
        let roles = match deny.effect {
            Effect::Login => {
                if !deny.roles.is_empty() {
                    self.problem(roles_path, "is for effect = \"roles\"; remove it, or set the effect so that only these roles go");
                }
                None
            }
            Effect::Roles => {
                if deny.roles.is_empty() {
                    self.problem(&roles_path, "names nothing to take away; write patterns such as [\"admin\", \"*:write\"]");
                }
                Some(self.patterns(&roles_path, &deny.roles))
            }
        };
        Some(Deny { id: deny.id.clone(), source: deny.source.clone(), matcher: matcher?, roles })
    }

    fn matcher(&mut self, wanted: &Wanted<'_>) -> Option<Matcher> {
        let path = wanted.path;
        let config::Match { dn, cn, cn_regex, claim } = wanted.matches;
        let kinds = [("dn", dn), ("cn", cn), ("cn_regex", cn_regex), ("claim", claim)];
        let set: Vec<(&str, &str)> = kinds.iter().filter_map(|(kind, value)| Some((*kind, value.as_deref()?))).collect();
        let &[(kind, value)] = set.as_slice() else {
            let found = set.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", ");
            let found = if found.is_empty() { "none".to_owned() } else { found };
            let mend = format!("needs exactly one of match.dn, match.cn, match.cn_regex, match.claim, and has {found}");
            self.problem(format!("{path}.match"), mend);
            return None;
        };
        let by_name = kind == "cn" || kind == "cn_regex";
        for (key, value, used) in
            [("under", wanted.under, by_name), ("glob", wanted.glob, kind == "claim"), ("equals", wanted.equals, kind == "claim")]
        {
            if value.is_some() && !used {
                self.problem(format!("{path}.{key}"), format!("has no meaning with match.{kind}; remove it"));
            }
        }
        let value_path = format!("{path}.match.{kind}");
        let under = if by_name { self.under(&format!("{path}.under"), &format!("match.{kind}"), wanted.under) } else { None };
        match kind {
            "dn" => self.dn(&value_path, value).map(Matcher::Dn),
            "cn" => self.name(&value_path, value).and_then(|name| Some(Matcher::cn(name, under?))),
            "cn_regex" => self.regex(&value_path, value).and_then(|regex| Some(Matcher::CnRegex { regex, under: under? })),
            _ => self.claim(wanted, &value_path, value),
        }
    }

    fn claim(&mut self, wanted: &Wanted<'_>, path: &str, pointer: &str) -> Option<Matcher> {
        let pointer = self.pointer(path, pointer).map(str::to_owned);
        match (wanted.glob, wanted.equals) {
            (None, Some(value)) => Some(Matcher::ClaimEquals { pointer: pointer?, value: value.clone() }),
            (Some(glob), None) => Some(Matcher::ClaimGlob { pointer: pointer?, glob: Pattern::new(glob) }),
            _ => {
                self.problem(path, "needs exactly one of equals = \"eng-admins\" and glob = \"eng-*\" beside it");
                None
            }
        }
    }

    fn selectors(&mut self, path: &str, texts: &[String], under: &Option<String>) -> Vec<Selector> {
        let mut selectors = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let path = format!("{path}[{i}]");
            let matcher = if let Some(name) = text.strip_prefix("dn:") {
                self.dn(&path, name).map(Matcher::Dn)
            } else if let Some(name) = text.strip_prefix("cn:") {
                let under = self.under("mapping.under", "a cn: selector", under);
                self.name(&path, name).and_then(|name| Some(Matcher::cn(name, under?)))
            } else if let Some((pointer, value)) = text.strip_prefix("claim:").and_then(|rest| rest.split_once('=')) {
                let pointer = self.pointer(&path, pointer).map(str::to_owned);
                pointer.map(|pointer| Matcher::ClaimEquals { pointer, value: value.to_owned() })
            } else {
                self.problem(path, format!("{text} is no selector; write dn:cn=users,dc=example,dc=org, cn:users or claim:/groups=users"));
                None
            };
            selectors.extend(matcher.map(|matcher| Selector { text: text.clone(), matcher }));
        }
        selectors
    }

    fn dn(&mut self, path: &str, text: &str) -> Option<Dn> {
        Dn::parse(text).map_err(|error| self.problem(path, format!("{text:?} is no distinguished name: {error}"))).ok()
    }

    fn name<'t>(&mut self, path: &str, name: &'t str) -> Option<&'t str> {
        if fold(name).is_empty() {
            self.problem(path, "names no group; write its common name, such as App Admins");
            return None;
        }
        Some(name)
    }

    fn under(&mut self, path: &str, what: &str, under: &Option<String>) -> Option<Dn> {
        match under {
            Some(text) => self.dn(path, text),
            None => {
                // Anybody who may make a group somewhere else could otherwise give it this name.
                self.problem(path, format!("is missing, and {what} needs the subtree in which the name counts: \"ou=groups,dc=…\""));
                None
            }
        }
    }

    fn pointer<'t>(&mut self, path: &str, pointer: &'t str) -> Option<&'t str> {
        let escapes = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if !pointer.starts_with('/') || !escapes {
            self.problem(path, format!("{pointer:?} is no JSON Pointer; write /groups for the claim groups (~1 for / and ~0 for ~)"));
            return None;
        }
        Some(pointer)
    }

    fn regex(&mut self, path: &str, text: &str) -> Option<Regex> {
        if text.is_empty() {
            self.problem(path, "is empty; write an expression for the whole common name, such as app-(?<team>[a-z]+)");
            return None;
        }
        // Alone first: `a)|(b` is broken, but would be valid, and no longer whole, between the parentheses that are put around it.
        let builder = |text: &str| RegexBuilder::new(text).case_insensitive(true).size_limit(REGEX_SIZE).build();
        match builder(text).and_then(|_| builder(&format!(r"\A(?:{text})\z"))) {
            Ok(regex) => Some(regex),
            Err(regex::Error::CompiledTooBig(limit)) => {
                self.problem(path, format!("takes more than {limit} bytes; use shorter repetitions or [a-z0-9] in the place of \\w"));
                None
            }
            Err(error) => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.problem(path, format!("{reason}; the syntax is that of the regex crate, without look-around and back-references"));
                None
            }
        }
    }

    fn patterns(&mut self, path: &str, texts: &[String]) -> Vec<Pattern> {
        for (i, text) in texts.iter().enumerate().filter(|(_, text)| !is_role(text)) {
            self.problem(format!("{path}[{i}]"), format!("{text:?} can match no role; roles are 1 to 128 bytes without spaces"));
        }
        texts.iter().map(|text| Pattern::new(text)).collect()
    }

    fn role(&mut self, path: &str, role: &str, privileged: bool) {
        if !is_role(role) {
            self.problem(path, format!("{role:?} is no role: 1 to 128 bytes without spaces, control or invisible characters"));
        } else if is_privileged(role) && !privileged {
            self.problem(path, format!("{role} administers Countersign; only a rule with privileged = true and a literal match gives it"));
        }
    }

    fn id(&mut self, path: &str, id: &'a str) {
        let path = format!("{path}.id");
        if !is_role(id) {
            self.problem(path, "is missing or has spaces; name the rule with a short word, since audits and revocations cite it");
        } else if self.ids.contains(&id) {
            self.problem(path, format!("{id} is taken by another rule or deny; choose another id"));
        } else {
            self.ids.push(id);
        }
    }

    fn source_of(&mut self, path: &str, source: &Option<String>) {
        if let Some(name) = source {
            self.source(&format!("{path}.source"), name);
        }
    }

    fn source(&mut self, path: &str, name: &str) {
        if self.sources.iter().any(|source| source == name) {
            return;
        }
        let near =
            self.sources.iter().min_by_key(|source| strsim::levenshtein(source, name)).filter(|near| strsim::levenshtein(near, name) <= 2);
        let mend = near.map_or(format!("the sources are {}", self.sources.join(", ")), |near| format!("did you mean {near}?"));
        self.problem(path, format!("no [[source]] is called {name:?}; {mend}"));
    }
}
