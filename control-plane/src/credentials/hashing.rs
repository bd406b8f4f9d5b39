//! Secrets' hashes, by argon2id: each takes a processor some hundredths of a second and 19 MiB, on purpose. So they are
//! made on threads of their own, few at a time.

use std::{sync::Arc, thread};

use argon2::{
    Argon2,
    password_hash::{self, PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use common::config::Secret;

use super::{
    model::{self, SECRET_BYTES},
    turns::{Holder, Turns},
};
use crate::{error::Error as CallError, offload::holding};

/// How many are checked at a time, and a processor stays free for everything else.
const AT_ONCE_MAX: usize = 2;
/// How many wait for that: for half a second.
const WAITING_MAX: usize = 16;
/// How many of those are one tenant's; and how many stand for no credential that there is, all together. So whoever
/// tries secrets, or buys a token for each request, leaves room for the others.
const OF_ONE_MAX: usize = 4;
/// How many wait for a new credential's.
const NEW_WAITING_MAX: usize = 8;

/// Why a secret could not be hashed or checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Many wait already.
    #[error(
        "many secrets are being checked; try again. A token is good for many requests: buy one when the last one ends, not for each"
    )]
    Busy,
    /// What is kept is no hash, or none can be made.
    #[error("a secret's hash: {0}")]
    Hash(#[from] password_hash::Error),
    /// What is kept cannot be read.
    #[error("a secret's hash cannot be read: {0}")]
    Unread(#[from] password_hash::phc::Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            error @ Error::Busy => Self::Full(error.to_string()),
            error @ (Error::Hash(_) | Error::Unread(_)) => Self::Fault(error.to_string()),
        }
    }
}

/// Hashes and checks secrets; a handle.
#[derive(Clone, Debug)]
pub(crate) struct Hashing {
    checking: Turns,
    making: Turns,
    /// What is checked where there is no credential: an answer takes as long then.
    nobodys: Arc<str>,
}

impl Hashing {
    /// Hashes one secret, and so takes its time.
    pub(crate) fn new() -> Result<Self, Error> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let at_once = (processors - 1).clamp(1, AT_ONCE_MAX);
        Ok(Self {
            checking: Turns::new(at_once, WAITING_MAX, OF_ONE_MAX),
            making: Turns::new(1, NEW_WAITING_MAX, OF_ONE_MAX),
            nobodys: hash(&model::secret(rand::random::<[u8; SECRET_BYTES]>()))?.into(),
        })
    }

    /// The hash of a new secret, as a PHC string.
    pub(super) async fn hash(&self, holder: Holder, secret: Secret) -> Result<String, Error> {
        let turn = self.making.place(holder).ok_or(Error::Busy)?.turn().await;
        holding(turn, move || hash(&secret)).await
    }

    /// Whether `kept` is the hash of `secret`. Where there is none it is not, and that takes as long.
    pub(super) async fn check(
        &self,
        holder: Holder,
        secret: Secret,
        kept: Option<String>,
    ) -> Result<bool, Error> {
        let turn = self.checking.place(holder).ok_or(Error::Busy)?.turn().await;
        let nobodys = Arc::clone(&self.nobodys);
        holding(turn, move || {
            let is_right = check(&secret, kept.as_deref().unwrap_or(&nobodys))?;
            Ok(is_right && kept.is_some())
        })
        .await
    }
}

fn hash(secret: &Secret) -> Result<String, Error> {
    let hash = Argon2::default().hash_password(secret.expose().as_bytes())?;
    Ok(hash.to_string())
}

/// By the parameters that stand in the hash, whatever new ones are made with.
fn check(secret: &Secret, kept: &str) -> Result<bool, Error> {
    let kept = PasswordHash::new(kept)?;
    match Argon2::default().verify_password(secret.expose().as_bytes(), &kept) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use common::id::TenantId;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_secret_is_kept_as_an_argon2id_hash_that_it_alone_fits() {
        let hashing = Hashing::new().unwrap();
        let kept = hashing.hash(None, "right".into()).await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(kept, hashing.hash(None, "right".into()).await.unwrap(), "salted");
        for (secret, kept, wanted) in [
            ("right", Some(kept.clone()), true),
            ("wrong", Some(kept), false),
            ("", None, false),
            ("right", None, false),
        ] {
            assert_eq!(hashing.check(None, secret.into(), kept).await.unwrap(), wanted);
        }
        let broken = hashing.check(None, "right".into(), Some("right".into())).await;
        assert!(
            matches!(broken, Err(Error::Unread(_) | Error::Hash(_))),
            "{broken:?}"
        );
    }

    #[tokio::test]
    async fn whoever_asks_often_is_refused_at_once_and_others_are_not() {
        let hashing = Hashing::new().unwrap();
        let [greedy, other] = [1, 2].map(|number| Some(TenantId(Uuid::from_u128(number))));
        let many = (0..20).map(|_| hashing.check(greedy, "x".into(), None));
        let (many, other) = tokio::join!(
            futures::future::join_all(many),
            hashing.check(other, "x".into(), None)
        );
        let refused = many.iter().filter(|one| matches!(one, Err(Error::Busy)));
        assert_eq!(refused.count(), 20 - OF_ONE_MAX);
        assert!(other.is_ok(), "{other:?}");
    }
}
