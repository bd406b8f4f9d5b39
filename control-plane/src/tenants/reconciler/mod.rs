//! Sees to it that tenants are what they are to be: what was begun is finished, and what is lost is made again.
//!
//! All living tenants have their turn, some a second, and so does at once each of which something was [missed]. After
//! the broker's return, which may have lost everything, everybody's turn comes as fast as the broker can declare.
//!
//! [missed]: super::missed

mod costly;
mod unfinished;

use std::{sync::Arc, time::Duration};

use common::{
    broker::{Broker, Link},
    id::TenantId,
};
use futures::{FutureExt as _, StreamExt as _, future::join_all, stream};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use self::costly::Costly;
use super::{Tenants, desired::Kept, store};
use crate::error::Error;

/// How often some tenants are looked at, and how many: to ask for fifty queues and declare twice as many that are there takes
/// the broker some ten milliseconds, and a fleet of a hundred tenants is gone through in two seconds.
const EVERY: Duration = Duration::from_secs(1);
const BATCH: usize = 50;
/// How many are asked for at a time: half of what may be asked at once, so that a tenant is read meanwhile.
const ASKED_AT_ONCE: usize = 8;
/// How soon again at the earliest what was missed is looked at.
const MISSED_EVERY: Duration = Duration::from_millis(100);
/// How long a tenant's consumers have to be told that their queue is gone. (RabbitMQ 3.10 registers those of a quorum queue
/// again by itself where the queue is back by then, and forgets them right after: nothing that it delivers to them gets
/// here. They are told within milliseconds.)
const LET_GO: Duration = Duration::from_millis(500);
/// How soon to ask again for a connection that is not there.
const RECONNECT: Duration = Duration::from_millis(100);

/// Runs until `stop`. Several control planes may do so: what is there already is not made twice.
pub(crate) async fn run(tenants: Tenants, broker: Broker, stop: CancellationToken) {
    let keeper = Keeper {
        tenants: tenants.clone(),
        broker,
        link: None,
        after: Uuid::nil(),
        hurry: false,
        failing: false,
        costly: Costly::default(),
    };
    tokio::join!(unfinished::run(tenants, stop.clone()), async {
        stop.run_until_cancelled(keeper.run()).await
    });
}

/// Makes again what is lost.
struct Keeper {
    tenants: Tenants,
    broker: Broker,
    /// The connection that everything was declared on, or is being.
    link: Option<Arc<Link>>,
    /// The last tenant that had its turn.
    after: Uuid,
    /// Whether everybody's turn is to come at once: until all have had it.
    hurry: bool,
    failing: bool,
    /// Whom everybody else is spared for a while.
    costly: Costly,
}

impl Keeper {
    async fn run(mut self) {
        let mut next = Instant::now();
        loop {
            let missed = self.tenants.missed.clone();
            let (broker, link) = (self.broker.clone(), self.link.clone());
            let left = async {
                match link {
                    Some(link) => broker.left(&link).await,
                    None => sleep(RECONNECT).await,
                }
            };
            tokio::select! {
                () = left => {
                    let before = self.link.take();
                    self.link = self.broker.current().ok();
                    let replaced = before.is_some_and(|before| !before.is_lost());
                    if self.link.is_some() && !replaced {
                        (self.hurry, self.after, next) = (true, Uuid::nil(), Instant::now());
                    }
                }
                tenants = missed.take(BATCH), if self.link.is_some() => {
                    // What a broker lost that went away itself, nobody consumes.
                    if !self.hurry {
                        self.let_go(&tenants).await;
                    }
                    if !self.keep(&tenants).await {
                        // Whose turn that was is in everybody's.
                        (self.hurry, self.after) = (true, Uuid::nil());
                    }
                    sleep(MISSED_EVERY).await;
                }
                () = sleep_until(next), if self.link.is_some() => {
                    let done = self.turn().await;
                    next = Instant::now() + if done && self.hurry { Duration::ZERO } else { EVERY };
                }
            }
        }
    }

    /// Waits until nobody consumes these tenants' queues. One that is being deleted is still there for whoever asks.
    async fn let_go(&self, tenants: &[TenantId]) {
        let waits = tenants.iter().map(|&tenant| {
            let fleet = self.tenants.fleet.clone();
            async move { fleet.wait_let_go(tenant, LET_GO).await }.boxed()
        });
        for waited in join_all(waits.collect::<Vec<_>>()).await {
            if let Err(error) = waited {
                debug!(%error, "cannot see who consumes a queue that was missed");
            }
        }
    }

    /// Which of these tenants' queues are there. Those that are not were missed.
    async fn there(&self, tenants: &[TenantId]) -> Vec<TenantId> {
        let asked = tenants.iter().map(|&tenant| {
            let queues = self.tenants.queues.clone();
            async move { (tenant, queues.waiting(tenant).await) }.boxed()
        });
        let mut there = Vec::with_capacity(tenants.len());
        let asked = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(ASKED_AT_ONCE);
        for (tenant, waiting) in asked.collect::<Vec<_>>().await {
            match waiting {
                Ok(None) => self.tenants.missed.note(tenant),
                // Where that cannot be said now, declaring it says why.
                Ok(Some(_)) | Err(_) => there.push(tenant),
            }
        }
        there
    }

    /// The turn of some tenants; answers whether they had it.
    async fn turn(&mut self) -> bool {
        let tenants = match store::ready_after(&self.tenants.pool, self.after, BATCH as i64).await {
            Ok(tenants) => tenants,
            Err(error) => {
                self.failed(&error);
                return false;
            }
        };
        let kept = match self.hurry {
            true => self.keep(&tenants).await,
            false => self.keep(&self.there(&tenants).await).await,
        };
        if !kept {
            return false;
        }
        match tenants.last() {
            Some(last) if tenants.len() == BATCH => self.after = last.0,
            _ => {
                if self.hurry {
                    info!("every tenant's queues are there");
                }
                (self.hurry, self.after) = (false, Uuid::nil());
            }
        }
        true
    }

    async fn keep(&mut self, tenants: &[TenantId]) -> bool {
        let tenants = self.costly.spare(tenants, Instant::now());
        match self.tenants.keep(&tenants).await {
            Ok(Kept {
                failures,
                costly,
                down,
            }) => {
                for (tenant, error) in failures {
                    // It is the tenant's problem, and was said when that began.
                    debug!(%tenant, %error, "cannot make what a tenant lacks");
                }
                self.costly.cost(&costly, Instant::now());
                match &down {
                    // Whether the others were reached is not known.
                    Some(error) => self.failed(error),
                    None if costly.is_empty() => {
                        self.costly.well(&tenants);
                        self.failing = false;
                    }
                    None => self.failing = false,
                }
                down.is_none()
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    fn failed(&mut self, error: &Error) {
        if !self.failing {
            warn!(%error, "cannot see to tenants' queues and partitions; retrying");
        }
        self.failing = true;
    }
}
