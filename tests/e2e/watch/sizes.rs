//! How large a tenant's messages are is known to whoever runs its lane next.

use serde_json::json;
use sqlx::PgPool;

use super::*;

async fn kept(pool: &PgPool, tenant: TenantId) -> Option<i32> {
    sqlx::query_scalar("select bytes from message_sizes where tenant_id = $1")
        .bind(tenant.0)
        .fetch_optional(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_one_daemon_saw_is_told_to_the_next_and_goes_with_the_tenant() {
    let stack = nobody().await;
    let tenant = stack.tenant("seen").await;
    let mut first = Daemon::join(&stack, hello("first")).await;
    let (_, assignment) = first.assigned().await;
    assert_eq!(assignment.message_bytes, None);
    // What says nothing changes nothing.
    for (told, known) in [(u32::MAX, i32::MAX), (700, 700), (0, 700)] {
        let running = v1::ObservedLane {
            tenant_id: tenant.to_string(),
            revision: assignment.revision,
            state: v1::LaneState::Running.into(),
            workers: 3,
            busy: told % 4,
            message_bytes: Some(told),
            ..Default::default()
        };
        first.send(Observed(v1::Observed { lanes: vec![running] })).await;
        eventually("its size is kept", async || {
            let busy: i32 = sqlx::query_scalar("select observed_busy from assignments")
                .fetch_one(stack.pool())
                .await
                .unwrap();
            (busy.unsigned_abs(), kept(stack.pool(), tenant).await) == (told % 4, Some(known))
        })
        .await;
    }
    first.send(Leave(v1::Leave {})).await;
    assert_eq!(first.refused().await.code(), Code::Ok);

    let mut second = Daemon::join(&stack, hello("second")).await;
    let (_, assignment) = second.assigned().await;
    assert_eq!(assignment.message_bytes, Some(700));
    second.send(Leave(v1::Leave {})).await;
    assert_eq!(second.refused().await.code(), Code::Ok);

    let (status, answer) = stack
        .delete(&format!("/api/tenants/{tenant}"), &stack.admin())
        .await;
    assert_eq!(status, 200, "{answer}");
    eventually("nothing is kept of it", async || {
        kept(stack.pool(), tenant).await.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_daemon_tells_how_large_the_messages_are_that_it_stores() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("stored").await;
    let messages: Vec<_> = (0..20)
        .map(|n| json!({ "payload": { "n": n, "text": "x".repeat(1_000) } }))
        .collect();
    let path = format!("/api/tenants/{tenant}/messages");
    let (status, answer) = stack
        .post(&path, &stack.admin(), &json!({ "messages": messages }))
        .await;
    assert_eq!(status, 200, "{answer}");
    eventually("their size is kept", async || {
        let kept = kept(stack.pool(), tenant).await;
        kept.is_some_and(|bytes| (1_000..1_500).contains(&bytes))
    })
    .await;
}
