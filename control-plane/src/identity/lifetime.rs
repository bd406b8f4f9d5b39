//! How long a stream may last: as long as the token that it was opened with, or the newest one that came on it, and no
//! longer than the credential that bought it.

use std::{
    future::pending,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::Status;
use uuid::Uuid;

use super::{Caller, Revoked};
use crate::failure::Reason;

/// The longest there is, so that adding it to the time cannot overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// The end of a call's token; a handle. The gateway ends the call's stream by it, whoever takes a new token on the stream
/// moves it.
#[derive(Clone, Debug)]
pub struct Lifetime {
    end: watch::Sender<Instant>,
    credential: Option<Uuid>,
    revoked: Revoked,
}

impl Lifetime {
    /// As long as the caller's token, while its credential is not among the revoked ones.
    pub fn of(caller: &Caller, revoked: Revoked) -> Self {
        Self {
            end: watch::Sender::new(end(caller)),
            credential: caller.credential(),
            revoked,
        }
    }

    /// That of a call that came through the gateway.
    pub fn of_request<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let lifetime = request.extensions().get::<Self>().cloned();
        lifetime.ok_or_else(|| Reason::Internal.status("a stream has no lifetime"))
    }

    /// From now on it is this caller's token that counts.
    pub fn renew(&self, caller: &Caller) {
        self.end.send_replace(end(caller));
    }

    /// Completes when the token has ended, with what its bearer is told.
    pub async fn over(&self) -> Status {
        let mut ends = self.end.subscribe();
        let revoked = async {
            match self.credential {
                Some(credential) => self.revoked.revoked(credential).await,
                None => pending().await,
            }
        };
        tokio::pin!(revoked);
        loop {
            let end = *ends.borrow_and_update();
            tokio::select! {
                // The sender is here.
                _ = ends.changed() => {}
                () = &mut revoked => {
                    return Reason::TokenInvalid.status(
                        "the token's credential was revoked, and the stream ended with it",
                    );
                }
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

    fn lifetime(caller: &Caller) -> Lifetime {
        Lifetime::of(caller, Revoked::default())
    }

    fn caller(left: Duration) -> Caller {
        let caller = Caller::new("d", Role::Daemon, None).unwrap();
        caller.until(SystemTime::now() + left)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_the_token_is() {
        let lifetime = lifetime(&caller(MINUTE));
        assert!(timeout(MINUTE / 2, lifetime.over()).await.is_err());
        let status = timeout(MINUTE, lifetime.over()).await.unwrap();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().starts_with("the token has expired"), "{status}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_moves_its_end_for_whoever_waits_already() {
        let lifetime = lifetime(&caller(MINUTE));
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
        let over = lifetime(&Caller::new("d", Role::Daemon, None).unwrap());
        timeout(MINUTE, over.over()).await.unwrap();
        let long = caller(Duration::from_secs(1 << 40));
        assert!(timeout(MINUTE, lifetime(&long).over()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_the_credential_is_revoked_and_not_when_another_is() {
        let credential = Uuid::from_u128(1);
        let revoked = Revoked::default();
        let caller = caller(MINUTE).by_credential(Some(credential));
        let lifetime = Lifetime::of(&caller, revoked.clone());
        revoked.replace([Uuid::from_u128(2)].into());
        assert!(timeout(MINUTE / 2, lifetime.over()).await.is_err());
        revoked.replace([Uuid::from_u128(2), credential].into());
        let status = timeout(Duration::from_secs(1), lifetime.over()).await.unwrap();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains("revoked"), "{status}");
    }
}
