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

/// What is to blame, as far as an error can say. A trigger can raise any code, so nothing here is proof: whoever fails
/// alone while others are stored is to blame, whatever the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The session, which is to be replaced: it ended, or is not what we take it for.
    Session,
    /// PostgreSQL, its disk or its memory.
    Everything,
    /// It took longer than it may.
    Slow,
    /// Somebody has locked what it needs.
    Locked,
    /// One tenant's table.
    Tenant,
    /// One row, which counts as an attempt when it is refused alone.
    Row,
}

/// What an error is to be blamed on. Where it is in doubt, nobody's messages are.
pub(super) fn blame(fault: Fault<'_>) -> Blame {
    let Some(code) = fault.code else {
        return Blame::Session;
    };
    match (code, fault.routine) {
        ("57014", Some("ProcessInterrupts")) => Blame::Slow,
        ("57014", _) => Blame::Everything,
        ("55P03", _) => Blame::Locked,
        // "no partition of relation found for row" is a check violation like any other, but without a constraint: the
        // tenant is being created or deleted.
        ("23514", Some("ExecFindPartition" | "ExecPartitionCheckEmitError"))
            if fault.constraint.is_none() =>
        {
            Blame::Tenant
        }
        // No transaction ids are left until somebody vacuums. Other limits are a row's: an index entry that is too
        // large, too deep a nesting.
        ("54000", Some("GetNewTransactionId" | "GetNewMultiXactId")) => Blame::Everything,
        // "cached plan must not change result type".
        ("0A000", Some("RevalidateCachedQuery")) => Blame::Session,
        // A statement that was prepared is there no more, or already: a pooler, or `deallocate all`.
        ("42P05", _) => Blame::Session,
        _ => class(code.get(..2).unwrap_or_default()),
    }
}

fn class(class: &str) -> Blame {
    match class {
        // Connection and protocol; a transaction in a state that is none of ours, and one that may only read, which a
        // session is told when it begins; prepared statements; shut down, crashed, the database dropped.
        "08" | "25" | "26" | "57" => Blame::Session,
        // Not allowed in, no such database, rolled back (deadlock), out of disk, memory or connections, not possible
        // in this state, input and output, snapshot too old, configuration, bugs and broken pages.
        "28" | "3D" | "40" | "53" | "58" | "72" | "F0" | "XX" => Blame::Everything,
        // Not in this state, undefined or not allowed, and what a broken trigger does: statements that it may not use,
        // its protocol, cursors, savepoints, foreign tables.
        "0A" | "0B" | "0F" | "0L" | "0P" | "0Z" | "24" | "27" | "2B" | "2D" | "2F" | "34" | "39" | "3B"
        | "3F" | "42" | "55" | "HV" => Blame::Tenant,
        // No code at all.
        class if class.len() < 2 => Blame::Tenant,
        // Bad data (22), a violated constraint (23, 27, 44), over a limit of PostgreSQL (54), raised by a trigger (09,
        // 20, 21, 38, P0), also with a code of its own: what it says of a row is said on purpose.
        _ => Blame::Row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_by(code: &str, routine: &str) -> Blame {
        blame(Fault {
            code: Some(code),
            routine: Some(routine),
            ..Fault::default()
        })
    }

    #[test]
    fn every_class_is_blamed_on_something() {
        for (blamed, codes) in [
            (
                Blame::Session,
                "08000 08003 08006 08P01 25000 25006 25P02 25P03 26000 42P05 57P01 57P02 57P03 57P04 57P05",
            ),
            (
                Blame::Everything,
                "28000 3D000 40001 40P01 53000 53100 53200 53300 53400 57014 58000 58030 58P01 72000 F0000 XX000 \
                 XX001 XX002",
            ),
            (Blame::Locked, "55P03"),
            (
                Blame::Tenant,
                "0A000 0B000 0F000 0L000 0P000 0Z000 24000 27000 2B000 2D000 2F005 34000 39000 39P01 3B001 3F000 \
                 42501 42P01 42703 42883 42P02 55000 55006 HV000",
            ),
            (
                Blame::Row,
                "09000 20000 21000 22001 22003 22P02 22P05 23502 23503 23505 23514 23P01 38000 44000 54000 54001 \
                 P0000 P0001 P0002 P0004 U0001 99999",
            ),
        ] {
            for code in codes.split_whitespace() {
                assert_eq!(said_by(code, "exec_stmt_raise"), blamed, "{code}");
            }
        }
    }

    #[test]
    fn who_says_so_tells_apart_what_has_one_code() {
        for (code, routine, blamed) in [
            ("57014", "ProcessInterrupts", Blame::Slow),
            ("54000", "GetNewTransactionId", Blame::Everything),
            ("54000", "GetNewMultiXactId", Blame::Everything),
            ("54000", "index_form_tuple", Blame::Row),
            ("54000", "_bt_check_third_page", Blame::Row),
            ("0A000", "RevalidateCachedQuery", Blame::Session),
        ] {
            assert_eq!(said_by(code, routine), blamed, "{code} {routine}");
        }
    }

    #[test]
    fn a_server_that_said_nothing_or_no_code_blames_no_row() {
        assert_eq!(blame(Fault::default()), Blame::Session);
        assert_eq!(said_by("", ""), Blame::Tenant);
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
            said_by(&code, "");
        }
    }
}
