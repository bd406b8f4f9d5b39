//! Tenants that stay `creating` or `deleting`: what a crash, or an outage, left half done.

use std::{collections::BTreeSet, time::Duration};

use common::id::TenantId;
use futures::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::super::{Tenants, model::Phase, model::Tenant, store};

const EVERY: Duration = Duration::from_secs(5);
/// Whoever began is given this long to finish. Longer than a call takes, so that only what was left is found.
const IDLE_SECONDS: f64 = 20.0;
/// How many tenants are finished in one go, and how many of them at once: one that cannot be finished takes seconds to
/// say so, and is not to hold up the others.
const BATCH: usize = 100;
const AT_ONCE: usize = 4;

/// Runs until `stop`. Several control planes may do so: every step is safe to do twice.
pub(super) async fn run(tenants: Tenants, stop: CancellationToken) {
    let (mut failing, mut after) = (false, Uuid::nil());
    // Those that were said to fail.
    let mut known = BTreeSet::new();
    while stop
        .run_until_cancelled(tokio::time::sleep(EVERY))
        .await
        .is_some()
    {
        let unfinished = match store::unfinished(&tenants.pool, IDLE_SECONDS, after, BATCH as i64).await {
            Ok(unfinished) => unfinished,
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot look for unfinished tenants");
                }
                failing = true;
                continue;
            }
        };
        failing = false;
        // From the start again after the last: those that cannot be finished leave the others their turn.
        let full = unfinished.len() == BATCH;
        after = unfinished
            .last()
            .filter(|_| full)
            .map_or(Uuid::nil(), |last| last.id.0);
        let work = stream::iter(unfinished)
            .map(|tenant| finish(&tenants, tenant))
            .buffer_unordered(AT_ONCE)
            .for_each(|(tenant, error)| {
                say(&tenant, error, &mut known);
                std::future::ready(())
            });
        if stop.run_until_cancelled(work).await.is_none() {
            return;
        }
    }
}

async fn finish(tenants: &Tenants, tenant: Tenant) -> (Tenant, Option<crate::error::Error>) {
    let finished = match tenant.phase {
        Phase::Creating => tenants.provision(tenant.id).await.map(drop),
        Phase::Deleting => tenants.finish_deleting(tenant.id).await,
        Phase::Ready | Phase::Gone => Ok(()),
    };
    (tenant, finished.err())
}

/// One line when a tenant cannot be finished and one when it is, however often it is tried.
fn say(tenant: &Tenant, error: Option<crate::error::Error>, known: &mut BTreeSet<TenantId>) {
    match error {
        None => {
            known.remove(&tenant.id);
            info!(tenant = %tenant.id, phase = ?tenant.phase, "finished what was left half done");
        }
        Some(error) => {
            if known.len() < BATCH && known.insert(tenant.id) {
                warn!(tenant = %tenant.id, phase = ?tenant.phase, %error, "cannot finish a tenant; retrying");
            }
        }
    }
}
