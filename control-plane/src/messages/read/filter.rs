//! Which messages a page is to have, and from which end. Pure.

use common::payload;
use time::OffsetDateTime;

use crate::error::Error;

/// The longest that `contains` may be.
const CONTAINS_BYTES_MAX: usize = 8 << 10;

/// From which end messages are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// Positions grow.
    #[default]
    Oldest,
    /// Positions fall.
    Newest,
}

/// What a message has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Stored then or later.
    pub(super) after: Option<OffsetDateTime>,
    /// Stored earlier than that.
    pub(super) before: Option<OffsetDateTime>,
    /// The JSON that its payload contains.
    pub(super) contains: Option<String>,
}

impl Filter {
    /// Checks what a caller asks for. An empty `contains` asks for nothing.
    pub(crate) fn new(
        after: Option<OffsetDateTime>,
        before: Option<OffsetDateTime>,
        contains: String,
    ) -> Result<Self, Error> {
        if let (Some(after), Some(before)) = (after, before)
            && before <= after
        {
            let message =
                "must be later than created_after: messages are those stored from then on and before this";
            return Err(Error::invalid("created_before", message));
        }
        let contains = Some(contains).filter(|contains| !contains.is_empty());
        if let Some(contains) = &contains {
            payload::check(contains.as_bytes(), CONTAINS_BYTES_MAX).map_err(|error| {
                let told = error.to_string();
                let told = told.strip_prefix("the body ").unwrap_or(&told);
                Error::invalid(
                    "contains",
                    format!("{told}; it must be a JSON value, such as {{\"customer\": 7}}"),
                )
            })?;
        }
        Ok(Self {
            after,
            before,
            contains,
        })
    }

    /// Whether every message will do.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    fn refused(filter: Result<Filter, Error>) -> String {
        filter.unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_asked_for_is_told_why() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        for before in [now, now - Duration::seconds(1)] {
            let told = refused(Filter::new(Some(now), Some(before), String::new()));
            assert!(
                told.starts_with("created_before must be later than created_after"),
                "{told}"
            );
        }
        for (contains, wanted) in [
            ("{", "contains is not JSON"),
            ("customer", "contains is not JSON"),
            ("{\"a\":\"\\u0000\"}", "contains has"),
            (&"[1,".repeat(1_000), "contains is not JSON"),
            (
                &format!("{}{}", "[".repeat(2_000), "]".repeat(2_000)),
                "contains is nested more than",
            ),
            (&format!("\"{}\"", "x".repeat(9_000)), "contains is 9002 bytes"),
        ] {
            let told = refused(Filter::new(None, None, contains.to_owned()));
            assert!(
                told.starts_with(wanted) && told.ends_with("such as {\"customer\": 7}"),
                "{told}"
            );
        }
    }

    #[test]
    fn nothing_asked_for_is_every_message() {
        assert!(Filter::new(None, None, String::new()).unwrap().is_empty());
        for contains in ["null", "{}", " 7 "] {
            assert!(!Filter::new(None, None, contains.to_owned()).unwrap().is_empty());
        }
    }
}
