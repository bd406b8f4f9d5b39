//! What a tenant's limits are, and which values will do.

use std::fmt::Display;

use crate::error::Error;

/// The most messages a second that a limit may allow: ten times what one process does.
const PER_SECOND_MAX: i32 = 1_000_000;
/// The most messages and bytes of a backlog that a limit may allow.
const BACKLOG_MESSAGES_MAX: i32 = 1_000_000_000;
const BACKLOG_BYTES_MAX: i64 = 999_999_999_999;

/// What a tenant may use. What is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Limits {
    /// Messages a second that the API takes for it.
    pub(crate) publish_per_second: Option<i32>,
    /// Messages a second that are stored of it.
    pub(crate) store_per_second: Option<i32>,
    /// Messages that may wait in its queue.
    pub(crate) backlog_messages: Option<i32>,
    /// Bytes of their bodies.
    pub(crate) backlog_bytes: Option<i64>,
}

impl Limits {
    /// Whether it is limited what may wait.
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog_messages.is_some() || self.backlog_bytes.is_some()
    }

    /// Checks what a caller sent.
    pub(super) fn check(self) -> Result<Self, Error> {
        check("publish_per_second", self.publish_per_second, PER_SECOND_MAX)?;
        check("store_per_second", self.store_per_second, PER_SECOND_MAX)?;
        check("backlog_messages", self.backlog_messages, BACKLOG_MESSAGES_MAX)?;
        check("backlog_bytes", self.backlog_bytes, BACKLOG_BYTES_MAX)?;
        Ok(self)
    }
}

fn check<N: Copy + Display + Ord + From<u8>>(field: &str, value: Option<N>, max: N) -> Result<(), Error> {
    match value {
        Some(value) if !(N::from(1)..=max).contains(&value) => Err(Error::invalid(
            field,
            format!("must be between 1 and {max}, or left out for no limit, got {value}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_something_or_is_left_out() {
        assert!(Limits::default().check().is_ok());
        let most = Limits {
            publish_per_second: Some(PER_SECOND_MAX),
            store_per_second: Some(1),
            backlog_messages: Some(BACKLOG_MESSAGES_MAX),
            backlog_bytes: Some(BACKLOG_BYTES_MAX),
        };
        assert!(most.check().is_ok());
        let says = |limits: Limits| limits.check().unwrap_err().to_string();
        assert_eq!(
            says(Limits {
                store_per_second: Some(0),
                ..most
            }),
            "store_per_second must be between 1 and 1000000, or left out for no limit, got 0"
        );
        assert_eq!(
            says(Limits {
                backlog_bytes: Some(BACKLOG_BYTES_MAX + 1),
                ..most
            }),
            "backlog_bytes must be between 1 and 999999999999, or left out for no limit, got 1000000000000"
        );
    }
}
