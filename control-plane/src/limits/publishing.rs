//! How fast each tenant may publish through this process.
//!
//! What a tenant may send at once is a second's worth, or one call's most where that is more: a call that is larger than
//! a second's worth could never be made otherwise. It is paid back at the tenant's rate.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::id::TenantId;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

/// How many tenants are kept in mind: more than anybody has, and some 10 MB.
const TENANTS_MAX: usize = 100_000;
/// With how many tenants those are forgotten for the first time that have nothing to pay back.
const TENANTS_FEW: usize = 1_000;

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// How fast tenants publish; a handle.
#[derive(Clone, Debug)]
pub(crate) struct PublishRates<C: Clock = DefaultClock> {
    clock: C,
    /// The most messages of one call.
    call_max: NonZeroU32,
    tenants: Arc<Mutex<Tenants<C>>>,
}

#[derive(Debug)]
struct Tenants<C: Clock> {
    of: HashMap<TenantId, Used<C>>,
    /// With how many of them it is looked for those that can be forgotten.
    many: usize,
}

#[derive(Debug)]
struct Used<C: Clock> {
    per_second: NonZeroU32,
    limiter: Limiter<C>,
    /// The time in which everything that can be sent at once is paid back.
    owed: Duration,
    /// When everything that was sent is, at the latest.
    paid_back_at: C::Instant,
}

/// A tenant publishes faster than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooFast {
    /// How many messages a second it may publish.
    pub(crate) per_second: u32,
    /// After what time the same call is let through, if nothing else is published until then.
    pub(crate) retry_after: Duration,
}

impl PublishRates {
    /// Where one call has so many messages at most.
    pub(crate) fn new(call_max: usize) -> Self {
        let call_max = u32::try_from(call_max).unwrap_or(u32::MAX);
        let call_max = NonZeroU32::new(call_max).unwrap_or(NonZeroU32::MIN);
        Self::with_clock(call_max, DefaultClock::default())
    }
}

impl<C: Clock + Clone> PublishRates<C> {
    fn with_clock(call_max: NonZeroU32, clock: C) -> Self {
        Self {
            clock,
            call_max,
            tenants: Arc::new(Mutex::new(Tenants {
                of: HashMap::new(),
                many: TENANTS_FEW,
            })),
        }
    }

    /// A tenant, whose limit is `per_second` at the moment, is to publish so many messages in one call.
    pub(crate) fn take(
        &self,
        tenant: TenantId,
        per_second: Option<u32>,
        messages: usize,
    ) -> Result<(), TooFast> {
        let mut tenants = self.tenants();
        let Some(rate) = per_second.and_then(NonZeroU32::new) else {
            tenants.of.remove(&tenant);
            return Ok(());
        };
        let Some(messages) = u32::try_from(messages).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        let now = self.clock.now();
        let at_once = rate.max(self.call_max);
        if tenants.of.get(&tenant).is_none_or(|used| used.per_second != rate) {
            tenants.make_room(now);
        }
        let new = || Used::none(rate, at_once, self.clock.clone());
        let used = tenants.of.entry(tenant).or_insert_with(new);
        if used.per_second != rate {
            *used = new();
        }
        match used.limiter.check_n(messages) {
            Ok(Ok(())) => {
                used.paid_back_at = now + used.owed.into();
                Ok(())
            }
            Ok(Err(not_until)) => Err(TooFast {
                per_second: rate.get(),
                retry_after: not_until.wait_time_from(now),
            }),
            // No call is as large.
            Err(_) => Err(TooFast {
                per_second: rate.get(),
                retry_after: used.owed,
            }),
        }
    }

    /// A tenant is gone.
    pub(crate) fn forget(&self, tenant: TenantId) {
        self.tenants().of.remove(&tenant);
    }

    fn tenants(&self) -> MutexGuard<'_, Tenants<C>> {
        // Held for a moment at a time; nothing can leave it half changed.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clock> Tenants<C> {
    /// Makes room for one more, of those that have paid back everything, who lose nothing by it; else of who will have
    /// soonest.
    fn make_room(&mut self, now: C::Instant) {
        if self.of.len() < self.many {
            return;
        }
        self.of.retain(|_, used| used.paid_back_at > now);
        self.many = (2 * self.of.len()).clamp(TENANTS_FEW, TENANTS_MAX);
        if self.of.len() >= TENANTS_MAX
            && let Some((&soonest, _)) = self.of.iter().min_by_key(|(_, used)| used.paid_back_at)
        {
            self.of.remove(&soonest);
        }
    }
}

impl<C: Clock> Used<C> {
    fn none(per_second: NonZeroU32, at_once: NonZeroU32, clock: C) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(at_once);
        Self {
            per_second,
            paid_back_at: clock.now(),
            limiter: Limiter::direct_with_clock(quota, clock),
            owed: quota.burst_size_replenished_in(),
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use uuid::Uuid;

    use super::*;

    const CALL_MAX: NonZeroU32 = NonZeroU32::new(1_000).unwrap();

    fn tenant(n: usize) -> TenantId {
        TenantId(Uuid::from_u128(n as u128))
    }

    fn rates() -> (PublishRates<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (PublishRates::with_clock(CALL_MAX, clock.clone()), clock)
    }

    #[test]
    fn the_largest_call_passes_at_any_rate_and_is_paid_back_at_that_rate() {
        let (rates, clock) = rates();
        let take = |messages| rates.take(tenant(1), Some(100), messages);
        assert_eq!(take(1_000), Ok(()));
        let too_fast = take(250).unwrap_err();
        assert_eq!(too_fast.retry_after, Duration::from_millis(2_500));
        clock.advance(too_fast.retry_after - Duration::from_millis(1));
        assert!(take(250).is_err());
        clock.advance(Duration::from_millis(1));
        assert_eq!(take(250), Ok(()));
        // Over ten seconds it is the rate.
        let mut sent = 0;
        for _ in 0..1_000 {
            clock.advance(Duration::from_millis(10));
            sent += (0..9).filter(|_| take(1).is_ok()).count();
        }
        assert!((995..=1_001).contains(&sent), "{sent}");
    }

    #[test]
    fn a_fast_tenant_may_send_a_seconds_worth_at_once() {
        let (rates, _) = rates();
        for _ in 0..5 {
            assert_eq!(rates.take(tenant(1), Some(5_000), 1_000), Ok(()));
        }
        let too_fast = rates.take(tenant(1), Some(5_000), 1_000).unwrap_err();
        assert_eq!(
            (too_fast.per_second, too_fast.retry_after),
            (5_000, Duration::from_millis(200))
        );
        assert_eq!(rates.take(tenant(2), Some(5_000), 1_000), Ok(()));
    }

    #[test]
    fn a_limit_that_changes_holds_with_the_next_call() {
        let (rates, _) = rates();
        assert_eq!(rates.take(tenant(1), Some(1), 1_000), Ok(()));
        assert!(rates.take(tenant(1), Some(1), 1).is_err());
        assert_eq!(rates.take(tenant(1), Some(2), 1), Ok(()));
        assert_eq!(rates.take(tenant(1), None, 1_000), Ok(()));
        assert!(rates.tenants().of.is_empty());
    }

    #[test]
    fn who_has_paid_back_everything_is_forgotten_and_nobody_else() {
        let (rates, clock) = rates();
        for n in 0..TENANTS_FEW {
            rates.take(tenant(n), Some(1_000), 1).unwrap();
        }
        clock.advance(Duration::from_secs(1));
        rates.take(tenant(0), Some(1_000), 1_000).unwrap();
        rates.take(tenant(TENANTS_FEW), Some(1_000), 1).unwrap();
        assert_eq!(rates.tenants().of.len(), 2);
        assert!(rates.take(tenant(0), Some(1_000), 1).is_err());
        rates.forget(tenant(0));
        assert_eq!(rates.tenants().of.len(), 1);
    }

    #[test]
    fn they_are_not_kept_without_bounds() {
        let (rates, _) = rates();
        for n in 0..TENANTS_MAX + 10 {
            rates.take(tenant(n), Some(1), 1).unwrap();
        }
        assert_eq!(rates.tenants().of.len(), TENANTS_MAX);
    }
}
