//! What is known of all tenants at once, as of a few seconds ago: for lists of tenants and for metrics.
//!
//! [`counts`] asks PostgreSQL every few seconds: how much was stored of whom, and, on the one control plane that has the
//! turn, what else is told of the whole system. [`depths`] asks the broker, on that control plane and on those where
//! somebody has listed tenants lately. What they read last is in a [`Latest`] each, which forgets it when it is too old to
//! be shown as if it were now.

mod counts;
mod depths;
mod gauges;
mod latest;
mod store;

use std::{sync::Arc, time::Duration};

use common::id::TenantId;
use opentelemetry::metrics::Meter;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::depths::Depths;
use self::{counts::Counts, latest::Latest};
use crate::broker::{Queues, plugin::Plugin};

/// How much later than it is due the next reading may be, before the last one is forgotten.
const LATE: Duration = Duration::from_secs(5);
/// How long a list waits for depths where nobody has read them lately.
const FIRST_READING: Duration = Duration::from_millis(500);

/// What was read last; a handle.
#[derive(Clone, Debug)]
pub(crate) struct Overview {
    counts: Latest<Counts>,
    depths: Latest<Depths>,
    asked: Arc<watch::Sender<()>>,
}

/// What reads it.
#[derive(Debug)]
pub(crate) struct Readers {
    counts: counts::Reader,
    depths: depths::Reader,
}

impl Overview {
    /// It is read every `interval`, as far as that costs no more than a part of the time.
    pub(crate) fn new(
        pool: PgPool,
        queues: Queues,
        plugin: Option<Plugin>,
        interval: Duration,
    ) -> (Self, Readers) {
        let (counts, counted) = Latest::new();
        let (depths, measured) = Latest::new();
        let asked = Arc::new(watch::Sender::new(()));
        let readers = Readers {
            counts: counts::Reader::new(pool.clone(), interval, counts),
            depths: depths::Reader::new(
                depths::Sources::new(pool, queues, plugin),
                interval,
                depths,
                depths::Wanted::new(counted.clone(), asked.subscribe()),
            ),
        };
        let overview = Self {
            counts: counted,
            depths: measured,
            asked,
        };
        (overview, readers)
    }

    /// What waits in all tenants' queues. None where the broker cannot be asked.
    pub(crate) async fn depths(&self) -> Option<Arc<Depths>> {
        self.asked.send_replace(());
        self.depths.known_within(FIRST_READING).await
    }

    /// How many messages of a tenant were stored in a second lately. None where that is not known.
    pub(crate) fn stored_per_second(&self, tenant: TenantId) -> Option<f64> {
        self.counts.known()?.stored_per_second(tenant)
    }

    /// How many messages of a tenant wait to be tried again. None where that is not known.
    pub(crate) fn retrying(&self, tenant: TenantId) -> Option<u32> {
        Some(self.counts.known()?.retrying(tenant))
    }

    /// Shows what is read as metrics, with a series for each tenant or not.
    pub(crate) fn measure(&self, meter: &Meter, per_tenant: bool) {
        gauges::register(meter, self, per_tenant);
    }
}

impl Readers {
    /// Reads until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.counts.run(stop.clone()), self.depths.run(stop));
    }
}
