//! Why a step failed, by what PostgreSQL says.

/// Whose affair a failed step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// PostgreSQL is away, or not well.
    Everybody,
    /// The table is not there.
    NoTable,
    /// The table's.
    Tenant {
        /// It was too much, perhaps.
        is_late: bool,
    },
}

impl Failure {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        let Some(error) = error.as_database_error() else {
            return Self::Everybody;
        };
        match error.code().as_deref() {
            Some("42P01") => Self::NoTable,
            Some("57014") => Self::Tenant { is_late: true },
            // Read-only; a connection that is lost, resources, operators, files.
            Some("25006") | None => Self::Everybody,
            Some(code)
                if ["08", "53", "57", "58"]
                    .iter()
                    .any(|class| code.starts_with(class)) =>
            {
                Self::Everybody
            }
            Some(_) => Self::Tenant { is_late: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_lost_is_nobodys_failure() {
        for error in [sqlx::Error::PoolTimedOut, sqlx::Error::WorkerCrashed] {
            assert_eq!(Failure::of(&error), Failure::Everybody);
        }
    }
}
