//! Quorum queues from an earlier version, which declared them without a limit of deliveries as RabbitMQ 4 has it.

use common::id::TenantId;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use uuid::Uuid;

use super::queues::{are_there, create, delete_queue, flows, problem};
use crate::support::{Options, Stack, eventually};

/// As it was declared.
async fn declare(stack: &Stack, queue: String) {
    let (_connection, channel) = stack.amqp().await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
    channel
        .queue_declare(queue.as_str().into(), durable, arguments)
        .await
        .unwrap();
    let options = BasicPublishOptions::default();
    let persistent = BasicProperties::default().with_delivery_mode(2);
    if !queue.ends_with("_dlq") {
        let sent = channel.basic_publish("".into(), queue.as_str().into(), options, b"1", persistent);
        sent.await.unwrap();
    }
}

#[tokio::test]
async fn a_quorum_queue_from_before_is_used_and_what_to_do_about_it_is_said() {
    let stack = Stack::start(Options {
        env: vec![("JALUR_RABBITMQ__QUEUE_TYPE", "quorum".into())],
        ..Options::default()
    })
    .await;
    let tenant = TenantId(Uuid::now_v7());
    for queue in [tenant.queue(), tenant.dead_letter_queue()] {
        declare(&stack, queue).await;
    }
    let (status, answer) = create(&stack, tenant).await;
    assert_eq!(status, 201, "{answer}");
    // What waited there is stored, and what comes.
    stack.stored(tenant, 1).await;
    flows(&stack, tenant).await;
    // Of one at a time.
    for queue in [tenant.dead_letter_queue(), tenant.queue()] {
        eventually("it is said", async || {
            let problem = problem(&stack, tenant).await;
            let detail = problem["detail"].as_str().unwrap_or_default();
            problem["kind"] == "queue"
                && [
                    &*queue,
                    "x-delivery-limit is -1",
                    "before RabbitMQ 4",
                    "delete it",
                ]
                .iter()
                .all(|word| detail.contains(word))
        })
        .await;
        delete_queue(&stack, queue).await;
        are_there(&stack, tenant).await;
    }
    eventually("all is well", async || {
        problem(&stack, tenant).await == Value::Null
    })
    .await;
    flows(&stack, tenant).await;
}
