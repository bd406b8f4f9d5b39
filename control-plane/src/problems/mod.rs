//! What is wrong for single tenants: reported by daemons of their lanes, or found by the control planes themselves.
//!
//! A problem is a row for as long as it lasts. Whoever writes or removes one says so in a log line; everybody else
//! reads the rows: `runtime.problem` shows a tenant's oldest, `jalur_problems` counts tenants by kind.

mod store;

use time::OffsetDateTime;

pub(crate) use self::store::{begin, counts, end, forget, of, report};

/// The most characters of a detail: it is read by people, kept in a row and logged.
const DETAIL_CHARACTERS_MAX: usize = 500;

/// What of a tenant is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum Kind {
    /// One of its queues is missing, held by somebody else, or otherwise than Jalur makes it.
    Queue,
    /// Its partition is missing, locked, slow, or refuses every row.
    Table,
    /// What is delivered from its queue cannot be taken in beside others.
    Delivery,
    /// The broker does not take its letters.
    Letters,
}

impl Kind {
    /// All of them, so that a kind with nobody is counted too.
    pub(crate) const ALL: [Self; 4] = [Self::Queue, Self::Table, Self::Delivery, Self::Letters];

    /// Its word, as users see it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Table => "table",
            Self::Delivery => "delivery",
            Self::Letters => "letters",
        }
    }
}

/// What is wrong for a tenant.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    /// What happened and what to do.
    pub(crate) detail: String,
    pub(crate) since: OffsetDateTime,
}

impl Problem {
    /// A problem whose detail may come from anybody: it is cut to a bounded length.
    pub(crate) fn new(kind: Kind, detail: &str, since: OffsetDateTime) -> Self {
        Self {
            kind,
            detail: bounded(detail),
            since,
        }
    }
}

/// A detail as it is kept: some hundred characters of one line, and nothing that PostgreSQL cannot hold.
fn bounded(detail: &str) -> String {
    let mut characters = detail.chars();
    let mut kept: String = characters.by_ref().take(DETAIL_CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        kept.push('…');
    }
    kept.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_a_bounded_line_that_postgresql_can_hold() {
        assert_eq!(bounded("the queue is missing"), "the queue is missing");
        assert_eq!(bounded("a\0b\nc"), "a b c");
        assert_eq!(
            bounded(&"ä".repeat(200_000)).chars().count(),
            DETAIL_CHARACTERS_MAX + 1
        );
    }
}
