//! Dead letters: read, sent again, deleted, and by whom.

mod many;
mod pages;
mod reading;
mod replaying;

use common::id::TenantId;
use control_plane::identity::Role;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Stack, eventually};

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
    failed(id, "refused")
}

/// The same for another reason.
fn failed(id: Uuid, reason: &str) -> BasicProperties {
    properties(&[
        ("x-jalur-id", text(&id.to_string())),
        ("x-jalur-reason", text(reason)),
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
    bury_for(stack, tenant, count, |_| "refused").await;
}

/// The same, each for its reason.
async fn bury_for(stack: &Stack, tenant: TenantId, count: u32, reason: fn(u32) -> &'static str) {
    let before = buried(stack, tenant).await;
    let (_connection, channel) = stack.amqp().await;
    let queue = tenant.dead_letter_queue();
    for number in 0..count {
        let body = number.to_string();
        let options = BasicPublishOptions::default();
        let letter = failed(Uuid::now_v7(), reason(number));
        let publish =
            channel.basic_publish("".into(), queue.as_str().into(), options, body.as_bytes(), letter);
        publish.await.unwrap();
    }
    eventually("all are there", async || {
        buried(stack, tenant).await == before + count
    })
    .await;
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

/// Replays until none of those that are meant is left, since a call ends when its time is over: how many there were.
async fn replay_all(stack: &Stack, tenant: TenantId, body: Value) -> u64 {
    let mut all = 0;
    loop {
        let (status, answer) = replay(stack, tenant, body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        let replayed = answer["replayed"].as_u64().unwrap();
        all += replayed;
        if answer["remaining"] == 0 {
            return all;
        }
        assert!(replayed > 0, "{answer}");
    }
}

fn payloads(letters: &[Value]) -> Vec<&str> {
    letters
        .iter()
        .map(|letter| letter["payload"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_purge_deletes_all_of_them_and_says_how_many() {
    let stack = Stack::without_daemons().await;
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
    let stack = Stack::without_daemons().await;
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
        // One that is not there, for those who may ask.
        let wanted = if wanted == 200 { 404 } else { wanted };
        let one = format!("{bare}/{}", Uuid::now_v7());
        let got = [
            stack.get(&one, &token).await.0,
            stack.delete(&one, &token).await.0,
        ];
        assert_eq!(got, [wanted; 2], "{role:?}");
    }
}

#[tokio::test]
async fn what_is_asked_of_dead_letters_is_checked() {
    let stack = Stack::without_daemons().await;
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
        (
            json!({ "all": true, "per_second": 0 }),
            ["per_second", "1 and 1000000"],
        ),
        (
            json!({ "all": true, "per_second": -1 }),
            ["per_second", "1 and 1000000"],
        ),
        (
            json!({ "all": true, "per_second": 1.5 }),
            ["per_second", "integer"],
        ),
        (
            json!({ "all": true, "reason": "REFUSED" }),
            ["reason", "not_json"],
        ),
        (json!({ "reason": "because" }), ["reason", "refused"]),
    ] {
        let (status, answer) = replay(&stack, tenant, body.clone()).await;
        let message = answer["message"].as_str().unwrap();
        assert_eq!(status, 400, "{body}: {answer}");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("reason=Refused", "reason"),
        ("reason=5", "reason"),
        ("page_token=x", "page_token"),
        ("page_token=AAAA", "page_token"),
        ("page_token=%00", "page_token"),
    ] {
        let (status, answer) = stack.get(&format!("{}?{query}", path(tenant)), &admin).await;
        assert_eq!(status, 400, "{query}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(field), "{answer}");
    }
    let purge = stack
        .delete(&format!("{}?reason=none", path(tenant)), &admin)
        .await;
    assert_eq!(purge.0, 400, "{}", purge.1);
    let none = format!("{}/5", path(tenant));
    for (status, answer) in [stack.get(&none, &admin).await, stack.delete(&none, &admin).await] {
        assert_eq!(status, 400, "{answer}");
        assert!(
            answer["message"]
                .as_str()
                .unwrap()
                .contains("letter_id: \"5\" is not a UUID"),
            "{answer}"
        );
    }
    assert_eq!(buried(&stack, tenant).await, 1, "nothing was done");

    let nobody = TenantId(Uuid::now_v7());
    let one = format!("{}/{}", path(nobody), Uuid::now_v7());
    let gone = [
        stack.get(&path(nobody), &admin).await,
        stack.get(&one, &admin).await,
        stack.delete(&one, &admin).await,
        stack
            .delete(&format!("{}?reason=refused", path(nobody)), &admin)
            .await,
        replay(&stack, nobody, json!({ "all": true })).await,
        stack.delete(&path(nobody), &admin).await,
    ];
    for (status, answer) in gone {
        assert_eq!((status, &answer["code"]), (404, &json!(5)), "{answer}");
    }
}
