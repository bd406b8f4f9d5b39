//! Dead letters: read, sent again, deleted.

use common::id::TenantId;
use control_plane::identity::Role;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tests::load::Publisher;
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

fn path(tenant: TenantId) -> String {
    format!("/api/tenants/{tenant}/dead-letters")
}

fn properties(headers: &[(&str, AMQPValue)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), value.clone());
    }
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(table)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// The headers of a dead letter that a daemon made.
fn refused(id: Uuid) -> BasicProperties {
    properties(&[
        ("x-jalur-id", text(&id.to_string())),
        ("x-jalur-reason", text("refused")),
        ("x-jalur-detail", text("a constraint that is gone by now")),
        ("x-jalur-attempts", AMQPValue::LongLongInt(5)),
        ("x-jalur-first-failed-at", text("2026-01-31T12:00:00.250Z")),
        ("x-jalur-failed-at", text("2026-01-31T12:03:00.250Z")),
    ])
}

/// Puts a message into the tenant's dead-letter queue by hand.
async fn bury(stack: &Stack, tenant: TenantId, body: &[u8], properties: BasicProperties) {
    let (_connection, channel) = stack.amqp().await;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let queue = tenant.dead_letter_queue();
    let confirm = channel
        .basic_publish(
            "".into(),
            queue.into(),
            BasicPublishOptions::default(),
            body,
            properties,
        )
        .await
        .unwrap();
    assert!(confirm.await.unwrap().is_ack());
}

/// Puts numbers into the tenant's dead-letter queue, each under an id of its own.
async fn bury_many(stack: &Stack, tenant: TenantId, count: u32) {
    let (_connection, channel) = stack.amqp().await;
    let queue = tenant.dead_letter_queue();
    for number in 0..count {
        let body = number.to_string();
        let options = BasicPublishOptions::default();
        let letter = refused(Uuid::now_v7());
        let publish =
            channel.basic_publish("".into(), queue.as_str().into(), options, body.as_bytes(), letter);
        publish.await.unwrap();
    }
    eventually("all are there", async || buried(stack, tenant).await == count).await;
}

async fn list(stack: &Stack, tenant: TenantId) -> Vec<Value> {
    let (status, page) = stack
        .get(&format!("{}?limit=1000", path(tenant)), &stack.admin())
        .await;
    assert_eq!(status, 200, "{page}");
    page["dead_letters"].as_array().unwrap().clone()
}

async fn buried(stack: &Stack, tenant: TenantId) -> u32 {
    stack.queue(&tenant.dead_letter_queue()).await.unwrap().0
}

async fn replay(stack: &Stack, tenant: TenantId, body: Value) -> (u16, Value) {
    stack
        .post(&format!("{}/replay", path(tenant)), &stack.admin(), &body)
        .await
}

fn payloads(letters: &[Value]) -> Vec<&str> {
    letters
        .iter()
        .map(|letter| letter["payload"].as_str().unwrap())
        .collect()
}

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
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let tenant = stack.tenant("large").await;
    for size in [3 << 20, 1_500_000, 1_500_000] {
        bury(&stack, tenant, &vec![b'x'; size], refused(Uuid::now_v7())).await;
    }
    let page = list(&stack, tenant).await;
    assert_eq!(page.len(), 1, "one, whatever its size");
    assert_eq!(page[0]["payload"].as_str().unwrap().len(), 3 << 20);
    assert_eq!(buried(&stack, tenant).await, 3);
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
        (200, json!({ "replayed": 2 }))
    );
    let left = list(&stack, tenant).await;
    assert_eq!(
        payloads(&left),
        ["0", "2", "4", "\"once\"", "\"order\"", "\"nameless\""]
    );
    assert_eq!(
        replay(&stack, tenant, some).await,
        (200, json!({ "replayed": 0 }))
    );

    assert_eq!(
        replay(&stack, tenant, json!({ "all": true })).await,
        (200, json!({ "replayed": 6 }))
    );
    assert_eq!(buried(&stack, tenant).await, 0);
    stack.stored(tenant, 8).await;
    eventually("the queue is empty", async || {
        let tenant = stack
            .get(&format!("/api/tenants/{tenant}"), &stack.admin())
            .await
            .1;
        tenant["runtime"]["queue_depth"] == 0
    })
    .await;
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
        (200, json!({ "replayed": 1 })),
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
    let (rest, all) = (stack.rest(), json!({ "all": true }));
    let url = format!("{}/replay", path(tenant));
    let replaying = tokio::spawn(async move { rest.post(&url, &all).await });
    stack.stored(tenant, 1).await;
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
    eventually("the queue is empty", async || {
        let tenant = stack
            .get(&format!("/api/tenants/{tenant}"), &stack.admin())
            .await
            .1;
        tenant["runtime"]["queue_depth"] == 0
    })
    .await;
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
        (200, json!({ "replayed": 1 }))
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

#[tokio::test]
async fn a_purge_deletes_all_of_them_and_says_how_many() {
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let (tenant, other) = (stack.tenant("purged").await, stack.tenant("kept").await);
    for tenant in [tenant, tenant, tenant, other] {
        bury(&stack, tenant, b"1", refused(Uuid::now_v7())).await;
    }
    let admin = stack.admin();
    assert_eq!(
        stack.delete(&path(tenant), &admin).await,
        (200, json!({ "purged": 3 }))
    );
    assert_eq!(
        stack.delete(&path(tenant), &admin).await,
        (200, json!({ "purged": 0 }))
    );
    assert_eq!(list(&stack, tenant).await, Vec::<Value>::new());
    assert_eq!(buried(&stack, other).await, 1);
}

#[tokio::test]
async fn dead_letters_are_for_admins_and_the_tenants_own_admins() {
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let (own, other) = (stack.tenant("own").await, stack.tenant("other").await);
    let all = json!({ "all": true });
    for (role, tenant, wanted) in [
        (Role::Admin, own, 200),
        (Role::TenantAdmin, own, 200),
        (Role::TenantAdmin, other, 403),
        (Role::Tenant, own, 403),
        (Role::Daemon, own, 403),
    ] {
        let token = stack.token(role, role.is_of_a_tenant().then_some(own.0));
        // Both the path with /api and the bare one.
        let bare = format!("/tenants/{tenant}/dead-letters");
        let got = [
            stack.get(&path(tenant), &token).await.0,
            stack.get(&bare, &token).await.0,
            stack.post(&format!("{bare}/replay"), &token, &all).await.0,
            stack.delete(&bare, &token).await.0,
        ];
        assert_eq!(got, [wanted; 4], "{role:?}");
    }
}

#[tokio::test]
async fn what_is_asked_of_dead_letters_is_checked() {
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let (tenant, admin) = (stack.tenant("t").await, stack.admin());
    bury(&stack, tenant, b"1", refused(Uuid::now_v7())).await;
    let id = Uuid::now_v7();
    let too_many = vec![id; 1_001];
    for (body, words) in [
        (json!({}), ["ids", "all"]),
        (json!({ "ids": [], "all": false }), ["ids", "all"]),
        (json!({ "ids": [id], "all": true }), ["ids", "all"]),
        (json!({ "ids": [id, "x"] }), ["ids[1]", "UUID"]),
        (json!({ "ids": too_many }), ["ids", "1000"]),
        (json!({ "ids": "all" }), ["ids", "array"]),
        (json!({ "all": "yes" }), ["all", "true"]),
        (json!({ "al": true }), ["al", "ids"]),
    ] {
        let (status, answer) = replay(&stack, tenant, body.clone()).await;
        let message = answer["message"].as_str().unwrap();
        assert_eq!(status, 400, "{body}: {answer}");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
    }
    for limit in ["0", "1001", "-1", "many"] {
        let (status, answer) = stack
            .get(&format!("{}?limit={limit}", path(tenant)), &admin)
            .await;
        assert_eq!(status, 400, "{limit}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains("limit"), "{answer}");
    }
    assert_eq!(buried(&stack, tenant).await, 1, "nothing was done");

    let nobody = TenantId(Uuid::now_v7());
    let gone = [
        stack.get(&path(nobody), &admin).await,
        replay(&stack, nobody, json!({ "all": true })).await,
        stack.delete(&path(nobody), &admin).await,
    ];
    for (status, answer) in gone {
        assert_eq!((status, &answer["code"]), (404, &json!(5)), "{answer}");
    }
}
