//! When a shard acknowledges what. Pure.

use std::collections::HashMap;

use common::id::TenantId;

use super::lanes::{Action, Lanes};

impl Lanes {
    /// A delivery is to be acknowledged.
    pub(super) fn settle(&mut self, tenant: TenantId, tag: u64) {
        self.watermark.settle(tag);
        match self.recent.last_mut() {
            Some((last_tenant, _, last)) if *last_tenant == tenant && *last + 1 == tag => *last = tag,
            _ => self.recent.push((tenant, tag, tag)),
        }
    }

    /// Acknowledges the contiguous prefix, if it has grown.
    pub(super) fn advance(&mut self) {
        if let Some(ack) = self.watermark.advance() {
            self.act(Action::Ack(ack));
        }
    }

    /// Acknowledges around a gap: everything behind one that does not move; behind one that moves, what keeps a lane
    /// from getting more, since the rest is acknowledged with the prefix, and much cheaper.
    pub(super) fn ack_around(&mut self) {
        let watermark = &self.watermark;
        self.recent.retain(|(_, _, last)| watermark.waits(*last));
        let stuck = self.watermark.stuck();
        let mut waiting: HashMap<TenantId, usize> = HashMap::new();
        for (tenant, first, last) in &self.recent {
            *waiting.entry(*tenant).or_default() += (last - first) as usize + 1;
        }
        let lanes = &self.lanes;
        let starves = |tenant: &TenantId| {
            let prefetch = lanes.get(tenant).map_or(0, |lane| usize::from(lane.prefetch));
            waiting.get(tenant).is_some_and(|waiting| waiting * 2 >= prefetch)
        };
        let (now, later) = self
            .recent
            .drain(..)
            .partition(|(tenant, _, _)| stuck || starves(tenant));
        self.recent = later;
        let now: Vec<(TenantId, u64, u64)> = now;
        for tag in now.into_iter().flat_map(|(_, first, last)| first..=last) {
            if let Some(ack) = self.watermark.around(tag) {
                self.act(Action::Ack(ack));
            }
        }
    }
}
