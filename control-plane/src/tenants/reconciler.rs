//! Finishes what a crash left half done: tenants that stay `creating` or `deleting`.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Tenants, model::Phase, store};

const EVERY: Duration = Duration::from_secs(5);
/// Whoever began is given this long to finish. Longer than a call takes, so that only what a crash left is found.
const IDLE_SECONDS: f64 = 20.0;
/// How many tenants are finished in one go.
const BATCH: i64 = 100;

/// Runs until `stop`. Several control planes may do so: every step is safe to do twice.
pub(crate) async fn run(tenants: Tenants, stop: CancellationToken) {
    let mut failing = false;
    while stop
        .run_until_cancelled(tokio::time::sleep(EVERY))
        .await
        .is_some()
    {
        let unfinished = match store::unfinished(&tenants.pool, IDLE_SECONDS, BATCH).await {
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
        for tenant in unfinished {
            let work = async {
                match tenant.phase {
                    Phase::Creating => tenants.provision(tenant.id).await.map(drop),
                    Phase::Deleting => tenants.finish_deleting(tenant.id).await,
                    Phase::Ready | Phase::Gone => Ok(()),
                }
            };
            match stop.run_until_cancelled(work).await {
                Some(Ok(())) => {
                    info!(tenant = %tenant.id, phase = ?tenant.phase, "finished what was left half done")
                }
                Some(Err(error)) => {
                    warn!(tenant = %tenant.id, phase = ?tenant.phase, %error, "could not finish a tenant; trying again")
                }
                None => return,
            }
        }
    }
}
