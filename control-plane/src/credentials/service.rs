//! What callers ask of credentials.

use std::{sync::Arc, time::Duration};

use common::{config::Secret, id::TenantId};
use sqlx::PgPool;
use tokio::{sync::Semaphore, time::timeout};
use tracing::debug;
use uuid::Uuid;

use super::{
    Hashing, Login, Logins,
    model::{self, Credential, NewCredential, SECRET_BYTES},
    store,
};
use crate::{
    error::Error,
    excerpt::excerpt,
    identity::{self, Keys},
    tenants::Tenants,
};

/// How many credentials are looked up at a time, each within a millisecond. So however many ask for tokens, there is a
/// connection to the database for the others.
const LOOKED_UP_AT_ONCE: usize = 2;
/// How long one waits for that at most.
const LOOKUP_WAIT: Duration = Duration::from_secs(2);

/// A credential that was made.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) client_id: Uuid,
    pub(crate) secret: Secret,
    pub(crate) login: Option<Login>,
}

/// A token that was sold.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) access_token: String,
    /// How long it is good for.
    pub(crate) ttl: Duration,
}

/// Credentials; a handle.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pool: PgPool,
    tenants: Tenants,
    hashing: Hashing,
    logins: Logins,
    keys: Keys,
    token_ttl: Duration,
    lookups: Arc<Semaphore>,
}

impl Credentials {
    /// Those of `tenants`, whose tokens are signed by `keys` and good for `token_ttl`.
    pub(crate) fn new(
        pool: PgPool,
        tenants: Tenants,
        hashing: Hashing,
        logins: Logins,
        keys: Keys,
        token_ttl: Duration,
    ) -> Self {
        Self {
            pool,
            tenants,
            hashing,
            logins,
            keys,
            token_ttl,
            lookups: Arc::new(Semaphore::new(LOOKED_UP_AT_ONCE)),
        }
    }

    /// Makes a credential, and answers it with its secret, which nobody can say a second time.
    pub(crate) async fn create(&self, tenant: TenantId, new: &NewCredential) -> Result<Created, Error> {
        if new.amqp {
            self.logins.check()?;
        }
        // Before the costly part; the insertion looks again.
        self.tenants.get(tenant).await?;
        let client_id = Uuid::new_v4();
        let secret = model::secret(rand::random::<[u8; SECRET_BYTES]>());
        let hash = self.hashing.hash(Some(tenant), secret.clone()).await?;
        store::insert(&self.pool, tenant, client_id, new, &hash).await?;
        let login = match new.amqp {
            true => Some(self.login(tenant, client_id, &secret).await?),
            false => None,
        };
        Ok(Created {
            client_id,
            secret,
            login,
        })
    }

    /// Makes the login of a credential, or lets go of both.
    async fn login(&self, tenant: TenantId, client_id: Uuid, secret: &Secret) -> Result<Login, Error> {
        let made = self.logins.make(tenant, client_id, secret).await;
        if made.is_err()
            && let Err(error) = store::revoke(&self.pool, tenant, client_id).await
        {
            debug!(%client_id, %error, "a credential without its login is given up a minute later");
        }
        made
    }

    /// A tenant's credentials.
    pub(crate) async fn list(&self, tenant: TenantId) -> Result<Vec<Credential>, Error> {
        self.tenants.get(tenant).await?;
        store::list(&self.pool, tenant).await
    }

    /// Revokes a credential. Its tokens are refused within seconds, on every control plane.
    pub(crate) async fn revoke(&self, tenant: TenantId, client_id: &str) -> Result<(), Error> {
        let id = Uuid::try_parse(client_id).map_err(|_| {
            let message = format!("must be a credential's UUID, got {:?}", excerpt(client_id));
            Error::invalid("client_id", message)
        })?;
        self.tenants.get(tenant).await?;
        let was = store::revoke(&self.pool, tenant, id).await?;
        let was = was.ok_or(Error::NoCredential(id))?;
        if was.amqp {
            let removed = self.logins.remove(id).await;
            removed.map_err(|error| {
                Error::Unavailable(format!(
                    "credential {id} is revoked, but its login at RabbitMQ is not removed yet: {error}. Nothing more needs to be \
                     done: it goes as soon as that is possible"
                ))
            })?;
        }
        Ok(())
    }

    /// Sells a token for a credential. Whatever is wrong with that, the answer is the same, and takes as long.
    pub(crate) async fn token(&self, client_id: &str, client_secret: Secret) -> Result<Token, Error> {
        for (field, is_missing) in [
            ("client_id", client_id.is_empty()),
            ("client_secret", client_secret.is_empty()),
        ] {
            if is_missing {
                return Err(Error::invalid(field, "is missing"));
            }
        }
        let found = self.find(client_id).await?;
        let holder = found.as_ref().map(|(_, found)| found.tenant_id);
        let kept = found.as_ref().map(|(_, found)| found.secret_hash.clone());
        let is_right = self.hashing.check(holder, client_secret, kept).await?;
        let (id, found) = found.filter(|_| is_right).ok_or(Error::Client)?;
        if found.stale {
            match store::touch(&self.pool, id).await {
                Ok(true) => {}
                // Revoked meanwhile.
                Ok(false) => return Err(Error::Client),
                // That it was used at all has to stand there before its first token: by that it is known whose tokens
                // there may be.
                Err(error) if !found.used => return Err(error),
                Err(error) => {
                    debug!(client_id = %id, %error, "could not write down that a credential is used")
                }
            }
        }
        let role = identity::Role::from(found.role);
        let token = self.keys.mint_for(id, role, found.tenant_id.0, self.token_ttl);
        Ok(Token {
            access_token: token.map_err(|error| Error::Fault(format!("a token: {error}")))?,
            ttl: self.token_ttl,
        })
    }

    async fn find(&self, client_id: &str) -> Result<Option<(Uuid, store::Found)>, Error> {
        let Ok(id) = Uuid::try_parse(client_id) else {
            return Ok(None);
        };
        let _lookup = timeout(LOOKUP_WAIT, self.lookups.acquire())
            .await
            .map_err(|_| Error::Full("many ask for tokens; try again".into()))?;
        let found = store::find(&self.pool, id).await?;
        Ok(found.map(|found| (id, found)))
    }
}
