//! Credentials that are logins at RabbitMQ, too: users there, made after their row and removed with it.
//!
//! A row says how far its login is: `making`, `made`, `closing` or nothing. The row is there first and gone last, so
//! whatever a crash leaves half done is found by it.

use std::time::Duration;

use common::{config::Secret, id::TenantId};
use futures::{StreamExt as _, stream};
use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::store;
use crate::{
    broker::management::{self, Management},
    error::Error,
    tenants::Tenants,
};

/// How often it is looked for logins that are to go, how many of them, and how many at a time.
const EVERY: Duration = Duration::from_secs(5);
const BATCH: usize = 100;
const AT_ONCE: usize = 4;

/// How a login is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    /// `amqp://…`, with the secret.
    pub(crate) url: Secret,
    /// What it may publish to.
    pub(crate) exchange: String,
}

/// Logins; a handle.
#[derive(Clone, Debug)]
pub(crate) struct Logins {
    pool: PgPool,
    tenants: Tenants,
    management: Option<Management>,
}

impl Logins {
    pub(crate) fn new(pool: PgPool, tenants: Tenants, management: Option<Management>) -> Self {
        Self {
            pool,
            tenants,
            management,
        }
    }

    /// An error that says why there are none, where there are none.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.management().map(drop)
    }

    fn management(&self) -> Result<&Management, Error> {
        self.management.as_ref().ok_or_else(|| {
            Error::Precondition(
                "amqp: logins at RabbitMQ are made by its management API, and nothing says where that is: set \
                 rabbitmq.management_url (JALUR_RABBITMQ__MANAGEMENT_URL) on the control plane, or leave amqp out"
                    .into(),
            )
        })
    }

    /// Makes the login of a credential, whose row says `making`.
    pub(super) async fn make(
        &self,
        tenant: TenantId,
        client_id: Uuid,
        secret: &Secret,
    ) -> Result<Login, Error> {
        let management = self.management()?;
        // What it may write to is there, and is what it is to be: one of another kind might lead elsewhere.
        self.tenants.ensure(tenant).await?;
        let exchange = tenant.exchange();
        management.make_login(client_id, secret, &exchange).await?;
        if !store::login_made(&self.pool, client_id).await? {
            return Err(Error::Unavailable(
                "the credential was revoked while it was made; make another one".into(),
            ));
        }
        Ok(Login {
            url: management.login_url(client_id, secret),
            exchange,
        })
    }

    /// Removes the login of a credential that was revoked. It is tried again until it is gone.
    pub(super) async fn remove(&self, client_id: Uuid) -> Result<(), Error> {
        self.management()?.remove_login(client_id).await?;
        store::login_removed(&self.pool, client_id).await
    }

    /// Removes what is to go, until `stop`. Several control planes may do so: what is gone already is no error.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut failing = false;
        let look = async {
            loop {
                let looked = self.look().await;
                let is_full = matches!(looked, Ok(BATCH));
                match looked {
                    Ok(_) if failing => {
                        info!("logins of revoked credentials are removed again");
                        failing = false;
                    }
                    Err(error) if !failing => {
                        warn!(%error, "cannot remove the logins of revoked credentials; retrying");
                        failing = true;
                    }
                    _ => {}
                }
                if !is_full {
                    sleep(EVERY).await;
                }
            }
        };
        stop.run_until_cancelled(look).await;
    }

    /// Answers how many there were.
    async fn look(&self) -> Result<usize, Error> {
        store::give_up_logins(&self.pool).await?;
        let unwanted = store::unwanted_logins(&self.pool, BATCH as i64).await?;
        let count = unwanted.len();
        let removals = stream::iter(unwanted).map(|client_id| self.remove(client_id));
        let failures = removals
            .buffer_unordered(AT_ONCE)
            .filter_map(|removed| std::future::ready(removed.err()))
            .collect::<Vec<_>>();
        match failures.await.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(count),
        }
    }
}

impl From<management::Error> for Error {
    fn from(error: management::Error) -> Self {
        let text = error.to_string();
        match error.is_for_now() {
            true => Self::Unavailable(format!("{text}; try again")),
            false => Self::Precondition(text),
        }
    }
}
