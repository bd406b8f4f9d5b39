//! Sending dead letters again.

use common::id::TenantId;
use lapin::BasicProperties;
use serde_json::json;
use tests::load::Publisher;
use uuid::Uuid;

use super::{buried, bury, bury_many, list, path, payloads, refused, replay};
use crate::support::{Options, Stack, eventually};

/// Everything that was sent again is stored, or known to be there already.
async fn drained(stack: &Stack, tenant: TenantId) {
    eventually("the queue is empty", async || {
        let tenant = stack
            .get(&format!("/api/tenants/{tenant}"), &stack.admin())
            .await
            .1;
        tenant["runtime"]["queue_depth"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_replayed_dead_letter_is_stored_once_under_its_id() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("repaired").await;
    let ids: Vec<_> = (0..5).map(|_| Uuid::now_v7()).collect();
    for (number, id) in ids.iter().enumerate() {
        bury(&stack, tenant, format!("{number}").as_bytes(), refused(*id)).await;
    }
    // One that a crash left half replayed: it is stored already, and its dead letter is still there.
    let crashed = Uuid::now_v7();
    let named = BasicProperties::default().with_message_id(crashed.to_string().into());
    Publisher::new(stack.amqp_url())
        .send_one(tenant, b"\"once\"", named)
        .await
        .unwrap();
    stack.stored(tenant, 1).await;
    bury(&stack, tenant, b"\"once\"", refused(crashed)).await;
    // And what somebody else put there: with another kind of id, and with none.
    let order = BasicProperties::default().with_message_id("order-1".into());
    bury(&stack, tenant, b"\"order\"", order).await;
    bury(&stack, tenant, b"\"nameless\"", BasicProperties::default()).await;

    let some = json!({ "ids": [ids[3], ids[1], Uuid::now_v7()] });
    assert_eq!(
        replay(&stack, tenant, some.clone()).await,
        (200, json!({ "replayed": 2, "remaining": 0 }))
    );
    let left = list(&stack, tenant).await;
    assert_eq!(
        payloads(&left),
        ["0", "2", "4", "\"once\"", "\"order\"", "\"nameless\""]
    );
    assert_eq!(
        replay(&stack, tenant, some).await,
        (200, json!({ "replayed": 0, "remaining": 0 }))
    );

    assert_eq!(
        replay(&stack, tenant, json!({ "all": true })).await,
        (200, json!({ "replayed": 6, "remaining": 0 }))
    );
    assert_eq!(buried(&stack, tenant).await, 0);
    stack.stored(tenant, 8).await;
    drained(&stack, tenant).await;
    assert_eq!(stack.count(tenant).await, 8, "none is stored twice");
    let stored: Vec<Uuid> = sqlx::query_scalar("select id from messages where tenant_id = $1")
        .bind(tenant.0)
        .fetch_all(stack.pool())
        .await
        .unwrap();
    for id in ids.iter().chain([&crashed, &tenant.message_id("order-1")]) {
        assert!(stored.contains(id), "{id} is not among {stored:?}");
    }
}

#[tokio::test]
async fn a_message_that_fails_again_is_a_dead_letter_again_and_its_attempts_count_anew() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("hopeless").await;
    let id = Uuid::now_v7();
    bury(&stack, tenant, b"not json", refused(id)).await;
    let replayed = replay(&stack, tenant, json!({ "all": true })).await;
    assert_eq!(
        replayed,
        (200, json!({ "replayed": 1, "remaining": 0 })),
        "what arrives meanwhile is not chased"
    );
    eventually("it is a dead letter again", async || {
        buried(&stack, tenant).await == 1
    })
    .await;
    let letters = list(&stack, tenant).await;
    assert_eq!(letters[0]["id"], id.to_string());
    assert_eq!(
        (&letters[0]["reason"], &letters[0]["attempts"]),
        (&json!("not_json"), &json!(1))
    );
    assert_ne!(letters[0]["first_failed_at"], "2026-01-31T12:00:00.25Z");
    assert_eq!(stack.count(tenant).await, 0);
}

#[tokio::test]
async fn many_are_replayed_in_batches_by_several_callers_and_none_is_lost() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("many").await;
    bury_many(&stack, tenant, 2_000).await;
    let all = || replay(&stack, tenant, json!({ "all": true }));
    let ((a, first), (b, second), letters) = tokio::join!(all(), all(), list(&stack, tenant));
    assert_eq!((a, b), (200, 200), "{first} {second}");
    let replayed = first["replayed"].as_u64().unwrap() + second["replayed"].as_u64().unwrap();
    assert_eq!(replayed, 2_000);
    assert!(
        matches!(letters.len(), 0 | 1_000),
        "a list sees all or none, not {}",
        letters.len()
    );
    stack.stored(tenant, 2_000).await;
    assert_eq!(stack.count(tenant).await, 2_000);
}

#[tokio::test]
async fn a_crash_half_way_through_a_replay_loses_none_and_stores_none_twice() {
    const LETTERS: u32 = 5_000;
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("crashed").await;
    bury_many(&stack, tenant, LETTERS).await;
    // At a pace that leaves time to kill it.
    let (rest, all) = (stack.rest(), json!({ "all": true, "per_second": 500 }));
    let url = format!("{}/replay", path(tenant));
    let replaying = tokio::spawn(async move { rest.post(&url, &all).await });
    // More than a batch is: by now the first is not only sent but out of its queue too.
    stack.stored(tenant, 257).await;
    stack.control_plane().kill().await;
    assert!(replaying.await.unwrap().is_err(), "it was killed half way");
    stack.control_plane().start_again().unwrap();
    stack.control_plane().ready().await.unwrap();

    // Its turn ended with it, and what it held is back in the queue.
    let (status, answer) = replay(&stack, tenant, json!({ "all": true })).await;
    assert_eq!(status, 200, "{answer}");
    assert!(
        matches!(answer["replayed"].as_u64(), Some(1..5_000)),
        "some were replayed before, not all: {answer}"
    );
    assert_eq!(buried(&stack, tenant).await, 0);
    stack.stored(tenant, LETTERS.into()).await;
    drained(&stack, tenant).await;
    assert_eq!(stack.count(tenant).await, u64::from(LETTERS));
}

#[tokio::test]
async fn a_paused_tenants_replay_waits_in_its_queue() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("paused").await;
    let tenant_path = format!("/api/tenants/{tenant}");
    let status = |status: &'static str| json!({ "status": status });
    assert_eq!(
        stack
            .patch(&tenant_path, &stack.admin(), &status("paused"))
            .await
            .0,
        200
    );
    bury(&stack, tenant, b"1", refused(Uuid::now_v7())).await;
    assert_eq!(
        replay(&stack, tenant, json!({ "all": true })).await,
        (200, json!({ "replayed": 1, "remaining": 0 }))
    );
    assert_eq!(stack.queue(&tenant.queue()).await, Some((1, 0)));
    assert_eq!(stack.count(tenant).await, 0);
    assert_eq!(
        stack
            .patch(&tenant_path, &stack.admin(), &status("active"))
            .await
            .0,
        200
    );
    stack.stored(tenant, 1).await;
}
