mod ldap;
mod oidc;

use serde::Deserialize;

pub use ldap::*;
pub use oidc::OidcSource;

/// `[[source]]`: where people come from.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub kind: SourceKind,
}

/// `type` of a source and what belongs to it.
#[derive(Clone, Debug)]
pub enum SourceKind {
    Local(LocalSource),
    Ldap(Box<LdapSource>),
    /// `oidc`, or `okta`, which is a preset of it.
    Oidc(Box<OidcSource>),
}

/// `type = "local"`: accounts of our own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalSource {}

/// `attributes.*`: which attribute (LDAP) or JSON Pointer (OIDC) holds what.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attributes {
    /// OIDC only; LDAP uses the first login attribute. Default: `/preferred_username`, else `/sub`.
    pub username: Option<String>,
    pub email: Option<String>,
    pub name: Option<String>,
}

impl Source {
    /// The source there is when none is declared.
    pub fn local() -> Source {
        Source { name: "local".to_owned(), kind: SourceKind::Local(LocalSource {}) }
    }
}
