use std::time::UNIX_EPOCH;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A clock that only goes on when it is told to.
struct Clock(Now);

impl Clock {
    fn new() -> Self {
        Self(Now {
            instant: Instant::now(),
            time: UNIX_EPOCH,
            random: 0.5,
        })
    }

    fn pass(&mut self, time: Duration) -> Now {
        self.0.instant += time;
        self.0
    }
}

/// Good commits, one every 10 ms, until the lane is trusted again; answers how many.
fn behave(trust: &mut Trust, clock: &mut Clock) -> u32 {
    let mut commits = 0;
    while trust.is_suspect() {
        trust.stored(5 * MS, 5 * MS, clock.pass(10 * MS));
        commits += 1;
    }
    commits
}

#[test]
fn a_lane_is_stored_apart_from_its_first_trouble_until_it_has_behaved() {
    let (mut trust, mut clock) = (Trust::default(), Clock::new());
    assert!(!trust.is_suspect() && !trust.holds(clock.0.instant));
    assert!(trust.blame("locked", clock.0));
    assert!(trust.is_suspect() && trust.holds(clock.0.instant) && trust.rows() == 1);
    assert!(!trust.blame("locked", clock.0), "it is said once");
    assert!(
        trust.stored(5 * MS, 5 * MS, clock.pass(1_000 * MS)),
        "its end is said"
    );
    assert!(trust.problem().is_none() && trust.rows() == 2 && trust.is_suspect());
    behave(&mut trust, &mut clock);
}

#[test]
fn who_comes_back_again_and_again_stays_longer_and_in_time_that_is_forgotten() {
    let (mut trust, mut clock) = (Trust::default(), Clock::new());
    let stays = |trust: &mut Trust, clock: &mut Clock| {
        trust.blame("slow", clock.0);
        behave(trust, clock)
    };
    let first = stays(&mut trust, &mut clock);
    let second = stays(&mut trust, &mut clock);
    assert!(second >= 2 * first - 1, "{first} {second}");
    for _ in 0..20 {
        stays(&mut trust, &mut clock);
    }
    assert!(stays(&mut trust, &mut clock) <= 6_001);
    clock.pass(OFFENCES_LAST * 2);
    assert_eq!(stays(&mut trust, &mut clock), first);
}

#[test]
fn a_slow_table_stays_apart_and_says_so_although_it_stores() {
    let (mut trust, mut clock) = (Trust::default(), Clock::new());
    trust.blame("timeout", clock.0);
    for _ in 0..100 {
        assert!(!trust.stored(11_000 * MS, 5 * MS, clock.pass(11_000 * MS)));
        assert!(trust.is_suspect() && trust.rows() == 1);
    }
    let problem = trust.problem().unwrap();
    assert!(problem.detail.contains("11.0 s"), "{}", problem.detail);
    assert_eq!(problem.since, UNIX_EPOCH);
}

#[test]
fn whose_commits_take_long_waits_with_its_like_until_one_is_quick() {
    let (mut trust, clock) = (Trust::default(), Clock::new());
    trust.took(5_000 * MS, true);
    assert_eq!(trust.pace(), None, "a commit of many is nobody's own");
    trust.doubt(clock.0.instant);
    trust.took(300 * MS, false);
    assert_eq!(trust.pace(), Some(Pace::Quick));
    trust.took(1_200 * MS, false);
    assert_eq!(trust.pace(), Some(Pace::Slow));
    trust.took(MS, false);
    assert_eq!(trust.pace(), Some(Pace::Slow), "nothing was stored so soon");
    trust.took(MS, true);
    assert_eq!(trust.pace(), Some(Pace::Quick));
}

#[test]
fn messages_beyond_the_twentieth_are_not_to_blame_for_being_refused() {
    let (mut trust, clock) = (Trust::default(), Clock::new());
    let id = Uuid::from_u128;
    for n in 0..20 {
        assert!(trust.refused(id(n)));
    }
    assert!(!trust.refused(id(20)), "the table is");
    assert!(
        trust.refused(id(3)),
        "what was refused before has its next attempt"
    );
    assert!(!trust.is_suspect());
    assert!(trust.refuses_all("check", clock.0));
    assert!(trust.is_suspect() && trust.rows() == ROWS_MAX);
    assert!(trust.problem().unwrap().detail.contains("20 different messages"));
    trust.stored(MS, MS, clock.0);
    assert!(trust.refused(id(20)) && trust.problem().is_none());
}

#[test]
fn on_a_slow_day_a_lane_is_measured_by_its_neighbours() {
    for (took, ordinary, seconds) in [(300, 100, 0..2), (300, 5, 29..31)] {
        let (mut trust, mut clock) = (Trust::default(), Clock::new());
        let start = clock.0.instant;
        trust.blame("locked", clock.0);
        while trust.is_suspect() {
            trust.stored(took * MS, ordinary * MS, clock.pass(took * MS));
            assert!(!trust.holds(clock.0.instant));
        }
        assert!(
            seconds.contains(&(clock.0.instant - start).as_secs()),
            "{took} {ordinary}"
        );
    }
}
