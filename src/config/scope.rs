use serde::Deserialize;

/// `[scope.NAME]`: what a scope means and who may have it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScopeSettings {
    /// Documents the scope, in this file.
    pub description: Option<String>,
    /// A person gets this scope only with this role.
    pub requires_role: Option<String>,
}
