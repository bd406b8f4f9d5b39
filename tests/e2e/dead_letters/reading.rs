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
async fn a_list_shows_the_beginning_of_large_bodies_and_one_letter_is_told_in_full() {
    let stack = Stack::without_daemons().await;
    let (tenant, admin) = (stack.tenant("large").await, stack.admin());
    let ids = [(); 3].map(|()| Uuid::now_v7());
    let bodies = [vec![b'x'; 3 << 20], vec![0xff; 5_000], b"small".to_vec()];
    for (body, id) in bodies.iter().zip(ids) {
        bury(&stack, tenant, body, refused(id)).await;
    }
    let page = list(&stack, tenant).await;
    let told: Vec<_> = page
        .iter()
        .map(|letter| (&letter["bytes"], &letter["truncated"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!(3 << 20), &json!(true)),
            (&json!(5_000), &json!(true)),
            (&json!(5), &json!(null))
        ]
    );
    assert_eq!(page[0]["payload"], "x".repeat(4 << 10), "its beginning");
    assert_eq!(page[1]["encoding"], "base64");
    assert!(page[0].get("headers").is_none(), "not in lists");

    let one = async |id: Uuid| stack.get(&format!("{}/{id}", path(tenant)), &admin).await;
    let (status, whole) = one(ids[0]).await;
    assert_eq!((status, &whole["id"]), (200, &json!(ids[0])));
    assert_eq!(whole["payload"], "x".repeat(3 << 20));
    assert_eq!(whole.get("truncated"), None);
    assert_eq!(
        whole["headers"],
        json!({
            "x-jalur-id": ids[0], "x-jalur-reason": "refused", "x-jalur-detail": "a constraint that is gone by now",
            "x-jalur-attempts": 5, "x-jalur-first-failed-at": "2026-01-31T12:00:00.250Z",
            "x-jalur-failed-at": "2026-01-31T12:03:00.250Z",
        })
    );
    let (status, bytes) = one(ids[1]).await;
    assert_eq!((status, &bytes["encoding"]), (200, &json!("base64")));
    assert_eq!(
        bytes["payload"].as_str().unwrap().len(),
        5_000_usize.div_ceil(3) * 4
    );
    let (status, answer) = one(Uuid::now_v7()).await;
    assert_eq!((status, &answer["code"]), (404, &json!(5)), "{answer}");
    assert_eq!(list(&stack, tenant).await, page, "reading changes nothing");

    let delete = async |id: Uuid| stack.delete(&format!("{}/{id}", path(tenant)), &admin).await;
    assert_eq!(delete(ids[1]).await, (200, json!({ "purged": 1 })));
    assert_eq!(delete(ids[1]).await.0, 404);
    assert_eq!(list(&stack, tenant).await, [page[0].clone(), page[2].clone()]);
    assert_eq!(buried(&stack, tenant).await, 2);
}
