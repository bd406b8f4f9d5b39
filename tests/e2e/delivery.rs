//! What becomes of a message, and how it is read back.

use common::id::TenantId;
use control_plane::identity::Role;
use lapin::BasicProperties;
use reqwest::Method;
use serde_json::{Value, json};
use tests::load::{Publisher, Reader};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

#[tokio::test]
async fn every_message_is_read_exactly_once_while_five_tenants_are_written() {
    let stack = Stack::start(Options {
        daemons: 2,
        ..Options::default()
    })
    .await;
    let tenants = stack.tenants(5).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let sending = publisher.send(&tenants, 20_000, 256);
    let reading = futures::future::try_join_all(tenants.iter().map(|&tenant| {
        let mut reader = Reader::new(&stack.rest(), tenant);
        async move { reader.until(4_000).await.map(|()| reader) }
    }));
    let (sent, readers) = tokio::join!(sending, reading);
    let sent = sent.unwrap();
    for (tenant, reader) in tenants.iter().zip(readers.unwrap()) {
        for payload in reader.seen.values() {
            assert_eq!(payload["tenant"], tenant.to_string(), "another tenant's payload");
        }
        reader.expect(&sent[tenant]).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_published_over_rest_is_read_back_to_the_digit() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("exact").await;
    let id = Uuid::now_v7();
    let body = format!(
        r#"{{"messages":[{{"id":"{id}","payload":{{"amount":12345678901234567890.000000000000000001,"n":-0.10}}}},{{"payload":null}},{{"payload":"ü\n"}}]}}"#
    );
    let path = format!("/api/tenants/{tenant}/messages");
    let body = Some(("application/json", body.into_bytes()));
    let ids = stack
        .send(Method::POST, &path, &stack.admin(), body)
        .await
        .expect(200)
        .unwrap();
    assert_eq!(ids["ids"][0], id.to_string());
    assert_eq!(ids["ids"].as_array().map(Vec::len), Some(3));
    eventually("all three are stored", async || {
        let (_, page) = stack.get(&path, &stack.admin()).await;
        page["data"].as_array().is_some_and(|data| data.len() == 3)
    })
    .await;
    let text = stack.send(Method::GET, &path, &stack.admin(), None).await.text;
    assert!(
        text.contains(r#""amount": 12345678901234567890.000000000000000001"#),
        "{text}"
    );
    assert!(text.contains("-0.10"), "{text}");
    let page: Value = serde_json::from_str(&text).unwrap();
    let payloads: Vec<_> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["payload"])
        .collect();
    assert!(
        payloads.contains(&&Value::Null) && payloads.contains(&&json!("ü\n")),
        "{text}"
    );
}

#[tokio::test]
async fn a_message_with_an_id_is_stored_once_however_often_it_is_sent() {
    let stack = Stack::start(Options::default()).await;
    let (tenant, other) = (stack.tenant("once").await, stack.tenant("twice").await);
    let mut publisher = Publisher::new(stack.amqp_url());
    let id = Uuid::now_v7();
    let named = |name: &str| {
        BasicProperties::default()
            .with_message_id(name.into())
            .with_delivery_mode(2)
    };
    for body in ["1", "2", "3"] {
        publisher
            .send_one(tenant, body.as_bytes(), named(&id.to_string()))
            .await
            .unwrap();
        publisher
            .send_one(tenant, body.as_bytes(), named("order-7"))
            .await
            .unwrap();
    }
    publisher.send_one(other, b"4", named("order-7")).await.unwrap();
    let mut reader = Reader::new(&stack.rest(), tenant);
    reader.until(2).await.unwrap();
    assert_eq!(reader.seen[&id], json!(1), "the first stored wins");
    assert_eq!(reader.seen[&tenant.message_id("order-7")], json!(1));
    let mut reader = Reader::new(&stack.rest(), other);
    reader.until(1).await.unwrap();
    assert_eq!(reader.seen[&other.message_id("order-7")], json!(4));
    eventually("the queue is empty", async || {
        stack
            .get(&format!("/api/tenants/{tenant}"), &stack.admin())
            .await
            .1["runtime"]["queue_depth"]
            == 0
    })
    .await;
    let stored: i64 = sqlx::query_scalar("select count(*) from messages where tenant_id = $1")
        .bind(tenant.0)
        .fetch_one(stack.pool())
        .await
        .unwrap();
    assert_eq!(stored, 2);
}

#[tokio::test]
async fn a_page_is_bounded_by_bytes_and_only_an_empty_one_is_the_end() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("large").await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let sent = publisher.send(&[tenant], 7, 900_000).await.unwrap();
    let mut reader = Reader::new(&stack.rest(), tenant);
    reader.until(7).await.unwrap();
    let mut reader = Reader::new(&stack.rest(), tenant);
    let mut sizes = Vec::new();
    loop {
        sizes.push(reader.page(100).await.unwrap());
        if sizes.last() == Some(&0) {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 2, 1, 0]);
    reader.expect(&sent[&tenant]).await.unwrap();
}

#[tokio::test]
async fn a_message_is_found_by_its_id_by_those_whose_it_is() {
    let stack = Stack::start(Options::default()).await;
    let (tenant, other) = (stack.tenant("finds").await, stack.tenant("finds nothing").await);
    let own = stack.token(Role::Tenant, Some(tenant.0));
    let path = |tenant: TenantId, id: &str| format!("/api/tenants/{tenant}/messages/{id}");
    let id = Uuid::now_v7();
    let body = json!({ "messages": [{ "id": id, "payload": { "n": 1 } }, { "payload": 2 }] });
    let messages = format!("/api/tenants/{tenant}/messages");
    assert_eq!(stack.post(&messages, &own, &body).await.0, 200);
    eventually("both are stored", async || {
        let (_, page) = stack.get(&messages, &own).await;
        page["data"].as_array().is_some_and(|data| data.len() == 2)
    })
    .await;
    let (_, page) = stack.get(&messages, &own).await;
    for message in page["data"].as_array().unwrap() {
        let id = message["id"].as_str().unwrap();
        assert_eq!(stack.get(&path(tenant, id), &own).await, (200, message.clone()));
        assert_eq!(stack.get(&path(tenant, id), &stack.admin()).await.0, 200);
        // Another tenant's is none of this one's, and this one's token is none for another tenant.
        let (status, answer) = stack.get(&path(other, id), &stack.admin()).await;
        assert_eq!(
            (status, &answer["details"][0]["reason"]),
            (404, &json!("NOT_FOUND"))
        );
        assert_eq!(stack.get(&path(other, id), &own).await.0, 403);
    }
    let (status, answer) = stack.get(&path(tenant, &Uuid::nil().to_string()), &own).await;
    assert_eq!(status, 404);
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("no message 00000000"), "{message}");
    let (status, answer) = stack.get(&path(tenant, "x"), &own).await;
    assert_eq!(status, 400);
    assert!(
        answer["message"].as_str().unwrap().starts_with("message_id"),
        "{answer}"
    );
    let nobody = path(TenantId(Uuid::now_v7()), &id.to_string());
    let (status, answer) = stack.get(&nobody, &stack.admin()).await;
    assert_eq!(
        (status, &answer["details"][0]["reason"]),
        (404, &json!("TENANT_NOT_FOUND"))
    );
}
