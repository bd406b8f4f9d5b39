//! How long a stream may last: as long as the token that it was opened with, or the newest one that came on it.

use std::time::{Duration, SystemTime};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::Status;

use super::Caller;
use crate::failure::Reason;

/// The longest there is, so that adding it to the time cannot overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// The end of a call's token; a handle. The gateway ends the call's stream by it, whoever takes a new token on the stream
/// moves it.
#[derive(Clone, Debug)]
pub struct Lifetime(watch::Sender<Instant>);

impl Lifetime {
    /// As long as the caller's token.
    pub fn of(caller: &Caller) -> Self {
        Self(watch::Sender::new(end(caller)))
    }

    /// That of a call that came through the gateway.
    pub fn of_request<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let lifetime = request.extensions().get::<Self>().cloned();
        lifetime.ok_or_else(|| Reason::Internal.status("a stream has no lifetime"))
    }

    /// From now on it is this caller's token that counts.
    pub fn renew(&self, caller: &Caller) {
        self.0.send_replace(end(caller));
    }

    /// Completes when the token has ended, with what its bearer is told.
    pub async fn over(&self) -> Status {
        let mut ends = self.0.subscribe();
        loop {
            let end = *ends.borrow_and_update();
            tokio::select! {
                // The sender is here.
                _ = ends.changed() => {}
                () = sleep_until(end) => {
                    return Reason::TokenExpired.status(
                        "the token has expired, and the stream with it; open it again with a new one",
                    );
                }
            }
        }
    }
}

/// On a clock that nobody sets.
fn end(caller: &Caller) -> Instant {
    let left = caller.expires().duration_since(SystemTime::now());
    Instant::now() + left.unwrap_or_default().min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::time::{sleep, timeout};
    use tonic::Code;

    use super::*;
    use crate::identity::Role;

    const MINUTE: Duration = Duration::from_secs(60);

    fn caller(left: Duration) -> Caller {
        let caller = Caller::new("d", Role::Daemon, None).unwrap();
        caller.until(SystemTime::now() + left)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_the_token_is() {
        let lifetime = Lifetime::of(&caller(MINUTE));
        assert!(timeout(MINUTE / 2, lifetime.over()).await.is_err());
        let status = timeout(MINUTE, lifetime.over()).await.unwrap();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().starts_with("the token has expired"), "{status}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_moves_its_end_for_whoever_waits_already() {
        let lifetime = Lifetime::of(&caller(MINUTE));
        let waiting = tokio::spawn({
            let lifetime = lifetime.clone();
            async move { lifetime.over().await }
        });
        sleep(MINUTE / 2).await;
        lifetime.renew(&caller(3 * MINUTE));
        sleep(2 * MINUTE).await;
        assert!(!waiting.is_finished());
        lifetime.renew(&caller(Duration::from_secs(1)));
        timeout(Duration::from_secs(2), waiting).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_over_already_lasts_no_longer_and_one_without_end_overflows_nothing() {
        let over = Lifetime::of(&Caller::new("d", Role::Daemon, None).unwrap());
        timeout(MINUTE, over.over()).await.unwrap();
        let long = caller(Duration::from_secs(1 << 40));
        assert!(timeout(MINUTE, Lifetime::of(&long).over()).await.is_err());
    }
}
