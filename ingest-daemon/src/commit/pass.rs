//! How a commit that fails is taken apart. Pure.
//!
//! A pass begins with the whole commit as one piece. A piece that fails for a tenant's or a row's sake is halved, first
//! between tenants, then between rows, until what is to blame is alone; everything else is stored in the same pass.

use std::ops::Range;

use super::blame::Blame;

/// Pieces tried in one pass at most. Finding one bad row among 4,000 takes 25; many bad ones take several passes, so
/// that the other lanes get their turn in between.
const TRIES_MAX: usize = 128;

/// Rows of some portions of a commit: each portion's index and which of its rows. Never empty.
pub(super) type Piece = Vec<(usize, Range<usize>)>;

/// What became of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is to be tried again.
    #[default]
    Back,
    /// It is stored.
    Stored,
    /// It was refused, alone.
    Refused(String),
}

/// What became of a portion, beside its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fates {
    /// By row.
    pub(super) rows: Vec<Fate>,
    /// How many of the stored ones had been stored before.
    pub(super) duplicates: usize,
    /// Its counter was locked.
    pub(super) busy: bool,
    /// Its table could not be written, and why.
    pub(super) unwritable: Option<String>,
}

/// What came of trying a piece.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Committed: how many rows of each portion of the piece are new; none, if its counter was locked.
    Committed(Vec<Option<usize>>),
    /// Nothing of it is stored.
    Failed(Blame, String),
}

/// A pass under way.
#[derive(Debug)]
pub(super) struct Pass {
    fates: Vec<Fates>,
    work: Vec<Piece>,
    tries_left: usize,
    outage: Option<String>,
}

impl Pass {
    /// A pass over portions of these sizes.
    pub(super) fn new(sizes: &[usize]) -> Self {
        let whole: Piece = (0..)
            .zip(sizes)
            .map(|(portion, &size)| (portion, 0..size))
            .collect();
        Self {
            fates: sizes
                .iter()
                .map(|&size| Fates {
                    rows: vec![Fate::default(); size],
                    ..Fates::default()
                })
                .collect(),
            work: Vec::from_iter((!whole.is_empty()).then_some(whole)),
            tries_left: TRIES_MAX,
            outage: None,
        }
    }

    /// The piece to try next; its answer is due before the next call.
    pub(super) fn next(&mut self) -> Option<Piece> {
        while let Some(mut piece) = self.work.pop() {
            // What is known to be held is not tried again in this pass.
            piece.retain(|(portion, _)| self.fates[*portion].unwritable.is_none());
            if piece.is_empty() {
                continue;
            }
            self.tries_left = self.tries_left.checked_sub(1)?;
            return Some(piece);
        }
        None
    }

    /// Whether anything has failed so far.
    pub(super) fn in_trouble(&self) -> bool {
        self.tries_left < TRIES_MAX
    }

    /// What came of `piece`.
    pub(super) fn answer(&mut self, piece: Piece, answer: Answer) {
        match answer {
            Answer::Committed(new) => {
                for ((portion, rows), new) in piece.into_iter().zip(new) {
                    let fates = &mut self.fates[portion];
                    match new {
                        Some(new) => {
                            fates.duplicates += rows.len().saturating_sub(new);
                            fates.rows[rows].fill(Fate::Stored);
                        }
                        None => fates.busy = true,
                    }
                }
            }
            Answer::Failed(Blame::Everything, detail) => {
                self.work.clear();
                self.outage = Some(detail);
            }
            Answer::Failed(blame, detail) => match (piece.as_slice(), blame) {
                ([(portion, _)], Blame::Tenant) => self.fates[*portion].unwritable = Some(detail),
                ([(portion, rows)], _) if rows.len() == 1 => {
                    self.fates[*portion].rows[rows.start] = Fate::Refused(detail);
                }
                _ => {
                    let (first, second) = halves(piece);
                    self.work.push(second);
                    self.work.push(first);
                }
            },
        }
    }

    /// What became of every portion, and why the pass broke off if PostgreSQL is to blame.
    pub(super) fn finish(self) -> (Vec<Fates>, Option<String>) {
        (self.fates, self.outage)
    }
}

/// Two parts of a piece that has more than one row: its tenants, or else its rows.
fn halves(mut piece: Piece) -> (Piece, Piece) {
    match piece.as_slice() {
        [(portion, rows)] => {
            let middle = rows.start + rows.len() / 2;
            (
                vec![(*portion, rows.start..middle)],
                vec![(*portion, middle..rows.end)],
            )
        }
        _ => {
            let second = piece.split_off(piece.len() / 2);
            (piece, second)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A PostgreSQL in which some rows are refused and some tenants cannot be written.
    fn run(sizes: &[usize], bad: impl Fn(usize, usize) -> bool, unwritable: &[usize]) -> (Vec<Fates>, usize) {
        let mut pass = Pass::new(sizes);
        let mut tries = 0;
        while let Some(piece) = pass.next() {
            tries += 1;
            let held = piece.iter().any(|(portion, _)| unwritable.contains(portion));
            let refused = piece
                .iter()
                .any(|(portion, rows)| rows.clone().any(|row| bad(*portion, row)));
            let answer = match (held, refused) {
                (true, _) => Answer::Failed(Blame::Tenant, "no partition".into()),
                (false, true) => Answer::Failed(Blame::Row, "check".into()),
                (false, false) => Answer::Committed(piece.iter().map(|(_, rows)| Some(rows.len())).collect()),
            };
            pass.answer(piece, answer);
        }
        let (fates, outage) = pass.finish();
        assert_eq!(outage, None);
        (fates, tries)
    }

    #[test]
    fn a_good_commit_is_one_piece() {
        let (fates, tries) = run(&[3, 2], |_, _| false, &[]);
        assert_eq!(tries, 1);
        assert!(
            fates
                .iter()
                .all(|fates| fates.rows.iter().all(|fate| *fate == Fate::Stored))
        );
    }

    #[test]
    fn one_bad_row_among_many_is_found_and_its_neighbours_are_stored() {
        let (fates, tries) = run(&[250; 16], |portion, row| (portion, row) == (7, 99), &[]);
        assert!(tries <= 26, "{tries}");
        let stored = fates
            .iter()
            .flat_map(|fates| &fates.rows)
            .filter(|fate| **fate == Fate::Stored);
        assert_eq!(stored.count(), 16 * 250 - 1);
        assert_eq!(fates[7].rows[99], Fate::Refused("check".into()));
    }

    #[test]
    fn an_outage_ends_the_pass_and_keeps_what_was_stored() {
        let mut pass = Pass::new(&[1, 1]);
        let piece = pass.next().unwrap();
        pass.answer(piece, Answer::Failed(Blame::Tenant, String::new()));
        let piece = pass.next().unwrap();
        pass.answer(piece, Answer::Committed(vec![Some(0)]));
        let piece = pass.next().unwrap();
        pass.answer(piece, Answer::Failed(Blame::Everything, "gone".into()));
        assert_eq!(pass.next(), None);
        let (fates, outage) = pass.finish();
        assert_eq!(outage.as_deref(), Some("gone"));
        assert_eq!((fates[0].rows[0].clone(), fates[0].duplicates), (Fate::Stored, 1));
        assert_eq!(fates[1].rows[0], Fate::Back);
    }

    #[test]
    fn a_locked_counter_leaves_its_tenant_for_later() {
        let mut pass = Pass::new(&[2, 1]);
        let piece = pass.next().unwrap();
        pass.answer(piece, Answer::Committed(vec![None, Some(1)]));
        let (fates, _) = pass.finish();
        assert!(fates[0].busy && fates[0].rows == [Fate::Back, Fate::Back]);
        assert!(!fates[1].busy);
    }

    proptest! {
        #[test]
        fn only_what_is_to_blame_is_left_out(
            sizes in prop::collection::vec(1_usize..20, 1..8),
            bad in prop::collection::hash_set((0_usize..8, 0_usize..20), 0..4),
            unwritable in prop::collection::vec(0_usize..8, 0..2),
        ) {
            let (fates, tries) = run(&sizes, |portion, row| bad.contains(&(portion, row)), &unwritable);
            prop_assert!(tries <= TRIES_MAX);
            for (portion, fates) in fates.iter().enumerate() {
                prop_assert_eq!(fates.unwritable.is_some(), unwritable.contains(&portion));
                for (row, fate) in fates.rows.iter().enumerate() {
                    match (unwritable.contains(&portion), bad.contains(&(portion, row))) {
                        (true, _) => prop_assert_eq!(fate, &Fate::Back),
                        (false, true) => prop_assert!(matches!(fate, Fate::Refused(_))),
                        (false, false) => prop_assert_eq!(fate, &Fate::Stored),
                    }
                }
            }
        }

        #[test]
        fn however_bad_it_is_a_pass_ends_and_gets_on(size in 1_usize..3000) {
            let (fates, tries) = run(&[size], |_, _| true, &[]);
            prop_assert!(tries <= TRIES_MAX);
            prop_assert!(matches!(fates[0].rows[0], Fate::Refused(_)));
        }
    }
}
