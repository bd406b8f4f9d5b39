//! What a living tenant is to have, and the one place that makes it: for its creation, and whenever something of it is
//! found missing.
//!
//! It is made under the tenant's lock, which its deletion takes too: what is being deleted is never brought back.

use std::time::Duration;

use common::id::TenantId;
use futures::{StreamExt as _, stream};
use tokio::time::timeout;
use tracing::warn;

use super::{
    Tenants,
    partition::{self, Made},
    store,
};
use crate::{
    broker::QueueError,
    error::Error,
    problems::{self, Kind},
};

/// How many tenants' queues are declared at a time: a wiped broker makes some hundred durable queues a second however
/// many it is asked for at once.
const DECLARED_AT_ONCE: usize = 8;
/// How long declaring may take for all tenants of a call. Their deletion waits for no longer.
const DECLARING: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// What stands in some tenants' way.
    pub(super) failures: Vec<(TenantId, Error)>,
    /// For whom RabbitMQ closed the connection that all share.
    pub(super) costly: Vec<TenantId>,
    /// Why the others may not have what they lack: RabbitMQ failed.
    pub(super) down: Option<Error>,
}

impl Tenants {
    /// Makes what is missing of a tenant, or says why that cannot be had.
    pub(crate) async fn ensure(&self, tenant: TenantId) -> Result<(), Error> {
        let Kept { failures, down, .. } = self.keep(&[tenant]).await?;
        let failure = failures.into_iter().next().map(|(_, error)| error);
        failure.or(down).map_or(Ok(()), Err)
    }

    /// Makes what is missing of these tenants, of those that live. What stands in a tenant's way is that tenant's
    /// problem, and for an answer; an error is everybody's.
    pub(super) async fn keep(&self, tenants: &[TenantId]) -> Result<Kept, Error> {
        let mut failures = Vec::new();
        for tenant in partition::missing(&self.pool, tenants).await? {
            if let Err(error) = self.make_partition(tenant).await {
                failures.push((tenant, error));
            }
        }
        let mut kept = self.make_queues(tenants).await?;
        failures.append(&mut kept.failures);
        Ok(Kept { failures, ..kept })
    }

    /// A tenant whose partition is gone stores nothing. It gets an empty one: what was in the old one is lost, and
    /// what waits for it is not.
    async fn make_partition(&self, tenant: TenantId) -> Result<(), Error> {
        match partition::create(&self.schema, tenant).await {
            Ok(made) => {
                if made == Made::Again {
                    warn!(%tenant, "a tenant's partition was missing, with all that was in it; it has an empty one");
                }
                problems::end(&self.pool, &[tenant], Kind::Table).await?;
                Ok(())
            }
            // Deleted meanwhile, or nobody's fault.
            Err(error) if matches!(error, Error::NoTenant(_)) || error.is_for_now() => Err(error),
            Err(error) => {
                let table = tenant.partition();
                let detail = format!("its partition {table} is missing, and cannot be made: {error}");
                problems::begin(&self.pool, tenant, Kind::Table, &detail).await?;
                Err(error)
            }
        }
    }

    async fn make_queues(&self, tenants: &[TenantId]) -> Result<Kept, Error> {
        let mut lock = self.pool.begin().await?;
        let living = store::hold(&mut lock, tenants).await?;
        let declare = async |tenant: TenantId| (tenant, self.queues.declare(tenant).await);
        let declared = stream::iter(living)
            .map(declare)
            .buffer_unordered(DECLARED_AT_ONCE)
            .collect::<Vec<_>>();
        let declared = timeout(DECLARING, declared)
            .await
            .map_err(|_| Error::Unavailable("RabbitMQ does not declare queues in time; try again".into()))?;
        lock.rollback().await?;

        let (mut kept, mut well) = (Kept::default(), Vec::new());
        for (tenant, declared) in declared {
            match declared {
                Ok(()) => well.push(tenant),
                Err(QueueError::Broker(error)) => kept.down = Some(error.into()),
                Err(error) => {
                    problems::begin(&self.pool, tenant, Kind::Queue, &error.to_string()).await?;
                    if error.is_costly() {
                        kept.costly.push(tenant);
                    }
                    if !error.is_usable() {
                        kept.failures.push((tenant, error.into()));
                    }
                }
            }
        }
        problems::end(&self.pool, &well, Kind::Queue).await?;
        Ok(kept)
    }
}
