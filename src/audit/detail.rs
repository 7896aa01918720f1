//! The detail of a record, kept to a length: strangers name groups and claims too, and the trail is kept for long.

use serde_json::{Map, Value};

use super::{LONGEST, LONGEST_DETAIL, cut};

/// Longest detail with members, in bytes of text and a few for each value.
const LARGEST: usize = 8 * 1024;
/// What a value counts beside its text.
const EACH: usize = 8;
/// Deepest that a value is looked into.
const DEEPEST: usize = 16;

/// `detail` as it is where it is short; else its texts are cut and its lists end early, and `cut` says so.
pub(super) fn bounded(detail: Value) -> Value {
    match detail {
        Value::String(text) => Value::String(cut(text, LONGEST_DETAIL)),
        detail if weight(&detail, DEEPEST).is_some_and(|weight| weight <= LARGEST) => detail,
        detail => {
            let mut left = LARGEST;
            match fit(detail, &mut left, DEEPEST) {
                Value::Object(mut members) => {
                    members.insert("cut".to_owned(), Value::Bool(true));
                    Value::Object(members)
                }
                other => other,
            }
        }
    }
}

/// None for what is too deep to be looked at.
fn weight(value: &Value, depth: usize) -> Option<usize> {
    let inner = depth.checked_sub(1)?;
    Some(
        EACH + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().try_fold(0, |sum, item| Some(sum + weight(item, inner)?))?,
            Value::Object(members) => members.iter().try_fold(0, |sum, (name, item)| Some(sum + name.len() + weight(item, inner)?))?,
            _ => 0,
        },
    )
}

fn fit(value: Value, left: &mut usize, depth: usize) -> Value {
    *left = left.saturating_sub(EACH);
    let Some(inner) = depth.checked_sub(1) else { return Value::Null };
    match value {
        Value::String(text) => {
            let text = cut(text, LONGEST.min(*left));
            *left -= text.len();
            Value::String(text)
        }
        Value::Array(items) => {
            let mut kept = Vec::new();
            for item in items {
                if *left < EACH {
                    break;
                }
                kept.push(fit(item, left, inner));
            }
            Value::Array(kept)
        }
        Value::Object(members) => {
            let mut kept = Map::new();
            for (name, item) in members {
                if *left < EACH + name.len() {
                    continue;
                }
                *left -= name.len();
                kept.insert(name, fit(item, left, inner));
            }
            Value::Object(kept)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_short_stays_and_what_is_long_is_cut_and_says_so() {
        let short = json!({ "groups": ["a", "b"], "n": 3 });
        assert_eq!(bounded(short.clone()), short);
        let groups: Vec<String> = (0..2_000).map(|n| format!("cn=group-{n},{}", "ou=é,".repeat(40))).collect();
        let long = bounded(json!({ "groups": groups, "rules": ["one"] }));
        assert!(long.to_string().len() < 2 * LARGEST && long["cut"] == true, "{}", long.to_string().len());
        let kept = long["groups"].as_array().unwrap();
        assert!(kept.len() > 20 && kept.iter().all(|group| group.as_str().unwrap().len() <= LONGEST));
    }

    #[test]
    fn depth_ends_too() {
        let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
        assert!(bounded(deep).to_string().len() < 100);
    }
}
