//! What a server says about itself in its root entry (RFC 4512 section 5.1), and whether the preset is the one for it.

use crate::config::{LdapPreset, LdapSource};
use crate::identity::finding::Findings;
use crate::identity::ldap::entry::Entry;
use crate::identity::ldap::ppolicy;

const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";

/// What is read. Most of it is operational and must be asked for by name.
pub const ATTRIBUTES: [&str; 11] = [
    "objectClass",
    "structuralObjectClass",
    "vendorName",
    "vendorVersion",
    "supportedCapabilities",
    "supportedControl",
    "supportedLDAPVersion",
    "currentTime",
    "namingContexts",
    "defaultNamingContext",
    "ipaDomainLevel",
];

/// The root entry.
pub struct Root(pub Entry);

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    OpenLdap,
    ActiveDirectory,
    Samba,
    DirSrv,
    FreeIpa,
    Lldap,
    Unknown,
}

impl Vendor {
    fn presets(self) -> &'static [LdapPreset] {
        use LdapPreset as P;
        match self {
            Vendor::OpenLdap => &[P::OpenLdap, P::Posix],
            Vendor::ActiveDirectory | Vendor::Samba => &[P::ActiveDirectory, P::Samba],
            Vendor::DirSrv => &[P::DirSrv, P::Posix],
            Vendor::FreeIpa => &[P::FreeIpa],
            Vendor::Lldap => &[P::Lldap],
            Vendor::Unknown => &[],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Vendor::OpenLdap => "OpenLDAP",
            Vendor::ActiveDirectory => "Active Directory",
            Vendor::Samba => "Samba Active Directory",
            Vendor::DirSrv => "389 Directory Server",
            Vendor::FreeIpa => "FreeIPA",
            Vendor::Lldap => "LLDAP",
            Vendor::Unknown => "a directory that does not say what it is",
        }
    }
}

/// As the configuration writes it.
pub fn preset_name(preset: LdapPreset) -> &'static str {
    match preset {
        LdapPreset::OpenLdap => "openldap",
        LdapPreset::Posix => "posix",
        LdapPreset::ActiveDirectory => "active-directory",
        LdapPreset::Samba => "samba",
        LdapPreset::DirSrv => "389ds",
        LdapPreset::FreeIpa => "freeipa",
        LdapPreset::Lldap => "lldap",
    }
}

impl Root {
    pub fn vendor(&self) -> Vendor {
        let named = |attribute| self.0.text(attribute).unwrap_or_default().to_ascii_lowercase();
        let classes = ["objectClass", "structuralObjectClass"];
        let name = named("vendorName");
        if name.contains("samba") {
            Vendor::Samba
        } else if self.has("supportedCapabilities", "1.2.840.113556.1.4.800") {
            Vendor::ActiveDirectory
        } else if classes.iter().any(|class| self.0.texts(class).any(|value| value.eq_ignore_ascii_case("OpenLDAProotDSE"))) {
            Vendor::OpenLdap
        } else if self.0.text("ipaDomainLevel").is_some() {
            Vendor::FreeIpa
        } else if name.contains("389") || named("vendorVersion").contains("389") {
            Vendor::DirSrv
        } else if name.contains("lldap") {
            Vendor::Lldap
        } else {
            Vendor::Unknown
        }
    }

    fn has(&self, attribute: &str, wanted: &str) -> bool {
        self.0.texts(attribute).any(|value| value == wanted)
    }

    pub fn describe(&self, findings: &mut Findings, config: &LdapSource, now: i64) {
        let vendor = self.vendor();
        let version = self.0.text("vendorVersion").map(|version| format!(", {version}")).unwrap_or_default();
        let detail = format!("{}{version}", vendor.name());
        findings.pass("vendor", detail);
        let preset = preset_name(config.preset);
        if vendor == Vendor::Unknown {
            findings.pass("preset", format!("{preset}; whether it fits shows in what is found below"));
        } else if vendor.presets().contains(&config.preset) {
            findings.pass("preset", format!("{preset} is one for {}", vendor.name()));
        } else {
            let usual = vendor.presets().first().map_or("", |&preset| preset_name(preset));
            findings.warn(
                "preset",
                format!("{preset} is not made for {}: groups or account states may be missed", vendor.name()),
                format!("write preset = \"{usual}\", unless the entries are shaped for {preset}"),
            );
        }
        match self.has("supportedControl", PAGED_RESULTS) {
            true => findings.pass("paging", format!("long lists come in pages of {}", config.page_size)),
            false => findings.warn(
                "paging",
                "the directory does not say that it can send long lists in pages",
                "see that its size limit for the service account is above max_groups",
            ),
        }
        match vendor {
            Vendor::ActiveDirectory | Vendor::Samba => {
                findings.pass("password policy", "Active Directory tells the state of an account in its answer to a bind")
            }
            _ if self.has("supportedControl", ppolicy::OID) => {
                findings.pass("password policy", "the directory tells the state of an account (password policy control)")
            }
            _ => findings.warn(
                "password policy",
                "the directory has no password policy control: a password that must be changed looks like any other",
                "load the password policy overlay or plugin, if passwords there expire or are reset",
            ),
        }
        match self.0.text("currentTime").and_then(seconds) {
            Some(theirs) => findings.clock("the directory", theirs, now),
            None => findings.pass("clock", "the directory does not tell its time"),
        }
    }

    /// Where the domain's own settings are (Active Directory).
    pub fn domain(&self) -> Option<&str> {
        self.0.text("defaultNamingContext")
    }
}

/// GeneralizedTime in UTC (RFC 4517 section 3.3.13), `20261122034500.0Z`, in seconds.
fn seconds(time: &str) -> Option<i64> {
    let digits = time.get(..14).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()) && time.ends_with('Z'))?;
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    let text = format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14));
    let at = humantime::parse_rfc3339(&text).ok()?;
    at.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::finding::Outcome;

    fn root(values: &[(&str, &str)]) -> Root {
        Root(Entry::with("", values))
    }

    #[test]
    fn directories_are_known_by_their_root_entry() {
        for (values, vendor) in [
            (
                &[("vendorName", "Samba Team (https://www.samba.org)"), ("supportedCapabilities", "1.2.840.113556.1.4.800")][..],
                Vendor::Samba,
            ),
            (&[("supportedCapabilities", "1.2.840.113556.1.4.800")], Vendor::ActiveDirectory),
            (&[("structuralObjectClass", "OpenLDAProotDSE")], Vendor::OpenLdap),
            (&[("vendorName", "389 Project"), ("vendorVersion", "389-Directory/2.3.1")], Vendor::DirSrv),
            (&[("vendorName", "389 Project"), ("ipaDomainLevel", "1")], Vendor::FreeIpa),
            (&[("vendorName", "LLDAP")], Vendor::Lldap),
            (&[("vendorName", "Somebody")], Vendor::Unknown),
        ] {
            assert_eq!(root(values).vendor(), vendor, "{values:?}");
        }
    }

    #[test]
    fn a_preset_for_another_directory_is_a_warning_that_names_the_right_one() {
        let mut findings = Findings::about("x");
        root(&[("vendorName", "389 Project")]).describe(&mut findings, &LdapSource::default(), 0);
        let found = findings.done();
        let preset = found.iter().find(|finding| finding.check == "preset").unwrap();
        assert_eq!(preset.outcome, Outcome::Warn);
        assert!(preset.mend.as_ref().unwrap().contains("preset = \"389ds\""), "{preset:?}");
        assert!(found.iter().any(|finding| finding.check == "paging" && finding.outcome == Outcome::Warn));
    }

    #[test]
    fn the_time_of_a_directory_is_read() {
        assert_eq!(seconds("20231114221320.0Z"), Some(1_700_000_000));
        assert_eq!(seconds("20231114221320Z"), Some(1_700_000_000));
        assert_eq!(seconds("20231114221320+0100"), None);
        assert_eq!(seconds("nonsense"), None);
    }
}
