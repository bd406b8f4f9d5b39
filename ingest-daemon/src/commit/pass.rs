//! How a commit that fails is taken apart. Pure.
//!
//! A pass begins with the whole commit as one piece. When that fails PostgreSQL is asked whether it is well, and
//! `messages` as a whole with it, for if they are not, nobody is to blame; and neither is anybody if they are and it was
//! the session that was not. Otherwise the search begins. Among several tenants it is for tenants alone: a piece that
//! fails is split by tenant, and whoever fails alone is left out, to be tried in a commit of its own. There the search
//! is for rows, and halves what fails on a row's account until the row is alone.

use std::{ops::Range, time::Duration};

use super::blame::Blame;

/// Pieces tried in one pass at most. Finding one bad row among 4,000 takes 25; many bad ones take several passes.
const TRIES_MAX: usize = 128;
/// Into how many pieces tenants are split. What fails costs its patience, what is stored a few milliseconds: so few
/// levels are better than few pieces.
const PIECES: usize = 8;
/// Beyond that every tenant of a commit is a piece.
const DEPTH_MAX: u32 = 3;

/// Rows of some portions of a commit: each portion's index and which of its rows. Never empty.
pub(super) type Piece = Vec<(usize, Range<usize>)>;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Store this piece. Whether it is all of the commit that is not stored yet, with nothing known against it.
    Try(Piece, bool),
    /// Ask whether PostgreSQL is well.
    Probe,
}

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
    /// How it failed alone.
    pub(super) failure: Option<(Blame, String)>,
}

/// What came of trying a piece.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Committed: how many rows of each portion of the piece are new; none, if its counter was locked.
    Committed(Vec<Option<usize>>),
    /// Nothing of it is stored.
    Failed(Blame, String),
    /// There is no connection to be had.
    Unreachable(String),
}

/// Who says that PostgreSQL is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    /// The session that what failed was tried on.
    Same,
    /// Another one, where that was not.
    Another,
}

/// What a pass found.
#[derive(Debug)]
pub(super) struct Verdict {
    /// What became of every portion.
    pub(super) fates: Vec<Fates>,
    /// Why nothing can be stored, if that is so.
    pub(super) outage: Option<String>,
    /// Whether it took too long, and that was nobody's fault.
    pub(super) too_slow: bool,
    /// Whether everything was stored at the first try.
    pub(super) clean: bool,
    /// How deeply the next commit had better be split from the start: this one did not come to an end, or PostgreSQL
    /// went down over it.
    pub(super) depth: u32,
}

/// A pass under way.
#[derive(Debug)]
pub(super) struct Pass {
    fates: Vec<Fates>,
    /// A stack: what is found out about a piece comes before the next one. So every pass finds somebody, however many
    /// are to blame.
    work: Vec<Piece>,
    budget: Duration,
    depth: u32,
    tries: usize,
    /// What failed before PostgreSQL was asked.
    pending: Option<(Piece, Blame, String)>,
    probed: bool,
    committed: bool,
    failed: bool,
    slow: bool,
    lost: bool,
    unfinished: bool,
    outage: Option<String>,
}

impl Pass {
    /// A pass over portions of these sizes: the first `rows_max` rows of each, split `depth` times already. It begins
    /// no try after `budget`.
    pub(super) fn new(sizes: &[usize], rows_max: usize, depth: u32, budget: Duration) -> Self {
        let whole: Piece = (0..)
            .zip(sizes)
            .map(|(portion, &size)| (portion, 0..size.min(rows_max)))
            .collect();
        let mut work = Vec::from_iter((!whole.is_empty()).then_some(whole));
        for _ in 0..depth {
            work = work.into_iter().flat_map(by_tenant).collect();
        }
        work.reverse();
        Self {
            fates: sizes
                .iter()
                .map(|&size| Fates {
                    rows: vec![Fate::default(); size],
                    ..Fates::default()
                })
                .collect(),
            work,
            budget,
            depth,
            tries: 0,
            pending: None,
            probed: false,
            committed: false,
            failed: false,
            slow: false,
            lost: false,
            unfinished: false,
            outage: None,
        }
    }

    /// What to do next, so long after the beginning; its answer is due before the next call.
    pub(super) fn next(&mut self, elapsed: Duration) -> Option<Step> {
        if self.pending.is_some() {
            return Some(Step::Probe);
        }
        let piece = self.work.pop()?;
        if self.tries >= TRIES_MAX || (self.tries > 0 && elapsed > self.budget) {
            self.work.clear();
            self.unfinished = true;
            return None;
        }
        self.tries += 1;
        Some(Step::Try(piece, !self.failed && self.work.is_empty()))
    }

    /// What came of `piece`.
    pub(super) fn answer(&mut self, piece: Piece, answer: Answer) {
        match answer {
            Answer::Committed(new) => {
                self.committed = true;
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
            Answer::Unreachable(detail) => self.give_up(detail),
            Answer::Failed(blame, detail) => {
                self.failed = true;
                self.slow |= blame == Blame::Slow;
                self.lost |= blame == Blame::Session;
                if self.probed {
                    self.take_apart(piece, blame, detail);
                } else {
                    self.pending = Some((piece, blame, detail));
                }
            }
        }
    }

    /// Whether PostgreSQL is well, or else what it said.
    pub(super) fn probed(&mut self, well: Result<Witness, String>) {
        self.probed = true;
        let Some((piece, blame, detail)) = self.pending.take() else {
            return;
        };
        match well {
            Err(why) => {
                // Did PostgreSQL go down over this one? Tried apart it will show.
                if let [(portion, _)] = piece.as_slice()
                    && blame == Blame::Session
                    && (self.several() || self.depth > 0)
                {
                    self.fates[*portion].failure = Some((blame, detail));
                }
                self.give_up(why);
            }
            // Another session is well, and has taken that one's place. Nobody is asked twice.
            Ok(witness) if witness == Witness::Another || blame == Blame::Session => {
                self.slow = false;
                self.work.push(piece);
            }
            Ok(_) => self.take_apart(piece, blame, detail),
        }
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Verdict {
        let failures = || self.fates.iter().filter_map(|fates| fates.failure.as_ref());
        // Of several not one could be stored, and not one says that it is its own fault.
        let everything = self.several() && !self.committed && self.outage.is_none();
        if everything && failures().all(|(blame, _)| *blame == Blame::Everything) {
            self.outage = failures().next().map(|(_, detail)| detail.clone());
            for fates in &mut self.fates {
                fates.failure = None;
            }
        }
        let blamed = self.fates.iter().any(|fates| fates.failure.is_some());
        let depth = match (&self.outage, self.unfinished) {
            (Some(_), _) if self.lost && !blamed => (self.depth + 1).min(DEPTH_MAX),
            (Some(_), _) => self.depth,
            (None, true) => self.depth.max(1),
            (None, false) => 0,
        };
        Verdict {
            too_slow: self.slow && !blamed && (!self.unfinished || self.outage.is_some()),
            clean: !self.failed && self.outage.is_none(),
            depth,
            fates: self.fates,
            outage: self.outage,
        }
    }

    fn several(&self) -> bool {
        self.fates.len() > 1
    }

    fn give_up(&mut self, why: String) {
        self.work.clear();
        self.outage = Some(why);
    }

    fn take_apart(&mut self, piece: Piece, blame: Blame, detail: String) {
        match piece.as_slice() {
            [(portion, rows)] if blame == Blame::Row && !self.several() => match rows.len() {
                1 => self.fates[*portion].rows[rows.start] = Fate::Refused(detail),
                _ => self.work.extend(halves(*portion, rows.clone())),
            },
            // One row after the other would fail as this one does.
            [(portion, _)] => {
                self.fates[*portion].failure = Some((blame, detail));
                self.work
                    .retain(|piece| piece.iter().any(|(other, _)| other != portion));
            }
            _ => self.work.extend(by_tenant(piece).into_iter().rev()),
        }
    }
}

/// The parts of a piece, by tenant.
fn by_tenant(piece: Piece) -> Vec<Piece> {
    let size = piece.len().div_ceil(PIECES).max(1);
    piece.chunks(size).map(<[_]>::to_vec).collect()
}

/// The halves of more than one row, the first last.
fn halves(portion: usize, rows: Range<usize>) -> [Piece; 2] {
    let middle = rows.start + rows.len() / 2;
    [
        vec![(portion, middle..rows.end)],
        vec![(portion, rows.start..middle)],
    ]
}

#[cfg(test)]
mod tests;
