//! `--demo`: two tenants with messages that trickle in, and a dead letter, for a first look that shows something.
//!
//! It can be started again and again: the tenants have ids of their own, and what was changed or deleted stays so.

use std::time::Duration;

use anyhow::{Context as _, bail};
use lapin::{BasicProperties, Connection, ConnectionProperties, options::BasicPublishOptions};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, timeout};
use uuid::{Uuid, uuid};

use crate::{services::Say, stack::Stack};

/// An answer that takes longer does not come: making a tenant waits five seconds for its consumer.
const ANSWER: Duration = Duration::from_secs(20);
/// A broker on this machine takes milliseconds.
const BROKER: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
/// The same at every start, so that there are two of them and no more.
const SHOP: Uuid = uuid!("0b6f2a52-64c5-4d0c-9c0f-6a4f5a1e0001");
const METERS: Uuid = uuid!("0b6f2a52-64c5-4d0c-9c0f-6a4f5a1e0002");
/// Under its id it is one dead letter and never two stored messages.
const POISON: Uuid = uuid!("0b6f2a52-64c5-4d0c-9c0f-6a4f5a1e0003");

/// Sets everything up and publishes until it is dropped. What fails is said once, and tried again.
pub(crate) async fn run(stack: &Stack, say: &Say) {
    let demo = Demo {
        client: crate::http::client(),
        url: stack.url(),
        token: stack.admin_token.clone(),
        amqp_url: stack.services.amqp_url().to_owned(),
    };
    if let Err(error) = demo.set_up().await {
        return say.say(format!("--demo: {error:#}"));
    }
    say.say("--demo: messages trickle in for two tenants");
    let mut pace = interval(PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_well = true;
    for n in 0_u64.. {
        pace.tick().await;
        match demo.publish(n).await {
            Ok(()) => is_well = true,
            Err(error) if is_well => {
                say.say(format!("--demo: {error:#}; it is tried again"));
                is_well = false;
            }
            Err(_) => {}
        }
    }
}

struct Demo {
    client: Client,
    url: String,
    token: String,
    amqp_url: String,
}

impl Demo {
    async fn set_up(&self) -> anyhow::Result<()> {
        for (id, name, description) in [
            (SHOP, "demo: shop", "Orders of a shop, one or two a second."),
            (METERS, "demo: meters", "Readings of meters, several a second."),
        ] {
            let tenant = json!({ "id": id, "name": name, "description": description });
            let (status, answer) = self.call(Method::POST, "/api/tenants", Some(&tenant)).await?;
            // There, and somebody has changed it, or has deleted it for good: it stays so.
            if !status.is_success() && status != StatusCode::CONFLICT {
                bail!("{name} cannot be made: {answer}");
            }
        }
        let (status, shop) = self.call(Method::GET, &path(SHOP), None).await?;
        if status.is_success() && shop["runtime"]["dead_letters"] == json!(0) {
            self.poison().await.context("no dead letter can be made")?;
        }
        Ok(())
    }

    /// A body that is no JSON, which the API would not take.
    async fn poison(&self) -> anyhow::Result<()> {
        let published = async {
            let connection = Connection::connect(&self.amqp_url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let properties = BasicProperties::default()
                .with_message_id(POISON.to_string().into())
                .with_content_type("application/json".into())
                .with_delivery_mode(2);
            let queue = format!("tenant_{SHOP}_queue");
            let body = br#"{"order": 1007, "items": ["lamp", "#;
            let options = BasicPublishOptions::default();
            channel
                .basic_publish("".into(), queue.as_str().into(), options, body, properties)
                .await?
                .await?;
            connection.close(200, "done".into()).await
        };
        timeout(BROKER, published)
            .await
            .context("the broker does not answer")??;
        Ok(())
    }

    /// A second's messages. Those of a tenant that is gone are not missed.
    async fn publish(&self, n: u64) -> anyhow::Result<()> {
        let order = json!({
            "order": 1_000 + n,
            "customer": format!("c-{:04}", n * 7919 % 10_000),
            "items": 1 + n % 4,
            "total": { "currency": "EUR", "amount": 19.9 + (n % 50) as f64 },
        });
        let orders: Vec<_> = (0..=n % 2).map(|_| order.clone()).collect();
        let reading = |meter: u64| {
            let phase = (n as f64 / 20.0) + meter as f64;
            json!({ "meter": format!("m-{meter}"), "kwh": (phase.sin() * 500.0).round() / 100.0 + 10.0 })
        };
        let readings: Vec<_> = (0..3 + n % 5).map(reading).collect();
        for (tenant, payloads) in [(SHOP, orders), (METERS, readings)] {
            let messages: Vec<_> = payloads
                .into_iter()
                .map(|payload| json!({ "payload": payload }))
                .collect();
            let body = json!({ "messages": messages });
            let (status, answer) = self
                .call(Method::POST, &format!("{}/messages", path(tenant)), Some(&body))
                .await?;
            if !status.is_success() && status != StatusCode::NOT_FOUND {
                bail!("publishing: {answer}");
            }
        }
        Ok(())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .timeout(ANSWER);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .context("the control plane does not answer")?;
        let status = answer.status();
        Ok((status, answer.json().await.unwrap_or_default()))
    }
}

fn path(tenant: Uuid) -> String {
    format!("/api/tenants/{tenant}")
}
