//! Credentials whose tokens are not good any more.

use std::{collections::HashSet, future::pending, sync::Arc};

use tokio::sync::watch;
use uuid::Uuid;

/// Which credentials were revoked lately; a handle. Whoever writes in it says for how long.
#[derive(Clone, Debug, Default)]
pub struct Revoked(Arc<watch::Sender<HashSet<Uuid>>>);

impl Revoked {
    /// Whether this one was.
    pub fn contains(&self, client_id: Uuid) -> bool {
        self.0.borrow().contains(&client_id)
    }

    /// Completes when this one is.
    pub(super) async fn revoked(&self, client_id: Uuid) {
        let mut known = self.0.subscribe();
        if known.wait_for(|known| known.contains(&client_id)).await.is_err() {
            // The sender is here.
            pending().await
        }
    }

    /// These and no others.
    pub(crate) fn replace(&self, revoked: HashSet<Uuid>) {
        self.0.send_if_modified(|known| {
            let is_new = *known != revoked;
            *known = revoked;
            is_new
        });
    }
}
