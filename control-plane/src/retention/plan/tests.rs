use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A tenant's table as PostgreSQL has it, and what the store's statements do to it.
#[derive(Clone, Debug)]
struct Table {
    rows: BTreeMap<i64, OffsetDateTime>,
    last: i64,
    now: OffsetDateTime,
}

impl Table {
    fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
            last: 0,
            now: OffsetDateTime::UNIX_EPOCH,
        }
    }

    /// So many rows, each with a gap before it, a second apart.
    fn store(&mut self, count: usize, gap: i64) {
        for _ in 0..count {
            self.last += 1 + gap;
            self.now += Duration::from_secs(1);
            self.rows.insert(self.last, self.now);
        }
    }

    fn count(&self, count: &Count) -> (i64, Option<i64>) {
        let found: Vec<_> = self
            .rows
            .range(count.after + 1..)
            .take(count.rows as usize)
            .collect();
        (found.len() as i64, found.last().map(|(position, _)| **position))
    }

    fn remove(&mut self, remove: &Remove, max_age: Option<Duration>) -> Removed {
        let low: Vec<(i64, OffsetDateTime)> = self
            .rows
            .range(remove.after + 1..)
            .take(remove.rows as usize)
            .map(|(&position, &at)| (position, at))
            .collect();
        let young = low
            .iter()
            .find(|(_, at)| max_age.is_none_or(|age| *at >= self.now - age))
            .map_or(i64::MAX, |(position, _)| *position);
        let goes = |number: usize, position: i64| {
            ((number as i64) < remove.excess && position <= remove.excess_to) || position < young
        };
        let gone = low.iter().enumerate().filter(|(n, row)| goes(*n, row.0));
        let to = gone.map(|(_, row)| row.0).max().unwrap_or(remove.after);
        let before = self.rows.len();
        self.rows
            .retain(|position, _| !(remove.after + 1..=to).contains(position));
        Removed {
            rows: (before - self.rows.len()) as i64,
            to,
            seen: low.len() as i64,
            oldest: low.into_iter().find(|(position, _)| *position > to),
        }
    }

    /// What is to be left.
    fn wanted(&self, retention: &Retention) -> BTreeMap<i64, OffsetDateTime> {
        let mut rows = self.rows.clone();
        while rows.len() as i64 > retention.max_messages.map_or(i64::MAX, i64::from) {
            rows.pop_first();
        }
        let is_old = |at: &OffsetDateTime| retention.max_age().is_some_and(|age| self.now - *at > age);
        while rows.first_key_value().is_some_and(|(_, at)| is_old(at)) {
            rows.pop_first();
        }
        rows
    }
}

/// Does what the plan says until it says no more, counting so many rows at a time; answers in how many steps.
fn sweep(known: &mut Known, table: &mut Table, retention: &Retention, counted_at_once: i64) -> usize {
    if known.is_over(table.last, table.now) {
        *known = Known::new(table.now);
    }
    for steps in 0..100_000 {
        match known.next(retention, table.last, table.now) {
            Step::Rest => return steps,
            Step::Count(mut count) => {
                count.rows = count.rows.min(counted_at_once);
                let (found, to) = table.count(&count);
                known.counted(count.rows, found, to, table.last);
            }
            Step::Remove(remove) => {
                let removed = table.remove(&remove, retention.max_age());
                if !known.removed(remove.rows, &removed, table.last, Duration::from_millis(50)) {
                    return steps;
                }
            }
        }
    }
    panic!("it does not end: {known:?}");
}

fn retention(age: Option<i32>, messages: Option<i32>) -> Retention {
    Retention {
        max_age_seconds: age,
        max_messages: messages,
    }
}

#[derive(Clone, Debug)]
enum Event {
    Store {
        count: usize,
        gap: i64,
    },
    Pass {
        seconds: u64,
    },
    Change(Retention),
    /// Somebody removes some rows by hand.
    Delete {
        first: usize,
        count: usize,
    },
}

fn retentions() -> impl Strategy<Value = Retention> {
    let bound = || prop::option::of(1..400_i32);
    (bound(), bound()).prop_map(|(age, messages)| retention(age, messages))
}

fn events(by_hand: bool) -> impl Strategy<Value = Vec<Event>> {
    // A restored backup moves positions by 10^12.
    let gap = prop_oneof![8 => Just(0_i64), 3 => 1..20_i64, 1 => Just(1_000_000_000_000_i64)];
    let event = prop_oneof![
        6 => (0..300_usize, gap).prop_map(|(count, gap)| Event::Store { count: count.min(if gap > 20 { 2 } else { 300 }), gap }),
        3 => (0..500_u64).prop_map(|seconds| Event::Pass { seconds }),
        1 => (3_500..4_000_u64).prop_map(|seconds| Event::Pass { seconds }),
        2 => retentions().prop_map(Event::Change),
        if by_hand { 2 } else { 0 } => (0..300_usize, 0..300_usize).prop_map(|(first, count)| Event::Delete { first, count }),
    ];
    prop::collection::vec(event, 1..20)
}

proptest! {
    #[test]
    fn exactly_what_is_too_old_or_too_much_goes(
        first in retentions(), events in events(false), counted_at_once in 1..200_i64,
    ) {
        let (mut table, mut retention) = (Table::new(), first);
        let mut known = Known::new(table.now);
        for event in events {
            match event {
                Event::Store { count, gap } => table.store(count, gap),
                Event::Pass { seconds } => table.now += Duration::from_secs(seconds),
                Event::Change(to) => retention = to,
                Event::Delete { .. } => {}
            }
            let wanted = table.wanted(&retention);
            let rows = table.rows.len();
            let steps = sweep(&mut known, &mut table, &retention, counted_at_once);
            prop_assert_eq!(&table.rows, &wanted);
            // What is counted may have to go before more is.
            let most = 4 + rows / ROWS_FIRST as usize + 3 * (rows / counted_at_once as usize + 1);
            prop_assert!(steps <= most, "{} steps for {} rows", steps, rows);
            prop_assert_eq!(sweep(&mut known, &mut table, &retention, counted_at_once), 0);
        }
    }

    /// However wrong the count is: the newest positions stay, and in an hour all is right again.
    #[test]
    fn what_others_remove_costs_no_message_that_is_to_be_kept_by_its_position(
        first in retentions(), events in events(true),
    ) {
        let (mut table, mut retention) = (Table::new(), first);
        let mut known = Known::new(table.now);
        for event in events {
            match event {
                Event::Store { count, gap } => table.store(count, gap),
                Event::Pass { seconds } => table.now += Duration::from_secs(seconds),
                Event::Change(to) => retention = to,
                Event::Delete { first, count } => {
                    let gone: Vec<i64> = table.rows.keys().skip(first).take(count).copied().collect();
                    table.rows.retain(|position, _| !gone.contains(position));
                }
            }
            let before = table.clone();
            sweep(&mut known, &mut table, &retention, 50);
            let newest = retention.max_messages.map_or(0, |messages| table.last - i64::from(messages) + 1);
            for (position, at) in before.rows.range(newest..) {
                let is_old = retention.max_age().is_some_and(|age| table.now - *at > age);
                prop_assert!(is_old || table.rows.contains_key(position), "{} is gone", position);
            }
        }
        table.now += KNOWN_FOR * 2;
        let wanted = table.wanted(&retention);
        sweep(&mut known, &mut table, &retention, 50);
        prop_assert_eq!(&table.rows, &wanted);
    }
}

#[test]
fn a_tenant_to_whom_nothing_happens_costs_nothing() {
    let mut table = Table::new();
    let mut known = Known::new(table.now);
    table.store(300, 0);
    let both = retention(Some(1_000), Some(200));
    assert!(sweep(&mut known, &mut table, &both, 1_000) > 0);
    assert_eq!((table.rows.len(), *table.rows.keys().next().unwrap()), (200, 101));
    for _ in 0..100 {
        table.now += Duration::from_secs(5);
        assert_eq!(known.next(&both, table.last, table.now), Step::Rest);
    }
    // One without any message, too.
    let mut empty = Table::new();
    empty.last = 7;
    let mut known = Known::new(empty.now);
    assert_eq!(sweep(&mut known, &mut empty, &both, 1_000), 1, "it is looked at");
    assert_eq!(known.next(&both, empty.last, empty.now), Step::Rest);
    empty.store(1, 0);
    assert!(matches!(
        known.next(&both, empty.last, empty.now),
        Step::Remove(_)
    ));
}

#[test]
fn what_is_counted_is_counted_once() {
    let mut table = Table::new();
    let mut known = Known::new(table.now);
    let messages = retention(None, Some(1_000));
    table.store(1_000, 0);
    assert_eq!(
        known.next(&messages, table.last, table.now),
        Step::Rest,
        "no more than there may be"
    );
    table.store(1_000, 0);
    sweep(&mut known, &mut table, &messages, COUNTED_AT_ONCE);
    assert_eq!(table.rows.len(), 1_000);
    table.store(10, 0);
    let Step::Count(count) = known.next(&messages, table.last, table.now) else {
        panic!("what is new is counted first");
    };
    assert_eq!(table.count(&count).0, 10);
}

#[test]
fn steps_take_as_many_rows_as_take_a_moment() {
    let now = OffsetDateTime::UNIX_EPOCH;
    let mut known = Known::new(now);
    let removed = |rows| Removed {
        rows,
        to: 1,
        seen: rows,
        oldest: None,
    };
    let quick = Duration::from_millis(5);
    for rows in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        assert_eq!(known.rows, rows);
        known.removed(rows, &removed(rows), 1 << 40, quick);
    }
    known.removed(5_000, &removed(5_000), 1 << 40, Duration::from_millis(50));
    known.removed(5_000, &removed(30), 1 << 40, quick);
    assert_eq!(known.rows, 5_000, "which says nothing of larger steps");
    known.removed(5_000, &removed(5_000), 1 << 40, Duration::from_millis(400));
    assert_eq!(known.rows, 2_500);
    for _ in 0..9 {
        known.took_too_long();
    }
    assert_eq!(known.rows, 1);
}

#[test]
fn positions_that_are_not_the_known_ones_any_more_are_found_out_anew() {
    let mut table = Table::new();
    let mut known = Known::new(table.now);
    table.store(500, 0);
    sweep(&mut known, &mut table, &retention(None, Some(100)), 1_000);
    assert!(!known.is_over(500, table.now));
    assert!(known.is_over(499, table.now));
    assert!(known.is_over(500, table.now + KNOWN_FOR * 2));
}
