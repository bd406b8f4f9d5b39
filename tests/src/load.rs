//! Load, and the check that nothing of it is lost, doubled or out of order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use common::id::TenantId;
use futures::future::try_join_all;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::rest::Rest;

/// How many messages may wait for their confirm.
const WINDOW: usize = 200;
/// How long one step of publishing or reading may take, broker restarts included.
const PATIENCE: Duration = Duration::from_secs(60);

/// A body of about `bytes` bytes that names its tenant.
pub fn body(tenant: TenantId, number: usize, bytes: usize) -> Vec<u8> {
    let bare = json!({ "tenant": tenant.to_string(), "number": number, "pad": "" })
        .to_string()
        .len();
    let pad = "x".repeat(bytes.saturating_sub(bare));
    json!({ "tenant": tenant.to_string(), "number": number, "pad": pad })
        .to_string()
        .into_bytes()
}

/// An AMQP publisher that outlives its broker: what was not confirmed is sent again under its id.
#[derive(Debug)]
pub struct Publisher {
    url: String,
    channel: Option<(Connection, Channel)>,
}

impl Publisher {
    /// One that connects when it is first used.
    pub fn new(amqp_url: &str) -> Self {
        Self {
            url: amqp_url.to_owned(),
            channel: None,
        }
    }

    /// Publishes `count` messages in turn to `tenants`, and answers the confirmed ids of each.
    pub async fn send(
        &mut self,
        tenants: &[TenantId],
        count: usize,
        bytes: usize,
    ) -> anyhow::Result<BTreeMap<TenantId, BTreeSet<Uuid>>> {
        let mut sent = BTreeMap::<TenantId, BTreeSet<Uuid>>::new();
        let numbers: Vec<usize> = (0..count).collect();
        for window in numbers.chunks(WINDOW) {
            let batch: Vec<_> = window
                .iter()
                .map(|&number| {
                    let tenant = tenants[number % tenants.len()];
                    (tenant, Uuid::now_v7(), body(tenant, number, bytes))
                })
                .collect();
            self.send_window(&batch).await?;
            for (tenant, id, _) in batch {
                sent.entry(tenant).or_default().insert(id);
            }
        }
        Ok(sent)
    }

    /// Publishes one message with properties of the caller's own.
    pub async fn send_one(
        &mut self,
        tenant: TenantId,
        body: &[u8],
        properties: BasicProperties,
    ) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let confirm = channel
            .basic_publish("".into(), tenant.queue().into(), options, body, properties)
            .await?
            .await?;
        ensure!(confirm.is_ack(), "the broker refused a message");
        Ok(())
    }

    async fn send_window(&mut self, batch: &[(TenantId, Uuid, Vec<u8>)]) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let attempt = tokio::time::timeout(Duration::from_secs(10), self.try_window(batch)).await;
            let error = match attempt {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("no confirm came"),
            };
            self.channel = None;
            if Instant::now() > deadline {
                return Err(error.context("the broker did not come back"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_window(&mut self, batch: &[(TenantId, Uuid, Vec<u8>)]) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let mut confirms = Vec::with_capacity(batch.len());
        for (tenant, id, body) in batch {
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_content_type("application/json".into())
                .with_message_id(id.to_string().into());
            confirms.push(
                channel
                    .basic_publish("".into(), tenant.queue().into(), options, body, properties)
                    .await?,
            );
        }
        for confirm in try_join_all(confirms).await? {
            ensure!(
                confirm.is_ack() && confirm.take_message().is_none(),
                "the broker refused a message"
            );
        }
        Ok(())
    }

    async fn channel(&mut self) -> anyhow::Result<&Channel> {
        if self
            .channel
            .as_ref()
            .is_none_or(|(_, channel)| !channel.status().connected())
        {
            let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            self.channel = Some((connection, channel));
        }
        self.channel
            .as_ref()
            .map(|(_, channel)| channel)
            .context("no channel")
    }
}

/// A reader that follows a tenant's cursor and checks what it sees.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Rest,
    tenant: TenantId,
    cursor: String,
    /// Every id seen, and its payload.
    pub seen: BTreeMap<Uuid, Value>,
    last_position: i64,
}

impl Reader {
    /// One that starts at the tenant's first message.
    pub fn new(rest: &Rest, tenant: TenantId) -> Self {
        Self {
            rest: rest.clone(),
            tenant,
            cursor: "0".into(),
            seen: BTreeMap::new(),
            last_position: 0,
        }
    }

    /// Reads one page and answers how many messages it had. While the system restarts a page has none.
    pub async fn page(&mut self, limit: usize) -> anyhow::Result<usize> {
        let (tenant, cursor) = (self.tenant, &self.cursor);
        let path = format!("/messages?tenant_id={tenant}&cursor={cursor}&limit={limit}");
        let page = match self.rest.get(&path).await {
            Ok(answer) if answer.status == 503 => return Ok(0),
            Ok(answer) => answer.expect(200)?,
            Err(_) => return Ok(0),
        };
        let rows = page["data"].as_array().context("data is no list")?;
        for row in rows {
            let text = |name: &str| {
                row[name]
                    .as_str()
                    .with_context(|| format!("{name} is no text: {row}"))
            };
            ensure!(
                text("tenant_id")? == tenant.to_string(),
                "another tenant's message: {row}"
            );
            let position: i64 = text("position")?.parse()?;
            ensure!(
                position > self.last_position,
                "position {position} came after {}",
                self.last_position
            );
            self.last_position = position;
            let id: Uuid = text("id")?.parse()?;
            ensure!(
                self.seen.insert(id, row["payload"].clone()).is_none(),
                "message {id} came twice"
            );
        }
        let count = rows.len();
        self.cursor = page["next_cursor"]
            .as_str()
            .context("next_cursor is no text")?
            .to_owned();
        if count > 0 {
            ensure!(
                self.cursor == self.last_position.to_string(),
                "next_cursor is not the last position"
            );
        }
        Ok(count)
    }

    /// Reads until `wanted` have all been seen, and checks that nothing else was.
    pub async fn expect(mut self, wanted: &BTreeSet<Uuid>) -> anyhow::Result<Self> {
        self.until(wanted.len()).await?;
        let seen: BTreeSet<Uuid> = self.seen.keys().copied().collect();
        let missing = wanted.difference(&seen).count();
        let foreign = seen.difference(wanted).count();
        ensure!(
            missing == 0 && foreign == 0,
            "{missing} messages are missing, {foreign} were never sent"
        );
        Ok(self)
    }

    /// Reads until `count` messages have been seen.
    pub async fn until(&mut self, count: usize) -> anyhow::Result<()> {
        let mut deadline = Instant::now() + PATIENCE;
        while self.seen.len() < count {
            if self.page(1_000).await? > 0 {
                deadline = Instant::now() + PATIENCE;
            } else {
                if Instant::now() > deadline {
                    bail!(
                        "{} of {count} messages of tenant {} came",
                        self.seen.len(),
                        self.tenant
                    );
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}
