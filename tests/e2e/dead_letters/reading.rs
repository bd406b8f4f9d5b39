//! Reading dead letters.

use lapin::BasicProperties;
use serde_json::json;
use tests::load::Publisher;
use uuid::Uuid;

use super::{buried, bury, list, path, payloads, refused};
use crate::support::{Options, Stack, eventually};

#[tokio::test]
async fn reading_dead_letters_changes_nothing() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("poisoned").await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let id = Uuid::now_v7();
    let named = BasicProperties::default().with_message_id(id.to_string().into());
    publisher.send_one(tenant, b"not json", named).await.unwrap();
    eventually("it is a dead letter", async || buried(&stack, tenant).await == 1).await;
    bury(&stack, tenant, b"\xff\x00", BasicProperties::default()).await;
    for number in 0..5 {
        bury(
            &stack,
            tenant,
            format!("{number}").as_bytes(),
            refused(Uuid::now_v7()),
        )
        .await;
    }

    let letters = list(&stack, tenant).await;
    assert_eq!(buried(&stack, tenant).await, 7, "all are back when it answers");
    assert_eq!(list(&stack, tenant).await, letters);
    assert_eq!(payloads(&letters), ["not json", "/wA=", "0", "1", "2", "3", "4"]);
    let first = &letters[0];
    assert_eq!(first["id"], id.to_string());
    assert_eq!(
        (&first["reason"], &first["attempts"]),
        (&json!("not_json"), &json!(1))
    );
    assert!(
        first["detail"].is_string() && first["failed_at"].is_string(),
        "{first}"
    );
    assert!(first.get("encoding").is_none(), "{first}");
    let foreign = json!({
        "id": "", "reason": "unknown", "detail": "", "attempts": 0, "payload": "/wA=", "encoding": "base64",
        "bytes": 2,
    });
    assert_eq!(letters[1], foreign);
    assert_eq!(letters[2]["first_failed_at"], "2026-01-31T12:00:00.25Z");

    let two = stack
        .get(&format!("{}?limit=2", path(tenant)), &stack.admin())
        .await
        .1;
    assert_eq!(two["dead_letters"].as_array().unwrap()[..], letters[..2]);
    assert_eq!(list(&stack, tenant).await, letters);
    // Several at once take turns, so that each sees all.
    let (a, b, c) = tokio::join!(list(&stack, tenant), list(&stack, tenant), list(&stack, tenant));
    assert!(a == letters && b == letters && c == letters);
}

#[tokio::test]
async fn a_page_of_dead_letters_is_bounded_by_bytes() {
    let stack = Stack::without_daemons().await;
    let tenant = stack.tenant("large").await;
    for size in [3 << 20, 1_500_000, 1_500_000] {
        bury(&stack, tenant, &vec![b'x'; size], refused(Uuid::now_v7())).await;
    }
    let page = list(&stack, tenant).await;
    assert_eq!(page.len(), 1, "one, whatever its size");
    assert_eq!(
        (&page[0]["bytes"], &page[0]["truncated"]),
        (&json!(3 << 20), &json!(true))
    );
    assert_eq!(
        page[0]["payload"].as_str().unwrap().len(),
        4 << 10,
        "its beginning"
    );
    assert_eq!(buried(&stack, tenant).await, 3);
}
