//! What a tenant's retention is, and which values will do.

use std::time::Duration;

use crate::error::Error;

/// The longest time to keep messages for, in seconds: 31 years. What is to be kept longer is to be kept for ever.
const AGE_SECONDS_MAX: i32 = 1_000_000_000;
/// The most messages to keep.
const MESSAGES_MAX: i32 = 1_000_000_000;

/// What is kept of a tenant's messages. What is `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Retention {
    /// Those that are no older.
    pub(crate) max_age_seconds: Option<i32>,
    /// So many of the newest.
    pub(crate) max_messages: Option<i32>,
}

impl Retention {
    /// Checks what a caller sent.
    pub(super) fn check(self) -> Result<Self, Error> {
        check("max_age_seconds", self.max_age_seconds, AGE_SECONDS_MAX)?;
        check("max_messages", self.max_messages, MESSAGES_MAX)?;
        Ok(self)
    }

    pub(super) fn max_age(&self) -> Option<Duration> {
        let seconds = self.max_age_seconds?;
        Some(Duration::from_secs(seconds.unsigned_abs().into()))
    }
}

fn check(field: &str, value: Option<i32>, max: i32) -> Result<(), Error> {
    match value {
        Some(value) if !(1..=max).contains(&value) => Err(Error::invalid(
            field,
            format!("must be between 1 and {max}, or left out to keep messages for ever, got {value}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(max_age_seconds: Option<i32>, max_messages: Option<i32>) -> Retention {
        Retention {
            max_age_seconds,
            max_messages,
        }
    }

    #[test]
    fn a_bound_keeps_something_or_is_left_out() {
        for good in [
            retention(None, None),
            retention(Some(1), Some(1)),
            retention(Some(AGE_SECONDS_MAX), Some(MESSAGES_MAX)),
        ] {
            assert_eq!(good.check().unwrap(), good);
        }
        let says = |retention: Retention| retention.check().unwrap_err().to_string();
        assert_eq!(
            says(retention(Some(0), None)),
            "max_age_seconds must be between 1 and 1000000000, or left out to keep messages for ever, got 0"
        );
        assert_eq!(
            says(retention(Some(1), Some(-1))),
            "max_messages must be between 1 and 1000000000, or left out to keep messages for ever, got -1"
        );
        // Some thousand years, in the smallest that is too much.
        assert!(says(retention(Some(AGE_SECONDS_MAX + 1), None)).ends_with("got 1000000001"));
    }
}
