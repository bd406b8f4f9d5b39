//! The loop that removes: by the control plane that has the turn, a step at a time, each tenant in its turn.
//!
//! After each step it rests for four times as long as that took, so that it uses a fifth of one connection's time at most,
//! however much there is to remove. How much of the database that is others decide, who wait for none of its locks.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    time::Duration,
};

use common::id::TenantId;
use opentelemetry::metrics::{Counter, Meter};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    failure::Failure,
    plan::{Known, Step},
    store::{self, Kept, LEASE},
};
use crate::{tenants::partition, turn::Turn};

/// How often it is looked who has something to remove; and for how long, at least, that is removed before the next look.
const EVERY: Duration = Duration::from_secs(5);
/// How many times as long as a step took it rests after it.
const REST: u32 = 4;
/// How long an answer may take: some statements' time, each of which PostgreSQL gives three seconds.
const LIMIT: Duration = Duration::from_secs(10);
/// How long giving back the turn may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// A connection keeps up to 33 kB for every table it ever touched; it is replaced before that adds up.
const STATEMENTS_MAX: u32 = 1_000;
/// How long a tenant is left alone whose step has failed, and after how many failures in a row no longer.
const FAILED_PAUSE: Duration = Duration::from_secs(10);
const FAILURES_MAX: u32 = 6;

/// Removes.
#[derive(Debug)]
pub(crate) struct Sweep {
    connection: Connection,
    /// Of the role that owns the tables.
    schema: PgPool,
    removed: Counter<u64>,
    turn: Option<Uuid>,
    tenants: HashMap<TenantId, Tenant>,
}

/// The connection, which is opened when it is needed.
#[derive(Debug)]
struct Connection {
    pool: PgPool,
    statements: u32,
}

/// What is known of a tenant within a turn.
#[derive(Debug)]
struct Tenant {
    known: Known,
    failures: u32,
    alone_until: Option<Instant>,
    /// Whether its table is known to be vacuumed often enough.
    is_tended: bool,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// There may be more to do.
    More,
    /// Nothing more for now.
    All,
    /// It is not this one's turn, or not this tenant's retention any more.
    Overtaken,
}

impl Sweep {
    /// `pool` is [`super::pool`], and `schema` for what only the tables' owner may do.
    pub(crate) fn new(pool: PgPool, schema: PgPool, meter: &Meter) -> Self {
        Self {
            connection: Connection { pool, statements: 0 },
            schema,
            removed: meter
                .u64_counter("jalur_retention_removed")
                .with_description("Stored messages that were removed since they were too old or too many")
                .build(),
            turn: None,
            tenants: HashMap::new(),
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.sweep_on()).await;
        if let Some(holder) = self.turn {
            let give_back =
                async |connection: &mut PgConnection| Turn::Retention.give_back(connection, holder).await;
            if let Err(error) = self.connection.within(GOODBYE, give_back).await {
                debug!(%error, "could not give back the turn at removing messages; it ends by itself");
            }
        }
    }

    async fn sweep_on(&mut self) {
        let mut failing = false;
        loop {
            let pause = match self.sweep().await {
                Ok(more) => {
                    failing = false;
                    if more { Duration::ZERO } else { EVERY }
                }
                Err(error) => {
                    if failing {
                        debug!(%error, "still cannot remove what tenants' retention says");
                    } else {
                        warn!(%error, "cannot remove what tenants' retention says; retrying");
                    }
                    failing = true;
                    // Whatever was done may be undone.
                    self.tenants.clear();
                    EVERY
                }
            };
            sleep(pause).await;
        }
    }

    /// Looks at everybody who has a retention, and lets each remove in turn; answers whether there is more to do.
    async fn sweep(&mut self) -> sqlx::Result<bool> {
        if !self.has_turn().await? {
            return Ok(false);
        }
        let began = Instant::now();
        let (now, all) = self.connection.within(LIMIT, store::kept).await?;
        rest(began).await;
        let here: HashSet<_> = all.iter().map(|kept| kept.id).collect();
        self.tenants.retain(|id, _| here.contains(id));
        for kept in &all {
            let tenant = self.tenants.entry(kept.id).or_insert_with(|| Tenant::new(now));
            if tenant.known.is_over(kept.last, now) {
                (tenant.known, tenant.is_tended) = (Known::new(now), false);
            }
        }
        let (mut turns, mut queue) = (all.len(), VecDeque::from(all));
        while let Some(kept) = queue.pop_front() {
            if turns == 0 && began.elapsed() > EVERY {
                return Ok(true);
            }
            turns = turns.saturating_sub(1);
            match self.step(&kept, now).await? {
                Done::More => queue.push_back(kept),
                Done::All => {}
                Done::Overtaken => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Keeps the turn, or tries to take it.
    async fn has_turn(&mut self) -> sqlx::Result<bool> {
        if let Some(holder) = self.turn {
            let keep =
                async |connection: &mut PgConnection| Turn::Retention.keep(connection, holder, LEASE).await;
            if self.connection.within(LIMIT, keep).await? {
                return Ok(true);
            }
            self.turn = None;
        }
        // What was known another one may have changed.
        self.tenants.clear();
        // Another one each time: what is known is known within one turn.
        let holder = Uuid::new_v4();
        let take =
            async |connection: &mut PgConnection| Turn::Retention.take(connection, holder, LEASE).await;
        let taken = self.connection.within(LIMIT, take).await?;
        self.turn = taken.then_some(holder);
        Ok(taken)
    }

    /// The next step of one tenant; it fails where that is not the tenant's own affair.
    async fn step(&mut self, kept: &Kept, now: OffsetDateTime) -> sqlx::Result<Done> {
        let (Some(holder), Some(tenant)) = (self.turn, self.tenants.get_mut(&kept.id)) else {
            return Ok(Done::Overtaken);
        };
        let step = tenant.known.next(&kept.retention, kept.last, now);
        if step == Step::Rest || tenant.alone_until.is_some_and(|until| Instant::now() < until) {
            return Ok(Done::All);
        }
        let began = Instant::now();
        let taken = tenant.take(step, holder, kept, &mut self.connection).await;
        let done = match taken {
            Ok((done, rows)) => {
                tenant.went_well(kept.id);
                if rows > 0 {
                    debug!(tenant = %kept.id, rows, "removed messages");
                    self.removed.add(rows.unsigned_abs(), &[]);
                    tenant.tend(kept.id, &self.schema).await;
                }
                done
            }
            Err(error) => match Failure::of(&error) {
                Failure::Everybody => return Err(error),
                Failure::NoTable => {
                    tenant.has_no_table(now);
                    Done::All
                }
                Failure::Tenant { is_late } => {
                    if is_late {
                        tenant.known.took_too_long();
                    }
                    tenant.failed(kept.id, &error);
                    Done::All
                }
            },
        };
        rest(began).await;
        Ok(done)
    }
}

/// Leaves the database to others for a while.
async fn rest(began: Instant) {
    sleep(began.elapsed() * REST).await;
}

impl Tenant {
    fn new(now: OffsetDateTime) -> Self {
        Self {
            known: Known::new(now),
            failures: 0,
            alone_until: None,
            is_tended: false,
        }
    }

    /// Takes a step, and answers how many rows it has removed, too.
    async fn take(
        &mut self,
        step: Step,
        holder: Uuid,
        kept: &Kept,
        connection: &mut Connection,
    ) -> sqlx::Result<(Done, i64)> {
        let began = Instant::now();
        match step {
            Step::Rest => Ok((Done::All, 0)),
            Step::Count(count) => {
                let work = async |connection: &mut _| store::count(connection, kept.id, count).await;
                let (found, to) = connection.within(LIMIT, work).await?;
                self.known.counted(count.rows, found, to, kept.last);
                Ok((Done::More, 0))
            }
            Step::Remove(remove) => {
                let work = async |connection: &mut _| store::remove(connection, holder, kept, remove).await;
                let Some(removed) = connection.within(LIMIT, work).await? else {
                    return Ok((Done::Overtaken, 0));
                };
                let took = began.elapsed();
                let done = match self.known.removed(remove.rows, &removed, kept.last, took) {
                    true => Done::More,
                    false => Done::All,
                };
                Ok((done, removed.rows))
            }
        }
    }

    /// Has PostgreSQL vacuum the table of which something was removed before that is much of it.
    async fn tend(&mut self, id: TenantId, schema: &PgPool) {
        if self.is_tended {
            return;
        }
        self.is_tended = true;
        if let Err(error) = partition::tend(schema, id).await {
            debug!(tenant = %id, %error, "could not have a tenant's table vacuumed more often; trying again in an hour");
        }
    }

    /// Its deletion, or the reconciler, sees to that; of another table nothing is known.
    fn has_no_table(&mut self, now: OffsetDateTime) {
        *self = Self::new(now);
        self.alone_until = Some(Instant::now() + FAILED_PAUSE);
    }

    fn went_well(&mut self, id: TenantId) {
        if self.failures > 0 {
            info!(tenant = %id, "a tenant's messages can be removed again");
        }
        (self.failures, self.alone_until) = (0, None);
    }

    fn failed(&mut self, id: TenantId, error: &sqlx::Error) {
        if self.failures == 0 {
            warn!(tenant = %id, %error, "cannot remove what a tenant's retention says; retrying, with growing pauses");
        } else {
            debug!(tenant = %id, %error, "still cannot remove what a tenant's retention says");
        }
        self.alone_until = Some(Instant::now() + FAILED_PAUSE * (1 << self.failures));
        self.failures = (self.failures + 1).min(FAILURES_MAX);
    }
}

impl Connection {
    /// Does something within `limit`. A connection that something failed on is not used again: it may be silent, and a
    /// trigger of a tenant's may have set anything for the rest of its session.
    async fn within<T>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let silent = || {
            let message = format!("PostgreSQL did not answer within {limit:?}");
            sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message))
        };
        let until = Instant::now() + limit;
        let acquired = timeout_at(until, self.pool.acquire()).await;
        let mut connection = acquired.map_err(|_| silent())??;
        self.statements += 1;
        let done = timeout_at(until, work(&mut connection)).await;
        let done = done.unwrap_or_else(|_| Err(silent()));
        if done.is_err() || self.statements >= STATEMENTS_MAX {
            connection.close_on_drop();
            self.statements = 0;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rests_for_four_times_as_long_as_it_works() {
        let began = Instant::now();
        sleep(Duration::from_millis(50)).await;
        rest(began).await;
        assert_eq!(began.elapsed(), Duration::from_millis(250));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_fails_is_left_alone_for_longer_and_longer() {
        let id = TenantId(Uuid::nil());
        let mut tenant = Tenant::new(OffsetDateTime::UNIX_EPOCH);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            tenant.failed(id, &sqlx::Error::PoolClosed);
            let until = tenant.alone_until.unwrap();
            pauses.push((until - Instant::now()).as_secs());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
        tenant.went_well(id);
        assert_eq!((tenant.failures, tenant.alone_until), (0, None));
    }
}
