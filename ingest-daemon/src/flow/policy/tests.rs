use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy {
    run_rows: 250,
    commit_rows: 1_000,
    commit_rows_spread: 4_000,
    commit_bytes: 1 << 20,
    commit_tenants: 250,
    held_bytes: 32 << 20,
};

const QUIET: u16 = QUIET_MESSAGES as u16;

/// A lane of such messages.
fn lane(bytes: usize, busy: bool) -> Asking {
    let mut traffic = Traffic::default();
    (0..100).for_each(|_| traffic.came(bytes));
    Asking {
        traffic,
        workers: 3,
        throttle: Throttle::default(),
        busy,
        held: false,
    }
}

fn among(busy_workers: usize) -> Neighbours {
    Neighbours {
        busy_workers,
        company: false,
    }
}

#[test]
fn a_busy_lane_shares_with_busy_ones_and_a_quiet_one_costs_nobody_anything() {
    assert_eq!(POLICY.prefetch(lane(256, true), among(3)), 2_000);
    assert_eq!(POLICY.prefetch(lane(256, true), among(60)), 100);
    assert_eq!(POLICY.prefetch(lane(256, true), among(1_200)), QUIET);
    assert_eq!(POLICY.prefetch(lane(256, false), among(0)), QUIET);
    assert_eq!(POLICY.prefetch(lane(256, false), among(15_000)), QUIET);
}

#[test]
fn workers_are_a_lanes_share() {
    let narrow = Asking {
        workers: 1,
        ..lane(256, true)
    };
    let wide = Asking {
        workers: 9,
        ..lane(256, true)
    };
    assert_eq!(POLICY.prefetch(narrow, among(10)), 200);
    assert_eq!(POLICY.prefetch(wide, among(10)), 1_800);
}

#[test]
fn a_limited_lane_holds_a_part_of_a_seconds_worth() {
    let limited = |per_second, busy| {
        let mut asking = lane(256, busy);
        asking.throttle.set(Some(per_second), Instant::now());
        POLICY.prefetch(asking, among(3))
    };
    assert_eq!([limited(1.0, false), limited(1.0, true)], [1, 1]);
    assert_eq!([limited(60.0, false), limited(60.0, true)], [15, 15]);
    assert_eq!([limited(1_000.0, false), limited(1_000.0, true)], [QUIET, 63]);
    assert_eq!(limited(1_000_000.0, true), 2_000);
}

#[test]
fn in_company_busy_lanes_hold_less() {
    let company = |busy_workers| Neighbours {
        busy_workers,
        company: true,
    };
    assert_eq!(POLICY.prefetch(lane(256, true), company(3)), 250);
    assert_eq!(POLICY.prefetch(lane(256, true), company(300)), QUIET);
}

#[test]
fn what_is_not_known_or_cannot_be_written_stays_in_its_queue() {
    let unseen = Asking {
        traffic: Traffic::default(),
        ..lane(256, true)
    };
    assert_eq!(POLICY.prefetch(unseen, among(3)), 2);
    let held = Asking {
        held: true,
        ..lane(256, true)
    };
    assert_eq!(POLICY.prefetch(held, among(3)), 64);
}

#[test]
fn large_messages_have_fewer_places() {
    assert_eq!(POLICY.prefetch(lane(1 << 20, true), among(3)), 31);
    assert_eq!(POLICY.prefetch(lane(1 << 20, false), among(0)), 3);
    assert_eq!(POLICY.prefetch(lane(1 << 20, true), among(300)), 1);
    assert_eq!(POLICY.prefetch(lane(60 << 20, false), among(0)), 1);
    assert_eq!(POLICY.room(Traffic::default()), 2_000);
    assert_eq!(POLICY.room(lane(1 << 20, true).traffic), 31);
    assert_eq!(POLICY.room(lane(1 << 30, true).traffic), 1);
}

#[test]
fn a_message_that_there_was_no_room_for_makes_its_lane_ask_for_little() {
    let mut asking = lane(256, true);
    asking.traffic.too_large(60 << 20);
    assert_eq!(POLICY.prefetch(asking, among(3)), 1);
    (0..16).for_each(|_| asking.traffic.came(60 << 20));
    assert_eq!(POLICY.prefetch(asking, among(3)), 1);
    (0..1_000).for_each(|_| asking.traffic.came(256));
    assert!(POLICY.prefetch(asking, among(3)) > 1_000);
}

#[test]
fn only_a_large_change_is_worth_a_new_consumer() {
    assert!(
        worth_changing(20, 2_000) && worth_changing(64, 20) && worth_changing(20, 40) && worth_changing(2, 1)
    );
    assert!(!worth_changing(40, 20) && !worth_changing(64, 100) && !worth_changing(1, 1));
}

/// A stream into which so many rows a millisecond have come for long, after a commit that has just ended.
fn stream(rows_a_ms: usize, filled: Filled, start: Instant) -> (Stream, Instant) {
    let (mut stream, mut now) = (Stream::new(), start);
    for _ in 0..500 {
        now += Duration::from_millis(1);
        stream.came(rows_a_ms, now);
    }
    stream.filled(filled, now);
    stream.ended(true, now);
    (stream, now)
}

const ONE: Filled = Filled {
    tenants: 1,
    rows: 100,
    quiet_rows: 0,
    busy: true,
    room: 750,
    left: false,
};

#[test]
fn rows_gather_until_there_are_enough_or_it_takes_too_long() {
    let (mut stream, now) = stream(40, ONE, Instant::now());
    let until = POLICY.gathers_until(&stream, now).unwrap();
    assert_eq!(until, now + GATHER_MIN);
    assert_eq!(POLICY.gathers_until(&stream, until), None);
    stream.came(499, now);
    assert!(POLICY.gathers_until(&stream, now).is_some());
    stream.came(1, now);
    assert_eq!(POLICY.gathers_until(&stream, now), None);
}

#[test]
fn what_cannot_come_is_not_waited_for() {
    let small = Filled { room: 32, ..ONE };
    let (mut stream, now) = stream(40, small, Instant::now());
    stream.came(32, now);
    assert_eq!(POLICY.gathers_until(&stream, now), None);
}

#[test]
fn a_backlog_that_is_here_and_company_wait_for_nothing() {
    let left = Filled { left: true, ..ONE };
    let (stream_left, now) = stream(40, left, Instant::now());
    assert_eq!(POLICY.gathers_until(&stream_left, now), None);
    let company = Filled {
        quiet_rows: 10,
        ..ONE
    };
    let (stream, now) = stream(40, company, now);
    assert!(stream.has_company(now) && !stream.has_company(now + COMPANY_FOR));
    assert_eq!(POLICY.gathers_until(&stream, now), None);
}

#[test]
fn many_tenants_gather_for_longer_and_for_more() {
    let many = Filled {
        tenants: 100,
        room: 1_000,
        ..ONE
    };
    let (mut stream, now) = stream(17, many, Instant::now());
    assert_eq!(POLICY.gathers_until(&stream, now), Some(now + GATHER_MAX));
    stream.came(999, now);
    assert!(POLICY.gathers_until(&stream, now).is_some());
    stream.came(1, now);
    assert_eq!(POLICY.gathers_until(&stream, now), None);
}

#[test]
fn what_comes_now_and_then_waits_for_nothing() {
    // A thousand a second.
    let few = Filled { room: 10, ..ONE };
    let (mut steady, now) = stream(1, few, Instant::now());
    assert_eq!(POLICY.gathers_until(&steady, now), None);
    // Nor does what follows a failure.
    steady.ended(false, now);
    let (mut fast, now) = stream(40, ONE, now);
    fast.ended(false, now);
    assert_eq!(POLICY.gathers_until(&fast, now), None);
}

#[test]
fn a_quiet_tenant_now_and_then_is_no_company() {
    let (mut stream, mut now) = (Stream::new(), Instant::now());
    let quiet = Filled { quiet_rows: 1, ..ONE };
    for _ in 0..100 {
        now += Duration::from_millis(400);
        stream.filled(quiet, now);
        assert!(!stream.has_company(now));
    }
    for _ in 0..100 {
        now += Duration::from_millis(40);
        stream.filled(quiet, now);
    }
    assert!(stream.has_company(now));
}

#[test]
fn a_lone_tenants_workers_are_its_rows() {
    assert_eq!(POLICY.allowance(1, 1, false).rows(1), 250);
    assert_eq!(POLICY.allowance(1, 3, false).rows(3), 750);
    assert_eq!(POLICY.allowance(1, 16, false).rows(16), 1_000);
}

#[test]
fn in_company_a_run_is_shorter_and_workers_are_felt_all_the_same() {
    assert_eq!(POLICY.allowance(1, 1, true).rows(1), 31);
    assert_eq!(POLICY.allowance(1, 3, true).rows(3), 93);
    assert_eq!(POLICY.allowance(1, 16, true).rows(16), 496);
}

#[test]
fn neighbours_share_a_commit_by_their_workers() {
    let allowance = POLICY.allowance(2, 10, false);
    assert_eq!((allowance.rows(1), allowance.rows(9)), (100, 900));
    assert_eq!((allowance.runs(1, 100), allowance.runs(9, 101)), (1, 2));
}

#[test]
fn bytes_end_a_commit_after_the_row_that_exceeds_them() {
    let mut allowance = POLICY.allowance(1, 1, false);
    assert!(allowance.take(1 << 19));
    assert!(!allowance.take(1 << 20) && allowance.spent());
    let mut allowance = POLICY.allowance(1, 1, false);
    (0..4).for_each(|_| assert!(allowance.take(1 << 10)));
    assert_eq!(allowance.rows_like(4), 1_024);
}

proptest! {
    #[test]
    fn every_tenant_gets_something_and_no_bound_is_exceeded(tenants in 1_usize..300, each in 1_usize..=256, company: bool) {
        let mut allowance = POLICY.allowance(tenants, tenants * each, company);
        let mut taken = 0;
        for _ in 0..tenants.min(POLICY.commit_tenants) {
            let rows = allowance.rows(each);
            prop_assert!(rows >= 1);
            for _ in 0..rows {
                allowance.take(1);
            }
            taken += rows;
        }
        prop_assert!(taken <= POLICY.commit_rows_spread);
    }

    #[test]
    fn busy_lanes_together_stay_within_the_bounds(
        lanes in 1_usize..10_000, bytes in 0_usize..2_000_000
    ) {
        let each = usize::from(POLICY.prefetch(lane(bytes, true), among(3 * lanes)));
        prop_assert!(each <= QUIET_MESSAGES || each * lanes <= LIGHT_MESSAGES);
        prop_assert!(each == 1 || each * lanes * bytes <= POLICY.held_bytes);
    }
}
