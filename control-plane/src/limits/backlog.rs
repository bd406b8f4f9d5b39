//! How much may wait in tenants' queues: the broker sees to it, by a policy for each queue that has a limit.
//!
//! A policy is the one thing that says so and can be changed while a queue is there; what a queue was declared with
//! cannot. What the broker has is compared with what tenants' rows say now and then, and at once when a tenant is gone: a
//! broker that was wiped gets its policies back, and one that could not be asked when a limit was set is told later.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use common::id::TenantId;
use sqlx::PgPool;
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Limits, store};
use crate::{
    broker::management::{self, KEY, Management, Policy},
    error::Error,
};

/// Above what an operator gives his own: of all policies that match a queue one alone holds.
const PRIORITY: i32 = 1_000;
/// How often the broker's policies are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// The policies; a handle.
#[derive(Clone, Debug)]
pub(crate) struct Backlogs {
    management: Option<Management>,
    look: Arc<Notify>,
}

/// What has to be done that the broker's policies are as they are to be.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    set: Vec<(TenantId, Policy)>,
    /// Only of tenants that are known: what belongs to nobody is not ours to delete.
    delete: Vec<TenantId>,
}

impl Backlogs {
    pub(crate) fn new(management: Option<Management>) -> Self {
        Self {
            management,
            look: Arc::default(),
        }
    }

    /// Refuses a limit that nobody could keep.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), Error> {
        if limits.has_backlog() && self.management.is_none() {
            return Err(Error::Precondition(format!(
                "backlog_messages and backlog_bytes are kept by a policy of RabbitMQ's, which its management API sets: \
                 configure {KEY} (JALUR_RABBITMQ__MANAGEMENT_URL), or leave them out"
            )));
        }
        Ok(())
    }

    /// Has the broker keep a tenant's limits.
    pub(super) async fn apply(&self, tenant: TenantId, limits: &Limits) -> Result<(), Error> {
        let Some(management) = &self.management else {
            return Ok(());
        };
        let name = name(tenant);
        let applied = match policy(tenant, limits) {
            Some(policy) => management.set_policy(&name, &policy).await,
            None => management.delete_policy(&name).await,
        };
        applied.map_err(|error| {
            Error::Unavailable(format!(
                "the limits of tenant {tenant} are written down, but the broker does not keep its backlog's yet: {error}. \
                 It does as soon as that is possible"
            ))
        })
    }

    /// Looks at once: a tenant is gone.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Runs until `stop`. Several control planes may do so: what is as it is to be is left alone.
    pub(crate) async fn run(self, pool: PgPool, stop: CancellationToken) {
        let Some(management) = self.management.clone() else {
            return stop.cancelled().await;
        };
        let _ = stop.run_until_cancelled(self.keep(&pool, &management)).await;
    }

    async fn keep(&self, pool: &PgPool, management: &Management) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = self.look.notified() => {}
            }
            match reconcile(pool, management).await {
                Ok(()) => failing = false,
                Err(error) => {
                    if failing {
                        debug!(%error, "still cannot see to the limits of tenants' backlogs");
                    } else {
                        warn!(%error, "cannot see to the limits of tenants' backlogs; retrying");
                    }
                    failing = true;
                }
            }
        }
    }
}

/// Why the broker's policies could not be seen to.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Management(#[from] management::Error),
    #[error(transparent)]
    Database(#[from] Error),
}

async fn reconcile(pool: &PgPool, management: &Management) -> Result<(), Failed> {
    // The broker first: what is set meanwhile is then found in the rows.
    let policies = management.policies().await?;
    let ours: BTreeMap<_, _> = policies
        .into_iter()
        .filter_map(|(name, policy)| Some((tenant_of(&name)?, policy)))
        .collect();
    let limited = store::backlogs(pool).await?;
    let others: Vec<_> = ours
        .keys()
        .filter(|tenant| !limited.contains_key(tenant))
        .copied()
        .collect();
    let free = store::without_backlog(pool, &others).await?;
    let Difference { set, delete } = Difference::between(&ours, &limited, &free);
    for (tenant, policy) in set {
        management.set_policy(&name(tenant), &policy).await?;
        info!(%tenant, "set the policy that limits a tenant's backlog");
    }
    for tenant in delete {
        management.delete_policy(&name(tenant)).await?;
        info!(%tenant, "deleted the policy of a tenant's backlog, which is limited no more");
    }
    Ok(())
}

impl Difference {
    fn between(
        there: &BTreeMap<TenantId, Policy>,
        limited: &BTreeMap<TenantId, Limits>,
        free: &BTreeSet<TenantId>,
    ) -> Self {
        let wanted = limited
            .iter()
            .filter_map(|(&tenant, limits)| Some((tenant, policy(tenant, limits)?)));
        Self {
            set: wanted
                .filter(|(tenant, policy)| there.get(tenant) != Some(policy))
                .collect(),
            delete: there
                .keys()
                .filter(|tenant| free.contains(tenant))
                .copied()
                .collect(),
        }
    }
}

/// `tenant_{id}_backlog`
fn name(tenant: TenantId) -> String {
    format!("tenant_{tenant}_backlog")
}

fn tenant_of(name: &str) -> Option<TenantId> {
    name.strip_prefix("tenant_")?
        .strip_suffix("_backlog")?
        .parse()
        .ok()
}

/// The policy of a tenant's queue, if that is limited: what is more is refused, and nothing that waits is dropped.
fn policy(tenant: TenantId, limits: &Limits) -> Option<Policy> {
    let (messages, bytes) = (limits.backlog_messages, limits.backlog_bytes);
    if !limits.has_backlog() {
        return None;
    }
    let lengths = [
        messages.map(|messages| ("max-length", messages.into())),
        bytes.map(|bytes| ("max-length-bytes", bytes.into())),
        Some(("overflow", "reject-publish".into())),
    ];
    let definition = lengths.into_iter().flatten();
    Some(Policy {
        pattern: format!("^{}$", tenant.queue()),
        definition: definition.map(|(key, value)| (key.to_owned(), value)).collect(),
        priority: PRIORITY,
        apply_to: "queues".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(n: u128) -> TenantId {
        TenantId(Uuid::from_u128(n))
    }

    fn limits(messages: Option<i32>, bytes: Option<i64>) -> Limits {
        Limits {
            backlog_messages: messages,
            backlog_bytes: bytes,
            ..Limits::default()
        }
    }

    #[test]
    fn a_policy_is_for_one_queue_and_says_what_is_limited() {
        let id = tenant(1);
        assert_eq!(policy(id, &limits(None, None)), None);
        let both = policy(id, &limits(Some(5), Some(1 << 40))).unwrap();
        assert_eq!(
            serde_json::to_string(&both).unwrap(),
            format!(
                r#"{{"pattern":"^tenant_{id}_queue$","definition":{{"max-length":5,"max-length-bytes":1099511627776,"overflow":"reject-publish"}},"priority":1000,"apply-to":"queues"}}"#
            )
        );
        let one = policy(id, &limits(None, Some(9))).unwrap();
        assert_eq!(one.definition.len(), 2);
        assert_eq!(tenant_of(&name(id)), Some(id));
        for other in ["tenant_x_backlog", "ha-all", "tenant_backlog"] {
            assert_eq!(tenant_of(other), None);
        }
    }

    #[test]
    fn what_is_missing_or_different_is_set_and_what_is_limited_no_more_is_deleted() {
        let [right, wrong, missing, free, unknown] = [1, 2, 3, 4, 5].map(tenant);
        let (five, six) = (limits(Some(5), None), limits(Some(6), None));
        let of = |tenant, limits| (tenant, policy(tenant, limits).unwrap());
        let there = [
            of(right, &five),
            of(wrong, &six),
            of(free, &five),
            of(unknown, &five),
        ];
        let limited = [(right, five), (wrong, five), (missing, five)];
        let difference = Difference::between(
            &there.into_iter().collect(),
            &limited.into_iter().collect(),
            &BTreeSet::from([free]),
        );
        let wanted = Difference {
            set: vec![of(wrong, &five), of(missing, &five)],
            delete: vec![free],
        };
        assert_eq!(difference, wanted);
    }
}
