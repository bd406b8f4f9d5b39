//! What each caller may do at once and in a second through this process, whatever it calls.
//!
//! A caller is whom a token stands for: a credential, or a `sub`; of another tenant the same `sub` is another one. Calls
//! that need no token have bounds of their own.

use std::{
    collections::{HashMap, hash_map::Entry},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::id::TenantId;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

use tonic::Status;

use crate::{config, failure::Reason, identity::Caller};

/// With how many callers those are forgotten for the first time that have nothing to pay back.
const CALLERS_FEW: usize = 1_000;

type Rates<C> =
    RateLimiter<Principal, HashMapStateStore<Principal>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Callers' limits, and who is near them; a handle.
#[derive(Clone, Debug)]
pub(crate) struct Callers<C: Clock = DefaultClock>(Arc<Shared<C>>);

#[derive(Debug)]
struct Shared<C: Clock> {
    clock: C,
    per_second: u32,
    /// None where nobody is limited.
    rates: Option<Rates<C>>,
    /// With how many callers it is looked for those that can be forgotten.
    many: Mutex<usize>,
    calls_max: u32,
    streams_max: u32,
    under_way: Mutex<HashMap<Principal, UnderWay>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Principal {
    tenant: Option<TenantId>,
    subject: Arc<str>,
}

/// What a caller has under way.
#[derive(Debug, Default, PartialEq, Eq)]
struct UnderWay {
    calls: u32,
    streams: u32,
}

impl UnderWay {
    fn of(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Call => &mut self.calls,
            Kind::Stream => &mut self.streams,
        }
    }
}

/// How long something lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Until it is answered.
    Call,
    /// As long as its caller likes.
    Stream,
}

impl Kind {
    pub(crate) fn of(is_stream: bool) -> Self {
        match is_stream {
            true => Self::Stream,
            false => Self::Call,
        }
    }
}

/// Something under way; it is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<C: Clock = DefaultClock> {
    shared: Arc<Shared<C>>,
    caller: Principal,
    kind: Kind,
}

impl Callers {
    pub(crate) fn new(limits: &config::Limits) -> Self {
        Self::with_clock(limits, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Callers<C> {
    fn with_clock(limits: &config::Limits, clock: C) -> Self {
        let per_second = NonZeroU32::new(limits.requests_per_second);
        Self(Arc::new(Shared {
            per_second: limits.requests_per_second,
            rates: per_second.map(|rate| {
                RateLimiter::new(
                    Quota::per_second(rate),
                    HashMapStateStore::default(),
                    clock.clone(),
                )
            }),
            clock,
            many: Mutex::new(CALLERS_FEW),
            calls_max: limits.calls,
            streams_max: limits.streams,
            under_way: Mutex::default(),
        }))
    }

    /// `caller` begins something, if it may.
    pub(crate) fn begin(&self, caller: &Caller, kind: Kind) -> Result<Place<C>, Status> {
        let principal = Principal {
            tenant: caller.tenant(),
            subject: caller.subject().into(),
        };
        self.0.pay(&principal)?;
        let (max, key, what) = match kind {
            Kind::Call => (self.0.calls_max, "limits.calls", "calls"),
            Kind::Stream => (self.0.streams_max, "limits.streams", "streams"),
        };
        let mut under_way = self.0.under_way();
        let count = under_way.entry(principal.clone()).or_default().of(kind);
        if *count >= max {
            // It has others, so it stays.
            let message = format!(
                "this caller has {max} {what} under way, and {key} allows no more; end some, or try again"
            );
            return Err(Reason::RateLimited.failure(message).about("limit", key).into());
        }
        *count += 1;
        Ok(Place {
            shared: Arc::clone(&self.0),
            caller: principal,
            kind,
        })
    }
}

impl<C: Clock> Shared<C> {
    fn pay(&self, caller: &Principal) -> Result<(), Status> {
        const KEY: &str = "limits.requests_per_second";
        let Some(rates) = &self.rates else {
            return Ok(());
        };
        self.make_room(rates);
        rates.check_key(caller).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            let message = format!(
                "this caller makes more than the {} requests a second that {KEY} allows; make fewer, or put more messages into each",
                self.per_second
            );
            let failure = Reason::RateLimited.failure(message);
            failure.again_after(wait).about("limit", KEY).into()
        })
    }

    /// Whoever has made no request for a second loses nothing by being forgotten.
    fn make_room(&self, rates: &Rates<C>) {
        let mut many = self.many.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= *many {
            rates.retain_recent();
            *many = (2 * rates.len()).max(CALLERS_FEW);
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Principal, UnderWay>> {
        // Held for a moment at a time; nothing can leave it half changed.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clock> Drop for Place<C> {
    fn drop(&mut self) {
        let mut under_way = self.shared.under_way();
        if let Entry::Occupied(mut entry) = under_way.entry(self.caller.clone()) {
            *entry.get_mut().of(self.kind) -= 1;
            if *entry.get() == UnderWay::default() {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;
    use tonic_types::StatusExt as _;
    use uuid::Uuid;

    use super::*;
    use crate::identity::Role;

    fn callers(limits: config::Limits) -> (Callers<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Callers::with_clock(&limits, clock.clone()), clock)
    }

    fn caller(subject: &str) -> Caller {
        Caller::new(subject, Role::Tenant, Some(Uuid::from_u128(1))).unwrap()
    }

    fn refusal(begun: Result<Place<FakeRelativeClock>, Status>) -> (String, Option<Duration>) {
        let status = begun.unwrap_err();
        let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        (status.message().to_owned(), after)
    }

    #[test]
    fn each_has_its_own_rate_and_is_told_when_to_come_again() {
        let (callers, clock) = callers(config::Limits {
            requests_per_second: 10,
            ..config::Limits::default()
        });
        let begin = |subject: &str| callers.begin(&caller(subject), Kind::Call);
        for _ in 0..10 {
            begin("a").unwrap();
        }
        let (message, after) = refusal(begin("a"));
        assert!(message.contains("10 requests a second"), "{message}");
        assert_eq!(after, Some(Duration::from_millis(100)));
        let elsewhere = Caller::new("a", Role::Tenant, Some(Uuid::from_u128(2))).unwrap();
        callers.begin(&elsewhere, Kind::Call).unwrap();
        begin("b").unwrap();
        clock.advance(Duration::from_millis(100));
        begin("a").unwrap();
        begin("a").unwrap_err();
    }

    #[test]
    fn so_much_is_under_way_at_once_and_what_is_over_makes_room() {
        let (callers, _) = callers(config::Limits {
            calls: 2,
            streams: 1,
            ..config::Limits::default()
        });
        let begin = |kind| callers.begin(&caller("a"), kind);
        let places = [begin(Kind::Call).unwrap(), begin(Kind::Call).unwrap()];
        let (message, _) = refusal(begin(Kind::Call));
        assert!(
            message.contains("2 calls") && message.contains("limits.calls"),
            "{message}"
        );
        let stream = begin(Kind::Stream).unwrap();
        let (message, _) = refusal(begin(Kind::Stream));
        assert!(message.contains("limits.streams"), "{message}");
        callers.begin(&caller("b"), Kind::Call).unwrap();
        drop(places);
        let place = begin(Kind::Call).unwrap();
        drop((place, stream));
        assert!(callers.0.under_way().is_empty());
    }

    #[test]
    fn who_has_paid_back_everything_is_forgotten() {
        let (callers, clock) = callers(config::Limits {
            requests_per_second: 1,
            ..config::Limits::default()
        });
        for n in 0..CALLERS_FEW {
            callers.begin(&caller(&n.to_string()), Kind::Call).unwrap();
        }
        clock.advance(Duration::from_secs(2));
        callers.begin(&caller("one more"), Kind::Call).unwrap();
        assert_eq!(callers.0.rates.as_ref().unwrap().len(), 1);
    }
}
