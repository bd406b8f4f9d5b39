//! What one test has for itself in the services: a database and a vhost.

use std::time::Duration;

use anyhow::Context as _;
use local::services::Services;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use url::Url;
use uuid::Uuid;

/// Making and removing take a second at most on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Room {
    name: String,
    database_url: String,
    amqp_url: String,
    /// Where the database was made.
    server_url: String,
    /// Where the vhost was made; `None` if there is none of our own.
    management_url: Option<String>,
}

impl Room {
    pub(super) async fn open(services: &Services) -> anyhow::Result<Self> {
        // Letters and digits alone: safe in SQL and in URLs.
        let name = format!("test_{}", Uuid::now_v7().simple());
        let server_url = services.database_url().to_owned();
        let room = Self {
            database_url: with_path(&server_url, &name)?,
            amqp_url: match services.management_url() {
                Some(_) => with_path(services.amqp_url(), &name)?,
                None => services.amqp_url().to_owned(),
            },
            management_url: services.management_url().map(str::to_owned),
            server_url,
            name,
        };
        tokio::time::timeout(TIMEOUT, async {
            execute(&room.server_url, format!("create database {}", room.name)).await?;
            room.make_vhost().await
        })
        .await
        .context("a test's database and vhost cannot be made in time")??;
        Ok(room)
    }

    pub(super) async fn make_vhost(&self) -> anyhow::Result<()> {
        let Some(management) = &self.management_url else {
            eprintln!("RabbitMQ's management does not answer: tests share the vhost of JALUR_RABBITMQ__URL");
            return Ok(());
        };
        let user = Url::parse(&self.amqp_url)?.username().to_owned();
        let user = if user.is_empty() { "guest" } else { &user };
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        manage(
            management,
            Method::PUT,
            &format!("vhosts/{}", self.name),
            Some(&json!({})),
        )
        .await?;
        manage(
            management,
            Method::PUT,
            &format!("permissions/{}/{user}", self.name),
            Some(&all),
        )
        .await
    }

    /// Takes the vhost away with all that is in it, connections included, and makes an empty one.
    pub(super) async fn wipe_vhost(&self) -> anyhow::Result<()> {
        let management = self
            .management_url
            .as_ref()
            .context("there is no vhost of our own")?;
        manage(management, Method::DELETE, &format!("vhosts/{}", self.name), None).await?;
        self.make_vhost().await
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn database_url(&self) -> &str {
        &self.database_url
    }

    pub(super) fn amqp_url(&self) -> &str {
        &self.amqp_url
    }

    /// Removes both, as well as may be: from a drop, which has no runtime to wait on, so on a thread with its own.
    pub(super) fn close(&self) {
        let drop_database = execute(
            &self.server_url,
            format!("drop database if exists {} with (force)", self.name),
        );
        let drop_vhost = async {
            match &self.management_url {
                Some(management) => {
                    manage(management, Method::DELETE, &format!("vhosts/{}", self.name), None).await
                }
                None => Ok(()),
            }
        };
        let close = async {
            let both = async { tokio::join!(drop_database, drop_vhost) };
            if let Ok((database, vhost)) = tokio::time::timeout(TIMEOUT, both).await
                && let Err(error) = database.and(vhost)
            {
                // Expected where a test left its own services stopped.
                eprintln!("{} could not be removed: {error:#}", self.name);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    runtime.block_on(close);
                }
            });
        });
    }
}

/// One statement on a connection of its own. `sql` holds no more than a name of ours.
async fn execute(url: &str, sql: String) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// The login in the management's URL becomes the header.
async fn manage(management: &str, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<()> {
    let url = format!("{}/api/{path}", management.trim_end_matches('/'));
    let mut request = local::http::client().request(method, url).timeout(TIMEOUT);
    if let Some(body) = body {
        request = request.json(body);
    }
    request.send().await?.error_for_status()?;
    Ok(())
}

fn with_path(url: &str, path: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(url)?;
    url.set_path(path);
    Ok(url.into())
}
