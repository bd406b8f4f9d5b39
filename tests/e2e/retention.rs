//! What is kept of a tenant's messages.

use std::collections::BTreeSet;

use common::id::TenantId;
use control_plane::identity::Role;
use serde_json::{Value, json};
use tests::{
    Member,
    load::{Publisher, Reader},
};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

fn path(tenant: TenantId) -> String {
    format!("/api/tenants/{tenant}/config/retention")
}

async fn set(stack: &Stack, tenant: TenantId, retention: Value) {
    let answer = stack.put(&path(tenant), &stack.admin(), &retention).await;
    assert_eq!(answer, (200, retention));
}

/// The ids of what is stored, in order.
async fn stored(stack: &Stack, tenant: TenantId) -> Vec<Uuid> {
    sqlx::query_scalar("select id from messages where tenant_id = $1 order by position")
        .bind(tenant.0)
        .fetch_all(stack.pool())
        .await
        .unwrap()
}

async fn has_come_to(stack: &Stack, tenant: TenantId, count: u64) {
    eventually("what is too much is removed", async || {
        stack.count(tenant).await == count
    })
    .await;
}

/// How many messages a control plane has removed.
async fn removed(member: &Member) -> u64 {
    let metrics = member.metrics().await.unwrap();
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix("jalur_retention_removed_total "));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

#[tokio::test]
async fn a_retention_is_set_as_a_whole_and_shown_and_what_is_none_is_refused() {
    let stack = Stack::without_daemons().await;
    let tenant = stack.tenant("whose is kept").await;
    let shown = async || {
        let (_, tenant) = stack.get(&format!("/api/tenants/{tenant}"), &stack.admin()).await;
        tenant["retention"].clone()
    };
    assert_eq!(shown().await, json!({}));
    set(
        &stack,
        tenant,
        json!({ "max_age_seconds": 86_400, "max_messages": 5 }),
    )
    .await;
    assert_eq!(
        shown().await,
        json!({ "max_age_seconds": 86_400, "max_messages": 5 })
    );
    // What is not sent is no bound.
    set(&stack, tenant, json!({ "max_messages": 1_000_000_000 })).await;
    assert_eq!(shown().await, json!({ "max_messages": 1_000_000_000 }));
    let (_, all) = stack.get("/api/tenants", &stack.admin()).await;
    assert_eq!(all["tenants"][0]["retention"], shown().await);

    let wanted = |field: &str| format!("{field} must be between 1 and 1000000000");
    for (sent, says) in [
        (json!({ "max_age_seconds": 0 }), wanted("max_age_seconds")),
        (json!({ "max_age_seconds": -1 }), wanted("max_age_seconds")),
        (
            json!({ "max_age_seconds": 1_000_000_001 }),
            wanted("max_age_seconds"),
        ),
        (json!({ "max_messages": 0 }), wanted("max_messages")),
        (json!({ "max_messages": -7 }), wanted("max_messages")),
        // A thousand years.
        (
            json!({ "max_age_seconds": 31_536_000_000_i64 }),
            "max_age_seconds must be an integer".to_owned(),
        ),
        (
            json!({ "max_age_seconds": 1.5 }),
            "max_age_seconds must be an integer".to_owned(),
        ),
        (json!({ "max_age": "1d" }), "max_age is unknown".to_owned()),
    ] {
        let (status, answer) = stack.put(&path(tenant), &stack.admin(), &sent).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["message"].as_str().unwrap().starts_with(&says), "{answer}");
    }
    for role in [Role::TenantAdmin, Role::Tenant] {
        let own = stack.token(role, Some(tenant.0));
        assert_eq!(stack.put(&path(tenant), &own, &json!({})).await.0, 403);
    }
    let nobody = path(TenantId(Uuid::now_v7()));
    assert_eq!(stack.put(&nobody, &stack.admin(), &json!({})).await.0, 404);
    assert_eq!(shown().await, json!({ "max_messages": 1_000_000_000 }));
    set(&stack, tenant, json!({})).await;
    assert_eq!(shown().await, json!({}));

    // Of a tenant that is deleted nothing is kept but its id.
    let about = json!({ "description": "what somebody wrote of it" });
    let (path, admin) = (format!("/api/tenants/{tenant}"), stack.admin());
    assert_eq!(stack.patch(&path, &admin, &about).await.0, 200);
    assert_eq!(stack.delete(&path, &admin).await.0, 200);
    let row: String = sqlx::query_scalar("select to_jsonb(t)::text from tenants t where id = $1")
        .bind(tenant.0)
        .fetch_one(stack.pool())
        .await
        .unwrap();
    assert!(
        !row.contains("somebody") && !row.contains("whose") && row.contains("gone"),
        "{row}"
    );
}

#[tokio::test]
async fn what_is_older_or_more_goes_while_messages_come_and_readers_go_on() {
    let stack = Stack::start(Options::default()).await;
    let tenants = stack.tenants(4).await;
    let [many, old, stuck, neighbour] = tenants[..] else {
        panic!("there are four");
    };
    let mut publisher = Publisher::new(stack.amqp_url());
    let first = publisher.send(&[many, neighbour], 6_000, 200).await.unwrap();
    let aged = publisher.send(&[old, stuck], 400, 200).await.unwrap();
    for (tenant, count) in [(many, 3_000), (neighbour, 3_000), (old, 200), (stuck, 200)] {
        stack.stored(tenant, count).await;
    }
    let mut behind = Reader::new(&stack.rest(), many);
    assert_eq!(behind.page(100).await.unwrap(), 100);
    let seen: BTreeSet<Uuid> = behind.seen.keys().copied().collect();
    let mut reader = Reader::new(&stack.rest(), old);
    reader.until(200).await.unwrap();

    // More than may be, while more come; and a table that is locked meanwhile.
    let locked = stack.lock_table(stuck).await;
    set(&stack, stuck, json!({ "max_messages": 1 })).await;
    set(&stack, many, json!({ "max_messages": 500 })).await;
    let more = publisher.send(&[many], 2_000, 200).await.unwrap();
    eventually("the last message is stored", async || {
        let last: i64 = sqlx::query_scalar("select last from positions where tenant_id = $1")
            .bind(many.0)
            .fetch_one(stack.pool())
            .await
            .unwrap();
        last == 5_000
    })
    .await;
    has_come_to(&stack, many, 500).await;
    let left = stored(&stack, many).await;
    let newest: BTreeSet<Uuid> = left.iter().copied().collect();
    assert!(newest.is_subset(&more[&many]), "the newest are left");

    // Who is behind gets the oldest that is left, and then everything.
    assert_eq!(behind.page(1).await.unwrap(), 1);
    assert!(behind.seen.contains_key(&left[0]), "{}", left[0]);
    behind.until(600).await.unwrap();
    let last = publisher.send(&[many], 300, 200).await.unwrap();
    let wanted = seen.iter().chain(&newest).chain(&last[&many]).copied().collect();
    behind.expect(&wanted).await.unwrap();
    has_come_to(&stack, many, 500).await;

    // By age: nothing that is younger.
    sqlx::query("update messages set created_at = created_at - interval '1 hour' where tenant_id = $1")
        .bind(old.0)
        .execute(stack.pool())
        .await
        .unwrap();
    let young = publisher.send(&[old], 100, 200).await.unwrap();
    stack.stored(old, 300).await;
    set(
        &stack,
        old,
        json!({ "max_age_seconds": 1_800, "max_messages": 1_000 }),
    )
    .await;
    has_come_to(&stack, old, 100).await;
    reader
        .expect(&aged[&old].union(&young[&old]).copied().collect())
        .await
        .unwrap();

    // Who was stuck is so no more.
    assert_eq!(locked.rollback().await.map_err(|error| error.to_string()), Ok(()));
    has_come_to(&stack, stuck, 1).await;
    assert_eq!(removed(stack.control_plane()).await, 4_500 + 300 + 200 + 199);
    let newest = stack
        .get(&format!("/api/tenants/{stuck}/messages"), &stack.admin())
        .await;
    assert_eq!(newest.1["data"].as_array().map(Vec::len), Some(1));

    // An id that is gone is stored again like a new one.
    let again = *seen.first().unwrap();
    let body = json!({ "messages": [{ "id": again, "payload": "again" }] });
    let messages = format!("/api/tenants/{many}/messages");
    let gone = stack.get(&format!("{messages}/{again}"), &stack.admin()).await;
    assert_eq!(gone.0, 404, "{}", gone.1);
    // Without a retention everything is kept. Another tenant's removal says that it would have been looked at.
    set(&stack, many, json!({})).await;
    assert_eq!(stack.post(&messages, &stack.admin(), &body).await.0, 200);
    stack.stored(many, 501).await;
    set(&stack, old, json!({ "max_messages": 10 })).await;
    has_come_to(&stack, old, 10).await;
    assert_eq!(stored(&stack, many).await.last(), Some(&again));
    assert_eq!(
        (stack.count(many).await, stack.count(neighbour).await),
        (501, 3_000)
    );
    assert_eq!(first[&neighbour].len(), 3_000);

    // Their tables are vacuumed often enough, and only theirs.
    let tended: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class where reloptions @> '{autovacuum_vacuum_scale_factor=0.1}'
         and relname like 'messages_%' order by relname",
    )
    .fetch_all(stack.pool())
    .await
    .unwrap();
    let mut wanted = [many, old, stuck].map(|tenant| tenant.partition());
    wanted.sort();
    assert_eq!(tended, wanted);
}

#[tokio::test]
async fn another_control_plane_goes_on_where_one_has_stopped() {
    let stack = Stack::start(Options {
        control_planes: 2,
        ..Options::default()
    })
    .await;
    let tenant = stack.tenant("two").await;
    set(&stack, tenant, json!({ "max_messages": 50 })).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[tenant], 200, 64).await.unwrap();
    stack.stored(tenant, 50).await;
    let [one, other] = ["control-plane-1", "control-plane-2"].map(|name| stack.member(name));
    eventually("one of them has removed what is too much", async || {
        removed(one).await + removed(other).await == 150
    })
    .await;
    let (remover, other) = match removed(one).await {
        0 => (other, one),
        150 => (one, other),
        some => panic!("one has removed {some} of 150"),
    };
    assert!(remover.terminate().await.success());
    publisher.send(&[tenant], 100, 64).await.unwrap();
    eventually("the other one removes", async || removed(other).await == 100).await;
    assert_eq!(stack.count(tenant).await, 50);
}
