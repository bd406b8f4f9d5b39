//! Passes over a PostgreSQL of paper, with a clock that runs by what it is asked.

use proptest::prelude::*;

use super::*;

const WHOLE: Duration = Duration::from_millis(250);
const PART: Duration = Duration::from_millis(100);
const BUDGET: Duration = Duration::from_millis(1_250);
/// What storing takes: a commit, and a row.
const COMMIT: Duration = Duration::from_millis(3);
const ROW: Duration = Duration::from_micros(20);

/// What is wrong with a tenant, or with everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Sleeps,
    Fails(Blame),
    /// It ends the session.
    Kills,
    /// It ends PostgreSQL, which is back for the next pass.
    Crashes,
}

struct Paper<R, T> {
    refuses: R,
    trouble: T,
    ill: bool,
    down: bool,
    elapsed: Duration,
    tries: usize,
}

impl<R: Fn(usize, usize) -> bool, T: Fn(usize) -> Option<Trouble>> Paper<R, T> {
    fn new(refuses: R, trouble: T) -> Self {
        Self {
            refuses,
            trouble,
            ill: false,
            down: false,
            elapsed: Duration::ZERO,
            tries: 0,
        }
    }

    fn store(&mut self, piece: &Piece, whole: bool) -> Answer {
        self.tries += 1;
        if self.down {
            return Answer::Unreachable("nobody listens".into());
        }
        let rows: usize = piece.iter().map(|(_, rows)| rows.len()).sum();
        self.elapsed += COMMIT;
        for (portion, _) in piece {
            match (self.trouble)(*portion) {
                None => {}
                Some(Trouble::Sleeps) => {
                    self.elapsed += if whole { WHOLE } else { PART };
                    return Answer::Failed(Blame::Slow, "statement timeout".into());
                }
                Some(Trouble::Fails(blame)) => return Answer::Failed(blame, "no".into()),
                Some(Trouble::Kills) => {
                    self.elapsed += COMMIT * 5;
                    return Answer::Failed(Blame::Session, "terminated".into());
                }
                Some(Trouble::Crashes) => {
                    self.down = true;
                    return Answer::Failed(Blame::Session, "crashed".into());
                }
            }
        }
        if self.ill {
            return Answer::Failed(Blame::Everything, "ill".into());
        }
        let refused =
            |(portion, rows): &(usize, Range<usize>)| rows.clone().any(|row| (self.refuses)(*portion, row));
        if piece.iter().any(refused) {
            return Answer::Failed(Blame::Row, "check".into());
        }
        self.elapsed += ROW * u32::try_from(rows).unwrap();
        Answer::Committed(piece.iter().map(|(_, rows)| Some(rows.len())).collect())
    }

    fn run(&mut self, sizes: &[usize], depth: u32) -> Verdict {
        let start = self.elapsed;
        let mut pass = Pass::new(sizes, usize::MAX, depth, BUDGET);
        while let Some(step) = pass.next(self.elapsed - start) {
            match step {
                Step::Try(piece, whole) => {
                    let answer = self.store(&piece, whole);
                    pass.answer(piece, answer);
                }
                Step::Probe => {
                    self.elapsed += COMMIT;
                    pass.probed(match self.ill || self.down {
                        true => Err("ill".into()),
                        false => Ok(Witness::Same),
                    });
                }
            }
        }
        pass.finish()
    }
}

fn stored(fates: &Fates) -> bool {
    fates.rows.iter().all(|fate| *fate == Fate::Stored)
}

fn fine(_: usize, _: usize) -> bool {
    false
}

#[test]
fn a_good_commit_is_one_piece() {
    let mut paper = Paper::new(fine, |_| None);
    let verdict = paper.run(&[3, 2], 0);
    assert_eq!(paper.tries, 1);
    assert!(verdict.clean && verdict.fates.iter().all(stored));
}

#[test]
fn one_hostile_tenant_among_250_delays_the_others_by_less_than_a_second() {
    for trouble in [
        Trouble::Sleeps,
        Trouble::Kills,
        Trouble::Fails(Blame::Everything),
        Trouble::Fails(Blame::Locked),
        Trouble::Fails(Blame::Tenant),
        Trouble::Fails(Blame::Row),
    ] {
        for hostile in [0, 100, 249] {
            let mut paper = Paper::new(fine, |portion| (portion == hostile).then_some(trouble));
            let verdict = paper.run(&[16; 250], 0);
            assert!(
                paper.elapsed < Duration::from_millis(800),
                "{trouble:?}: {:?}",
                paper.elapsed
            );
            assert_eq!(verdict.outage, None);
            for (portion, fates) in verdict.fates.iter().enumerate() {
                assert_eq!(
                    fates.failure.is_some(),
                    portion == hostile,
                    "{trouble:?} {portion}"
                );
                assert_eq!(stored(fates), portion != hostile);
            }
            assert!(!verdict.too_slow && verdict.depth == 0);
        }
    }
}

#[test]
fn of_many_hostile_tenants_each_pass_finds_some_until_all_are_found() {
    let mut left: Vec<usize> = (0..250).collect();
    let (mut depth, mut passes, mut elapsed) = (0, 0, Duration::ZERO);
    while !left.is_empty() {
        let tenants = left.clone();
        let mut paper = Paper::new(fine, |at: usize| {
            tenants[at].is_multiple_of(20).then_some(Trouble::Sleeps)
        });
        let verdict = paper.run(&vec![4; left.len()], depth);
        assert!(paper.elapsed < BUDGET + WHOLE + PART, "{:?}", paper.elapsed);
        let known: Vec<bool> = verdict
            .fates
            .iter()
            .map(|fates| fates.failure.is_some() || stored(fates))
            .collect();
        assert!(known.contains(&true));
        let mut known = known.into_iter();
        left.retain(|_| known.next() == Some(false));
        depth = verdict.depth;
        passes += 1;
        elapsed += paper.elapsed;
    }
    assert!(
        passes <= 8 && elapsed < Duration::from_secs(8),
        "{passes} {elapsed:?}"
    );
}

#[test]
fn a_row_is_searched_for_in_a_commit_of_its_tenant_alone() {
    let refuses = |portion, row| (portion, row) == (7, 99) || row == 1_000;
    let mut paper = Paper::new(refuses, |_| None);
    let verdict = paper.run(&[250; 16], 0);
    assert!(paper.tries <= 12, "{}", paper.tries);
    assert!(
        verdict.fates[7].failure.is_some() && verdict.fates[7].rows.iter().all(|fate| *fate == Fate::Back)
    );
    assert_eq!(verdict.fates.iter().filter(|fates| stored(fates)).count(), 15);

    let mut paper = Paper::new(|_, row| row == 99, |_| None);
    let verdict = paper.run(&[1_000], 0);
    assert!(paper.tries <= 21, "{}", paper.tries);
    assert_eq!(verdict.fates[0].rows[99], Fate::Refused("check".into()));
    let rows = &verdict.fates[0].rows;
    assert_eq!(rows.iter().filter(|fate| **fate == Fate::Stored).count(), 999);
    assert_eq!(verdict.fates[0].failure, None);
}

#[test]
fn when_postgresql_is_not_well_nobody_is_to_blame() {
    for sizes in [vec![1], vec![3; 250]] {
        let mut paper = Paper::new(fine, |_| None);
        paper.ill = true;
        let verdict = paper.run(&sizes, 0);
        assert_eq!(verdict.outage.as_deref(), Some("ill"));
        assert!(verdict.fates.iter().all(|fates| fates.failure.is_none()));
        assert_eq!(paper.tries, 1);
    }
}

#[test]
fn when_not_one_of_several_can_be_stored_it_is_no_tenants_fault() {
    let mut paper = Paper::new(fine, |_| Some(Trouble::Fails(Blame::Everything)));
    let verdict = paper.run(&[2; 5], 0);
    assert_eq!(verdict.outage.as_deref(), Some("no"));
    assert!(verdict.fates.iter().all(|fates| fates.failure.is_none()));
    // But two that sleep, while PostgreSQL answers, are both to blame.
    let mut paper = Paper::new(fine, |_| Some(Trouble::Sleeps));
    let verdict = paper.run(&[2; 2], 0);
    assert!(verdict.outage.is_none() && verdict.fates.iter().all(|fates| fates.failure.is_some()));
    assert!(!verdict.too_slow);
}

#[test]
fn a_session_that_ended_or_is_another_than_it_was_is_replaced_and_nobody_is_to_blame() {
    for (blame, witness) in [
        (Blame::Session, Witness::Same),
        (Blame::Tenant, Witness::Another),
        (Blame::Row, Witness::Another),
        (Blame::Slow, Witness::Another),
    ] {
        let mut pass = Pass::new(&[1, 1], usize::MAX, 0, BUDGET);
        let Some(Step::Try(piece, true)) = pass.next(Duration::ZERO) else {
            panic!("the whole comes first")
        };
        pass.answer(piece, Answer::Failed(blame, "no such statement".into()));
        assert_eq!(pass.next(Duration::ZERO), Some(Step::Probe));
        pass.probed(Ok(witness));
        let Some(Step::Try(piece, false)) = pass.next(Duration::ZERO) else {
            panic!("it is tried again")
        };
        assert_eq!(piece.len(), 2);
        pass.answer(piece, Answer::Committed(vec![Some(1), Some(0)]));
        assert_eq!(pass.next(Duration::ZERO), None);
        let verdict = pass.finish();
        assert!(verdict.fates.iter().all(stored) && verdict.fates[1].duplicates == 1);
        assert!(verdict.outage.is_none() && !verdict.clean && !verdict.too_slow);
    }
}

#[test]
fn whoever_takes_postgresql_down_is_found_over_some_passes() {
    let mut paper = Paper::new(fine, |portion| (portion == 77).then_some(Trouble::Crashes));
    let mut depth = 0;
    for _ in 0..8 {
        paper.down = false;
        let verdict = paper.run(&[1; 100], depth);
        assert!(verdict.outage.is_some());
        if verdict.fates[77].failure.is_some() {
            return;
        }
        depth = verdict.depth;
    }
    panic!("it was not found");
}

#[test]
fn what_was_too_slow_together_and_is_stored_in_parts_is_nobodys_fault() {
    let mut pass = Pass::new(&[1; 16], usize::MAX, 0, BUDGET);
    let mut first = true;
    while let Some(step) = pass.next(Duration::ZERO) {
        match step {
            Step::Try(piece, _) if std::mem::take(&mut first) => {
                pass.answer(piece, Answer::Failed(Blame::Slow, "timeout".into()));
            }
            Step::Try(piece, _) => {
                let new = vec![Some(1); piece.len()];
                pass.answer(piece, Answer::Committed(new));
            }
            Step::Probe => pass.probed(Ok(Witness::Same)),
        }
    }
    let verdict = pass.finish();
    assert!(verdict.too_slow && !verdict.clean && verdict.fates.iter().all(stored));
}

#[test]
fn an_outage_ends_the_pass_and_keeps_what_was_stored() {
    let mut pass = Pass::new(&[1, 1], usize::MAX, 1, BUDGET);
    let Some(Step::Try(piece, false)) = pass.next(Duration::ZERO) else {
        panic!("a part comes first")
    };
    pass.answer(piece, Answer::Committed(vec![Some(0)]));
    let Some(Step::Try(piece, _)) = pass.next(Duration::ZERO) else {
        panic!("another part follows")
    };
    pass.answer(piece, Answer::Unreachable("gone".into()));
    assert_eq!(pass.next(Duration::ZERO), None);
    let verdict = pass.finish();
    assert_eq!(verdict.outage.as_deref(), Some("gone"));
    assert_eq!(
        (verdict.fates[0].rows[0].clone(), verdict.fates[0].duplicates),
        (Fate::Stored, 1)
    );
    assert_eq!(verdict.fates[1].rows[0], Fate::Back);
}

#[test]
fn a_locked_counter_leaves_its_tenant_for_later() {
    let mut pass = Pass::new(&[2, 1], usize::MAX, 0, BUDGET);
    let Some(Step::Try(piece, true)) = pass.next(Duration::ZERO) else {
        panic!("the whole comes first")
    };
    pass.answer(piece, Answer::Committed(vec![None, Some(1)]));
    let fates = pass.finish().fates;
    assert!(fates[0].busy && fates[0].rows == [Fate::Back, Fate::Back]);
    assert!(!fates[1].busy);
}

#[test]
fn a_slow_tenant_is_tried_with_fewer_rows() {
    let mut pass = Pass::new(&[1_000], 8, 0, BUDGET);
    assert_eq!(pass.next(Duration::ZERO), Some(Step::Try(vec![(0, 0..8)], true)));
    pass.answer(vec![(0, 0..8)], Answer::Committed(vec![Some(8)]));
    assert_eq!(pass.next(Duration::ZERO), None);
    let rows = pass.finish().fates.remove(0).rows;
    assert_eq!(rows.iter().filter(|fate| **fate == Fate::Stored).count(), 8);
}

proptest! {
    #[test]
    fn only_what_is_to_blame_is_left_out(
        sizes in prop::collection::vec(1_usize..20, 1..8),
        bad in prop::collection::hash_set((0_usize..8, 0_usize..20), 0..4),
        unwritable in prop::collection::vec(0_usize..8, 0..2),
        depth in 0_u32..4,
    ) {
        let trouble = |portion| unwritable.contains(&portion).then_some(Trouble::Fails(Blame::Tenant));
        let mut paper = Paper::new(|portion, row| bad.contains(&(portion, row)), trouble);
        let verdict = paper.run(&sizes, depth);
        prop_assert!(paper.tries <= TRIES_MAX);
        let several = sizes.len() > 1;
        for (portion, fates) in verdict.fates.iter().enumerate() {
            let refused = (0..sizes[portion]).any(|row| bad.contains(&(portion, row)));
            let left_out = unwritable.contains(&portion) || (several && refused);
            prop_assert_eq!(fates.failure.is_some(), left_out);
            for (row, fate) in fates.rows.iter().enumerate() {
                match (left_out, bad.contains(&(portion, row))) {
                    (true, _) => prop_assert_eq!(fate, &Fate::Back),
                    (false, true) => prop_assert!(matches!(fate, Fate::Refused(_))),
                    (false, false) => prop_assert_eq!(fate, &Fate::Stored),
                }
            }
        }
    }

    #[test]
    fn however_bad_it_is_a_pass_ends_and_gets_on(size in 1_usize..3000) {
        let mut paper = Paper::new(|_, _| true, |_| None);
        let verdict = paper.run(&[size], 0);
        prop_assert!(paper.tries <= TRIES_MAX);
        prop_assert!(matches!(verdict.fates[0].rows[0], Fate::Refused(_)));
    }
}
