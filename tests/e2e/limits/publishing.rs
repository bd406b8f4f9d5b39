//! How fast a tenant may publish.

use common::id::TenantId;
use reqwest::Method;
use serde_json::json;
use tests::Answer;

use super::set;
use crate::support::{Options, Stack};

pub(super) async fn publish(stack: &Stack, tenant: TenantId, count: usize) -> Answer {
    let messages: Vec<_> = (0..count).map(|number| json!({ "payload": number })).collect();
    let body = json!({ "messages": messages }).to_string().into_bytes();
    let path = format!("/api/tenants/{tenant}/messages");
    stack
        .send(
            Method::POST,
            &path,
            &stack.admin(),
            Some(("application/json", body)),
        )
        .await
}

#[tokio::test]
async fn who_publishes_too_fast_is_told_the_limit_and_when_to_try_again() {
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let (tenant, neighbour) = (stack.tenant("hasty").await, stack.tenant("calm").await);
    set(&stack, tenant, json!({ "publish_per_second": 1 })).await;
    // The largest call passes, and takes a thousand seconds to pay back.
    assert_eq!(publish(&stack, tenant, 1_000).await.status, 200);
    let refused = publish(&stack, tenant, 500).await;
    assert_eq!((refused.status, &refused.json["code"]), (429, &json!(8)));
    let retry_after: u32 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((400..=500).contains(&retry_after), "{retry_after}");
    let message = refused.json["message"].as_str().unwrap();
    assert!(
        message.contains("publish_per_second") && message.contains(&tenant.to_string()),
        "{message}"
    );
    assert_eq!(
        stack.queue(&tenant.queue()).await.unwrap().0,
        1_000,
        "nothing of it was sent"
    );
    assert_eq!(publish(&stack, neighbour, 1_000).await.status, 200);

    // One that is refused for something else costs nothing, and another limit holds with the next call.
    set(&stack, tenant, json!({ "publish_per_second": 2 })).await;
    assert_eq!(publish(&stack, tenant, 1_001).await.status, 400);
    assert_eq!(publish(&stack, tenant, 1_000).await.status, 200);
    // As many as a slow machine does not pay back meanwhile.
    assert_eq!(publish(&stack, tenant, 500).await.status, 429);
    set(&stack, tenant, json!({})).await;
    assert_eq!(publish(&stack, tenant, 1_000).await.status, 200);
}
