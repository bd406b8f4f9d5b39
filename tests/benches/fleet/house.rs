//! A stack to measure on, and what every measurement asks of it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::bail;
use common::id::TenantId;
use tests::{Options, Rest, Stack};
use uuid::Uuid;

/// How often the state is looked at: it is what a figure may be too large by.
const POLL: Duration = Duration::from_millis(5);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A control plane and some daemons.
pub(crate) struct House {
    pub(crate) stack: Stack,
    pub(crate) rest: Rest,
}

impl House {
    pub(crate) async fn start(daemons: u16) -> anyhow::Result<Self> {
        let options = Options {
            daemons,
            ..Options::default()
        };
        let stack = Stack::start(options).await?;
        Ok(Self {
            rest: stack.rest()?,
            stack,
        })
    }

    /// Waits until `daemons` daemons run so many lanes between them, as they were told to.
    pub(crate) async fn settled(&self, daemons: usize, lanes: usize) -> anyhow::Result<Instant> {
        self.until("every lane runs", async || {
            let (alive, running, rest) = sqlx::query_as::<_, (i64, i64, i64)>(
                "select (select count(*) from daemons where state = 'ready'),
                        count(*) filter (where observed_state = 'running' and observed_revision >= revision and workers > 0),
                        count(*) filter (where observed_revision < revision or workers = 0)
                 from assignments a join daemons d on d.id = a.daemon_id where d.state = 'ready'",
            )
            .fetch_one(self.stack.database())
            .await?;
            Ok((alive, running, rest) == (daemons as i64, lanes as i64, 0))
        })
        .await
    }

    /// Which daemon runs which tenant.
    pub(crate) async fn lanes(&self) -> anyhow::Result<BTreeSet<(String, TenantId)>> {
        let lanes = sqlx::query_as::<_, (String, Uuid)>(
            "select daemon_id, tenant_id from assignments a join daemons d on d.id = a.daemon_id
             where a.workers > 0 and d.state = 'ready'",
        );
        let lanes = lanes.fetch_all(self.stack.database()).await?;
        Ok(lanes
            .into_iter()
            .map(|(daemon, id)| (daemon, TenantId(id)))
            .collect())
    }

    /// Waits until something holds, and answers when.
    pub(crate) async fn until(
        &self,
        what: &str,
        mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<Instant> {
        let started = Instant::now();
        while !holds().await? {
            if started.elapsed() > PATIENCE {
                bail!("not within {} s: {what}", PATIENCE.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(Instant::now())
    }
}
