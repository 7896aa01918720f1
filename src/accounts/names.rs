//! Usernames are unique. The first source owns bare names, the others answer `name@source`; nobody is given a name that is taken,
//! nor one that an operator could mistake for somebody else when they disable or revoke by it.

use crate::oauth2::AccountId;
use crate::storage::accounts::{self, AccountRow};
use crate::storage::{Connection, StorageError};

/// Inserts `row` under the first free name for `bare`, and answers it as inserted; None where all names are taken.
pub(super) fn insert_unique(
    tx: &mut Connection,
    mut row: AccountRow,
    bare: &str,
    first_source: &str,
) -> Result<Option<AccountRow>, StorageError> {
    let source = row.source.clone();
    for username in candidates(bare, &source, first_source) {
        if accounts::username_taken(tx, &username)? {
            continue;
        }
        row.username = username;
        match accounts::insert(tx, &row) {
            Ok(()) => return Ok(Some(row)),
            // Another node took the name since we looked.
            Err(StorageError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The usernames to try in turn for `bare`: as it is, in the first source only and if it is no [`disguise`]; with the source; with
/// the source and a number.
fn candidates(bare: &str, source: &str, first_source: &str) -> impl Iterator<Item = String> {
    let alone = (source == first_source && !disguise(bare)).then(|| bare.to_owned());
    let qualified = format!("{bare}@{source}");
    let numbered = (2..1_000).map({
        let qualified = qualified.clone();
        move |n| format!("{qualified}-{n}")
    });
    alone.into_iter().chain([qualified]).chain(numbered)
}

/// Whether a directory calls somebody by what looks like an account id, or like a person of another source. All that can be the
/// name of a source counts, since one may be added later; the domain of an address has a dot, and no source has.
fn disguise(bare: &str) -> bool {
    let source_name = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    AccountId::has_form(bare) || bare.rsplit_once('@').is_some_and(|(_, after)| source_name(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_for_an_account_id_or_a_person_of_another_source() {
        let first = |bare: &str| candidates(bare, "corp", "corp").next();
        for disguised in ["0123456789abcdef0123456789abcdef", "anna@okta", "anna@okta-2", "a@b@corp", "anna@"] {
            assert_eq!(first(disguised), Some(format!("{disguised}@corp")));
        }
        for plain in ["anna@example.org", "anna", "0123456789ABCDEF0123456789ABCDEF", "anna@Okta"] {
            assert_eq!(first(plain).as_deref(), Some(plain));
        }
    }

    #[test]
    fn the_first_source_owns_bare_names() {
        let first: Vec<_> = candidates("anna", "corp", "corp").take(3).collect();
        assert_eq!(first, ["anna", "anna@corp", "anna@corp-2"]);
        let later: Vec<_> = candidates("anna", "okta", "corp").take(3).collect();
        assert_eq!(later, ["anna@okta", "anna@okta-2", "anna@okta-3"]);
    }
}
