//! Tokens of outside issuers, as OIDC gives them (`auth.trusted`).
//!
//! ```text
//! auth.trusted ─ entry ─┐             ┌ token: header, signature, registered claims (RFC 8725)
//! jwks_file, jwks_url ──┴─► issuer ───┤
//!               fetch ─ jwks          └ claims: its words → our role and tenant
//! ```
//!
//! A token is checked by the entry whose issuer is its `iss`, and by nobody else; every other one is ours to check.

mod claims;
mod entry;
mod fetch;
mod issuer;
mod jwks;
#[cfg(test)]
mod tests;
mod token;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use common::{config::Error, second_look::SecondLook};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::entry::{Entry, Source};
pub(super) use self::issuer::Issuer;
use crate::config::Config;

/// How soon a change of the configuration, or of an issuer's file, is seen.
const LOOK: Duration = Duration::from_secs(2);

/// The outside issuers that are trusted at the moment; a handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trusted {
    issuers: Arc<RwLock<Arc<[Arc<Issuer>]>>>,
}

impl Trusted {
    /// Those that are configured, if they are good. Reads their files, and fetches nothing yet.
    pub(super) fn configured(config: &Config) -> Result<Self, Error> {
        let trusted = Self::default();
        trusted.replace(entry::read(&config.auth, config.insecure)?);
        Ok(trusted)
    }

    /// The issuer that a token says to be from.
    pub(super) fn issuer_of(&self, token: &str) -> Option<Arc<Issuer>> {
        let issuers = self.issuers();
        if issuers.is_empty() {
            return None;
        }
        let named = token::issuer(token)?;
        issuers.iter().find(|known| known.entry.issuer == named).cloned()
    }

    /// Has their keys fetched, and takes what `read` says is configured, and what stands in their files, whenever that
    /// changes, until `stop`. What is no good changes nothing.
    pub(crate) async fn renew(
        self,
        read: impl Fn() -> Result<Config, Error> + Clone + Send + 'static,
        stop: CancellationToken,
    ) {
        let mut second_look = SecondLook::default();
        let mut fetching = JoinSet::new();
        keep(&self.issuers(), &mut fetching);
        while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
            while fetching.try_join_next().is_some() {}
            let read = read.clone();
            let looked = spawn_blocking(move || {
                let config = read()?;
                entry::read(&config.auth, config.insecure)
            });
            match looked.await {
                Ok(Ok(entries)) => {
                    second_look.well();
                    keep(&self.replace(entries), &mut fetching);
                }
                Ok(Err(error)) => {
                    let error = error.to_string();
                    if second_look.failed(&error) {
                        warn!(error, "outside issuers stay as they were");
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// From now on these are trusted. One that is as it was keeps the keys that are known of it. Answers those that are
    /// new.
    fn replace(&self, entries: Vec<Entry>) -> Vec<Arc<Issuer>> {
        let before = self.issuers();
        let (mut new, mut all) = (Vec::new(), Vec::new());
        for entry in entries {
            let known = before.iter().find(|known| known.entry == entry).cloned();
            all.push(known.unwrap_or_else(|| {
                let issuer = Arc::new(Issuer::new(entry));
                new.push(Arc::clone(&issuer));
                issuer
            }));
        }
        let mut gone = before
            .iter()
            .filter(|known| !all.iter().any(|one| Arc::ptr_eq(one, known)))
            .peekable();
        if !before.is_empty() && (gone.peek().is_some() || !new.is_empty()) {
            let issuers: Vec<_> = all.iter().map(|issuer| issuer.entry.issuer.as_str()).collect();
            info!(?issuers, "outside issuers, or their keys, have changed");
        }
        gone.for_each(|issuer| issuer.over.cancel());
        *self.issuers.write().unwrap_or_else(PoisonError::into_inner) = all.into();
        new
    }

    /// Held for a moment.
    fn issuers(&self) -> Arc<[Arc<Issuer>]> {
        Arc::clone(&self.issuers.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Has the keys of these fetched from now on.
fn keep(issuers: &[Arc<Issuer>], fetching: &mut JoinSet<()>) {
    for issuer in issuers {
        let Source::Url(url) = issuer.entry.source.clone() else {
            continue;
        };
        fetching.spawn(Arc::clone(issuer).keep(move || fetch::fetch(url.clone())));
    }
}
