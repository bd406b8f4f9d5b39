//! A tenant's life.

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

async fn partition_exists(pool: &PgPool, id: &str) -> bool {
    let table = format!("messages_{}", id.replace('-', ""));
    let found = sqlx::query_scalar("select exists (select from pg_tables where tablename = $1)");
    found.bind(table).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn creating_makes_a_partition_queues_and_one_consumer_and_deleting_removes_them() {
    let stack = Stack::start(Options::default()).await;
    let body = json!({
        "name": "Test Partition", "description": "Test tenant for partition verification", "status": "active",
    });
    let (status, tenant) = stack.post("/api/tenants", &stack.admin(), &body).await;
    assert_eq!(status, 201, "{tenant}");
    let id = tenant["id"].as_str().unwrap();
    assert_eq!(tenant["status"], "active");
    assert_eq!(tenant["workers"], 3);
    let consumers = tenant["runtime"]["consumers"].as_array().unwrap();
    assert_eq!(consumers.len(), 1, "{tenant}");
    assert_eq!(consumers[0]["workers"], 3);

    assert!(partition_exists(stack.pool(), id).await);
    assert_eq!(
        stack.queue(&format!("tenant_{id}_queue")).await,
        Some((0, 1)),
        "messages and consumers"
    );
    assert_eq!(stack.queue(&format!("tenant_{id}_dlq")).await, Some((0, 0)));

    let (status, gone) = stack.delete(&format!("/api/tenants/{id}"), &stack.admin()).await;
    assert_eq!((status, gone), (200, json!({})));
    assert!(!partition_exists(stack.pool(), id).await);
    assert_eq!(stack.queue(&format!("tenant_{id}_queue")).await, None);
    assert_eq!(stack.queue(&format!("tenant_{id}_dlq")).await, None);
    for path in [format!("/api/tenants/{id}"), format!("/tenants/{id}/messages")] {
        assert_eq!(stack.get(&path, &stack.admin()).await.0, 404, "{path}");
    }
    assert_eq!(
        stack
            .delete(&format!("/api/tenants/{id}"), &stack.admin())
            .await
            .0,
        404
    );
    let again = json!({ "name": "Another", "id": id });
    assert_eq!(
        stack.post("/api/tenants", &stack.admin(), &again).await.0,
        409,
        "an id is never used again"
    );
    let same_name = json!({ "name": "Test Partition" });
    assert_eq!(
        stack.post("/api/tenants", &stack.admin(), &same_name).await.0,
        201,
        "the name is free again"
    );
}

#[tokio::test]
async fn creating_again_with_the_same_id_answers_the_same_tenant() {
    let stack = Stack::start(Options::default()).await;
    let id = Uuid::now_v7();
    let body = json!({ "id": id, "name": "twice", "description": "d" });
    let (first_status, first) = stack.post("/tenants", &stack.admin(), &body).await;
    let (second_status, second) = stack.post("/tenants", &stack.admin(), &body).await;
    assert_eq!((first_status, second_status), (201, 201));
    assert_eq!(
        (&first["id"], &first["created_at"]),
        (&second["id"], &second["created_at"])
    );
    // A rename does not turn the retry into another request.
    stack
        .patch(
            &format!("/tenants/{id}"),
            &stack.admin(),
            &json!({ "name": "renamed" }),
        )
        .await;
    let (status, third) = stack.post("/tenants", &stack.admin(), &body).await;
    assert_eq!((status, &third["name"]), (201, &json!("renamed")));
    let other = json!({ "id": id, "name": "twice", "description": "other" });
    assert_eq!(stack.post("/tenants", &stack.admin(), &other).await.0, 409);
}

#[tokio::test]
async fn a_list_is_paged_in_order_of_creation() {
    let stack = Stack::without_daemons().await;
    let mut made = Vec::new();
    for number in 0..5 {
        let body = json!({ "name": format!("tenant {number}") });
        made.push(stack.post("/api/tenants", &stack.admin(), &body).await.1["id"].clone());
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let (status, page) = stack
            .get(
                &format!("/api/tenants?page_size=2&page_token={token}"),
                &stack.admin(),
            )
            .await;
        assert_eq!(status, 200, "{page}");
        seen.extend(
            page["tenants"]
                .as_array()
                .unwrap()
                .iter()
                .map(|tenant| tenant["id"].clone()),
        );
        token = page["next_page_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn a_paused_tenant_keeps_taking_messages_and_nothing_consumes_it() {
    let stack = Stack::start(Options::default()).await;
    let id = stack.tenant("pausing").await;
    let path = format!("/api/tenants/{id}");
    let (status, paused) = stack
        .patch(&path, &stack.admin(), &json!({ "status": "paused" }))
        .await;
    assert_eq!((status, &paused["status"]), (200, &json!("paused")), "{paused}");
    assert_eq!(paused["runtime"]["consumers"], json!([]));
    assert_eq!(
        stack.queue(&id.queue()).await,
        Some((0, 0)),
        "nothing consumes when the pause has answered"
    );

    let messages = json!({ "messages": [{ "payload": 1 }, { "payload": 2 }] });
    assert_eq!(
        stack
            .post(&format!("{path}/messages"), &stack.admin(), &messages)
            .await
            .0,
        200
    );
    let (_, waiting) = stack.get(&path, &stack.admin()).await;
    assert_eq!(waiting["runtime"]["queue_depth"], 2);

    let (status, active) = stack
        .patch(&path, &stack.admin(), &json!({ "status": "active" }))
        .await;
    assert_eq!(
        (status, active["runtime"]["consumers"].as_array().map(Vec::len)),
        (200, Some(1)),
        "{active}"
    );
    eventually("both messages are stored", async || {
        let (_, page) = stack.get(&format!("{path}/messages"), &stack.admin()).await;
        page["data"].as_array().is_some_and(|data| data.len() == 2)
    })
    .await;
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name() {
    let stack = Stack::without_daemons().await;
    let id = stack.tenant("changing").await;
    let path = format!("/api/tenants/{id}");
    let (status, tenant) = stack
        .patch(&path, &stack.admin(), &json!({ "description": "new" }))
        .await;
    assert_eq!(
        (status, &tenant["name"], &tenant["description"]),
        (200, &json!("changing"), &json!("new"))
    );
    let (_, tenant) = stack
        .patch(&path, &stack.admin(), &json!({ "name": "changed" }))
        .await;
    assert_eq!(
        (&tenant["name"], &tenant["description"]),
        (&json!("changed"), &json!("new"))
    );
    stack.tenant("other").await;
    assert_eq!(
        stack
            .patch(&path, &stack.admin(), &json!({ "name": "other" }))
            .await
            .0,
        409
    );
}

#[tokio::test]
async fn a_partition_is_made_and_dropped_while_another_tenant_is_written() {
    let stack = Stack::without_daemons().await;
    let busy = stack.tenant("busy").await;
    // A transaction that has written to its partition and stays open.
    let mut writing = stack.pool().begin().await.unwrap();
    sqlx::query("insert into messages (id, tenant_id, payload, position) values ($1, $2, '1', 1)")
        .bind(Uuid::now_v7())
        .bind(busy.0)
        .execute(&mut *writing)
        .await
        .unwrap();
    let (status, made) = stack
        .post("/api/tenants", &stack.admin(), &json!({ "name": "meanwhile" }))
        .await;
    assert_eq!(status, 201, "creating did not wait for the writer: {made}");
    writing.commit().await.unwrap();

    let path = format!("/api/tenants/{}", made["id"].as_str().unwrap());
    assert_eq!(stack.delete(&path, &stack.admin()).await.0, 200);
}

#[tokio::test]
async fn a_deletion_that_a_long_transaction_holds_up_is_finished_after_it() {
    let stack = Stack::without_daemons().await;
    let tenant = stack.tenant("read for long").await;
    let mut reading = stack.pool().begin().await.unwrap();
    sqlx::query("select count(*) from messages")
        .execute(&mut *reading)
        .await
        .unwrap();
    let path = format!("/api/tenants/{tenant}");
    let (status, answer) = stack.delete(&path, &stack.admin()).await;
    assert_eq!(status, 503, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("being deleted"),
        "{answer}"
    );
    assert_eq!(
        stack.get(&path, &stack.admin()).await.0,
        404,
        "nobody sees it any more"
    );
    reading.commit().await.unwrap();
    eventually("the partition is gone", async || {
        !partition_exists(stack.pool(), &tenant.to_string()).await
    })
    .await;
    let pending = "select exists (select from pg_inherits where inhdetachpending)";
    assert!(
        !sqlx::query_scalar::<_, bool>(pending)
            .fetch_one(stack.pool())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn what_a_crash_left_half_done_is_finished() {
    let stack = Stack::without_daemons().await;
    let (creating, deleting) = (Uuid::now_v7(), stack.tenant("to be deleted").await);
    // As a control plane leaves it that dies right after its first step, some time ago.
    sqlx::query(
        "insert into tenants (id, name, description, status, phase, workers, created_with, updated_at)
         values ($1, 'half made', '', 'active', 'creating', 3, '{}', now() - interval '1 minute')",
    )
    .bind(creating)
    .execute(stack.pool())
    .await
    .unwrap();
    sqlx::query(
        "update tenants set phase = 'deleting', updated_at = now() - interval '1 minute' where id = $1",
    )
    .bind(deleting.0)
    .execute(stack.pool())
    .await
    .unwrap();
    assert_eq!(
        stack
            .get(&format!("/api/tenants/{deleting}"), &stack.admin())
            .await
            .0,
        404
    );
    eventually("the half made tenant is complete", async || {
        let (_, tenant): (u16, Value) = stack
            .get(&format!("/api/tenants/{creating}"), &stack.admin())
            .await;
        tenant["status"] == "active"
    })
    .await;
    assert!(partition_exists(stack.pool(), &creating.to_string()).await);
    assert_eq!(
        stack.queue(&format!("tenant_{creating}_queue")).await,
        Some((0, 0))
    );
    eventually("the half deleted tenant is gone", async || {
        stack.queue(&deleting.queue()).await.is_none()
    })
    .await;
    eventually("its partition too", async || {
        !partition_exists(stack.pool(), &deleting.to_string()).await
    })
    .await;
}
