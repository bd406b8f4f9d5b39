//! One outside issuer, and its keys as they were last seen.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    entry::{Entry, Source},
    jwks::Jwks,
    token,
};
use crate::identity::{Caller, keys::Error};

/// How often keys are fetched without a reason.
const EVERY: Duration = Duration::from_secs(300);
/// How far two fetches are apart at least, whoever asks for them. An issuer that is away is tried that often, too.
const APART: Duration = Duration::from_secs(10);
/// How long a call waits for keys that are being fetched.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many may wait at once: each holds a request.
const WAITING_MAX: usize = 1_000;

/// An issuer. Its keys are fetched by one task, [`keep`](Self::keep), whatever calls come.
#[derive(Debug)]
pub(in crate::identity) struct Issuer {
    pub(super) entry: Entry,
    seen: watch::Sender<Seen>,
    /// Somebody has met a key that is not among them.
    wanted: Notify,
    waiting: Semaphore,
    /// It is trusted no more.
    pub(super) over: CancellationToken,
}

/// What is known of its keys.
#[derive(Debug)]
struct Seen {
    /// None until they were fetched once.
    keys: Option<Arc<Jwks>>,
    /// How often they were fetched, or tried to.
    rounds: u64,
    /// When they may be fetched again.
    next: Instant,
}

impl Issuer {
    pub(super) fn new(entry: Entry) -> Self {
        let keys = match &entry.source {
            Source::File(keys) => Some(Arc::new(keys.clone())),
            Source::Url(_) => None,
        };
        Self {
            entry,
            seen: watch::Sender::new(Seen {
                keys,
                rounds: 0,
                next: Instant::now(),
            }),
            wanted: Notify::new(),
            waiting: Semaphore::new(WAITING_MAX),
            over: CancellationToken::new(),
        }
    }

    /// Who bears `token`, which says to be from this issuer. Waits a moment where its key may be one that the issuer has
    /// only now.
    pub(in crate::identity) async fn verify(&self, token: &str) -> Result<Caller, Error> {
        let header = token::header(token, &self.entry)?;
        let (kid, algorithm) = (header.kid.as_deref(), header.alg);
        let mut key = self.key(kid, algorithm);
        if let Err(Error::NotIssuers(..) | Error::IssuerAway(_)) = key
            && self.fetched().await
        {
            key = self.key(kid, algorithm);
        }
        let key = key?;
        token::caller(token, algorithm, &key, &self.entry)
    }

    fn key(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Error> {
        let keys = self.seen.borrow().keys.clone();
        match keys {
            Some(keys) => keys.find(kid, algorithm),
            None => Err(Error::IssuerAway(self.entry.issuer.clone())),
        }
    }

    /// Asks for the keys to be fetched, and waits for that if it can be done now. Whether it was done meanwhile.
    async fn fetched(&self) -> bool {
        if matches!(self.entry.source, Source::File(_)) {
            return false;
        }
        self.wanted.notify_one();
        let mut seen = self.seen.subscribe();
        let (rounds, next) = {
            let seen = seen.borrow_and_update();
            (seen.rounds, seen.next)
        };
        if next > Instant::now() {
            return false;
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return false;
        };
        let done = seen.wait_for(|seen| seen.rounds > rounds);
        matches!(timeout(PATIENCE, done).await, Ok(Ok(_)))
    }

    /// Fetches the keys, now and then and when somebody asks for them, one at a time, until the issuer is trusted no more.
    pub(super) async fn keep<F>(self: Arc<Self>, fetch: impl Fn() -> F)
    where
        F: Future<Output = Result<Jwks, String>>,
    {
        let mut away = false;
        while !self.over.is_cancelled() {
            let next = Instant::now() + APART;
            // Whoever asked until now is served by this one.
            let _ = self.wanted.notified().now_or_never();
            let fetched = fetch().await;
            let well = fetched.is_ok();
            self.tell(&fetched, &mut away);
            self.seen.send_modify(|seen| {
                if let Ok(keys) = fetched {
                    seen.keys = Some(Arc::new(keys));
                }
                seen.rounds += 1;
                seen.next = next;
            });
            let rest = async {
                sleep_until(next).await;
                if well {
                    let _ = timeout(EVERY - APART, self.wanted.notified()).await;
                }
            };
            self.over.run_until_cancelled(rest).await;
        }
    }

    /// Says what has changed.
    fn tell(&self, fetched: &Result<Jwks, String>, away: &mut bool) {
        let (issuer, before) = (&self.entry.issuer, self.seen.borrow().keys.clone());
        match fetched {
            Ok(keys) => {
                if std::mem::take(away) {
                    info!(issuer, "an outside issuer's keys can be fetched again");
                }
                if before.as_deref() == Some(keys) {
                    return;
                }
                let (kids, algorithms) = (keys.kids(), &self.entry.algorithms);
                if keys.is_for(algorithms) {
                    info!(issuer, ?kids, "an outside issuer's keys are known");
                } else {
                    warn!(
                        issuer,
                        ?kids,
                        ?algorithms,
                        "an outside issuer has no key for its tokens"
                    );
                }
            }
            Err(error) if !*away => {
                *away = true;
                let kept = before.is_some();
                warn!(
                    issuer,
                    error, kept, "an outside issuer's keys cannot be fetched; retrying"
                );
            }
            Err(_) => {}
        }
    }
}
