//! Who of this control plane's calls is at a tenant's dead letters, and who waits: one after another, in their order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::id::TenantId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// Whose dead letters calls are at; a handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<TenantId, Line>>>);

#[derive(Debug)]
struct Line {
    /// Of one permit, which is handed on in the order in which it was asked for.
    head: Arc<Semaphore>,
    /// How many calls have the place or wait for it.
    calls: usize,
    /// How many wait to read something, which is done in a moment.
    readers: usize,
}

/// That a call is in the line of a tenant; the place is its own once it has the permit.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    tenant: TenantId,
    permit: Option<OwnedSemaphorePermit>,
    reads: bool,
}

impl Places {
    /// Waits for the place until then; `None` if others had it all the time.
    pub(super) async fn take(&self, tenant: TenantId, reads: bool, until: Instant) -> Option<Place> {
        let head = {
            let mut lines = self.lines();
            let line = lines.entry(tenant).or_insert_with(|| Line {
                head: Arc::new(Semaphore::new(1)),
                calls: 0,
                readers: 0,
            });
            line.calls += 1;
            line.readers += usize::from(reads);
            Arc::clone(&line.head)
        };
        let mut place = Place {
            places: self.clone(),
            tenant,
            permit: None,
            reads,
        };
        // It is never closed.
        let permit = timeout_at(until, head.acquire_owned()).await.ok()?.ok()?;
        place.served();
        place.permit = Some(permit);
        Some(place)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<TenantId, Line>> {
        // Held for a moment; nothing can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether somebody waits who wants to read.
    pub(super) fn is_wanted(&self) -> bool {
        let lines = self.places.lines();
        lines.get(&self.tenant).is_some_and(|line| line.readers > 0)
    }

    /// It waits no more.
    fn served(&mut self) {
        if std::mem::take(&mut self.reads)
            && let Some(line) = self.places.lines().get_mut(&self.tenant)
        {
            line.readers = line.readers.saturating_sub(1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.served();
        // The line stays for as long as somebody is in it.
        drop(self.permit.take());
        let mut lines = self.places.lines();
        if let Some(line) = lines.get_mut(&self.tenant) {
            line.calls = line.calls.saturating_sub(1);
            if line.calls == 0 {
                lines.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    const TENANT: TenantId = TenantId(Uuid::from_u128(1));

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_has_a_place_and_sees_who_wants_to_read() {
        let places = Places::default();
        let first = places.take(TENANT, false, soon()).await.unwrap();
        assert!(!first.is_wanted());
        assert!(
            places
                .take(TenantId(Uuid::from_u128(2)), true, soon())
                .await
                .is_some()
        );
        assert!(places.take(TENANT, false, soon()).await.is_none(), "it is taken");
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.take(TENANT, true, soon()).await }
        });
        tokio::task::yield_now().await;
        assert!(first.is_wanted());
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        assert!(!second.is_wanted());
        drop(second);
        assert!(places.lines().is_empty(), "nothing is kept of who is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_again_stands_behind_who_waits() {
        let places = Places::default();
        let first = places.take(TENANT, false, soon()).await.unwrap();
        let reader = tokio::spawn({
            let places = places.clone();
            async move { places.take(TENANT, true, soon()).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        let (again, reader) = tokio::join!(places.take(TENANT, false, soon()), async {
            let reader = reader.await.unwrap();
            assert!(reader.is_some(), "it was first");
        });
        drop((again.unwrap(), reader));
    }
}
