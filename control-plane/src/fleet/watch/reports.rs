//! What a daemon reports of its lanes, until it is written down: the last report of each.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
};

use common::id::TenantId;
use proto::v1;
use sqlx::PgPool;
use tokio::{sync::Notify, time::sleep};
use tonic::Status;
use tracing::{debug, warn};

use super::{REPORT_LIMIT, REPORTS_MAX, RETRY, WRITTEN_MAX, report};
use crate::{
    error::Error,
    fleet::{
        connections::within,
        lanes::{self, Report},
        members::Member,
    },
    problems::Kind,
    tenants::Missed,
};

#[derive(Default)]
pub(super) struct Reports {
    waiting: Mutex<BTreeMap<TenantId, Report>>,
    came: Notify,
}

impl Reports {
    /// Takes a report. A queue that its daemon misses is noted at once.
    pub(super) fn take(&self, observed: v1::Observed, missed: &Missed) -> Result<(), Status> {
        if observed.lanes.is_empty() {
            return Ok(());
        }
        let mut waiting = self.waiting();
        for lane in &observed.lanes {
            // The last report of a lane counts.
            let report = report(lane)?;
            if report
                .problem
                .as_ref()
                .is_some_and(|problem| matches!(problem.kind, Kind::Queue | Kind::Letters))
            {
                missed.note(report.tenant);
            }
            waiting.insert(report.tenant, report);
        }
        if waiting.len() > REPORTS_MAX {
            let field = "observed.lanes".to_owned();
            let message = format!("more than {REPORTS_MAX} lanes of one daemon");
            return Err(Error::TooLarge { field, message }.into());
        }
        self.came.notify_one();
        Ok(())
    }

    /// Writes down what is reported.
    pub(super) async fn write(&self, pool: &PgPool, member: &Member) -> Infallible {
        let mut failing = false;
        loop {
            self.came.notified().await;
            while let Err(error) = self.write_once(pool, member).await {
                if failing {
                    debug!(daemon = member.id, %error, "still cannot write down what a daemon reports");
                } else {
                    warn!(daemon = member.id, %error, "cannot write down what a daemon reports; retrying");
                }
                failing = true;
                sleep(RETRY).await;
            }
            failing = false;
        }
    }

    async fn write_once(&self, pool: &PgPool, member: &Member) -> Result<(), sqlx::Error> {
        loop {
            let reports: Vec<_> = {
                let mut waiting = self.waiting();
                let taken = std::iter::from_fn(|| waiting.pop_first().map(|(_, report)| report));
                taken.take(WRITTEN_MAX).collect()
            };
            if reports.is_empty() {
                return Ok(());
            }
            let observe = async |connection: &mut _| lanes::observe(connection, member, &reports).await;
            if let Err(error) = within(pool, REPORT_LIMIT, observe).await {
                let mut waiting = self.waiting();
                for report in reports {
                    // What came meanwhile is newer.
                    waiting.entry(report.tenant).or_insert(report);
                }
                return Err(error);
            }
        }
    }

    /// Nothing that holds it can leave it half changed.
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<TenantId, Report>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
