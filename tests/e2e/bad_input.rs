//! Bad input: each with the status it has, and a message that names what was wrong.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::Stack;

/// Asserts that an answer is an error of the contract's shape, and that its message has every one of `words`.
fn assert_error((status, body): (u16, Value), wanted: u16, words: &[&str]) {
    assert_eq!(status, wanted, "{body}");
    let message = body["message"].as_str().unwrap_or_default();
    assert!(
        body["code"].is_u64() && body["details"].is_array(),
        "not google.rpc.Status: {body}"
    );
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[tokio::test]
async fn a_tenants_fields_are_checked() {
    let stack = Stack::without_daemons().await;
    stack.tenant("taken").await;
    let long = "n".repeat(201);
    for (body, status, words) in [
        (json!({ "name": "" }), 400, ["name", "200"]),
        (json!({}), 400, ["name", "200"]),
        (json!({ "name": long }), 400, ["name", "200"]),
        (json!({ "name": "taken" }), 409, ["name", "taken"]),
        (json!({ "name": 5 }), 400, ["name", "string"]),
        (json!({ "name": "a", "nmae": "b" }), 400, ["nmae", "description"]),
        (
            json!({ "name": "a", "status": "deleted" }),
            400,
            ["status", "active"],
        ),
        (
            json!({ "name": "a", "status": "creating" }),
            400,
            ["status", "active"],
        ),
        (json!({ "name": "a", "id": "no-uuid" }), 400, ["id", "UUID"]),
    ] {
        assert_error(
            stack.post("/api/tenants", &stack.admin(), &body).await,
            status,
            &words,
        );
    }
}

#[tokio::test]
async fn a_body_has_to_be_json_of_the_right_type_and_size() {
    let stack = Stack::without_daemons().await;
    let admin = stack.admin();
    for (body, words) in [
        ("{\"name\":", ["JSON", "line 1"]),
        ("[]", ["object", "array"]),
        ("nonsense", ["JSON", "line 1"]),
    ] {
        let body = Some(("application/json", body.as_bytes().to_vec()));
        let answer = stack.send(Method::POST, "/api/tenants", &admin, body).await;
        assert_error((answer.status, answer.json), 400, &words);
    }
    let large = json!({ "name": "x", "description": "d".repeat(17 << 20) });
    assert_error(stack.post("/api/tenants", &admin, &large).await, 413, &["bytes"]);
    let form = Some(("application/x-www-form-urlencoded", b"name=x".to_vec()));
    let answer = stack.send(Method::POST, "/api/tenants", &admin, form).await;
    assert_error((answer.status, answer.json), 415, &["application/json"]);
}

#[tokio::test]
async fn workers_are_a_whole_number_from_1_to_256() {
    let stack = Stack::without_daemons().await;
    let path = format!("/api/tenants/{}/config/concurrency", stack.tenant("t").await);
    for workers in [
        json!(0),
        json!(257),
        json!(-1),
        json!(2.5),
        json!("many"),
        json!(1u64 << 40),
        json!(null),
        json!([]),
    ] {
        let answer = stack
            .put(&path, &stack.admin(), &json!({ "workers": workers }))
            .await;
        assert_error(answer, 400, &["workers"]);
    }
    assert_error(
        stack.put(&path, &stack.admin(), &json!({})).await,
        400,
        &["workers", "256"],
    );
}

#[tokio::test]
async fn an_id_has_to_be_a_uuid_of_a_living_tenant() {
    let stack = Stack::without_daemons().await;
    let admin = stack.admin();
    let nobody = Uuid::now_v7();
    assert_error(
        stack.get("/api/tenants/no-uuid", &admin).await,
        400,
        &["id", "UUID"],
    );
    assert_error(
        stack.get(&format!("/api/tenants/{nobody}"), &admin).await,
        404,
        &[&nobody.to_string()],
    );
    assert_error(
        stack.delete(&format!("/api/tenants/{nobody}"), &admin).await,
        404,
        &[&nobody.to_string()],
    );
    assert_error(
        stack
            .patch(&format!("/tenants/{nobody}"), &admin, &json!({ "name": "x" }))
            .await,
        404,
        &["exist"],
    );
    let concurrency = format!("/tenants/{nobody}/config/concurrency");
    assert_error(
        stack.put(&concurrency, &admin, &json!({ "workers": 1 })).await,
        404,
        &["exist"],
    );
    let messages = format!("/tenants/{nobody}/messages");
    assert_error(stack.get(&messages, &admin).await, 404, &["exist"]);
    let body = json!({ "messages": [{ "payload": 1 }] });
    assert_error(stack.post(&messages, &admin, &body).await, 404, &["exist"]);
}

#[tokio::test]
async fn cursors_and_limits_are_checked() {
    let stack = Stack::without_daemons().await;
    let path = format!("/api/tenants/{}/messages", stack.tenant("t").await);
    for (query, words) in [
        ("cursor=abc", ["cursor", "integer"]),
        ("cursor=-1", ["cursor", "-1"]),
        ("cursor=99999999999999999999", ["cursor", "integer"]),
        ("limit=0", ["limit", "1000"]),
        ("limit=1001", ["limit", "1000"]),
        ("limit=ten", ["limit", "integer"]),
        ("offset=1", ["offset", "cursor"]),
    ] {
        assert_error(
            stack.get(&format!("{path}?{query}"), &stack.admin()).await,
            400,
            &words,
        );
    }
    let past = stack.get(&format!("{path}?cursor=1000000"), &stack.admin()).await;
    assert_eq!(
        past,
        (
            200,
            json!({ "data": [], "next_cursor": "1000000", "at_end": true })
        )
    );
    let tokens = stack.get("/api/tenants?page_token=x", &stack.admin()).await;
    assert_error(tokens, 400, &["page_token"]);
    assert_error(stack.get("/messages", &stack.admin()).await, 400, &["tenant_id"]);
}

#[tokio::test]
async fn messages_to_publish_are_checked_before_any_is_sent() {
    let stack = Stack::without_daemons().await;
    let tenant = stack.tenant("t").await;
    let path = format!("/api/tenants/{tenant}/messages");
    let many: Vec<_> = (0..1_001).map(|_| json!({ "payload": 1 })).collect();
    for (messages, status, word) in [
        (json!([]), 400, "1000"),
        (json!(many), 400, "1000"),
        (json!([{ "payload": 1 }, {}]), 400, "messages[1].payload"),
        (
            json!([{ "payload": 1 }, { "payload": 2, "id": "x" }]),
            400,
            "messages[1].id",
        ),
        (
            json!([{ "payload": 1 }, { "payload": 2, "is": "x" }]),
            400,
            "messages[1].is",
        ),
        (
            json!([{ "payload": 1 }, { "payload": "\0" }]),
            400,
            "messages[1].payload",
        ),
        (
            json!([{ "payload": "x".repeat(1 << 20) }]),
            413,
            "messages[0].payload",
        ),
    ] {
        assert_error(
            stack
                .post(&path, &stack.admin(), &json!({ "messages": messages }))
                .await,
            status,
            &[word],
        );
    }
    assert_eq!(
        stack.queue(&tenant.queue()).await,
        Some((0, 0)),
        "nothing was sent"
    );
}

#[tokio::test]
async fn a_path_that_is_not_there_and_a_verb_that_is_not_possible_say_so() {
    let stack = Stack::without_daemons().await;
    assert_error(
        stack.get("/api/nothing", &stack.admin()).await,
        404,
        &["/api/nothing"],
    );
    let answer = stack
        .send(Method::PUT, "/api/tenants", &stack.admin(), None)
        .await;
    assert_eq!(answer.headers["allow"], "GET, HEAD, OPTIONS, POST");
    assert_error((answer.status, answer.json), 405, &["GET", "POST"]);
}
