//! Where and how to look, worked out once from the configuration. Everything that can be wrong in it is found here.

use ldap3::Scope;
use rustls::pki_types::ServerName;
use url::Url;

use super::account::ServiceAccount;
use super::dialer::{Dialer, Endpoint, Security};
use super::groups::Strategy;
use super::{preset, tls};
use crate::config::{LdapBind, LdapSource, LdapTls, Problem, Referrals, SearchScope};
use crate::oauth2::SourceName;
use crate::roles::dn::{Dn, escape_value};

/// The place of the login in a bind template.
const PLACE: &str = "{login}";

/// What the sign-ins of one source need to know.
#[derive(Clone, Debug)]
pub struct Plan {
    pub bind: Bind,
    pub user_base: String,
    pub user_scope: Scope,
    pub user_filter: Option<String>,
    /// The first is the username's.
    pub login_attributes: Vec<String>,
    /// The first that an entry has.
    pub subject_attributes: Vec<String>,
    pub email_attribute: String,
    /// The first that an entry has.
    pub name_attributes: Vec<String>,
    pub group_base: String,
    pub group_filter: String,
    pub member_attributes: Vec<String>,
    pub strategy: Strategy,
    pub nested: bool,
    pub max_depth: usize,
    pub max_groups: usize,
    pub page_size: i32,
    pub referrals: Referrals,
}

/// As whom the person's password is tried.
#[derive(Clone, Debug)]
pub enum Bind {
    /// As the entry that a search found.
    Found,
    /// As a distinguished name made from the login.
    Template(String),
    /// As a userPrincipalName (Active Directory): the login and this suffix, which begins with @.
    Principal(String),
}

impl Bind {
    /// The name to bind as, for a template.
    pub fn fill(&self, login: &str) -> Option<String> {
        match self {
            Bind::Found => None,
            Bind::Template(template) => Some(template.replace(PLACE, &escape_value(login))),
            Bind::Principal(suffix) => Some(format!("{}{suffix}", self.stem(login))),
        }
    }
}

impl Bind {
    /// The login without the suffix of a userPrincipalName, where it was typed along.
    pub fn stem<'a>(&self, login: &'a str) -> &'a str {
        let Bind::Principal(suffix) = self else { return login };
        let at = login.len().saturating_sub(suffix.len());
        match (login.get(..at), login.get(at..)) {
            (Some(stem), Some(end)) if end.eq_ignore_ascii_case(suffix) => stem,
            _ => login,
        }
    }
}

/// Collects mistakes, so that all are reported at once.
#[derive(Default)]
struct Check(Vec<Problem>);

impl Check {
    fn problem(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Problem::new(path, reason));
    }

    fn dn(&mut self, path: &str, text: Option<&str>, purpose: &str) -> Option<Dn> {
        let Some(text) = text else {
            self.problem(path, format!("is missing: {purpose}"));
            return None;
        };
        Dn::parse(text).map_err(|e| self.problem(path, format!("{text:?} is no distinguished name: {e}"))).ok()
    }

    fn filter(&mut self, path: &str, filter: Option<&str>) {
        let Some(filter) = filter else { return };
        if !filter.starts_with('(') || ldap3::parse_filter(filter).is_err() {
            self.problem(path, format!("{filter:?} is no search filter; write one as in (objectClass=inetOrgPerson)"));
        }
    }

    fn attribute(&mut self, path: &str, name: &str) {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.;".contains(&b));
        if name.is_empty() || !plain {
            self.problem(path, format!("{name:?} is no attribute name; write one such as uid"));
        }
    }
}

/// Works out everything, or answers every mistake, with paths relative to the source.
pub fn read(name: &SourceName, config: &LdapSource) -> Result<(Plan, Dialer, Option<ServiceAccount>), Vec<Problem>> {
    let mut check = Check::default();
    let dialer = read_dialer(name, config, &mut check);
    let account = read_account(config, &mut check);
    let defaults = preset::of(config.preset);
    let user_base = check.dn("user_base", config.user_base.as_deref(), "where people are, such as ou=people,dc=example,dc=org");
    let group_base = check.dn("group_base", config.group_base.as_deref(), "where groups are, such as ou=groups,dc=example,dc=org");
    check.filter("user_filter", config.user_filter.as_deref());
    check.filter("group_filter", config.group_filter.as_deref());
    let bind = read_bind(config, user_base.as_ref(), &mut check);
    let login_attributes = config.login_attributes.clone().unwrap_or_else(|| owned(defaults.login_attributes));
    if login_attributes.is_empty() {
        check.problem("login_attributes", "is empty; name the attribute that people sign in with, such as uid");
    }
    for (at, attribute) in login_attributes.iter().enumerate() {
        check.attribute(&format!("login_attributes[{at}]"), attribute);
    }
    let named = [
        ("subject_attribute", &config.subject_attribute),
        ("attributes.email", &config.attributes.email),
        ("attributes.name", &config.attributes.name),
    ];
    for (path, name) in named {
        if let Some(name) = name {
            check.attribute(path, name);
        }
    }
    if config.attributes.username.is_some() {
        check.problem("attributes.username", "is for OIDC sources; here the first of login_attributes is the username");
    }
    let nested = config.nested.unwrap_or(defaults.nested);
    if defaults.strategy == Strategy::MemberUid && nested {
        check.problem("nested", "has no effect with memberUid, which names people and no groups; leave it out");
    }
    let from_person = matches!((defaults.strategy, nested), (Strategy::MemberOf, true) | (Strategy::DirectMemberOf, false));
    if from_person && config.group_filter.is_some() {
        check.problem("group_filter", "has no effect on memberOf, which this preset reads; leave it out, or narrow group_base");
    }
    let counts = [("max_depth", config.max_depth), ("max_groups", config.max_groups), ("pool.size", config.pool.size)];
    for (path, count) in counts {
        if count == 0 || count > 100_000 {
            check.problem(path, format!("{count} is not between 1 and 100000"));
        }
    }
    if config.page_size < 1 {
        check.problem("page_size", format!("{} is less than 1", config.page_size));
    }
    let (Some(bind), Some(user_base), Some(group_base), true) = (bind, user_base, group_base, check.0.is_empty()) else {
        return Err(check.0);
    };
    let plan = Plan {
        bind,
        user_base: user_base.to_string(),
        user_scope: match config.user_scope {
            SearchScope::Subtree => Scope::Subtree,
            SearchScope::One => Scope::OneLevel,
        },
        user_filter: config.user_filter.clone(),
        login_attributes,
        subject_attributes: config.subject_attribute.clone().map_or_else(|| owned(defaults.subject_attributes), |name| vec![name]),
        email_attribute: config.attributes.email.clone().unwrap_or_else(|| "mail".to_owned()),
        name_attributes: config.attributes.name.clone().map_or_else(|| vec!["displayName".to_owned(), "cn".to_owned()], |name| vec![name]),
        group_base: group_base.to_string(),
        group_filter: config.group_filter.clone().unwrap_or_else(|| defaults.group_filter.to_owned()),
        member_attributes: owned(defaults.member_attributes),
        strategy: defaults.strategy,
        nested: config.nested.unwrap_or(defaults.nested),
        max_depth: config.max_depth,
        max_groups: config.max_groups,
        page_size: config.page_size,
        referrals: config.referrals,
    };
    Ok((plan, dialer, account))
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn read_bind(config: &LdapSource, user_base: Option<&Dn>, check: &mut Check) -> Option<Bind> {
    match (config.bind, config.bind_template.as_deref()) {
        (LdapBind::Search, None) => {
            if config.bind_dn.is_none() {
                check.problem("bind_dn", "is missing: the service account that searches for people (or use bind = \"direct\")");
            }
            Some(Bind::Found)
        }
        (LdapBind::Search, Some(_)) => {
            check.problem("bind_template", "is for bind = \"direct\"; with bind = \"search\" the entry is searched for");
            None
        }
        (LdapBind::Direct, None) => {
            check.problem("bind_template", "is missing: the name to bind as, such as uid={login},ou=people,dc=example,dc=org");
            None
        }
        (LdapBind::Direct, Some(template)) if template.matches(PLACE).count() != 1 => {
            check.problem("bind_template", format!("{template:?} must contain {PLACE} once"));
            None
        }
        (LdapBind::Direct, Some(template)) if preset::has_account_names(config.preset) && template.starts_with(PLACE) => {
            let suffix = template.trim_start_matches(PLACE);
            let domain = suffix.strip_prefix('@').filter(|domain| is_domain(domain));
            if domain.is_none() {
                check.problem("bind_template", format!("{template:?} is no userPrincipalName; write one such as {PLACE}@corp.example.org"));
            }
            domain.map(|_| Bind::Principal(suffix.to_owned()))
        }
        (LdapBind::Direct, Some(template)) => {
            let example = check.dn("bind_template", Some(&template.replace(PLACE, "login")), "")?;
            let base = user_base?;
            if !example.is_under(base) {
                check.problem("bind_template", format!("{template:?} is not under user_base {base}"));
                return None;
            }
            Some(Bind::Template(template.to_owned()))
        }
    }
}

fn is_domain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// `account@domain` or `DOMAIN\account`, which Active Directory takes for a bind as well.
fn is_account_name(text: &str) -> bool {
    !text.contains('=') && ['@', '\\'].iter().any(|mark| matches!(text.split_once(*mark), Some((a, b)) if !a.is_empty() && !b.is_empty()))
}

fn read_account(config: &LdapSource, check: &mut Check) -> Option<ServiceAccount> {
    match (&config.bind_dn, &config.bind_password_file) {
        (None, None) => None,
        (None, Some(_)) => {
            check.problem("bind_password_file", "needs bind_dn, the name that the password belongs to");
            None
        }
        (Some(_), None) => {
            check.problem("bind_password_file", "is missing: the file with the password of bind_dn");
            None
        }
        (Some(dn), Some(file)) => {
            if !(preset::has_account_names(config.preset) && is_account_name(dn)) {
                check.dn("bind_dn", Some(dn), "");
            }
            let account = ServiceAccount::new(dn.clone(), file.clone());
            if let Err(reason) = account.password() {
                check.problem("bind_password_file", reason);
            }
            Some(account)
        }
    }
}

fn read_dialer(name: &SourceName, config: &LdapSource, check: &mut Check) -> Dialer {
    if config.urls.is_empty() {
        check.problem("urls", "is missing: the servers in order, such as [\"ldaps://ldap.example.org\"]");
    }
    if config.tls == Some(LdapTls::None) && !config.insecure_plaintext {
        check.problem("tls", "\"none\" sends passwords in the clear; if that is meant, add insecure_plaintext = true");
    }
    if config.insecure_plaintext && config.tls != Some(LdapTls::None) {
        check.problem("insecure_plaintext", "has no effect unless tls = \"none\"; leave it out");
    }
    let endpoints: Vec<Endpoint> = config
        .urls
        .iter()
        .enumerate()
        .filter_map(|(at, url)| read_endpoint(config, url).map_err(|reason| check.problem(format!("urls[{at}]"), reason)).ok())
        .collect();
    let tls = match config.tls {
        Some(LdapTls::None) => {
            let files =
                [("ca_file", &config.ca_file), ("client_certificate", &config.client_certificate), ("client_key", &config.client_key)];
            let set = files.into_iter().filter(|(_, file)| file.is_some()).map(|(path, _)| path);
            for path in set.chain(config.server_name.as_ref().map(|_| "server_name")) {
                check.problem(path, "has no effect with tls = \"none\"; leave it out, or use TLS");
            }
            None
        }
        _ => tls::Tls::read(config).map_err(|problems| check.0.extend(problems)).ok(),
    };
    Dialer::new(name, endpoints, tls, config)
}

fn read_endpoint(config: &LdapSource, url: &Url) -> Result<Endpoint, String> {
    let (default_port, starttls) = match (url.scheme(), config.tls) {
        ("ldaps", None | Some(LdapTls::Ldaps)) => (636, false),
        ("ldap", None | Some(LdapTls::StartTls)) => (389, true),
        ("ldap", Some(LdapTls::None)) => (389, false),
        ("ldap", Some(LdapTls::Ldaps)) => return Err(format!("{url} contradicts tls = \"ldaps\"; write ldaps:// or leave tls out")),
        ("ldaps", Some(_)) => return Err(format!("{url} contradicts tls; leave tls out, ldaps:// is TLS from the first byte")),
        _ => return Err(format!("{url} must begin with ldap:// or ldaps://")),
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| format!("{url} names no host"))?;
    let more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty();
    if more || url.password().is_some() {
        return Err(format!(
            "{} must be a scheme, a host and perhaps a port; the rest has keys of its own",
            url.host_str().unwrap_or("it")
        ));
    }
    let port = url.port().unwrap_or(default_port);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let security = if config.tls == Some(LdapTls::None) {
        Security::Plain
    } else {
        let name = config.server_name.clone().unwrap_or_else(|| host.clone());
        let verified = ServerName::try_from(name.clone()).map_err(|_| {
            format!("{name:?} is no name that a certificate can have; set server_name to the name in the server's certificate")
        })?;
        if starttls { Security::StartTls(verified) } else { Security::Tls(verified) }
    };
    Ok(Endpoint { url: url.clone(), host, port, security })
}
