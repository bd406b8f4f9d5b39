//! The registry of the daemon's lanes: which tenants it is to run, and the way to each one's shard.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, PoisonError},
};

use common::id::TenantId;

use crate::{
    lane::Wanted,
    shard::{Command, Handle},
};

/// Starts, resizes and stops lanes. What a lane really does is on the board.
#[derive(Debug)]
pub(crate) struct TenantManager {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Empty once the daemon stops.
    shards: Vec<Handle>,
    /// Each lane's shard and workers.
    lanes: HashMap<TenantId, LaneHandle>,
}

/// One lane's control handle.
#[derive(Clone, Debug)]
struct LaneHandle {
    shard: Handle,
    workers: u32,
}

impl TenantManager {
    pub(crate) fn new(shards: Vec<Handle>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                shards,
                lanes: HashMap::new(),
            }),
        }
    }

    /// Starts a tenant's lane, or has it run otherwise: with another number of workers, or at another rate. Nothing once
    /// the daemon stops.
    pub(crate) async fn run(&self, tenant: TenantId, wanted: Wanted) {
        let shard = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(shard) = shard_of(tenant, &inner.shards) else {
                return;
            };
            let lane = LaneHandle {
                shard: shard.clone(),
                workers: wanted.workers,
            };
            inner.lanes.insert(tenant, lane);
            shard
        };
        shard.tell(Command::Run(tenant, wanted)).await;
    }

    /// Stops a tenant's lane. One that does not run is told of as stopped, too.
    pub(crate) async fn stop(&self, tenant: TenantId, revision: i64) {
        let shard = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let lane = inner.lanes.remove(&tenant);
            lane.map(|lane| lane.shard)
                .or_else(|| shard_of(tenant, &inner.shards))
        };
        if let Some(shard) = shard {
            shard.tell(Command::Stop { tenant, revision }).await;
        }
    }

    /// Stops every lane, and with them the shards; takes nothing on any more.
    pub(crate) fn shut_down(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // The last handles: a shard stops when they are gone.
        inner.shards.clear();
        inner.lanes.clear();
    }

    /// How many lanes there are, and with how many workers in all.
    pub(crate) fn load(&self) -> (usize, u64) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = inner.lanes.values().map(|lane| u64::from(lane.workers)).sum();
        (inner.lanes.len(), workers)
    }
}

fn shard_of(tenant: TenantId, shards: &[Handle]) -> Option<Handle> {
    // A fixed key: a tenant stays with its shard, whose connection knows its table already.
    let mut hasher = DefaultHasher::new();
    tenant.hash(&mut hasher);
    let count = u64::try_from(shards.len()).ok().filter(|count| *count > 0)?;
    shards.get((hasher.finish() % count) as usize).cloned()
}
