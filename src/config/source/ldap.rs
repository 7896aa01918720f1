use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use url::Url;

use super::Attributes;

/// `type = "ldap"`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LdapSource {
    pub preset: LdapPreset,
    /// E-mail domains whose logins are routed here.
    pub domains: Vec<String>,
    /// Servers, in order of preference.
    #[serde(deserialize_with = "urls")]
    pub urls: Vec<Url>,
    /// Default: `ldaps` for ldaps://, `starttls` for ldap://.
    pub tls: Option<LdapTls>,
    /// Must be true for `tls = "none"`.
    pub insecure_plaintext: bool,
    /// PEM file of the authorities to trust; default: the system's roots. Verification cannot be switched off.
    pub ca_file: Option<PathBuf>,
    /// PEM files for client authentication by TLS.
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    /// The name that the server's certificate must have; default: the URL's host.
    pub server_name: Option<String>,
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub connect_timeout: Duration,
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub operation_timeout: Duration,
    /// For a whole sign-in.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub login_deadline: Duration,
    /// How long a server that was down is passed over before it is tried again.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub breaker_open: Duration,
    /// Service connections.
    pub pool: LdapPool,
    /// The service account, for searches.
    pub bind_dn: Option<String>,
    /// A file with its password; re-read when it changes.
    pub bind_password_file: Option<PathBuf>,
    pub bind: LdapBind,
    /// For `bind = "direct"`: `uid={login},ou=people,…`, a distinguished name; the login is escaped. For Active Directory also a
    /// userPrincipalName, `{login}@corp.example.org`.
    pub bind_template: Option<String>,
    pub user_base: Option<String>,
    pub user_scope: SearchScope,
    /// AND-ed with the match of the login attributes.
    pub user_filter: Option<String>,
    /// Default: the preset's.
    pub login_attributes: Option<Vec<String>>,
    /// After how many wrong passwords the directory locks an account, for the shield; 0 if it never does. Strangers have two tries less
    /// a window, and one more is kept for networks that the person signed in from before.
    pub lockout_threshold: u32,
    /// After how long the directory forgets wrong passwords.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub lockout_window: Duration,
    pub group_base: Option<String>,
    pub group_filter: Option<String>,
    /// Whether groups in groups count; default: the preset's.
    pub nested: Option<bool>,
    /// Levels of nesting; past it is an error.
    pub max_depth: usize,
    /// Groups of one person; past it is an error.
    pub max_groups: usize,
    pub page_size: i32,
    pub referrals: Referrals,
    /// An immutable attribute; default: the preset's.
    pub subject_attribute: Option<String>,
    pub attributes: Attributes,
    /// How long a person's groups are reused within further sign-ins. Failures and passwords are never cached.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub group_cache: Duration,
}

impl Default for LdapSource {
    fn default() -> Self {
        LdapSource {
            preset: LdapPreset::OpenLdap,
            domains: Vec::new(),
            urls: Vec::new(),
            tls: None,
            insecure_plaintext: false,
            ca_file: None,
            client_certificate: None,
            client_key: None,
            server_name: None,
            connect_timeout: Duration::from_secs(3),
            operation_timeout: Duration::from_secs(5),
            login_deadline: Duration::from_secs(10),
            breaker_open: Duration::from_secs(30),
            pool: LdapPool::default(),
            bind_dn: None,
            bind_password_file: None,
            bind: LdapBind::Search,
            bind_template: None,
            user_base: None,
            user_scope: SearchScope::Subtree,
            user_filter: None,
            login_attributes: None,
            lockout_threshold: 5,
            lockout_window: Duration::from_secs(1_800),
            group_base: None,
            group_filter: None,
            nested: None,
            max_depth: 10,
            max_groups: 2_000,
            page_size: 500,
            referrals: Referrals::Ignore,
            subject_attribute: None,
            attributes: Attributes::default(),
            group_cache: Duration::from_secs(60),
        }
    }
}

/// `pool.*` of an LDAP source.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LdapPool {
    pub size: usize,
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub idle: Duration,
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub lifetime: Duration,
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub acquire_timeout: Duration,
}

impl Default for LdapPool {
    fn default() -> Self {
        LdapPool { size: 5, idle: Duration::from_secs(300), lifetime: Duration::from_secs(1_800), acquire_timeout: Duration::from_secs(2) }
    }
}

/// Defaults for one kind of directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum LdapPreset {
    /// rfc2307bis: `member`, breadth-first, subject entryUUID.
    #[default]
    #[serde(rename = "openldap")]
    OpenLdap,
    /// rfc2307: `memberUid` and the primary gidNumber, subject entryUUID.
    #[serde(rename = "posix")]
    Posix,
    /// tokenGroups, else an in-chain search, with the primary group; subject objectGUID.
    #[serde(rename = "active-directory")]
    ActiveDirectory,
    /// Active Directory as Samba serves it.
    #[serde(rename = "samba")]
    Samba,
    /// 389 Directory Server: memberOf, which its plugin makes transitive; subject entryUUID, else nsUniqueId.
    #[serde(rename = "389ds")]
    DirSrv,
    /// memberOf, subject ipaUniqueID.
    #[serde(rename = "freeipa")]
    FreeIpa,
    /// memberOf, else groupOfUniqueNames; subject entryUUID.
    #[serde(rename = "lldap")]
    Lldap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LdapTls {
    Ldaps,
    StartTls,
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LdapBind {
    /// Find the entry as the service account, then bind as it.
    #[default]
    Search,
    /// Bind by the template, then read the entry as the service account or, without one, as the user.
    Direct,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchScope {
    #[default]
    Subtree,
    One,
}

/// Referrals are never chased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Referrals {
    #[default]
    Ignore,
    /// A referral in a search result is an error.
    Reject,
}

/// A list of URLs, with a mend in the error.
fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Url>, D::Error> {
    struct Address(Url);
    impl<'de> Deserialize<'de> for Address {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            Url::parse(&text)
                .map(Address)
                .map_err(|e| de::Error::custom(format!("no URL ({e}); write one such as ldaps://ldap.example.org")))
        }
    }
    Ok(Vec::<Address>::deserialize(deserializer)?.into_iter().map(|address| address.0).collect())
}
