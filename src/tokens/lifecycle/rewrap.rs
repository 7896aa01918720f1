//! From one key-encryption key to another.

use serde_json::{Value, json};

use super::{announce, sealed_under};
use crate::audit::{Event, Record};
use crate::storage::{Connection, Storage, StorageError, audit, in_turn, keys, settings};
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
        rewrap_settings(tx, &kek)?;
        audit::insert(tx, &Record::ok(Event::KeysRewrapped, now).detail(detail))?;
        // Nodes load the keys again: whoever lacks the new key says so now, and not at its next start.
        announce(tx, "rewrap", now)?;
        Ok(Ok(again.len()))
    })?
}

/// Settings that hold something sealed: the key of the shield (`KEK:SEALED`), and what is remembered of secrets that are sent to
/// other hosts (JSON with `kek` and `secret`). One that neither key opens stays as it is: whoever reads it makes it anew.
fn rewrap_settings(tx: &mut Connection, kek: &Kek) -> Result<(), StorageError> {
    let again = |place: &str, name: &str, sealed: &str| kek.seal(place, kek.name(), &kek.open(place, name, sealed).ok()?).ok();
    for (name, value) in settings::all(tx)? {
        let place = format!("settings.value:{name}");
        let resealed = match (name.as_str(), serde_json::from_str::<Value>(&value)) {
            ("shield_key", _) => value
                .split_once(':')
                .and_then(|(under, sealed)| again(&place, under, sealed))
                .map(|sealed| format!("{}:{sealed}", kek.name())),
            (secret, Ok(Value::Object(mut known))) if secret.starts_with("secret:") => {
                let text = |member: &str| known.get(member).and_then(Value::as_str).map(str::to_owned);
                text("kek").zip(text("secret")).and_then(|(under, sealed)| again(secret, &under, &sealed)).map(|sealed| {
                    known.insert("kek".to_owned(), kek.name().into());
                    known.insert("secret".to_owned(), sealed.into());
                    Value::Object(known).to_string()
                })
            }
            _ => None,
        };
        if let Some(value) = resealed {
            settings::put(tx, &name, &value)?;
        }
    }
    Ok(())
}
