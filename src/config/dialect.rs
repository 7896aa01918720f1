use serde::Deserialize;

/// `[dialect.NAME]`: foreign API shapes over the same core. On in the embedded default, else only where configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dialects {
    pub croit: Option<Croit>,
}

/// `[dialect.croit]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Croit {
    pub enabled: bool,
    /// The path all its endpoints begin with.
    pub mount: String,
    /// The client whose grants, sources, ceilings and throttles apply. Default: a built-in one named `croit`.
    pub client: Option<String>,
    /// The Okta or OIDC source of `/auth/okta/*`. Default: the only one there is; two with none named stop the start.
    pub source: Option<String>,
    /// Whether signInConfig tells which literal group gives which role.
    pub publish_roles: bool,
}

impl Default for Croit {
    fn default() -> Self {
        Croit { enabled: true, mount: "/api".to_owned(), client: None, source: None, publish_roles: false }
    }
}
