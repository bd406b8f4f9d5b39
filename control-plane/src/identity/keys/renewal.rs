//! One key follows another while the program runs.

use std::time::Duration;

use common::{config::Error, second_look::SecondLook};
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Keys, Ring};
use crate::config::Config;

/// How soon a change is seen.
const LOOK: Duration = Duration::from_secs(2);

impl Keys {
    /// Takes what `read` says is configured, and what stands in the keys' files, whenever that changes, until `stop`. What
    /// is no good changes nothing: the keys from before go on.
    pub(crate) async fn renew(
        self,
        read: impl Fn() -> Result<Config, Error> + Clone + Send + 'static,
        stop: CancellationToken,
    ) {
        let mut second_look = SecondLook::default();
        while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
            let read = read.clone();
            let looked = spawn_blocking(move || {
                let config = read()?;
                Ring::read(&config.auth, config.insecure)
            });
            match looked.await {
                Ok(Ok(ring)) => {
                    second_look.well();
                    if !self.ring().is(&ring) {
                        info!(keys = ?ring, "tokens' keys have changed");
                        self.replace(ring);
                    }
                }
                Ok(Err(error)) => {
                    let error = error.to_string();
                    if second_look.failed(&error) {
                        warn!(error, "tokens' keys stay as they were");
                    }
                }
                Err(_) => {}
            }
        }
    }
}
