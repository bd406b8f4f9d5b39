//! Where the flow settles: a shard's lanes against a broker, a database and a clock that are made up.
//!
//! The broker delivers 45 messages a millisecond in turns to whoever may hold more, two thirds of that while the database
//! works, since they share two cores, and never faster than a gigabyte a second. A commit takes its time, and some for each tenant and row.
//! So the rows of a commit are what came during the last one, unless somebody waits: without gathering one tenant
//! settles at ten rows a commit here.

use std::{collections::HashMap, time::Duration};

use common::id::TenantId;
use proptest::prelude::*;

use super::house::{House, settled, tenant};
use crate::{commit::Commit, config::Ingest, flow::Policy};

const STEP: Duration = Duration::from_micros(100);
/// A round trip to a broker that is busy.
const ROUND_TRIP_STEPS: u64 = 10;
const TICK_STEPS: u64 = 1_000;
/// What the daemon does not read at once it reads after this.
const LOOK_STEPS: u64 = 10;

struct World {
    house: House,
    body: String,
    /// What a commit takes without its rows.
    database: Duration,
    /// How many messages wait in whose queue, and how many of them are on their way or with the daemon.
    queues: Vec<Queue>,
    /// Who is served next.
    turn: usize,
    /// Whose every tag that the broker's books have is.
    open: HashMap<u64, usize>,
    /// What came and was not read yet.
    unread: Vec<usize>,
    under_way: Option<(Commit, Duration)>,
    /// What the broker has time for.
    credit: f64,
    steps: u64,
    rows: usize,
    /// How many of them are of whom.
    rows_of: HashMap<TenantId, usize>,
    commits: usize,
    gathered: bool,
    /// How many messages were on their way to a consumer that was cancelled meanwhile.
    crossed: usize,
}

struct Queue {
    lane: usize,
    waiting: usize,
    open: usize,
}

/// What was stored within some time.
#[derive(Debug)]
struct Seen {
    rows: usize,
    rows_a_commit: usize,
}

impl World {
    /// So many lanes without anything in their queues.
    fn new(lanes: usize, bytes: usize, database: Duration) -> Self {
        let mut house = House::with(Policy::of(&Ingest::default()));
        (0..lanes).for_each(|n| house.run(n, 3, 1));
        while house.consumers.len() < lanes {
            house.pass(Duration::ZERO);
            house.lanes.tick(house.now());
            house.perform();
            house.answer();
        }
        Self {
            house,
            body: format!("\"{}\"", "x".repeat(bytes.saturating_sub(2))),
            database,
            queues: Vec::new(),
            turn: 0,
            open: HashMap::new(),
            unread: Vec::new(),
            under_way: None,
            credit: 0.0,
            steps: 0,
            rows: 0,
            rows_of: HashMap::new(),
            commits: 0,
            gathered: false,
            crossed: 0,
        }
    }

    /// So many more messages wait in a lane's queue.
    fn publish(&mut self, lane: usize, count: usize) {
        match self.queues.iter_mut().find(|queue| queue.lane == lane) {
            Some(queue) => queue.waiting += count,
            None => self.queues.push(Queue {
                lane,
                waiting: count,
                open: 0,
            }),
        }
    }

    /// A lane is to be stored no faster than this.
    fn limit(&mut self, lane: usize, per_second: f64) {
        self.house.limit(lane, Some(per_second));
    }

    /// How many rows of a lane are stored within some time.
    fn rows_of(&mut self, lane: usize, time: Duration) -> usize {
        let stored = |world: &Self| world.rows_of.get(&tenant(lane)).copied().unwrap_or_default();
        let before = stored(self);
        self.run(time);
        stored(self) - before
    }

    fn run(&mut self, time: Duration) -> Seen {
        let (rows, commits) = (self.rows, self.commits);
        for _ in 0..time.as_micros() / STEP.as_micros() {
            self.step();
        }
        let (rows, commits) = (self.rows - rows, self.commits - commits);
        Seen {
            rows,
            rows_a_commit: rows / commits.max(1),
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        self.house.pass(STEP);
        if self.steps.is_multiple_of(TICK_STEPS) {
            self.house.lanes.tick(self.house.now());
            self.house.perform();
            self.cancelled(&[]);
        }
        if self.steps.is_multiple_of(ROUND_TRIP_STEPS) {
            self.house.answer();
        }
        self.broker();
        let gathers = self.house.lanes.gathers(self.house.now().instant);
        self.gathered |= gathers;
        let storing = self.under_way.is_some() || gathers;
        if let Some((commit, _)) = self.under_way.take_if(|(_, end)| *end <= self.house.elapsed) {
            self.rows += rows(&commit);
            for portion in &commit.portions {
                *self.rows_of.entry(portion.tenant).or_default() += portion.messages.len();
            }
            self.commits += 1;
            self.house.settle(commit, settled, false);
            self.cancelled(&[]);
            self.read();
        } else if !storing || self.steps.is_multiple_of(LOOK_STEPS) {
            self.read();
        }
        if self.under_way.is_none()
            && let Some(commit) = self.house.commit()
        {
            let bytes = rows(&commit) * self.body.len();
            let work = 60 * commit.portions.len() + 5 * rows(&commit) + bytes / 200;
            let end = self.house.elapsed + self.database + Duration::from_micros(work as u64);
            self.under_way = Some((commit, end));
        }
    }

    /// Delivers what the broker has time for.
    fn broker(&mut self) {
        let off = std::mem::take(&mut self.house.off);
        for lane in off.iter().filter_map(|tag| self.open.remove(tag)) {
            let queue = self.queues.iter_mut().find(|queue| queue.lane == lane);
            queue.unwrap().open -= 1;
        }
        let rate = if self.under_way.is_some() { 3.0 } else { 4.5 };
        let each = (self.body.len() as f64 / 100_000.0).max(1.0 / rate);
        self.credit = (self.credit + 1.0).min(1.0 + each);
        let mut passed = 0;
        while self.credit >= each && passed < self.queues.len() {
            self.turn = (self.turn + 1) % self.queues.len();
            let queue = &mut self.queues[self.turn];
            let tenant = tenant(queue.lane);
            let may_hold = self.house.prefetch.get(&tenant).copied().unwrap_or_default();
            if queue.waiting > 0
                && queue.open < usize::from(may_hold)
                && self.house.consumers.contains(&tenant)
            {
                (queue.waiting, queue.open) = (queue.waiting - 1, queue.open + 1);
                self.unread.push(queue.lane);
                self.credit -= each;
                passed = 0;
            } else {
                passed += 1;
            }
        }
    }

    /// The daemon reads what came.
    fn read(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        let mut read = 0;
        for run in unread.chunk_by(|one, next| one == next) {
            read += run.len();
            let before = self.house.last_tag;
            self.house.deliver(run[0], &vec![self.body.as_str(); run.len()]);
            let tags = before + 1..=self.house.last_tag;
            self.open.extend(tags.map(|tag| (tag, run[0])));
            self.cancelled(&unread[read..]);
        }
    }

    /// Counts what is on its way to consumers that were just cancelled, and what is of it in `unread` besides.
    fn cancelled(&mut self, unread: &[usize]) {
        for cancelled in std::mem::take(&mut self.house.cancelled) {
            let crossing = unread.iter().chain(&self.unread);
            self.crossed += crossing.filter(|lane| tenant(**lane) == cancelled).count();
        }
    }
}

fn rows(commit: &Commit) -> usize {
    commit.portions.iter().map(|portion| portion.messages.len()).sum()
}

const QUICK: Duration = Duration::from_micros(200);
const SLOW: Duration = Duration::from_millis(50);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One busy tenant among so many lanes; what is stored within 200 ms once it has been busy for so long.
fn one_busy(lanes: usize, bytes: usize, database: Duration, after_ms: u64) -> Seen {
    let mut world = World::new(lanes, bytes, database);
    world.publish(0, usize::MAX / 2);
    world.run(ms(after_ms));
    world.run(ms(200))
}

#[test]
fn one_busy_tenant_is_stored_in_large_commits_within_a_tenth_of_a_second() {
    for bytes in [20, 256, 1_024] {
        let seen = one_busy(1, bytes, QUICK, 100);
        assert!(
            seen.rows_a_commit >= 150 && seen.rows >= 6_500,
            "{bytes}: {seen:?}"
        );
    }
}

#[test]
fn idle_tenants_cost_a_busy_one_nothing() {
    let alone = one_busy(1, 256, QUICK, 100);
    for lanes in [2, 100, 10_000] {
        let seen = one_busy(lanes, 256, QUICK, 100);
        assert!(seen.rows * 100 >= alone.rows * 97, "{lanes}: {seen:?}, {alone:?}");
        assert!(
            seen.rows_a_commit * 100 >= alone.rows_a_commit * 97,
            "{lanes}: {seen:?}, {alone:?}"
        );
    }
}

#[test]
fn large_messages_go_as_fast_as_they_come() {
    // The broker delivers a gigabyte a second, and the database takes 5 ms a megabyte.
    let seen = one_busy(10, 1 << 20, QUICK, 200);
    assert!(seen.rows >= 33, "{seen:?}");
}

#[test]
fn a_slow_database_gets_as_much_as_workers_may_put_into_a_commit() {
    let seen = one_busy(100, 256, SLOW, 700);
    assert!(seen.rows_a_commit >= 700, "{seen:?}");
}

#[test]
fn many_busy_tenants_are_stored_in_commits_that_are_worth_it() {
    for (lanes, after_ms, rows) in [(10, 200, 6_000), (100, 400, 5_500), (2_500, 1_000, 4_000)] {
        let mut world = World::new(lanes, 256, QUICK);
        (0..lanes).for_each(|lane| world.publish(lane, usize::MAX / 2));
        world.run(ms(after_ms));
        let seen = world.run(ms(200));
        assert!(
            seen.rows_a_commit >= 150 && seen.rows >= rows,
            "{lanes}: {seen:?}"
        );
        assert_eq!(world.crossed, 0, "{lanes}");
    }
}

#[test]
fn nothing_gathers_when_tenants_send_now_and_then() {
    let mut world = World::new(20, 256, QUICK);
    for n in 0..1_000 {
        world.publish(n * 7 % 20, 1);
        world.run(ms(1));
    }
    assert!(!world.gathered);
    // Each in a commit of its own, but for what comes at the same time.
    assert!(world.rows >= 998 && world.commits > 900, "{}", world.commits);
}

#[test]
fn a_limited_lane_keeps_its_rate() {
    // Faster ones hold too little for so slow a database to keep up with them.
    for (per_second, database) in [
        (1.0, QUICK),
        (1.0, SLOW),
        (90.0, QUICK),
        (90.0, SLOW),
        (500.0, QUICK),
        (500.0, SLOW),
        (4_000.0, QUICK),
    ] {
        let mut world = World::new(2, 256, database);
        world.limit(0, per_second);
        world.publish(0, usize::MAX / 2);
        world.run(ms(1_000));
        let rows = world.rows_of(0, ms(10_000)) as f64;
        // And what it may catch up on.
        let most = per_second * 10.2 + 2.0;
        assert!(
            rows >= per_second * 9.7 && rows <= most,
            "{per_second} {database:?}: {rows}"
        );
        assert_eq!(world.crossed, 0, "{per_second}");
    }
}

#[test]
fn nobody_is_slower_beside_limited_lanes() {
    let alone = one_busy(50, 256, QUICK, 300);
    for (limited, per_second) in [(1, 1.0), (1, 100.0), (1, 1_000.0), (20, 20.0)] {
        let mut world = World::new(50, 256, QUICK);
        for lane in 1..=limited {
            world.limit(lane, per_second);
            world.publish(lane, usize::MAX / 2);
        }
        world.publish(0, usize::MAX / 2);
        world.run(ms(300));
        let rows = world.rows_of(0, ms(1_000));
        assert!(
            rows * 100 >= alone.rows * 5 * 93,
            "{limited} at {per_second}: {rows}, {alone:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// Whoever was busy before, and for however long, whatever there was of everybody: a second later one that is busy
    /// is as fast as if it were alone.
    #[test]
    fn it_settles_within_a_second_from_any_start(
        lanes in 2_usize..60,
        before in prop::collection::vec((0_usize..200, 1_usize..300), 1..100),
        busy_ms in 1_u64..100,
    ) {
        let mut world = World::new(lanes, 64, QUICK);
        for (lane, count) in before {
            world.publish(lane % lanes, count);
        }
        world.run(ms(busy_ms));
        world.publish(0, usize::MAX / 2);
        world.run(ms(1_000));
        let seen = world.run(ms(100));
        prop_assert!(seen.rows_a_commit >= 150 && seen.rows >= 3_200, "{:?}", seen);
    }
}
