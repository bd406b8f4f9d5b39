//! What PostgreSQL, or the way to it, said when nothing was stored.

use sqlx::postgres::PgDatabaseError;

use super::blame::{Blame, Fault, blame};

/// The most of an error's text that is kept: it goes into a header, a log line and a row.
const DETAIL_BYTES_MAX: usize = 1_000;

/// Why nothing was stored.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no connection to be had.
    Unreachable(String),
    /// What is to blame, and what happened.
    Refused(Blame, String),
}

impl Failure {
    /// What happened, for a person.
    pub(super) fn detail(self) -> String {
        match self {
            Self::Unreachable(detail) | Self::Refused(_, detail) => detail,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let Some(said) = said(&error) else {
            return Self::Refused(Blame::Session, brief(&error.to_string()));
        };
        let blame = blame(Fault {
            code: Some(said.code()),
            constraint: said.constraint(),
            routine: said.routine(),
        });
        let detail = format!("{} (SQLSTATE {})", brief(said.message()), brief(said.code()));
        Self::Refused(blame, detail)
    }
}

/// What the server said, if it said something.
pub(super) fn said(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// The beginning of `text`, on one line.
pub(super) fn brief(text: &str) -> String {
    let end = text.floor_char_boundary(DETAIL_BYTES_MAX);
    let mut brief = text[..end].replace(char::is_control, " ");
    if end < text.len() {
        brief.push('…');
    }
    brief
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_one_line_of_a_kilobyte_at_most() {
        assert_eq!(brief("no\nway"), "no way");
        let long = brief(&"ä".repeat(100_000));
        assert!(long.len() <= DETAIL_BYTES_MAX + '…'.len_utf8() && long.ends_with("ä…"));
        let odd = brief(&format!("x{}", "ä".repeat(1_000)));
        assert_eq!(odd.len(), 999 + '…'.len_utf8());
    }
}
