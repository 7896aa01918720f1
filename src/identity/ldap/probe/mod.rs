//! What `countersign doctor` says about a directory. Each server in order: name, socket, TLS, what it is, the service account; then,
//! at the first that answers, the people and groups that the configuration would find.
//!
//! Nothing is changed, and nobody's password is tried: only the service account binds, once at each server until one refuses it. The
//! bind without a password is made with a name that nobody has, since some directories count it as a wrong guess.

mod network;
mod people;
mod vendor;

use std::time::Duration;

use ldap3::Scope;
use url::Url;

use self::vendor::Root;
use super::account::ServiceAccount;
use super::connection::{Connection, Failure, Search};
use super::dialer::Dialer;
use super::entry::Entry;
use super::plan::{self, Plan};
use super::verdict::{self, Verdict};
use super::{Ldap, Reader};
use crate::clock::Clock;
use crate::config::{LdapSource, LdapTls, Problem};
use crate::identity::RefusalReason;
use crate::identity::finding::{Finding, Findings, Outcome};
use crate::oauth2::{Secret, SourceName};

/// Whether the service account may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    Use,
    /// A host that never had its password would be sent it.
    KeepBack,
}

/// What became of the service account at a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    Yes,
    /// Once is enough: each try counts towards its lockout.
    Refused,
    No,
}

/// Everything that can be said about the source.
pub async fn probe(name: &SourceName, config: &LdapSource, clock: &Clock, account: Account) -> Vec<Finding> {
    let mut servers = Vec::new();
    let mut usable: Option<Url> = None;
    let mut bound = Bound::No;
    for url in &config.urls {
        let mut findings = Findings::about(format!("{name} {url}"));
        let one = LdapSource { urls: vec![url.clone()], ..config.clone() };
        match plan::read(name, &one) {
            Err(problems) => unreadable(&mut findings, problems),
            Ok((plan, dialer, service)) => {
                if network::look(&mut findings, &one, &dialer, clock.now()).await {
                    let tried = Server { config: &one, plan: &plan, dialer: &dialer, clock };
                    bound = tried.examine(&mut findings, service.as_ref(), account, bound).await;
                    if usable.is_none() && bound == Bound::Yes {
                        usable = Some(url.clone());
                    }
                }
            }
        }
        servers.push(findings.done());
    }
    spare_the_dead(&mut servers);
    let mut findings = Findings::about(name.as_str());
    security(&mut findings, config);
    findings.add(servers.concat());
    let mut own = Findings::about(name.as_str());
    match usable {
        Some(url) => {
            let one = LdapSource { urls: vec![url], ..config.clone() };
            match Ldap::new(name.clone(), &one, clock.clone()) {
                Ok(ldap) => people::look(&mut own, &ldap, config.lockout_threshold).await,
                Err(problems) => unreadable(&mut own, problems),
            }
        }
        None if config.bind_dn.is_none() => {
            own.warn(
                "people",
                "there is no service account, so that people and groups cannot be looked at, and no refresh tokens are issued",
                "set bind_dn and bind_password_file, or accept that people sign in each time",
            );
            if Ldap::new(name.clone(), config, clock.clone()).is_ok_and(|ldap| ldap.counts_by_name()) {
                own.warn(
                    "lockout",
                    "people have two names to bind with, userPrincipalName and sAMAccountName, and without a service account wrong passwords \
                     are counted for each name: strangers have half the tries for each",
                    "set bind_dn and bind_password_file, or give nobody a userPrincipalName that differs from the sAMAccountName",
                );
            }
        }
        None => own.fail("people", "not looked at: no server takes the service account", "mend what failed above first"),
    }
    findings.add(own.done());
    findings.done()
}

fn unreadable(findings: &mut Findings, problems: Vec<Problem>) {
    for problem in problems {
        findings.fail(
            "configuration",
            format!("{} {}", problem.path, problem.reason),
            "correct the source; countersign check names the line",
        );
    }
}

fn security(findings: &mut Findings, config: &LdapSource) {
    if config.tls == Some(LdapTls::None) {
        findings.warn("security", "passwords go to the directory in the clear (insecure_plaintext)", "use ldaps:// or StartTLS");
    }
}

/// A server that is down is no reason to fail while another stands in for it.
fn spare_the_dead(servers: &mut [Vec<Finding>]) {
    let dead = |finding: &Finding| matches!(finding.check, "dns" | "tcp") && finding.outcome == Outcome::Fail;
    if servers.iter().all(|findings| findings.iter().any(dead)) {
        return;
    }
    for finding in servers.iter_mut().flatten().filter(|finding| dead(finding)) {
        finding.outcome = Outcome::Warn;
        finding.detail.push_str("; sign-ins go to another server meanwhile");
    }
}

/// One server that can be reached.
struct Server<'a> {
    config: &'a LdapSource,
    plan: &'a Plan,
    dialer: &'a Dialer,
    clock: &'a Clock,
}

impl Server<'_> {
    async fn examine(&self, findings: &mut Findings, service: Option<&ServiceAccount>, account: Account, before: Bound) -> Bound {
        let anonymous = match self.dialer.dial().await {
            Ok(connection) => read_root(connection).await,
            Err(failure) => Err(failure),
        };
        let Some(service) = service else {
            self.describe(findings, anonymous.ok().map(|(_, root)| root).as_ref());
            self.open_doors(findings).await;
            return Bound::No;
        };
        let (bound, connection) = match (account, before) {
            (Account::KeepBack, _) => {
                let mend = "if it is meant, run countersign check --confirm-hosts SOURCE, then ask again";
                findings.fail("service bind", "not tried: the password has never been given to the hosts that urls names now", mend);
                (Bound::No, None)
            }
            (_, Bound::Refused) => {
                let mend = "mend bind_dn or bind_password_file, as said above";
                findings.warn("service bind", "not tried: another server refused it, and each try counts towards a lockout", mend);
                (Bound::Refused, None)
            }
            _ => self.bind(findings, service).await,
        };
        let root = match (anonymous, connection) {
            // Some show more to whom they know.
            (_, Some(connection)) => match read_root(connection).await {
                Ok((connection, root)) => {
                    self.who_am_i(findings, connection).await;
                    Some(root)
                }
                Err(_) => None,
            },
            (Ok((_, root)), None) => Some(root),
            (Err(_), None) => None,
        };
        self.describe(findings, root.as_ref());
        self.open_doors(findings).await;
        bound
    }

    fn describe(&self, findings: &mut Findings, root: Option<&Root>) {
        match root {
            Some(root) => root.describe(findings, self.config, self.clock.now()),
            None => findings.warn("vendor", "the server does not show its root entry", "let everybody read the root DSE, as is usual"),
        }
    }

    async fn bind(&self, findings: &mut Findings, service: &ServiceAccount) -> (Bound, Option<Connection>) {
        let dn = &service.dn;
        let password = match service.password() {
            Ok(password) => password,
            Err(reason) => {
                findings.fail("service bind", reason, "put the password of bind_dn into bind_password_file");
                return (Bound::No, None);
            }
        };
        match self.dialer.bind(dn, &password).await {
            Err(failure) => findings.fail("service bind", failure.reason, "see whether the server is overloaded or restarting"),
            Ok((connection, answer)) => match verdict::of(&answer) {
                Verdict::Yes => {
                    findings.pass("service bind", format!("{dn} signs in"));
                    return (Bound::Yes, Some(connection));
                }
                Verdict::Unknown(reason) => findings.fail("service bind", reason, "do as it says, or ask whoever runs the directory"),
                // Perhaps counted: as after a refusal, no other server is asked.
                Verdict::InDoubt(reason) => {
                    findings.fail("service bind", reason, "see whether the domain controllers reach each other");
                    return (Bound::Refused, None);
                }
                Verdict::Unexplained(codes) => {
                    findings.fail("service bind", format!("the directory refuses {dn} ({codes})"), "see the directory's log for why");
                    return (Bound::Refused, None);
                }
                Verdict::No(reason, codes) => {
                    let mend = match reason {
                        RefusalReason::BadPassword | RefusalReason::UnknownUser => {
                            "check bind_dn, and put its password into bind_password_file; servers do not tell which of them is wrong"
                        }
                        RefusalReason::PasswordExpired | RefusalReason::PasswordChangeRequired => {
                            "give the account a new password that does not expire, and put it into bind_password_file"
                        }
                        _ => "enable or unlock the account in the directory",
                    };
                    findings.fail("service bind", format!("the directory refuses {dn}: {} ({codes})", reason.as_str()), mend);
                    return (Bound::Refused, None);
                }
            },
        }
        (Bound::No, None)
    }

    async fn who_am_i(&self, findings: &mut Findings, connection: Connection) {
        match connection.who_am_i().await {
            Ok((_, Some(name))) if !name.is_empty() => findings.pass("whoami", format!("the directory knows us as {name}")),
            Ok((_, Some(_))) => findings.fail(
                "whoami",
                "the directory knows us as nobody, although it took the bind",
                "check bind_dn: it must name an account, with a password of its own",
            ),
            Ok((_, None)) => findings.pass("whoami", "the directory does not tell as whom we speak (RFC 4532)"),
            Err(failure) => findings.warn("whoami", failure.reason, "ask whoever runs the directory why it hangs up"),
        }
    }

    /// What nobody should be able to do: bind without a password, read people without a bind.
    async fn open_doors(&self, findings: &mut Findings) {
        let nobody = format!("cn=countersign-doctor-nobody,{}", self.plan.user_base);
        let answer = match self.dialer.dial().await {
            Ok(connection) => connection.bind(&nobody, &Secret::new("")).await.map(|(_, answer)| answer.code),
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(0) => findings.warn(
                "empty password",
                "this directory takes binds with a name and an empty password; Countersign refuses such passwords itself",
                "switch unauthenticated binds off (RFC 4513 section 5.1.2): other programs may take them for a sign-in",
            ),
            Ok(code) => findings.pass("empty password", format!("a bind with an empty password is refused (LDAP result {code})")),
            Err(failure) => findings.warn("empty password", failure.reason, "ask whoever runs the directory"),
        }
        let search = Search { at_most: 1, ..search(&self.plan.user_base, self.plan.user_scope, "(objectClass=*)", &["1.1"]) };
        let found = match self.dialer.dial().await {
            Ok(connection) => connection.search(&search).await,
            Err(failure) => Err(failure),
        };
        match found {
            Ok((_, found)) if !found.entries.is_empty() => findings.warn(
                "anonymous read",
                format!("anybody who reaches the directory can list {} without signing in", self.plan.user_base),
                "let only known accounts read people, unless that is meant",
            ),
            Ok(_) | Err(_) => findings.pass("anonymous read", "people cannot be listed without signing in"),
        }
    }
}

async fn read_root(connection: Connection) -> Result<(Connection, Root), Failure> {
    let (connection, found) = connection.search(&search("", Scope::Base, "(objectClass=*)", &vendor::ATTRIBUTES)).await?;
    let root = found.entries.into_iter().next().ok_or_else(|| Failure::new("the server does not show its root entry"))?;
    Ok((connection, Root(root)))
}

fn search(base: &str, scope: Scope, filter: &str, attributes: &[&str]) -> Search {
    Search {
        base: base.to_owned(),
        scope,
        filter: filter.to_owned(),
        attributes: attributes.iter().map(|&attribute| attribute.to_owned()).collect(),
        only_values: None,
        at_most: 200,
        page_size: None,
        referrals: crate::config::Referrals::Ignore,
    }
}

/// A search as the service account, and how long it took.
async fn timed(reader: &mut Reader<'_>, search: &Search) -> (Result<Vec<Entry>, Failure>, Duration) {
    let began = Clock::monotonic();
    let found = reader.search(search).await.map(|found| found.entries);
    (found, Clock::since(began))
}
