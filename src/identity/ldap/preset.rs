//! What each kind of directory calls things, where the configuration does not say otherwise.

use super::groups::Strategy;
use crate::config::LdapPreset;

/// The defaults of one kind of directory.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// The first is the username's.
    pub login_attributes: &'static [&'static str],
    /// The first that an entry has.
    pub subject_attributes: &'static [&'static str],
    pub group_filter: &'static str,
    pub member_attributes: &'static [&'static str],
    pub strategy: Strategy,
    /// Whether groups in groups count.
    pub nested: bool,
}

const NAMED: &str = "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames))";

/// The table of docs/federate.md.
pub fn of(preset: LdapPreset) -> Defaults {
    let rfc2307bis = Defaults {
        login_attributes: &["uid", "mail"],
        subject_attributes: &["entryUUID"],
        group_filter: NAMED,
        member_attributes: &["member", "uniqueMember"],
        strategy: Strategy::Member,
        nested: true,
    };
    let uid_only = Defaults { login_attributes: &["uid"], ..rfc2307bis };
    match preset {
        LdapPreset::OpenLdap => rfc2307bis,
        LdapPreset::Posix => Defaults {
            group_filter: "(objectClass=posixGroup)",
            member_attributes: &["memberUid"],
            strategy: Strategy::MemberUid,
            nested: false,
            ..uid_only
        },
        LdapPreset::ActiveDirectory | LdapPreset::Samba => Defaults {
            login_attributes: &["sAMAccountName", "userPrincipalName"],
            subject_attributes: &["objectGUID"],
            group_filter: "(objectClass=group)",
            member_attributes: &["member"],
            strategy: Strategy::TokenGroups,
            nested: true,
        },
        // Servers before 1.4.4, and entries older than the plugin, have no entryUUID.
        LdapPreset::DirSrv => Defaults { subject_attributes: &["entryUUID", "nsUniqueId"], strategy: Strategy::MemberOf, ..uid_only },
        LdapPreset::FreeIpa => Defaults { subject_attributes: &["ipaUniqueID"], strategy: Strategy::MemberOf, ..uid_only },
        LdapPreset::Lldap => Defaults {
            group_filter: "(objectClass=groupOfUniqueNames)",
            member_attributes: &["uniqueMember", "member"],
            strategy: Strategy::DirectMemberOf,
            nested: false,
            ..uid_only
        },
    }
}

/// Whether names of accounts need not be distinguished ones: a userPrincipalName or DOMAIN\account binds as well.
pub fn has_account_names(preset: LdapPreset) -> bool {
    matches!(preset, LdapPreset::ActiveDirectory | LdapPreset::Samba)
}
