//! Tenants whose queues RabbitMQ fails to make, and closes the connection over it, which all tenants share. Each is tried
//! again after a growing pause, so that nobody else waits for a connection over and over. Pure.

use std::{collections::HashMap, time::Duration};

use common::id::TenantId;
use tokio::time::Instant;

/// The pause after the first time, and at most. It doubles.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct Costly(HashMap<TenantId, Pause>);

#[derive(Clone, Copy, Debug)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl Costly {
    /// Those of these tenants that are not in a pause.
    pub(super) fn spare(&self, tenants: &[TenantId], now: Instant) -> Vec<TenantId> {
        let spared = |tenant: &TenantId| self.0.get(tenant).is_some_and(|pause| now < pause.until);
        tenants.iter().filter(|tenant| !spared(tenant)).copied().collect()
    }

    /// These cost the connection.
    pub(super) fn cost(&mut self, tenants: &[TenantId], now: Instant) {
        for tenant in tenants {
            let before = self.0.get(tenant).map_or(Duration::ZERO, |pause| pause.length);
            let length = (before * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            let until = now + length;
            self.0.insert(*tenant, Pause { length, until });
        }
        // Whoever is not tried any more is gone.
        self.0.retain(|_, pause| now < pause.until + 2 * PAUSE_MAX);
    }

    /// These have been reached, and cost nothing.
    pub(super) fn well(&mut self, tenants: &[TenantId]) {
        for tenant in tenants {
            self.0.remove(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn whoever_costs_the_connection_is_tried_ever_more_seldom_and_the_others_as_always() {
        let tenants = [1, 2].map(|n| TenantId(Uuid::from_u128(n)));
        let (mut costly, mut now) = (Costly::default(), Instant::now());
        let mut tries = 0;
        for _ in 0..3_600 {
            let tried = costly.spare(&tenants, now);
            assert!(tried.contains(&tenants[1]));
            if tried.contains(&tenants[0]) {
                tries += 1;
                costly.cost(&tenants[..1], now);
            } else {
                costly.well(&tried);
            }
            now += Duration::from_secs(1);
        }
        assert!((15..25).contains(&tries), "{tries} in an hour");
        now += PAUSE_MAX;
        let tried = costly.spare(&tenants, now);
        costly.well(&tried);
        assert_eq!(costly.spare(&tenants, now), tenants, "that is over");
        assert!(costly.0.is_empty());
    }
}
