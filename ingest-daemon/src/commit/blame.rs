//! Who is to blame when PostgreSQL does not store: decided purely, from what it said.

/// What an error says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fault<'a> {
    /// The SQLSTATE; none when the server did not get to say anything.
    pub(super) code: Option<&'a str>,
    /// The constraint that was violated.
    pub(super) constraint: Option<&'a str>,
    /// The function in PostgreSQL that said so. Messages are translated, this is not.
    pub(super) routine: Option<&'a str>,
}

/// What is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// PostgreSQL or the way to it: nothing can be stored, everything is held.
    Everything,
    /// One tenant's table: that tenant is held, others go on.
    Tenant,
    /// One row, which counts as an attempt when it is refused alone.
    Row,
}

/// What an error is to be blamed on. Where it is in doubt, nobody's messages are.
pub(super) fn blame(fault: Fault<'_>) -> Blame {
    let Some(code) = fault.code else {
        return Blame::Everything;
    };
    // "no partition of relation found for row" is a check violation like any other, but without a constraint: the
    // tenant is being created or deleted.
    let no_partition = code == "23514"
        && fault.constraint.is_none()
        && matches!(
            fault.routine,
            Some("ExecFindPartition" | "ExecPartitionCheckEmitError")
        );
    match code.get(..2).unwrap_or_default() {
        _ if no_partition => Blame::Tenant,
        // No connection, bad transaction state, not allowed in, no such database, rolled back (deadlock), out of
        // connections or disk, stopping or starting or cancelled, disk errors, configuration, bugs.
        "08" | "25" | "28" | "3D" | "40" | "53" | "57" | "58" | "F0" | "XX" => Blame::Everything,
        // Bad data, a violated constraint, over a limit of PostgreSQL, raised by a trigger, a view's check.
        "21" | "22" | "23" | "38" | "39" | "44" | "54" | "P0" => Blame::Row,
        // Locked (55), undefined or not allowed (42), and whatever else.
        _ => Blame::Tenant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str) -> Blame {
        blame(Fault {
            code: Some(code),
            ..Fault::default()
        })
    }

    #[test]
    fn an_outage_holds_everything() {
        assert_eq!(blame(Fault::default()), Blame::Everything);
        for code in [
            "08006", "57P01", "57P03", "57014", "53300", "53100", "53200", "40P01", "25006", "XX001", "58030",
        ] {
            assert_eq!(of(code), Blame::Everything, "{code}");
        }
    }

    #[test]
    fn a_table_that_cannot_be_written_holds_its_tenant() {
        for code in ["55P03", "42P01", "42501", "55006", "99999", ""] {
            assert_eq!(of(code), Blame::Tenant, "{code}");
        }
    }

    #[test]
    fn a_row_is_to_blame_for_what_it_holds() {
        for code in ["23505", "23502", "22P02", "22003", "P0001", "54000", "23514"] {
            assert_eq!(of(code), Blame::Row, "{code}");
        }
    }

    #[test]
    fn a_missing_partition_is_no_violated_constraint() {
        let fault = Fault {
            code: Some("23514"),
            constraint: None,
            routine: Some("ExecFindPartition"),
        };
        assert_eq!(blame(fault), Blame::Tenant);
        let checked = Fault {
            constraint: Some("positive"),
            ..fault
        };
        assert_eq!(blame(checked), Blame::Row);
    }

    proptest::proptest! {
        #[test]
        fn any_code_is_blamed_on_something(code in ".{0,6}") {
            of(&code);
        }
    }
}
