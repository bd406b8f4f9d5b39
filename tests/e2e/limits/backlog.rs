//! How much of a tenant's may wait in its queue.

use common::id::TenantId;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use serde_json::{Value, json};

use super::{publishing::publish, set};
use crate::support::{Options, Stack, eventually};

/// Whether the broker takes one message that is published over AMQP.
async fn takes(stack: &Stack, tenant: TenantId) -> bool {
    let (_connection, channel) = stack.amqp().await;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let sent = channel.basic_publish("".into(), tenant.queue().into(), options, b"1", properties);
    let confirm = sent.await.unwrap().await.unwrap();
    assert!(confirm.is_ack() || confirm.is_nack());
    confirm.is_ack()
}

/// The broker's policies, in the vhost of the test.
async fn policies(stack: &Stack) -> Vec<Value> {
    let answer = local::http::client()
        .get(stack.management("policies"))
        .send()
        .await
        .unwrap();
    answer.error_for_status().unwrap().json().await.unwrap()
}

async fn wait_for_policies(stack: &Stack, count: usize) {
    eventually("the broker's policies are as they are to be", async || {
        policies(stack).await.len() == count
    })
    .await;
}

#[tokio::test]
async fn over_its_backlog_a_tenant_is_refused_by_both_doors_until_that_is_raised() {
    let mut stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let (tenant, neighbour) = (stack.tenant("full").await, stack.tenant("beside").await);
    // They were there before, and so was what waits.
    assert_eq!(publish(&stack, tenant, 10).await.status, 200);
    set(&stack, tenant, json!({ "backlog_messages": 10 })).await;
    eventually("the broker refuses", async || !takes(&stack, tenant).await).await;
    let refused = publish(&stack, tenant, 1).await;
    assert_eq!((refused.status, &refused.json["code"]), (429, &json!(8)));
    assert!(refused.headers.contains_key("retry-after"));
    let message = refused.json["message"].as_str().unwrap();
    assert!(
        message.contains("backlog_messages") && message.contains(&tenant.to_string()),
        "{message}"
    );
    assert!(takes(&stack, neighbour).await);

    // What waits stays.
    let waiting = stack.queue(&tenant.queue()).await.unwrap().0;
    set(&stack, tenant, json!({ "backlog_messages": 10_000 })).await;
    eventually("the broker takes messages again", async || {
        takes(&stack, tenant).await
    })
    .await;
    assert_eq!(publish(&stack, tenant, 100).await.status, 200);
    assert_eq!(stack.queue(&tenant.queue()).await.unwrap().0, waiting + 101);
    set(&stack, tenant, json!({ "backlog_bytes": "50" })).await;
    eventually("the broker refuses", async || !takes(&stack, tenant).await).await;
    // And once it is stored there is room.
    stack.add_daemon().await;
    eventually("there is room", async || takes(&stack, tenant).await).await;
    // What never has any is not to be tried again.
    let large = json!({ "messages": [{ "payload": "x".repeat(49) }] });
    let path = format!("/api/tenants/{tenant}/messages");
    let (status, refused) = stack.post(&path, &stack.admin(), &large).await;
    let message = refused["message"].as_str().unwrap();
    assert!(
        status == 413 && message.contains("backlog_bytes"),
        "{status} {message}"
    );
    set(&stack, tenant, json!({})).await;
    assert!(policies(&stack).await.is_empty());
}

#[tokio::test]
async fn a_backlogs_limit_outlives_the_broker_and_not_its_tenant() {
    let stack = Stack::start(Options::default()).await;
    let (tenant, other) = (stack.tenant("kept").await, stack.tenant("also").await);
    for tenant in [tenant, other] {
        set(
            &stack,
            tenant,
            json!({ "backlog_messages": 5, "backlog_bytes": "1000" }),
        )
        .await;
    }
    let before = policies(&stack).await;
    assert_eq!(before.len(), 2);
    stack.wipe_broker().await;
    wait_for_policies(&stack, 2).await;
    assert_eq!(policies(&stack).await, before);
    let (status, answer) = stack
        .delete(&format!("/api/tenants/{tenant}"), &stack.admin())
        .await;
    assert_eq!(status, 200, "{answer}");
    wait_for_policies(&stack, 1).await;
    assert_eq!(
        policies(&stack).await[0]["pattern"],
        format!("^{}$", other.queue())
    );
}

#[tokio::test]
async fn without_the_management_api_a_backlog_is_not_limited_and_the_key_is_named() {
    let stack = Stack::start(Options {
        daemons: 0,
        control_plane_env: vec![("JALUR_RABBITMQ__MANAGEMENT_URL", String::new())],
        ..Options::default()
    })
    .await;
    let tenant = stack.tenant("unmanaged").await;
    let path = format!("/api/tenants/{tenant}/config/limits");
    let (status, answer) = stack
        .put(&path, &stack.admin(), &json!({ "backlog_bytes": 1 }))
        .await;
    assert_eq!((status, &answer["code"]), (409, &json!(9)), "{answer}");
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("rabbitmq.management_url"),
        "{answer}"
    );
    set(&stack, tenant, json!({ "publish_per_second": 1 })).await;
}
