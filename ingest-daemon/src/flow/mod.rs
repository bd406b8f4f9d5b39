//! How much flows: how many messages a lane may hold, how many go into a commit, who waits for whom. Pure.
//!
//! Every bound that is tuned stands here, since they bind each other. With the default configuration they add up to
//! this, for a shard (a daemon has two):
//!
//! | what | messages | bytes |
//! | --- | --- | --- |
//! | consumers that have delivered, before another lane is admitted | [`LIGHT`] 2,000, and one round trip's worth | a shard's share of `ingest.prefetch_bytes`, by the mean size seen |
//! | one lane | 5 commits' worth, 64 to 2,000; [`UNSEEN`] 2 while its messages are not known; [`HELD`] 64 while it cannot be written | its share of the same |
//! | `n` lanes together | 2,000, or 20 each where that is more; `ingest.prefetch_messages` 64,000 at most | the same |
//! | a commit | 250 a worker and 1,000 a tenant, 4,000 over many | 1 MiB, and what its last message exceeds that by |
//! | a suspect's commit, beside that one | 1 to 250 | the same |
//! | letters under way | 8 a lane | what the publisher allows |
//!
//! In bytes none of this is a promise, since sizes are known only when messages are here. The promise is the wall's, for
//! the daemon: `ingest.prefetch_bytes` and one message more ([`common::broker`]). What does not fit comes without its
//! body, is given back, and its lane asks again later and for less.

mod commit;
mod prefetch;

use std::time::Duration;

pub(crate) use self::{
    commit::{Allowance, Limits, thin},
    prefetch::{Budget, Traffic, worth_changing},
};

/// How many commits' worth a lane holds: one under way, one to follow, and what is on its way here.
const COMMITS: f64 = 5.0;
/// How many messages a channel's lanes hold between them, as long as that leaves each a [`FEW`]. RabbitMQ's processes
/// carry what is unacknowledged through every collection of their garbage. (Measured, 100 tenants on two channels: 42,000/s
/// and 30 µs of the broker's CPU a message at 16,000 a channel, 47,000/s and 26 µs at 4,000, 50,000/s and 24 µs at
/// 2,000, no better below.)
pub(crate) const LIGHT: usize = 2_000;
/// What keeps a lane going among many, and is worth a table's and a queue's while when it has its turn.
pub(crate) const FEW: usize = 20;
/// The prefetch of a lane whose table cannot be written: enough to find out that it can be again, and to find one good
/// message among bad ones.
pub(crate) const HELD: usize = 64;
/// The prefetch of a quiet lane, at least.
const QUIET: usize = 64;
/// The prefetch of a lane whose messages are not known: they may be of any size, and what lies on the way here lies
/// before its neighbours' messages.
pub(crate) const UNSEEN: usize = 2;
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

/// How many times shorter a run is in company. The prefetch follows it, and with that what lies before a quiet
/// tenant's message on its way here. (Measured: one with 500,000 queued makes the p99 of 50 quiet ones 70 to 90 ms
/// with full runs, 33 ms with a sixth.)
const COMPANY_RUNS: usize = 8;
/// How long a shard counts on quiet tenants that shared a commit with a full queue to come again.
pub(crate) const COMPANY: Duration = Duration::from_secs(1);

/// A commit with fewer rows than this for each of its tenants costs PostgreSQL more for the tenants than for the rows,
/// and the broker likewise.
const THIN_ROWS: usize = 12;
/// Of fewer tenants it costs less than waiting does. (Measured: 50 tenants a commit are stored no faster for it.)
const THIN_TENANTS_MIN: usize = 100;
/// How long messages gather after a thin commit: with many busy tenants one every few milliseconds takes a row or two
/// of each. (Measured, 500,000 messages of 1,000 tenants: 28,000/s and 34,000/s without, 38,000/s with. 5,000 tenants:
/// no difference beyond the noise.)
pub(crate) const GATHERING: Duration = Duration::from_millis(40);
