//! What callers ask of tenants.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use common::id::TenantId;
use opentelemetry::metrics::Histogram;
use sqlx::PgPool;
use time::OffsetDateTime;
use tracing::debug;

use super::{
    Missed,
    filter::Filter,
    model::{NewTenant, PageToken, Phase, Status, Tenant, Update, check_workers},
    partition, retrying, store,
};
use crate::{
    broker::{Depth, Queues},
    error::Error,
    fleet::{Consumer, Fleet},
    limits::Backlogs,
    overview::Overview,
    problems::{self, Kind, Problem},
};

/// How long CreateTenant waits for the tenant's consumer.
const CONSUMER_WAIT: Duration = Duration::from_secs(5);
/// How long SetConcurrency waits for the daemons.
const APPLIED_WAIT: Duration = Duration::from_secs(2);
/// How long pausing and deleting wait for the tenant's consumers to stop. A daemon that is gone is declared out in
/// less; one that has work in flight needs a commit's time.
const STOPPED_WAIT: Duration = Duration::from_secs(10);

/// What runs for a tenant at the moment.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) consumers: Vec<Consumer>,
    /// `None` when the broker cannot be asked.
    pub(crate) depth: Option<Depth>,
    /// How many messages wait to be tried again; `None` where that is not known.
    pub(crate) retrying: Option<u32>,
    /// As of a few seconds ago; `None` where that is not known.
    pub(crate) stored_per_second: Option<f64>,
    /// `None` when all is well.
    pub(crate) problem: Option<Problem>,
}

/// Tenants.
#[derive(Clone, Debug)]
pub(crate) struct Tenants {
    pub(crate) pool: PgPool,
    /// Where partitions are made and dropped.
    pub(crate) schema: PgPool,
    pub(crate) queues: Queues,
    /// How many there may be.
    pub(crate) max: Option<NonZeroU32>,
    pub(crate) backlogs: Backlogs,
    pub(crate) fleet: Fleet,
    pub(crate) missed: Missed,
    pub(crate) overview: Overview,
    pub(crate) propagation: Histogram<f64>,
}

impl Tenants {
    /// Creates a tenant, or completes the creation that an earlier try with the same id began.
    pub(crate) async fn create(&self, new: &NewTenant) -> Result<Tenant, Error> {
        let tenant = store::insert(&self.pool, new, self.max).await?;
        let tenant = match tenant.phase {
            Phase::Creating => self.provision(tenant.id).await?,
            Phase::Ready | Phase::Deleting | Phase::Gone => tenant,
        };
        if tenant.status == Status::Active {
            // Without a daemon the tenant is created all the same: its consumer starts when one joins.
            self.fleet.wait_running(tenant.id, CONSUMER_WAIT).await?;
        }
        Ok(tenant)
    }

    /// Makes what a tenant needs, where it is not there yet, and lets the fleet know.
    pub(super) async fn provision(&self, id: TenantId) -> Result<Tenant, Error> {
        self.ensure(id).await.map_err(|error| match error {
            Error::NoTenant(_) => error,
            Error::Precondition(_) => Error::Precondition(format!(
                "tenant {id} is not complete: {error}. It is completed as soon as that is mended, unless it is deleted"
            )),
            error => Error::Unavailable(format!(
                "tenant {id} is not complete: {error}. Create it again with this id, or wait: it is completed as soon as that is possible"
            )),
        })?;
        let ready = store::set_ready(&self.pool, id).await;
        self.fleet.reassign().await;
        ready
    }

    /// A page of those tenants, each with what runs for it, and where the next one starts. What the broker and rates say is
    /// as of a few seconds ago: one answer for all tenants and all who ask.
    pub(crate) async fn list(
        &self,
        filter: &Filter,
        after: Option<PageToken>,
        size: usize,
    ) -> Result<(Vec<(Tenant, Runtime)>, Option<PageToken>), Error> {
        let mut listed = store::list(&self.pool, filter, after, size as i64 + 1).await?;
        let more = listed.len() > size;
        listed.truncate(size);
        let next = listed.last().filter(|_| more).map(|last| PageToken {
            created_at: last.tenant.created_at,
            id: last.tenant.id.0,
        });
        let depths = self.overview.depths().await;
        let with_runtime = |listed: store::Listed| {
            let (tenant, consumers, problem) = listed.into_parts();
            let runtime = Runtime {
                consumers,
                depth: depths.as_ref().and_then(|depths| depths.get(&tenant.id).copied()),
                retrying: self.overview.retrying(tenant.id),
                stored_per_second: self.overview.stored_per_second(tenant.id),
                problem,
            };
            (tenant, runtime)
        };
        Ok((listed.into_iter().map(with_runtime).collect(), next))
    }

    /// A tenant, without what runs for it.
    pub(crate) async fn get(&self, id: TenantId) -> Result<Tenant, Error> {
        store::get(&self.pool, id).await
    }

    /// What runs for a tenant at the moment.
    pub(crate) async fn runtime(&self, tenant: &Tenant) -> Result<Runtime, Error> {
        let id = tenant.id;
        // The queue first: what leaves it meanwhile is then counted as held, and not missed.
        let depth = self.queues.depth(id).await.ok();
        let missed = match depth {
            Some(Depth { queue: None, .. }) => self.miss(tenant, &id.queue()).await,
            Some(Depth {
                dead_letters: None, ..
            }) => self.miss(tenant, &id.dead_letter_queue()).await,
            _ => None,
        };
        let lanes = self.fleet.lanes(id).await?;
        let depth = depth.map(|depth| depth.with_held(lanes.held));
        Ok(Runtime {
            consumers: lanes.consumers,
            depth,
            retrying: Some(retrying::of(&self.pool, id).await?),
            stored_per_second: self.overview.stored_per_second(id),
            // It may have been made again since, and yet it is what this answer is about.
            problem: problems::of(&self.pool, id).await?.or(missed),
        })
    }

    /// What came of something that needs a tenant's queues, after looking whether one of them was not there.
    pub(crate) async fn noticing<T>(&self, tenant: &Tenant, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::NoQueue(queue)) = &result {
            self.miss(tenant, queue).await;
        }
        result
    }

    /// A queue is not there: that is its tenant's problem until it is made again, which is at once.
    async fn miss(&self, tenant: &Tenant, queue: &str) -> Option<Problem> {
        if tenant.phase != Phase::Ready {
            return None;
        }
        let detail = format!("its queue {queue} is missing, and is being made again");
        // Before it is made again, which ends the problem.
        if let Err(error) = problems::begin(&self.pool, tenant.id, Kind::Queue, &detail).await {
            debug!(tenant = %tenant.id, %error, "could not write down that a queue is missing");
        }
        self.missed.note(tenant.id);
        Some(Problem::new(Kind::Queue, &detail, OffsetDateTime::now_utc()))
    }

    /// Changes a tenant; a pause answers once nothing consumes.
    pub(crate) async fn update(&self, id: TenantId, update: &Update) -> Result<Tenant, Error> {
        let tenant = store::update(&self.pool, id, update).await?;
        match (update.status, tenant.phase) {
            (Some(Status::Paused), _) => {
                self.fleet.reassign().await;
                if !self.fleet.wait_stopped(id, STOPPED_WAIT).await? {
                    return Err(Error::Unavailable(format!(
                        "tenant {id} is paused, but a daemon has not said yet that it consumes no more; read the tenant to see"
                    )));
                }
            }
            (Some(Status::Active), Phase::Ready) => {
                self.fleet.reassign().await;
                self.fleet.wait_running(id, CONSUMER_WAIT).await?;
            }
            _ => {}
        }
        Ok(tenant)
    }

    /// Sets how many workers a tenant has, and answers whether that is applied.
    pub(crate) async fn set_concurrency(&self, id: TenantId, workers: i32) -> Result<bool, Error> {
        let workers = check_workers(workers)?;
        let start = Instant::now();
        store::set_workers(&self.pool, id, workers).await?;
        self.fleet.reassign().await;
        let applied = self.fleet.wait_applied(id, workers, APPLIED_WAIT).await?;
        if applied {
            self.propagation.record(start.elapsed().as_secs_f64(), &[]);
        }
        Ok(applied)
    }

    /// Deletes a tenant and everything of it.
    pub(crate) async fn delete(&self, id: TenantId) -> Result<(), Error> {
        store::set_deleting(&self.pool, id).await?;
        self.finish_deleting(id).await.map_err(|error| match error {
            error if error.is_for_now() => Error::Unavailable(format!(
                "tenant {id} is being deleted, but not all of it is gone yet: {error}. Nothing more needs to be done: the rest goes as soon as that is possible"
            )),
            error => error,
        })
    }

    /// Takes a tenant apart that is `deleting`; safe to begin again.
    pub(super) async fn finish_deleting(&self, id: TenantId) -> Result<(), Error> {
        self.fleet.reassign().await;
        // Bounded, and then done all the same: a consumer that would not stop loses its queue, which stops it.
        self.fleet.wait_stopped(id, STOPPED_WAIT).await?;
        self.queues.delete(id).await?;
        partition::drop(&self.schema, id).await?;
        store::set_gone(&self.pool, id).await?;
        // What limited its queue goes with that.
        self.backlogs.look();
        Ok(())
    }
}
