//! Credentials whose tokens are not good any more.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use uuid::Uuid;

/// Which credentials were revoked lately; a handle. Whoever writes in it says for how long.
#[derive(Clone, Debug, Default)]
pub struct Revoked(Arc<RwLock<HashSet<Uuid>>>);

impl Revoked {
    /// Whether this one was.
    pub fn contains(&self, client_id: Uuid) -> bool {
        // Held for a moment, and whole at any time.
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.contains(&client_id)
    }

    /// These and no others.
    pub(crate) fn replace(&self, revoked: HashSet<Uuid>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = revoked;
    }
}
