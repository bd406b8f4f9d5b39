//! What is too old leaves the audit trail.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::store;

/// How many rows go at once: a moment's work.
const STEP: i64 = 1_000;
/// The pause between two steps, which leaves the database to others.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked for what is too old.
fn interval(max_age: Duration) -> Duration {
    (max_age / 10).clamp(Duration::from_secs(1), Duration::from_secs(600))
}

/// Removes what is older than `max_age`, in small steps, until `stop`.
pub(crate) async fn remove_old(pool: PgPool, max_age: Duration, stop: CancellationToken) {
    let mut failing = false;
    loop {
        let removing = timeout(LIMIT, store::remove(&pool, max_age.as_secs_f64(), STEP));
        let Some(removed) = stop.run_until_cancelled(removing).await else {
            return;
        };
        let removed = match removed {
            Ok(removed) => removed.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {LIMIT:?}")),
        };
        let pause = match removed {
            Ok(count) => {
                failing = false;
                debug!(count, "removed old rows of the audit trail");
                if count == STEP as u64 {
                    PAUSE
                } else {
                    interval(max_age)
                }
            }
            Err(cause) => {
                if !failing {
                    warn!(cause, "cannot remove old rows of the audit trail; retrying");
                }
                failing = true;
                interval(max_age)
            }
        };
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_often_enough_and_not_all_the_time() {
        let interval = |seconds| super::interval(Duration::from_secs(seconds)).as_secs();
        assert_eq!(interval(90 * 86_400), 600);
        assert_eq!(interval(600), 60);
        assert_eq!(interval(1), 1);
    }
}
