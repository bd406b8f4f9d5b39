//! What runs in the background. Nothing of it ends by itself: what does has failed, and must not be missed in silence.

use std::collections::HashMap;

use anyhow::anyhow;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::warn;

/// Tasks with names. Dropping them ends them.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    pub(crate) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.running.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Completes when one ends, which it is not to do yet: with what happened.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => anyhow!("the {} ended", self.name(id)),
            Some(Err(error)) => {
                let name = self.name(error.id());
                anyhow::Error::new(error).context(format!("the {name} failed"))
            }
            None => std::future::pending().await,
        }
    }

    /// Completes when all have ended, which they have been told to.
    pub(crate) async fn ended(&mut self) {
        while let Some(ended) = self.running.join_next_with_id().await {
            if let Err(error) = ended {
                let name = self.name(JoinError::id(&error));
                warn!(%error, "the {name} failed while stopping");
            }
        }
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("background work")
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn one_that_panics_or_ends_is_named() {
        for (what, wanted) in [("panic", "the assigner failed"), ("end", "the assigner ended")] {
            let mut tasks = Tasks::default();
            tasks.spawn("clock", std::future::pending());
            tasks.spawn("assigner", async move {
                assert_ne!(what, "panic", "as a test wants it");
            });
            assert_eq!(tasks.failed().await.to_string(), wanted);
        }
    }

    #[tokio::test]
    async fn those_that_stop_when_told_have_not_failed() {
        let (stop, mut tasks) = (CancellationToken::new(), Tasks::default());
        for name in ["assigner", "clock"] {
            tasks.spawn(name, stop.clone().cancelled_owned());
        }
        tokio::select! {
            biased;
            failed = tasks.failed() => panic!("{failed}"),
            () = std::future::ready(()) => {}
        }
        stop.cancel();
        tasks.ended().await;
    }
}
