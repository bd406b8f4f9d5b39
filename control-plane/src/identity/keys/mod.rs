//! Minting and checking tokens.
//!
//! There may be several keys at once, so that one can follow another: the first signs, all check, and a token says in its
//! header (`kid`) which it is for. A key checks its own algorithm and no other, whatever the token says (RFC 8725). Tokens
//! of outside issuers are theirs to check: [`super::trusted`].

mod claims;
mod key;
mod renewal;
mod ring;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use common::config;
use jsonwebtoken::Algorithm;
use uuid::Uuid;

pub use self::claims::Claims;
pub(super) use self::claims::{expires, explain};
use self::ring::Ring;
use super::{Caller, Revoked, Role, trusted::Trusted};
use crate::config::Config;

/// How far two machines' clocks may be apart, in seconds.
pub(super) const LEEWAY_SECONDS: u64 = 5;

/// Why a token is not accepted, or cannot be minted. The text is for the person who sent it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tenant's role came without the tenant.
    #[error("role {} needs a tenant_id, the tenant's UUID", .0.word())]
    TenantMissing(Role),
    /// Another role came with a tenant.
    #[error("role {} takes no tenant_id", .0.word())]
    TenantNotAllowed(Role),
    /// It is over.
    #[error("it has expired; get a new one")]
    Expired,
    /// Its `nbf` is in the future.
    #[error("it is not valid yet")]
    NotYet,
    /// It was signed with another key or changed afterwards.
    #[error("its signature does not fit: it was signed with another key, or changed afterwards")]
    Signature,
    /// It is signed in another way than its key is for, or not at all.
    #[error("it has to be signed with {0}")]
    Algorithm(&'static str),
    /// It is signed in a way that its issuer is not trusted with, or not at all.
    #[error("it has to be signed with {0}, as is configured for its issuer")]
    Algorithms(String),
    /// It names a key that is not known, or not any more.
    #[error("its key (kid {0:?}) is not known here, or not any more; get a new one")]
    UnknownKey(String),
    /// It names none, and every key has a name.
    #[error("it does not say which key it is signed with (kid)")]
    NoKey,
    /// It names one that its issuer does not have, as far as is known.
    #[error(
        "its issuer has no key {0:?} for {1:?}, as far as is known here; try again in ten seconds, or get a new one"
    )]
    NotIssuers(String, Algorithm),
    /// It names none, and several of its issuer's may be meant, or none.
    #[error("it does not say which key of its issuer's it is signed with (kid), and not exactly one fits")]
    Ambiguous,
    /// The keys of its issuer were never read yet.
    #[error("the keys of its issuer {0:?} cannot be read at the moment; try again")]
    IssuerAway(String),
    /// It is a JWT for something else than calling, or asks for what is not done here.
    #[error("its header has {0}")]
    Header(String),
    /// It was issued by somebody else.
    #[error("its iss has to be {0:?}")]
    Issuer(String),
    /// It was issued for something else.
    #[error("its aud has to be {0:?}")]
    Audience(String),
    /// A claim is missing or cannot be read.
    #[error("its claims are wrong: {0}")]
    Claims(String),
    /// The credential that bought it was revoked.
    #[error("its credential was revoked")]
    Revoked,
    /// It is no JWT.
    #[error("it is no JWT")]
    Malformed,
    /// The lifetime that was asked for ends after every date there is.
    #[error("its lifetime is too long")]
    Lifetime,
    /// Signing failed.
    #[error("it could not be signed: {0}")]
    Signing(jsonwebtoken::errors::Error),
}

/// The keys that tokens are signed with, and what these have to say; a handle.
#[derive(Clone)]
pub struct Keys {
    ring: Arc<RwLock<Arc<Ring>>>,
    revoked: Revoked,
    trusted: Trusted,
}

impl Keys {
    /// One shared `secret`.
    pub fn new(secret: &str, issuer: &str, audience: &str) -> Self {
        Self::of(Ring::of_secret(secret, issuer, audience))
    }

    /// The keys that are configured, if they are good, and the outside issuers. Reads their files.
    pub(crate) fn configured(config: &Config) -> Result<Self, config::Error> {
        Ok(Self {
            trusted: Trusted::configured(config)?,
            ..Self::of(Ring::read(&config.auth, config.insecure)?)
        })
    }

    fn of(ring: Ring) -> Self {
        Self {
            ring: Arc::new(RwLock::new(Arc::new(ring))),
            revoked: Revoked::default(),
            trusted: Trusted::default(),
        }
    }

    /// The credentials whose tokens are not accepted.
    pub fn revoked(&self) -> Revoked {
        self.revoked.clone()
    }

    /// The outside issuers.
    pub(crate) fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// A token for `role` that ends after `ttl`. A tenant's roles need the tenant, the others have none. `sub` is
    /// for people who read the token.
    pub fn mint(&self, role: Role, tenant: Option<Uuid>, sub: &str, ttl: Duration) -> Result<String, Error> {
        Caller::new(sub, role, tenant)?;
        self.ring().mint(role, tenant, sub, None, ttl)
    }

    /// A token that a tenant's credential has bought.
    pub(crate) fn mint_for(
        &self,
        credential: Uuid,
        role: Role,
        tenant: Uuid,
        ttl: Duration,
    ) -> Result<String, Error> {
        let sub = credential.to_string();
        Caller::new(&sub, role, Some(tenant))?;
        self.ring().mint(role, Some(tenant), &sub, Some(credential), ttl)
    }

    /// Who bears `token`, ours or an outside issuer's. May wait a moment for the keys of the latter.
    pub async fn caller(&self, token: &str) -> Result<Caller, Error> {
        match self.trusted.issuer_of(token) {
            Some(issuer) => issuer.verify(token).await,
            None => self.verify(token),
        }
    }

    /// Who bears `token`: signed by one of the keys, with this issuer and audience, not expired, and bought by no
    /// credential that was revoked.
    pub fn verify(&self, token: &str) -> Result<Caller, Error> {
        let caller = self.ring().verify(token)?;
        match caller.credential() {
            Some(credential) if self.revoked.contains(credential) => Err(Error::Revoked),
            _ => Ok(caller),
        }
    }

    /// From now on these are the keys.
    fn replace(&self, ring: Ring) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    /// Held for a moment.
    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Without the secrets.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.ring()).finish()
    }
}
