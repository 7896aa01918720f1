//! From facts to roles, in the one order.

use std::collections::{BTreeMap, BTreeSet};

use super::evaluation::{AdmittedBy, Denial, Dropped, Evaluation, EvaluationError, GrantedRole, Reason, TakenAway};
use super::facts::Facts;
use super::matcher::Hit;
use super::pattern::under_ceiling;
use super::person::Person;
use super::template::Template;
use super::{Deny, Rule, Rules, applies, is_privileged, is_role, near};

type Roles = BTreeMap<String, BTreeSet<Reason>>;

impl Rules {
    /// The roles of a person of `source`. `assigned` are the roles of the source's own record of the person.
    ///
    /// Errors are about facts that cannot be judged, never about the person: see [`EvaluationError`].
    pub fn evaluate(&self, source: &str, facts: &Facts, assigned: &[String]) -> Result<Evaluation, EvaluationError> {
        self.evaluate_under(source, facts, assigned, None)
    }

    /// The same for a client that lets only roles through that match `ceiling`; without one it lets all through. `max_roles` counts
    /// what is left.
    pub fn evaluate_under(
        &self,
        source: &str,
        facts: &Facts,
        assigned: &[String],
        ceiling: Option<&[String]>,
    ) -> Result<Evaluation, EvaluationError> {
        let person = self.person(source, facts)?;
        self.judge(source, &person, assigned, ceiling)
    }

    /// The roles for groups that were complete once, of a source that cannot be asked now: rules with `privileged = true` give nothing,
    /// and no role that administers Countersign comes of any other.
    pub fn evaluate_stale(&self, source: &str, facts: &Facts, ceiling: Option<&[String]>) -> Result<Evaluation, EvaluationError> {
        let ordinary = self.rules.iter().filter(|rule| !rule.privileged).cloned().collect();
        let mut evaluation = Rules { rules: ordinary, ..self.clone() }.evaluate_under(source, facts, &[], ceiling)?;
        evaluation.roles.retain(|granted| !is_privileged(&granted.role));
        Ok(evaluation)
    }

    /// The same as [`Rules::evaluate`], and what nearly matched. Slower: for people who ask why, not for sign-ins.
    pub fn explain(&self, source: &str, facts: &Facts, assigned: &[String]) -> Result<Evaluation, EvaluationError> {
        let person = self.person(source, facts)?;
        let evaluation = self.judge(source, &person, assigned, None)?;
        Ok(Evaluation { near_misses: near::misses(self, source, &person), ..evaluation })
    }

    fn person<'a>(&'a self, source: &str, facts: &'a Facts) -> Result<Person<'a>, EvaluationError> {
        if !self.sources.iter().any(|name| name == source) {
            return Err(EvaluationError::UnknownSource(source.to_owned()));
        }
        let rules = self.rules.iter().filter(|rule| applies(&rule.source, source)).map(|rule| &rule.matcher);
        let denies = self.denies.iter().filter(|deny| applies(&deny.source, source));
        if let Some(missing) = denies.clone().find_map(|deny| missing_claim(deny, facts)) {
            return Err(missing);
        }
        let selectors = self.require_any.iter().chain(&self.require_all).map(|selector| &selector.matcher);
        Person::new(facts, rules.chain(denies.map(|deny| &deny.matcher)).chain(selectors))
    }

    fn judge(
        &self,
        source: &str,
        person: &Person<'_>,
        assigned: &[String],
        ceiling: Option<&[String]>,
    ) -> Result<Evaluation, EvaluationError> {
        if let Some(denied) = self.denial(source, person) {
            return Ok(Evaluation { denied: Some(denied), ..Evaluation::default() });
        }
        let admitted_by = self.admitted_by(person);
        let mut roles: Roles = assigned.iter().map(|role| (role.clone(), BTreeSet::from([Reason::Assigned]))).collect();
        let dropped = self.apply_rules(source, person, &mut roles);
        for role in self.defaults.get(source).into_iter().flatten() {
            roles.entry(role.clone()).or_default().insert(Reason::Default { source: source.to_owned() });
        }
        let taken_away = self.take_away(source, person, &mut roles);
        let over_ceiling = cut(&mut roles, ceiling);
        if roles.len() > self.max_roles {
            return Err(EvaluationError::TooManyRoles { count: roles.len(), max: self.max_roles });
        }
        let roles = roles.into_iter().map(|(role, because)| GrantedRole { role, because: because.into_iter().collect() }).collect();
        Ok(Evaluation { roles, denied: None, admitted_by, dropped, taken_away, over_ceiling, near_misses: Vec::new() })
    }

    fn denial(&self, source: &str, person: &Person<'_>) -> Option<Denial> {
        for deny in self.denies.iter().filter(|deny| deny.roles.is_none() && applies(&deny.source, source)) {
            if let Some(hit) = deny.matcher.hits(person).into_iter().next() {
                return Some(Denial::Deny { id: deny.id.clone(), matched: hit.matched, via: hit.via.to_vec() });
            }
        }
        if !self.require_any.is_empty() && !self.require_any.iter().any(|selector| selector.matcher.finds(person)) {
            return Some(Denial::RequireAny { selectors: self.require_any.iter().map(|selector| selector.text.clone()).collect() });
        }
        let missing = self.require_all.iter().filter(|selector| !selector.matcher.finds(person));
        let missing: Vec<String> = missing.map(|selector| selector.text.clone()).collect();
        (!missing.is_empty()).then_some(Denial::RequireAll { selectors: missing })
    }

    /// Everything that the selectors find: who is let in by two groups is let in because of both.
    fn admitted_by(&self, person: &Person<'_>) -> Vec<AdmittedBy> {
        let mut found = Vec::new();
        for selector in self.require_any.iter().chain(&self.require_all) {
            let by = |hit: Hit<'_>| AdmittedBy { selector: selector.text.clone(), matched: hit.matched, via: hit.via.to_vec() };
            found.extend(selector.matcher.hits(person).into_iter().map(by));
        }
        found.sort();
        found.dedup();
        found
    }

    fn apply_rules(&self, source: &str, person: &Person<'_>, roles: &mut Roles) -> Vec<Dropped> {
        let mut dropped = BTreeSet::new();
        for rule in self.rules.iter().filter(|rule| applies(&rule.source, source)) {
            for hit in rule.matcher.hits(person) {
                for template in &rule.roles {
                    match made(rule, template, &hit) {
                        Ok(role) => {
                            let reason = Reason::Rule { id: rule.id.clone(), matched: hit.matched.clone(), via: hit.via.to_vec() };
                            roles.entry(role).or_default().insert(reason);
                        }
                        Err((role, reason)) => {
                            dropped.insert(Dropped { role, rule: rule.id.clone(), matched: hit.matched.clone(), reason });
                        }
                    }
                }
            }
        }
        dropped.into_iter().collect()
    }

    fn take_away(&self, source: &str, person: &Person<'_>, roles: &mut Roles) -> Vec<TakenAway> {
        let mut taken_away = Vec::new();
        for deny in self.denies.iter().filter(|deny| applies(&deny.source, source)) {
            let Some(patterns) = &deny.roles else { continue };
            let Some(hit) = deny.matcher.hits(person).into_iter().next() else { continue };
            roles.retain(|role, _| {
                let keep = !patterns.iter().any(|pattern| pattern.matches(role));
                if !keep {
                    taken_away.push(TakenAway { role: role.clone(), deny: deny.id.clone(), matched: hit.matched.clone() });
                }
                keep
            });
        }
        taken_away.sort();
        taken_away
    }
}

/// A deny must not be dodged by a token without the claim that it looks at. A person of a directory has no claims at all, and none
/// to leave out.
fn missing_claim(deny: &Deny, facts: &Facts) -> Option<EvaluationError> {
    let pointer = deny.matcher.pointer()?;
    let missing = facts.claims.is_object() && facts.claims.pointer(pointer).is_none();
    missing.then(|| EvaluationError::ClaimMissing { deny: deny.id.clone(), pointer: pointer.to_owned() })
}

/// The role that a rule gives for a hit, or the role and the reason why it is dropped.
fn made(rule: &Rule, template: &Template, hit: &Hit<'_>) -> Result<String, (String, String)> {
    if let Some(role) = template.literal() {
        return Ok(role.to_owned());
    }
    let role = match template.fill(hit.captures.as_ref()) {
        Ok(role) => role,
        Err(capture) => return Err((String::new(), format!("the capture {capture} is empty"))),
    };
    if !is_role(&role) {
        Err((role, "not a role: 1 to 128 bytes without spaces, control or invisible characters".to_owned()))
    } else if is_privileged(&role) {
        Err((role, "captures never make a countersign: role".to_owned()))
    } else if !rule.allow.iter().any(|pattern| pattern.matches(&role)) {
        Err((role, "matches none of allow_roles".to_owned()))
    } else {
        Ok(role)
    }
}

/// Takes out what the client does not let through, and answers it.
fn cut(roles: &mut Roles, ceiling: Option<&[String]>) -> Vec<String> {
    let mut over = Vec::new();
    if let Some(patterns) = ceiling {
        roles.retain(|role, _| {
            let keep = under_ceiling(role, patterns);
            if !keep {
                over.push(role.clone());
            }
            keep
        });
    }
    over
}
