//! Somebody else consumes a tenant's queue.

use common::id::TenantId;
use lapin::{
    Channel, Connection, Consumer,
    options::{BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tests::load::Publisher;

use super::UNNOTICED;
use crate::support::{Options, Stack, eventually};

/// A foreign consumer, for as long as it is kept.
struct Foreign {
    _connection: Connection,
    channel: Channel,
    _consumer: Consumer,
}

/// Quorum queues let in a second consumer beside an exclusive one. And where a queue of another type takes the place of
/// one that was consumed, RabbitMQ 3.10 ends the connection of whoever consumes both on one channel.
async fn start_on_classic_queues() -> Stack {
    Stack::start(Options {
        env: vec![("JALUR_RABBITMQ__QUEUE_TYPE", "classic".into())],
        ..Options::default()
    })
    .await
}

async fn foreign(stack: &Stack, tenant: TenantId, exclusive: bool) -> Foreign {
    let (connection, channel) = stack.amqp().await;
    let options = BasicConsumeOptions {
        exclusive,
        ..BasicConsumeOptions::default()
    };
    let queue = tenant.queue();
    let consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
    let consumer = consumer.await.unwrap();
    Foreign {
        _connection: connection,
        channel,
        _consumer: consumer,
    }
}

async fn set_status(stack: &Stack, tenant: TenantId, status: &str) {
    let (code, body) = stack
        .patch(
            &format!("/api/tenants/{tenant}"),
            &stack.admin(),
            &json!({ "status": status }),
        )
        .await;
    assert_eq!(code, 200, "{body}");
}

async fn problem(stack: &Stack, tenant: TenantId) -> Value {
    let (_, body) = stack.get(&format!("/api/tenants/{tenant}"), &stack.admin()).await;
    body["runtime"]["problem"].clone()
}

/// Lanes that the daemon has restarted.
async fn restarts(stack: &Stack) -> f64 {
    let metrics = stack.daemon().metrics().await.unwrap();
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("jalur_lane_restarts_total"));
    counted
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_queue_that_somebody_holds_exclusively_is_its_tenants_problem_alone() {
    let stack = start_on_classic_queues().await;
    let odd = stack.tenant("odd").await;
    let neighbours = stack.tenants(3).await;
    let account = stack.account(&neighbours, 50).await;
    set_status(&stack, odd, "paused").await;
    let holder = foreign(&stack, odd, true).await;
    set_status(&stack, odd, "active").await;
    eventually("the tenant's problem is told", async || {
        let problem = problem(&stack, odd).await;
        problem["kind"] == "queue"
            && problem["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("exclusively"))
    })
    .await;
    let stored = stack.count(neighbours[0]).await;
    stack.stored(neighbours[0], stored + 100).await;

    holder.channel.close(200, "done".into()).await.unwrap();
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[odd], 10, 64).await.unwrap();
    stack.stored(odd, 10).await;
    eventually("the problem ends with its cause", async || {
        problem(&stack, odd).await.is_null()
    })
    .await;
    account.finish().await.unwrap().assert_undisturbed(UNNOTICED);
}

#[tokio::test]
async fn a_queue_whose_single_active_consumer_is_somebody_else_costs_nobody_their_channel() {
    let stack = start_on_classic_queues().await;
    let odd = stack.tenant("odd").await;
    let neighbours = stack.tenants(3).await;
    let account = stack.account(&neighbours, 50).await;
    set_status(&stack, odd, "paused").await;
    let (_connection, channel) = stack.amqp().await;
    channel
        .queue_delete(odd.queue().as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(odd.queue().as_str().into(), options, arguments)
        .await
        .unwrap();
    // It takes one message and no more, and never acknowledges.
    channel
        .basic_qos(1, lapin::options::BasicQosOptions::default())
        .await
        .unwrap();
    let consumer = channel.basic_consume(
        odd.queue().as_str().into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let _consumer = consumer.await.unwrap();
    Publisher::new(stack.amqp_url())
        .send(&[odd], 10, 64)
        .await
        .unwrap();
    set_status(&stack, odd, "active").await;
    // Once its lane is restarted, and once it turns out that this did not help.
    eventually("its lane is restarted again", async || {
        restarts(&stack).await >= 2.0
    })
    .await;
    assert!(!problem(&stack, odd).await.is_null());
    channel.close(200, "done".into()).await.unwrap();
    stack.stored(odd, 10).await;
    account.finish().await.unwrap().assert_undisturbed(UNNOTICED);
}
