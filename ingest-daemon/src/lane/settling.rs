//! What becomes of a lane's messages in a commit. Pure.

use std::time::Duration;

use common::id::TenantId;
use tracing::{info, warn};

use super::Lane;
use crate::{
    clock::Now,
    commit::{Hold, Settled},
    retry::Policy,
};

/// How long a commit took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// This one.
    pub(crate) this: Duration,
    /// What those take that many tenants share.
    pub(crate) ordinary: Duration,
}

impl Lane {
    /// A commit with messages of its own has ended. Answers what is to be acknowledged.
    pub(crate) fn settle(&mut self, settled: Settled, took: Took, retry: &Policy, now: Now) -> Vec<u64> {
        let tenant = settled.tenant;
        self.buffer.committed();
        self.buffer.settle(settled.stored.len(), now.instant);
        self.buffer.put_back(settled.back);
        let stored = !settled.stored.is_empty();
        self.trust.took(took.this, stored);
        if stored {
            self.counter.reset();
            if self.trust.stored(took.this, took.ordinary, now) {
                info!(%tenant, "the tenant's table can be written again");
            }
        }
        for (message, why) in settled.refused {
            if stored || self.trust.refused(message.id) {
                self.outbox.push(Box::new(message.refused(why, retry, now.time)));
            } else {
                if self.trust.refuses_all(&why, now) {
                    warn!(%tenant, why, "the tenant's table refuses everything; holding the tenant");
                }
                // Behind the others, of which one may be better.
                self.buffer.push(message);
            }
        }
        if let Some(hold) = settled.hold {
            self.hold(tenant, hold, now);
        }
        settled.stored.into_iter().map(|message| message.tag).collect()
    }

    fn hold(&mut self, tenant: TenantId, hold: Hold, now: Now) {
        match hold {
            // Another daemon's commit is no trouble.
            Hold::Busy => {
                self.counter.fail(now.instant, now.random);
            }
            Hold::Suspected => self.trust.doubt(now.instant),
            Hold::Unwritable(why) => {
                if self.trust.blame(&why, now) {
                    warn!(%tenant, why, "the tenant's table cannot be written; holding the tenant");
                }
            }
            Hold::Unfinished => {}
        }
    }
}
