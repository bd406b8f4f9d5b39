//! What the broker knows of a load: what it delivered again, and what is a dead letter.

use std::time::Duration;

use anyhow::Context as _;
use common::id::TenantId;
use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::{LOOK, STEP, Stored};

/// The broker counts deliveries every five seconds. What happened on a channel that died since is not counted at all.
const BROKER_COUNTS: Duration = Duration::from_secs(8);

/// What the broker knows of it.
pub(super) struct Broker<'a> {
    pub(super) tenants: &'a [TenantId],
    pub(super) amqp_url: &'a str,
    pub(super) management: Option<&'a Url>,
}

impl Broker<'_> {
    /// Once the broker has counted what happened, or after a while what it has counted until then.
    pub(super) async fn redelivered(&self, stored: &Stored) -> anyhow::Result<u64> {
        let Some(management) = self.management else {
            return Ok(0);
        };
        let deadline = Instant::now() + BROKER_COUNTS;
        let mut redelivered = 0;
        for &tenant in self.tenants {
            let stored = stored.keys().filter(|(of, _)| *of == tenant).count() as u64;
            let vhost = Url::parse(self.amqp_url)?;
            let vhost = vhost.path().trim_start_matches('/');
            let url = management.join(&format!("api/queues/{vhost}/{}", tenant.queue()))?;
            redelivered += loop {
                let answer = local::http::client()
                    .get(url.clone())
                    .timeout(STEP)
                    .send()
                    .await?;
                // A queue that was made anew has its counts from then on.
                let queue: Value = answer.json().await?;
                let count = |name: &str| queue["message_stats"][name].as_u64().unwrap_or_default();
                if count("ack") >= stored || Instant::now() > deadline {
                    break count("redeliver");
                }
                sleep(LOOK * 10).await;
            };
        }
        Ok(redelivered)
    }

    /// What is in the dead-letter queues.
    pub(super) async fn dead_lettered(&self) -> anyhow::Result<u64> {
        let connection = timeout(
            STEP,
            Connection::connect(self.amqp_url, ConnectionProperties::default()),
        );
        let connection = connection.await.context("RabbitMQ does not answer")??;
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let mut letters = 0;
        for tenant in self.tenants {
            let queue =
                channel.queue_declare(tenant.dead_letter_queue().into(), options, FieldTable::default());
            letters += u64::from(
                timeout(STEP, queue)
                    .await
                    .context("RabbitMQ does not answer")??
                    .message_count(),
            );
        }
        Ok(letters)
    }
}
