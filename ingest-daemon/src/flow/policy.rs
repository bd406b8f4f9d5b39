//! The policy proper: everything that is tuned about the flow, and nothing else.
//!
//! With the default configuration its bounds add up to this, for a shard (a daemon has two):
//!
//! | what | messages | bytes |
//! | --- | --- | --- |
//! | lanes that have much, together | [`LIGHT_MESSAGES`] 2,000 by their workers, or [`QUIET_MESSAGES`] 50 each where that is more | `ingest.prefetch_bytes` over the shards, likewise |
//! | the same, beside tenants that send now and then | an eighth: 250, or 50 each | the same |
//! | a lane that has little, whatever the number of them | [`QUIET_MESSAGES`] 50; [`UNSEEN_MESSAGES`] 2 while its messages are not known | [`QUIET_BYTES`] 4 MiB |
//! | a lane that cannot be written | [`HELD_MESSAGES`] 64 | its share |
//! | one whose tenant has a limit | 25 to 250 ms' worth, where that is less | the same |
//! | consumers that have delivered, before another lane is admitted | 2,000, and one round trip's worth | by the mean size seen |
//! | a commit | 250 a worker and 1,000 a tenant, 4,000 over many; in company an eighth of 250 a worker | 1 MiB, and what its last message exceeds that by |
//! | what gathers for one | 500, 12 a tenant, half of what its lanes may hold; 5 ms, 0.4 ms a tenant, 40 ms at most | |
//! | a suspect's commit, beside that one | 1 to 250 | the same |
//! | letters under way | 8 a lane | what the publisher allows |
//!
//! A consumer is replaced by one with another prefetch only at moments when nothing is on its way to it: see
//! [`crate::lane`].
//!
//! In bytes none of this is a promise, since sizes are known only when messages are here. The promise is the wall's, for
//! the daemon: `ingest.prefetch_bytes` and one message more ([`common::broker`]). What does not fit comes without its
//! body, is given back, and its lane asks again later and for less.
//!
//! **Prefetch and gathering are one policy.** What goes into a commit is what came during the last one, and on shared
//! cores a commit's time grows with its rows: so any size keeps itself up, and small ones cost all three programs more.
//! (Measured, one tenant at 256 B, PostgreSQL, broker and daemon: 14, 26 and 9 µs a message at 27 rows a commit, 8, 18 and
//! 6 at 400.) So where messages come fast, a few ms of waiting make the next commits large. That works only where what is
//! waited for may be delivered: with a prefetch of 100 it makes a lane three times slower. And a prefetch that is shared
//! with lanes that have nothing makes a busy one slow beside them.

use std::time::{Duration, Instant};

use super::{
    known::{Rate, Traffic},
    throttle::Throttle,
};
use crate::config::Ingest;

/// How many messages the lanes that have much hold between them, as long as that leaves each [`QUIET_MESSAGES`]. RabbitMQ's
/// processes carry what is unacknowledged through every collection of their garbage. (Measured, 100 tenants on two
/// channels: 42,000/s and 30 µs of the broker's CPU a message at 16,000 a channel, 47,000/s and 26 µs at 4,000, 50,000/s
/// and 24 µs at 2,000, no better below.)
pub(crate) const LIGHT_MESSAGES: usize = 2_000;
/// The prefetch of a lane that has little. It keeps a lane going among many, and is worth a table's and a queue's while
/// when it has its turn: what a queue's process of RabbitMQ does each time that it is asked for more, it does as well for
/// a few as for many. A lane that has as many at once has much, until it had fewer for [`BUSY_FOR`]. (Measured, 200,000
/// messages of 1,000 tenants, with 20 and 50 in turns: RabbitMQ 3.10 28,700/s and 32,400/s with 35 and 30 µs of its CPU a
/// message; 4.0, in a slow hour, 12,900/s and 14,800/s, 73 and 64 µs; no better with 100.)
pub(crate) const QUIET_MESSAGES: usize = 50;
/// And in bytes: what comes of a sudden on an idle lane lies before its neighbours' messages.
const QUIET_BYTES: usize = 4 << 20;
/// For how long a lane that had much counts as one that has. Each change takes a new consumer.
pub(crate) const BUSY_FOR: Duration = Duration::from_millis(500);
/// When a lane that sent has ended for the moment: it gives back its share then, if not before.
pub(crate) const IDLE_AFTER: Duration = Duration::from_secs(1);
/// The prefetch of a lane whose table cannot be written: enough to find out that it can be again, and to find one good
/// message among bad ones.
pub(crate) const HELD_MESSAGES: usize = 64;
/// The prefetch of a lane whose messages are not known: they may be of any size, and what lies on the way here lies
/// before its neighbours' messages.
pub(crate) const UNSEEN_MESSAGES: usize = 2;
/// A consumer whose prefetch is off by less than this factor is left alone: changing it takes a new consumer.
const FACTOR: usize = 2;
/// Consumers replaced for another prefetch from one tick to the next at most: each pauses its lane for two round trips.
/// Those that have just become known are not counted.
pub(crate) const RESIZES_MAX: usize = 32;

/// The room for messages whose size is not known yet. It grows with every consumer that is answered, so that the first
/// ones' messages tell how many of the next ones' there is room for.
pub(crate) const ADMITTED_FIRST: usize = 64;
/// How many lanes are admitted from one tick to the next at least: nobody waits for neighbours that are never done.
pub(crate) const ADMITTED_LEAST: usize = 25;

/// How many times fewer messages busy lanes hold, and shorter their runs are, in company: what a quiet tenant's message
/// waits for is the commit under way and what lies before it on the channel. (Measured: one with 500,000 queued makes
/// the p99 of 50 quiet ones 70 to 90 ms with full runs, 33 ms with a sixth.)
const COMPANY_PART: usize = 8;
/// How many rows of quiet tenants that shared commits with busy ones make company, in what time, and how long they are
/// counted on to come again. A message now and then shares its wait with nobody; a busy lane is not halved for it.
const COMPANY_ROWS: f64 = 10.0;
const COMPANY_WITHIN: Duration = Duration::from_secs(1);
const COMPANY_FOR: Duration = Duration::from_millis(500);

/// How long messages gather after a commit, at least: as long as one of a few hundred rows takes.
const GATHER_MIN: Duration = Duration::from_millis(5);
/// And for each tenant of that commit: of many each has but a few rows, which cost PostgreSQL less than their table and
/// counter do, and the broker likewise. (Measured, 500,000 messages of 1,000 tenants: 28,000/s and 34,000/s without
/// gathering, 38,000/s with 40 ms.)
const GATHER_TENANT: Duration = Duration::from_micros(400);
/// And at most.
const GATHER_MAX: Duration = Duration::from_millis(40);
/// Fewer rows than these to come are not worth a wait. Tenants that send now and then never wait.
const GATHER_PAYS_ROWS: f64 = 50.0;
/// How many rows are enough, all in all and for each tenant: larger commits cost no less a row.
const GATHERED_ROWS: usize = 500;
const GATHERED_ROWS_TENANT: usize = 12;
/// Over what time the rate is taken by which messages come.
const RATE_OVER: Duration = Duration::from_millis(50);

/// What is configured of the flow.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// The most rows of a run.
    pub(crate) run_rows: usize,
    /// The most rows of a commit.
    pub(crate) commit_rows: usize,
    /// The most rows of one that is of many tenants.
    pub(crate) commit_rows_spread: usize,
    /// About the most bytes of one.
    pub(crate) commit_bytes: usize,
    /// The most tenants of one.
    pub(crate) commit_tenants: usize,
    /// About the most bytes that lanes may hold together.
    pub(crate) held_bytes: usize,
}

/// A lane that asks for a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// What its messages have been like.
    pub(crate) traffic: Traffic,
    /// How many workers it has, or its limit keeps busy.
    pub(crate) workers: usize,
    /// How fast it may be stored.
    pub(crate) throttle: Throttle,
    /// Whether it has had much lately.
    pub(crate) busy: bool,
    /// Whether its table cannot be written.
    pub(crate) held: bool,
}

/// Whom it shares with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Neighbours {
    /// How many workers those lanes have together that have had much lately, the one that asks among them.
    pub(crate) busy_workers: usize,
    /// Whether quiet tenants' messages share commits with theirs.
    pub(crate) company: bool,
}

/// What is left of one commit's bounds while it is filled.
#[derive(Debug)]
pub(crate) struct Allowance {
    run_rows: usize,
    rows: usize,
    workers: usize,
    rows_left: usize,
    bytes: usize,
    bytes_left: usize,
}

/// What a commit was filled with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    /// How many tenants it is of.
    pub(crate) tenants: usize,
    /// How many rows it has.
    pub(crate) rows: usize,
    /// How many of them are of lanes that have little.
    pub(crate) quiet_rows: usize,
    /// Whether there are lanes that have much.
    pub(crate) busy: bool,
    /// How many messages its lanes can be expected to have waiting at once, and may put into one commit.
    pub(crate) room: usize,
    /// Whether more waited than it had room for.
    pub(crate) left: bool,
}

/// What is known of a shard's messages.
#[derive(Debug)]
pub(crate) struct Stream {
    arrivals: Rate,
    /// Of lanes that have little, into commits that they share with lanes that have much.
    quiet: Rate,
    company_until: Option<Instant>,
    /// How many came since the last commit was filled.
    came: usize,
    last: Option<Filled>,
    /// When the last commit ended.
    ended: Option<Instant>,
}

impl Stream {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self {
            arrivals: Rate::over(RATE_OVER),
            quiet: Rate::over(COMPANY_WITHIN),
            company_until: None,
            came: 0,
            last: None,
            ended: None,
        }
    }

    /// Messages came.
    pub(crate) fn came(&mut self, count: usize, now: Instant) {
        self.came += count;
        self.arrivals.add(count, now);
    }

    /// A commit was filled.
    pub(crate) fn filled(&mut self, filled: Filled, now: Instant) {
        // Where most rows are of such lanes it is they who are many, and not one that is in their way.
        if filled.busy && (1..filled.rows / 2).contains(&filled.quiet_rows) {
            self.quiet.add(filled.quiet_rows, now);
            if self.quiet.within(COMPANY_WITHIN, now) >= COMPANY_ROWS {
                self.company_until = Some(now + COMPANY_FOR);
            }
        }
        self.came = 0;
        self.last = Some(filled);
    }

    /// A commit has ended, and something is stored or not.
    pub(crate) fn ended(&mut self, stored: bool, now: Instant) {
        self.ended = Some(now);
        if !stored {
            self.last = None;
        }
    }

    /// Whether messages of quiet tenants share commits with those of busy ones.
    pub(crate) fn has_company(&self, now: Instant) -> bool {
        self.company_until.is_some_and(|until| now < until)
    }
}

impl Policy {
    /// What is configured, for one shard.
    pub(crate) fn of(ingest: &Ingest) -> Self {
        Self {
            run_rows: ingest.run_messages,
            commit_rows: ingest.commit_messages,
            commit_rows_spread: ingest.commit_messages_spread,
            commit_bytes: ingest.commit_bytes,
            commit_tenants: ingest.commit_tenants,
            held_bytes: ingest.prefetch_bytes / ingest.shards.max(1),
        }
    }

    /// How many messages a channel's lanes may hold between them before another is admitted.
    pub(crate) fn room(&self, traffic: Traffic) -> usize {
        LIGHT_MESSAGES.min(self.held_bytes / traffic.bytes_each()).max(1)
    }

    /// How many messages a lane's consumer may hold, the only back-pressure there is: at least 1. Those that have much
    /// share by their workers, as they do a commit: then what was delivered at about the same time is committed at
    /// about the same time, the acknowledgements have no long gaps, and a narrow lane's backlog does not lie before a
    /// wide one's. (The broker searches what is unacknowledged from the oldest on: an acknowledgement behind a gap of
    /// 4,000 costs it a third of a millisecond. Tried.) Those that have little cost nobody anything.
    pub(crate) fn prefetch(&self, lane: Asking, neighbours: Neighbours) -> u16 {
        let workers = lane.workers.max(1);
        let sharing = match lane.busy {
            true => neighbours.busy_workers.max(workers),
            false => neighbours.busy_workers + workers,
        };
        let light = match neighbours.company {
            true => LIGHT_MESSAGES / COMPANY_PART,
            false => LIGHT_MESSAGES,
        };
        let messages = match (lane.held, lane.traffic.is_known(), lane.busy) {
            (true, ..) => HELD_MESSAGES,
            (false, false, _) => UNSEEN_MESSAGES,
            (false, true, false) => QUIET_MESSAGES,
            (false, true, true) => (light.saturating_mul(workers) / sharing).max(QUIET_MESSAGES),
        };
        let messages = messages.min(lane.throttle.prefetch());
        let share = self.held_bytes / sharing * workers;
        let bytes = match lane.busy {
            true => share,
            false => self.held_bytes.min(QUIET_BYTES),
        };
        let prefetch = messages.min(bytes / lane.traffic.bytes_each()).max(1);
        u16::try_from(prefetch).unwrap_or(u16::MAX)
    }

    /// Until when messages gather for the next commit, if they do: while what came since the last one is not enough, and
    /// as much more can be expected in time as is worth a wait.
    pub(crate) fn gathers_until(&self, stream: &Stream, now: Instant) -> Option<Instant> {
        let (last, ended) = (stream.last?, stream.ended?);
        if last.left || stream.has_company(now) {
            return None;
        }
        let tenants = u32::try_from(last.tenants).unwrap_or(u32::MAX);
        let wait = GATHER_TENANT
            .saturating_mul(tenants)
            .clamp(GATHER_MIN, GATHER_MAX);
        let enough = last
            .tenants
            .saturating_mul(GATHERED_ROWS_TENANT)
            .max(GATHERED_ROWS)
            .min(last.room);
        let until = ended + wait;
        let pays = stream.arrivals.within(wait, now) >= GATHER_PAYS_ROWS;
        (now < until && stream.came < enough && pays).then_some(until)
    }

    /// How many messages of a lane can be waited for, if a commit takes so many at most: as many as are sure to come, and
    /// not all of those, since the broker is to go on meanwhile; but for one that will grow once it has all that it may
    /// hold.
    pub(crate) fn gather_room(prefetch: u16, will_grow: bool, rows: usize) -> usize {
        let prefetch = usize::from(prefetch);
        match will_grow {
            true => prefetch.min(rows),
            false => prefetch.div_ceil(2).min(rows),
        }
    }

    /// The bounds of a commit that `tenants` tenants with `workers` workers in all wait for.
    ///
    /// Every ready tenant gets up to as many runs as it has workers, the tenant that waits longest first. The more runs
    /// that makes, the fewer rows each may have: so a tenant's workers are its share of the commit, and a wide tenant
    /// never crowds out a narrow one.
    pub(crate) fn allowance(&self, tenants: usize, workers: usize, company: bool) -> Allowance {
        let run_rows = match company {
            true => (self.run_rows / COMPANY_PART).max(1),
            false => self.run_rows,
        };
        // Four full runs are a commit of one tenant; it grows with the tenants, since many small portions cost less
        // to wait for together.
        let rows = tenants
            .saturating_mul(self.run_rows)
            .clamp(self.commit_rows, self.commit_rows_spread.max(self.commit_rows));
        Allowance {
            run_rows,
            rows,
            workers: workers.max(1),
            rows_left: rows,
            bytes: self.commit_bytes,
            bytes_left: self.commit_bytes,
        }
    }
}

impl Allowance {
    /// Whether nothing more fits.
    pub(crate) fn spent(&self) -> bool {
        self.rows_left == 0 || self.bytes_left == 0
    }

    /// How many rows a tenant with so many workers may add.
    pub(crate) fn rows(&self, workers: usize) -> usize {
        self.share(workers).min(self.rows_left)
    }

    /// How many of its workers so many rows keep busy.
    pub(crate) fn runs(&self, workers: usize, rows: usize) -> usize {
        let run_rows = (self.share(workers) / workers.max(1)).max(1);
        rows.div_ceil(run_rows).min(workers)
    }

    /// Takes one row of so many bytes; the last may exceed what is left. Answers whether another one fits.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        self.rows_left = self.rows_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        !self.spent()
    }

    /// How many rows like the ones that were taken, so many, fit into a commit by their bytes.
    pub(crate) fn rows_like(&self, taken: usize) -> usize {
        let bytes = self.bytes - self.bytes_left;
        self.bytes.saturating_mul(taken) / bytes.max(1)
    }

    fn share(&self, workers: usize) -> usize {
        let most = self.run_rows.saturating_mul(workers).max(1);
        (self.rows.saturating_mul(workers) / self.workers).clamp(1, most)
    }
}

/// Whether a consumer with the prefetch `has` is worth replacing by one with `wants`. One more lane that has much for a
/// moment, and one fewer again, is not; a second message that there is no room for is.
pub(crate) fn worth_changing(has: u16, wants: u16) -> bool {
    let (has, wants) = (usize::from(has), usize::from(wants));
    wants >= has * FACTOR || has > wants * FACTOR || (wants == 1 && has > 1)
}

#[cfg(test)]
mod tests;
