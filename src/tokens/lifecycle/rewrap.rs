//! From one key-encryption key to another.

use serde_json::json;

use super::{announce, sealed_under};
use crate::audit::{Event, Record};
use crate::storage::{Storage, audit, in_turn, keys};
use crate::tokens::TokenError;
use crate::tokens::kek::Kek;
use crate::tokens::keyring::place;

/// Seals every row again under the key that the configuration names, in one transaction, and answers how many there were: 0 if all
/// are so already. Once it has returned, the key before is needed for old backups alone. Whatever else is ever sealed under the
/// key-encryption key belongs here too.
///
/// Errors: a row that neither key opens, and then nothing is changed.
pub fn rewrap(storage: &Storage, kek: &Kek, by: &'static str, now: i64) -> Result<usize, TokenError> {
    let kek = kek.clone();
    storage.write_blocking(move |tx| {
        in_turn(tx)?;
        let rows = keys::all(tx)?;
        let seal_again = || {
            let old = rows.iter().filter(|row| !row.sealed.is_empty() && row.kek != kek.name());
            let again = old.map(|row| {
                let (place, plain) = (place(&row.kid), kek.open(&place(&row.kid), &row.kek, &row.sealed)?);
                let sealed = kek.seal(&place, kek.name(), &plain)?;
                // The old form is about to be overwritten, so the new one has to prove itself.
                match kek.open(&place, kek.name(), &sealed)? == plain {
                    true => Ok((row.kid.clone(), sealed)),
                    false => Err(TokenError::Kek(format!("{place} did not come back as it was; nothing was changed"))),
                }
            });
            again.collect::<Result<Vec<_>, TokenError>>()
        };
        let again = match seal_again() {
            Ok(again) => again,
            Err(error) => return Ok(Err(error)),
        };
        if again.is_empty() {
            return Ok(Ok(0));
        }
        let from: Vec<_> =
            sealed_under(&rows).filter(|name| *name != kek.name()).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        let detail = json!({ "rows": again.len(), "from": from, "to": kek.name(), "by": by });
        for (kid, sealed) in &again {
            keys::reseal(tx, kid, kek.name(), sealed)?;
        }
        audit::insert(tx, &Record::ok(Event::KeysRewrapped, now).detail(detail))?;
        // Nodes load the keys again: whoever lacks the new key says so now, and not at its next start.
        announce(tx, "rewrap", now)?;
        Ok(Ok(again.len()))
    })?
}
