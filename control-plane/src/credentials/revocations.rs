//! Keeps in mind which credentials were revoked, for as long as there may be tokens of theirs.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::store;
use crate::{config::TOKEN_TTL_MAX, identity::Revoked};

/// How soon a revocation on another control plane is known here.
const EVERY: Duration = Duration::from_secs(2);
/// How soon after the last use that was written down the last token can have been sold, with what clocks may differ. How
/// long that was good for another control plane, or this one before a restart, may see otherwise than this one: so the
/// longest time that may be configured counts.
const TOKENS_MAX: Duration = TOKEN_TTL_MAX.saturating_add(Duration::from_secs(5 * 60));
/// How often rows that are of no more use are deleted, and how many of them.
const TIDIED_EVERY: Duration = Duration::from_secs(60);
const TIDIED: i64 = 1_000;

/// Runs until `stop`. Where the database cannot be asked what was known last goes on. `revoked` is absent where nobody
/// wants to know.
pub(crate) async fn run(pool: PgPool, revoked: Option<Revoked>, stop: CancellationToken) {
    let mut failing = false;
    let mut tidied: Option<Instant> = None;
    let look = async {
        loop {
            match look(&pool, revoked.as_ref(), &mut tidied).await {
                Ok(()) if failing => {
                    info!("which credentials were revoked is known again");
                    failing = false;
                }
                Ok(()) => {}
                Err(error) if !failing => {
                    warn!(%error, "cannot see which credentials were revoked; what was known last goes on");
                    failing = true;
                }
                Err(_) => {}
            }
            sleep(EVERY).await;
        }
    };
    stop.run_until_cancelled(look).await;
}

async fn look(
    pool: &PgPool,
    revoked: Option<&Revoked>,
    tidied: &mut Option<Instant>,
) -> Result<(), sqlx::Error> {
    if let Some(revoked) = revoked {
        revoked.replace(store::revoked(pool, TOKENS_MAX).await?);
    }
    if tidied.is_none_or(|tidied| tidied.elapsed() > TIDIED_EVERY) {
        store::tidy(pool, TOKENS_MAX, TIDIED).await?;
        *tidied = Some(Instant::now());
    }
    Ok(())
}
