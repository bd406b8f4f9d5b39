//! What a tenant may use.

mod backlog;
mod callers;
mod publishing;
mod storing;

use common::id::TenantId;
use control_plane::identity::Role;
use serde_json::{Value, json};

use crate::support::{Options, Stack};

/// Sets a tenant's limits.
async fn set(stack: &Stack, tenant: TenantId, limits: Value) {
    let path = format!("/api/tenants/{tenant}/config/limits");
    let answer = stack.put(&path, &stack.admin(), &limits).await;
    assert_eq!(answer, (200, limits));
}

#[tokio::test]
async fn limits_are_set_all_at_once_and_shown() {
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let tenant = stack.tenant("limited").await;
    let (path, limits) = (
        format!("/api/tenants/{tenant}"),
        format!("/api/tenants/{tenant}/config/limits"),
    );
    let shown = async || stack.get(&path, &stack.admin()).await.1["limits"].clone();
    assert_eq!(shown().await, json!({}));
    set(
        &stack,
        tenant,
        json!({ "publish_per_second": 5, "store_per_second": 7 }),
    )
    .await;
    assert_eq!(
        shown().await,
        json!({ "publish_per_second": 5, "store_per_second": 7 })
    );
    // What is not sent is not limited.
    set(&stack, tenant, json!({ "store_per_second": 8 })).await;
    assert_eq!(shown().await, json!({ "store_per_second": 8 }));
    let (_, all) = stack.get("/api/tenants", &stack.admin()).await;
    assert_eq!(all["tenants"][0]["limits"], json!({ "store_per_second": 8 }));

    for (sent, says) in [
        (
            json!({ "publish_per_second": 0 }),
            "publish_per_second must be between 1 and 1000000",
        ),
        (
            json!({ "store_per_second": -1 }),
            "store_per_second must be between 1 and 1000000",
        ),
        (
            json!({ "backlog_messages": 0 }),
            "backlog_messages must be between 1 and 1000000000",
        ),
        (
            json!({ "backlog_bytes": "0" }),
            "backlog_bytes must be between 1 and 999999999999",
        ),
        (json!({ "per_second": 1 }), "per_second is unknown"),
    ] {
        let (status, answer) = stack.put(&limits, &stack.admin(), &sent).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["message"].as_str().unwrap().starts_with(says), "{answer}");
    }
    let own = stack.token(Role::TenantAdmin, Some(tenant.0));
    assert_eq!(stack.put(&limits, &own, &json!({})).await.0, 403);
    let nobody = format!("/api/tenants/{}/config/limits", TenantId(uuid::Uuid::now_v7()));
    assert_eq!(stack.put(&nobody, &stack.admin(), &json!({})).await.0, 404);
    assert_eq!(shown().await, json!({ "store_per_second": 8 }));
}
