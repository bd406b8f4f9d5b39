//! Durations as people write them: `30s`, `5m`, `1h 30m`. For `#[serde(with = "…")]`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// Writes `30s`.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    const DAY: u64 = 24 * 3_600;
    // What is meant as days would be written as months of 30.44 days and a rest.
    match (duration.as_secs(), duration.subsec_nanos()) {
        (seconds, 0) if seconds >= DAY && seconds.is_multiple_of(DAY) => {
            serializer.collect_str(&format_args!("{}d", seconds / DAY))
        }
        _ => serializer.collect_str(&humantime::format_duration(*duration)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_the_same_and_days_stay_days() {
        for text in ["90d", "1d", "36525d", "1h 30m", "1day 1s", "250ms", "0s"] {
            let duration = parse(text).unwrap();
            let mut written = Vec::new();
            serialize(&duration, &mut serde_json::Serializer::new(&mut written)).unwrap();
            let written: String = serde_json::from_slice(&written).unwrap();
            assert_eq!(written, text);
            assert_eq!(parse(&written).unwrap(), duration);
        }
    }
}
