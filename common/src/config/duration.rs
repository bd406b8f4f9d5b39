//! Durations as people write them: `30s`, `5m`, `1h 30m`. For `#[serde(with = "…")]`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// Writes `30s`.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads `30s`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Reads `30s`; the error says what would do.
pub fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is no duration such as \"30s\" or \"5m\": {error}"))
}

/// Several of them, as a list.
pub mod list {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes `[1s, 2m]`.
    pub fn serialize<S: Serializer>(durations: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
        let texts = durations
            .iter()
            .map(|&duration| humantime::format_duration(duration));
        serializer.collect_seq(texts.map(|text| text.to_string()))
    }

    /// Reads `[1s, 2m]`. The empty text of a variable is an empty list.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        if texts.len() == 1 && texts.iter().all(String::is_empty) {
            return Ok(Vec::new());
        }
        let durations = texts.iter().map(|text| super::parse(text));
        durations.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}
