//! Why a message is a dead letter, in a word: what daemons write and control planes read.

use crate::payload;

/// Why a message failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its body is no JSON.
    NotJson,
    /// Its body is JSON that PostgreSQL cannot hold or give back.
    NotStorable,
    /// Its body is over the size limit.
    TooLarge,
    /// Which message it is cannot be read.
    Unreadable,
    /// PostgreSQL refused its row.
    Refused,
    /// Nothing says why: somebody else has put it there.
    Unknown,
}

impl Reason {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::NotJson,
        Self::NotStorable,
        Self::TooLarge,
        Self::Unreadable,
        Self::Refused,
        Self::Unknown,
    ];

    /// The reason as the `x-jalur-reason` header has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotStorable => "not_storable",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// The reason of that name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

impl From<&payload::Error> for Reason {
    fn from(error: &payload::Error) -> Self {
        match error {
            payload::Error::Empty | payload::Error::NotUtf8 { .. } | payload::Error::NotJson(_) => {
                Self::NotJson
            }
            payload::Error::TooLarge { .. } => Self::TooLarge,
            _ => Self::NotStorable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_known_by_its_name_and_nothing_else_is_one() {
        for reason in Reason::ALL {
            assert_eq!(Reason::named(reason.as_str()), Some(reason));
        }
        for word in ["", "Refused", "refused "] {
            assert_eq!(Reason::named(word), None, "{word:?}");
        }
    }
}
