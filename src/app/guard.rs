//! The guard before another mapping: a start refuses one by which too many of the people who signed in lately would lose a role. The
//! mapping in force is kept in the database, so the first node that starts with another one decides for all.

use super::StartError;
use super::recent::{self, Kept, Standing, Sums};
use crate::audit::{Event, Record};
use crate::config::{Config, Problem, Share};
use crate::storage::{Connection, Storage, StorageError, audit, in_turn, settings};

/// Seconds back in which a sign-in counts as recent.
pub const RECENTLY: i64 = 30 * 86_400;
/// What is refused where the file says nothing, and from how many people on: of three people one is a third.
const DEFAULT_SHARE: Share = Share::percent(25);
const DEFAULT_FROM: usize = 10;

/// The setting that holds the mapping in force.
const IN_FORCE: &str = "mapping_in_force";

/// What to do about a mapping that takes roles from too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Refuse,
    /// An operator has looked and wants it.
    Accept,
}

/// A mapping that may come into force, once the rest of the start has gone well.
#[derive(Debug)]
pub struct Permitted {
    /// None where it is in force already.
    text: Option<String>,
    sums: Option<Sums>,
    loss: Loss,
}

impl Permitted {
    /// What will change for people who signed in lately; None where nothing will, or where that is not known.
    pub fn sums(&self) -> Option<&Sums> {
        self.sums.as_ref()
    }
}

/// The mapping that the last start put in force; None before the first. An inner error says why it is not understood.
pub fn in_force(c: &mut Connection) -> Result<Option<Result<Standing, String>>, StorageError> {
    Ok(settings::get(c, IN_FORCE)?.map(|text| understood(&text)))
}

fn understood(text: &str) -> Result<Standing, String> {
    serde_json::from_str::<Kept>(text).map_err(|reason| reason.to_string())?.standing()
}

/// Compares the configured mapping with the one in force. Writes nothing.
///
/// Errors: too many would lose a role, or may, since what they have cannot be told or the mapping in force is not understood, with the
/// place in the file and the mends; the database.
pub fn weigh(config: &Config, storage: &Storage, loss: Loss, now: i64) -> Result<Permitted, StartError> {
    let text = serde_json::to_string(&Kept::of(config)).map_err(|reason| StorageError::Invalid(reason.to_string()))?;
    let Some(before) = storage.read_blocking(|c| settings::get(c, IN_FORCE))? else {
        return Ok(Permitted { text: Some(text), sums: None, loss });
    };
    if before == text {
        return Ok(Permitted { text: None, sums: None, loss });
    }
    let before = match understood(&before) {
        Ok(before) => before,
        Err(reason) if loss == Loss::Accept => {
            tracing::warn!(reason, "the mapping in force is not understood: what this one changes is not known");
            return Ok(Permitted { text: Some(text), sums: None, loss });
        }
        Err(reason) => {
            let reason = format!(
                "the mapping in force, as the database holds it, is not understood ({reason}), so nobody can tell what this one would \
                 change; another version of this program has written it down: start that one, or, if this file is the mapping you want, \
                 put it in force with countersign serve --accept-mapping-loss"
            );
            return Err(config.locations.explain(vec![Problem::new("mapping", reason)]).into());
        }
    };
    let new = Standing::of(config)?;
    let recent = storage.read_blocking(|c| recent::people(c, now - RECENTLY, None, None))?;
    let weighed = recent::weigh(&before, &new, &recent.people);
    let sums = Sums::of(&weighed);
    // Where nothing changes for a source it does not matter that its people cannot be judged.
    let untold = || weighed.iter().filter_map(|(person, change)| change.as_ref().err().filter(|_| before.may_take(&new, &person.source)));
    let (unknown, known) = (untold().count(), sums.judged);
    let share = match config.mapping.max_loss {
        Some(share) => share,
        None if known + unknown >= DEFAULT_FROM => DEFAULT_SHARE,
        None => Share::percent(100),
    };
    let set = config.mapping.max_loss.is_some();
    let (path, by) = if set { ("mapping.max_loss", "mapping.max_loss is") } else { ("mapping", "the default of mapping.max_loss is") };
    let Sums { judged, lose, denied, .. } = sums;
    if loss == Loss::Refuse && share.is_exceeded(lose, judged) {
        let reason = format!(
            "by this mapping {lose} of {judged} people who signed in lately would lose a role ({} %), {denied} of them could not sign in \
             any more, and {by} {share}; see who and why with countersign explain --diff and this file, mend the mapping, or put it in \
             force as it is with countersign serve --accept-mapping-loss",
            sums.percent()
        );
        return Err(config.locations.explain(vec![Problem::new(path, reason)]).into());
    }
    // Whoever cannot be judged may lose everything.
    if loss == Loss::Refuse && share.is_exceeded(lose + unknown, known + unknown) {
        let why = untold().next().map_or("", String::as_str);
        let reason = format!(
            "this mapping changes what {unknown} of {} people who signed in lately may do, and of them it cannot be told who would lose a \
             role ({why}); {lose} others would, and {by} {share}; see countersign explain --diff and this file, try it where it does no \
             harm, and put it in force with countersign serve --accept-mapping-loss",
            known + unknown
        );
        return Err(config.locations.explain(vec![Problem::new(path, reason)]).into());
    }
    Ok(Permitted { text: Some(text), sums: Some(sums), loss })
}

/// Puts a mapping in force that [`weigh`] has let pass.
pub fn put_in_force(permitted: Permitted, storage: &Storage, now: i64) -> Result<(), StorageError> {
    let Permitted { text: Some(text), sums, loss } = permitted else { return Ok(()) };
    if let Some(Sums { judged, lose, .. }) = sums {
        tracing::info!(judged, lose, "another mapping is in force");
    }
    storage.write_blocking(move |tx| {
        in_turn(tx)?;
        settings::put(tx, IN_FORCE, &text)?;
        // The very first mapping changes nothing.
        let Some(sums) = sums else { return Ok(()) };
        let detail = serde_json::json!({ "recent": sums, "accepted": loss == Loss::Accept });
        audit::insert(tx, &Record::ok(Event::MappingChanged, now).detail(detail))
    })
}
