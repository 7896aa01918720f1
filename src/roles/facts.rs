//! What the mapping looks at: the groups and claims that a source answered.

/// Everything known about a person that a rule can match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// All groups, nested ones too, with the way each was reached.
    pub groups: Vec<Group>,
    /// The claims of an id token, or null.
    pub claims: serde_json::Value,
}

/// One group of a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its distinguished name, as the directory wrote it.
    pub dn: String,
    /// The groups between the person and this one, nearest first; empty for direct membership.
    pub via: Vec<String>,
}
