//! Durations as people write them: `30s`, `15m`, `90d`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// Reads a string such as `15m`; zero and bare numbers are refused.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(de::Error::custom)
}

/// The same for a key that may be absent.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse(&text).map_err(de::Error::custom)).transpose()
}

/// Writes it as people do, so that it reads back.
pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*value))
}

/// The duration that `text` names, or the reason why it names none.
pub fn parse(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("the duration is zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(reason) => Err(format!("{reason}; write a duration such as 30s, 15m or 90d")),
    }
}
