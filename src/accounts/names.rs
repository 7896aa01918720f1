//! Usernames are unique. The first source owns bare names, the others answer `name@source`; nobody is given a name that is taken.

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

/// The usernames to try in turn for `bare`: as it is, in the first source only; with the source; with the source and a number.
fn candidates(bare: &str, source: &str, first_source: &str) -> impl Iterator<Item = String> {
    let alone = (source == first_source).then(|| bare.to_owned());
    let qualified = format!("{bare}@{source}");
    let numbered = (2..1_000).map({
        let qualified = qualified.clone();
        move |n| format!("{qualified}-{n}")
    });
    alone.into_iter().chain([qualified]).chain(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_source_owns_bare_names() {
        let first: Vec<_> = candidates("anna", "corp", "corp").take(3).collect();
        assert_eq!(first, ["anna", "anna@corp", "anna@corp-2"]);
        let later: Vec<_> = candidates("anna", "okta", "corp").take(3).collect();
        assert_eq!(later, ["anna@okta", "anna@okta-2", "anna@okta-3"]);
    }
}
