//! Rows that PostgreSQL refuses while others commit: tried again from delay queues, then dead-lettered.

use common::id::TenantId;
use lapin::{
    BasicProperties,
    options::{BasicGetOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tests::load::Publisher;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

/// Long enough to do something meanwhile.
const DELAY: &str = "5s";
const DELAY_QUEUE: &str = "jalur.retry.5000ms";

async fn start(delays: &str, queue_type: &str) -> Stack {
    Stack::start(Options {
        env: vec![("JALUR_RABBITMQ__QUEUE_TYPE", queue_type.into())],
        daemon_env: vec![("JALUR_INGEST__RETRY_DELAYS", delays.into())],
        ..Options::default()
    })
    .await
}

async fn alter(stack: &Stack, tenant: TenantId, change: &str) {
    let table = format!("messages_{}", tenant.0.simple());
    sqlx::query(sqlx::AssertSqlSafe(format!("alter table {table} {change}")))
        .execute(stack.pool())
        .await
        .unwrap();
}

/// A tenant whose table takes no poison.
async fn fussy(stack: &Stack) -> TenantId {
    fussy_named(stack, "fussy").await
}

async fn fussy_named(stack: &Stack, name: &str) -> TenantId {
    let tenant = stack.tenant(name).await;
    alter(
        stack,
        tenant,
        "add constraint fussy check (not (payload ? 'poison')) not valid",
    )
    .await;
    tenant
}

async fn poison(stack: &Stack, tenant: TenantId) -> Uuid {
    poison_by(&mut Publisher::new(stack.amqp_url()), tenant).await
}

async fn poison_by(publisher: &mut Publisher, tenant: TenantId) -> Uuid {
    let id = Uuid::now_v7();
    let properties = BasicProperties::default()
        .with_message_id(id.to_string().into())
        .with_app_id("a test".into())
        .with_delivery_mode(2);
    publisher
        .send_one(tenant, br#"{"poison": 1}"#, properties)
        .await
        .unwrap();
    id
}

async fn waits(stack: &Stack, queue: &str, count: u32) {
    eventually("it waits in the delay queue", async || {
        stack.queue(queue).await == Some((count, 0))
    })
    .await;
}

async fn set_status(stack: &Stack, tenant: TenantId, status: &str) {
    let path = format!("/api/tenants/{tenant}");
    let (code, answer) = stack
        .patch(&path, &stack.admin(), &json!({ "status": status }))
        .await;
    assert_eq!(code, 200, "{answer}");
}

/// Waits until nothing of the tenant is under way.
async fn settled(stack: &Stack, tenant: TenantId) {
    eventually("everything is settled", async || {
        let path = format!("/api/tenants/{tenant}");
        let seen: Value = stack.get(&path, &stack.admin()).await.1;
        seen["runtime"]["queue_depth"] == 0
    })
    .await;
}

async fn ids(stack: &Stack, tenant: TenantId) -> Vec<Uuid> {
    sqlx::query_scalar("select id from messages where tenant_id = $1")
        .bind(tenant.0)
        .fetch_all(stack.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_refused_row_is_tried_again_and_then_a_dead_letter_and_its_neighbours_are_stored() {
    let stack = start("200ms,300ms", "classic").await;
    let tenant = fussy(&stack).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[tenant], 20, 64).await.unwrap();
    let id = poison(&stack, tenant).await;
    publisher.send(&[tenant], 20, 64).await.unwrap();
    stack.stored(tenant, 40).await;
    eventually("the poison is a dead letter", async || {
        stack.queue(&tenant.dead_letter_queue()).await == Some((1, 0))
    })
    .await;
    settled(&stack, tenant).await;
    assert_eq!(stack.count(tenant).await, 40);

    let (_connection, channel) = stack.amqp().await;
    let options = BasicGetOptions { no_ack: true };
    let dead = channel.basic_get(tenant.dead_letter_queue().into(), options);
    let dead = dead.await.unwrap().unwrap();
    assert_eq!(dead.data, br#"{"poison": 1}"#);
    let properties = &dead.properties;
    assert_eq!(
        properties.message_id().as_ref().map(|text| text.as_str()),
        Some(&*id.to_string())
    );
    assert_eq!(
        properties.app_id().as_ref().map(|text| text.as_str()),
        Some("a test")
    );
    let headers = properties.headers().as_ref().map(FieldTable::inner).unwrap();
    let text = |name: &str| match &headers[name] {
        AMQPValue::LongString(text) => text.to_string(),
        other => panic!("{name} is {other:?}"),
    };
    assert_eq!(headers["x-jalur-attempts"], AMQPValue::LongLongInt(3));
    assert_eq!(text("x-jalur-reason"), "refused");
    assert_eq!(text("x-jalur-id"), id.to_string());
    assert!(text("x-jalur-detail").contains("23514"), "{headers:?}");
    let time = |name: &str| OffsetDateTime::parse(&text(name), &Rfc3339).unwrap();
    let tried_for = time("x-jalur-failed-at") - time("x-jalur-first-failed-at");
    assert!(
        tried_for.whole_milliseconds() >= 500,
        "both delays were waited for"
    );

    let metrics = stack.daemon().metrics().await.unwrap();
    let retried = metrics.lines().find(|line| line.contains(r#"outcome="retried""#));
    assert!(retried.is_some_and(|line| line.ends_with(" 2")), "{metrics}");
}

#[tokio::test]
async fn what_is_mended_meanwhile_is_stored_once_under_its_id() {
    for queue_type in ["classic", "quorum"] {
        let stack = start(DELAY, queue_type).await;
        let tenant = fussy(&stack).await;
        let id = poison(&stack, tenant).await;
        waits(&stack, DELAY_QUEUE, 1).await;
        alter(&stack, tenant, "drop constraint fussy").await;
        stack.stored(tenant, 1).await;
        settled(&stack, tenant).await;
        assert_eq!(ids(&stack, tenant).await, [id]);
        assert_eq!(stack.queue(DELAY_QUEUE).await, Some((0, 0)));
        assert_eq!(stack.queue(&tenant.dead_letter_queue()).await, Some((0, 0)));
    }
}

#[tokio::test]
async fn a_deleted_tenants_retries_are_dropped() {
    // Each waits for most of a minute.
    tokio::join!(
        the_retries_of_a_deleted_tenant_are_dropped("classic"),
        the_retries_of_a_deleted_tenant_are_dropped("quorum")
    );
}

async fn the_retries_of_a_deleted_tenant_are_dropped(queue_type: &'static str) {
    /// More than a quorum queue dead-letters at once.
    const DROPPED: u32 = 40;
    /// Long enough for all of them to wait at once on a busy machine.
    const QUEUE: &str = "jalur.retry.15000ms";
    let stack = start("15s", queue_type).await;
    let tenant = fussy(&stack).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    for number in 0..DROPPED {
        poison_by(&mut publisher, tenant).await;
        // Of more than twenty in a row the others would be held.
        if number % 5 == 4 {
            publisher.send(&[tenant], 1, 64).await.unwrap();
        }
    }
    waits(&stack, QUEUE, DROPPED).await;
    let path = format!("/api/tenants/{tenant}");
    let (code, answer) = stack.delete(&path, &stack.admin()).await;
    assert!((200..300).contains(&code), "{answer}");
    eventually("the delay queue drains", async || {
        stack.queue(QUEUE).await == Some((0, 0))
    })
    .await;
    assert_eq!(stack.queue(&tenant.queue()).await, None);
    assert_eq!(stack.queue(&tenant.dead_letter_queue()).await, None);

    // They are in nobody's way.
    let tenant = fussy(&stack).await;
    let id = poison(&stack, tenant).await;
    waits(&stack, QUEUE, 1).await;
    alter(&stack, tenant, "drop constraint fussy").await;
    stack.stored(tenant, 1).await;
    assert_eq!(ids(&stack, tenant).await, [id]);
}

#[tokio::test]
async fn a_paused_tenants_retries_wait_in_its_queue() {
    let stack = start(DELAY, "classic").await;
    let tenant = fussy(&stack).await;
    let id = poison(&stack, tenant).await;
    waits(&stack, DELAY_QUEUE, 1).await;
    set_status(&stack, tenant, "paused").await;
    eventually("it waits in the tenant's queue", async || {
        stack.queue(&tenant.queue()).await == Some((1, 0))
    })
    .await;
    alter(&stack, tenant, "drop constraint fussy").await;
    assert_eq!(stack.count(tenant).await, 0);
    set_status(&stack, tenant, "active").await;
    stack.stored(tenant, 1).await;
    settled(&stack, tenant).await;
    assert_eq!(ids(&stack, tenant).await, [id]);
}

/// How many messages the tenant is told to have in delay queues.
async fn retrying(stack: &Stack, tenant: TenantId) -> Value {
    let path = format!("/api/tenants/{tenant}");
    stack.get(&path, &stack.admin()).await.1["runtime"]["retrying"].clone()
}

#[tokio::test]
async fn what_waits_in_a_delay_queue_is_counted_whatever_dies() {
    const QUEUE: &str = "jalur.retry.12000ms";
    let mut stack = start("12s", "classic").await;
    let (tenant, other) = (fussy(&stack).await, fussy_named(&stack, "other").await);
    assert_eq!(retrying(&stack, tenant).await, 0);
    let mut publisher = Publisher::new(stack.amqp_url());
    for tenant in [tenant, tenant, tenant, other] {
        for _ in 0..5 {
            poison_by(&mut publisher, tenant).await;
        }
    }
    waits(&stack, QUEUE, 20).await;
    settled(&stack, tenant).await;
    assert_eq!(
        (retrying(&stack, tenant).await, retrying(&stack, other).await),
        (json!(15), json!(5))
    );
    let line = format!("jalur_retrying{{tenant_id=\"{tenant}\"}} 15");
    eventually("it is in the metrics", async || {
        stack
            .control_plane()
            .metrics()
            .await
            .unwrap()
            .lines()
            .any(|shown| shown == line)
    })
    .await;

    // Nobody brings them back now, and they are counted all the same.
    stack.member("ingest-daemon-1").kill().await;
    assert_eq!(retrying(&stack, tenant).await, 15);
    for tenant in [tenant, other] {
        alter(&stack, tenant, "drop constraint fussy").await;
    }
    stack.add_daemon().await;
    stack.stored(tenant, 15).await;
    stack.stored(other, 5).await;
    eventually("none waits any more", async || {
        retrying(&stack, tenant).await == 0 && retrying(&stack, other).await == 0
    })
    .await;
}

/// When what waits in the delay queue is due.
async fn due(stack: &Stack) -> Option<String> {
    let (_connection, channel) = stack.amqp().await;
    // It goes back with the channel.
    let waiting = channel.basic_get(DELAY_QUEUE.into(), BasicGetOptions::default());
    let waiting = waiting.await.unwrap()?;
    let headers = waiting.properties.headers().as_ref()?;
    match headers.inner().get("x-jalur-due-at")? {
        AMQPValue::LongString(due) => Some(due.to_string()),
        _ => None,
    }
}

#[tokio::test]
async fn a_retry_that_finds_no_room_waits_once_more() {
    let stack = start(DELAY, "classic").await;
    let tenant = TenantId(Uuid::now_v7());
    let (_connection, channel) = stack.amqp().await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut one = FieldTable::default();
    one.insert("x-max-length".into(), AMQPValue::LongInt(1));
    one.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    channel
        .queue_declare(tenant.queue().into(), durable, one)
        .await
        .unwrap();
    let new = json!({ "id": tenant.to_string(), "name": "fussy" });
    let (status, answer) = stack.post("/api/tenants", &stack.admin(), &new).await;
    assert_eq!(status, 201, "{answer}");
    alter(
        &stack,
        tenant,
        "add constraint fussy check (not (payload ? 'poison')) not valid",
    )
    .await;
    let id = poison(&stack, tenant).await;
    waits(&stack, DELAY_QUEUE, 1).await;
    set_status(&stack, tenant, "paused").await;
    Publisher::new(stack.amqp_url())
        .send(&[tenant], 1, 64)
        .await
        .unwrap();
    let first = due(&stack).await;
    eventually("it waits once more", async || {
        let now = due(&stack).await;
        now.is_some() && first.is_some() && now > first
    })
    .await;
    alter(&stack, tenant, "drop constraint fussy").await;
    set_status(&stack, tenant, "active").await;
    stack.stored(tenant, 2).await;
    settled(&stack, tenant).await;
    assert!(ids(&stack, tenant).await.contains(&id));
}

#[tokio::test]
async fn a_retry_that_waits_survives_a_crash_of_the_broker() {
    let options = Options {
        daemon_env: vec![("JALUR_INGEST__RETRY_DELAYS", DELAY.into())],
        ..Options::default()
    };
    let Some(stack) = Stack::start_alone("a crash of the broker", options).await else {
        return;
    };
    let tenant = fussy(&stack).await;
    let id = poison(&stack, tenant).await;
    waits(&stack, DELAY_QUEUE, 1).await;
    stack.crash_rabbitmq().await;
    alter(&stack, tenant, "drop constraint fussy").await;
    stack.stored(tenant, 1).await;
    settled(&stack, tenant).await;
    assert_eq!(ids(&stack, tenant).await, [id]);
    assert_eq!(stack.queue(&tenant.dead_letter_queue()).await, Some((0, 0)));
}

#[tokio::test]
async fn what_waits_for_a_delay_that_is_configured_no_more_comes_back_all_the_same() {
    for queue_type in ["classic", "quorum"] {
        let mut stack = start("10s", queue_type).await;
        let tenant = fussy(&stack).await;
        let id = poison(&stack, tenant).await;
        waits(&stack, "jalur.retry.10000ms", 1).await;
        stack.member("ingest-daemon-1").terminate().await;
        alter(&stack, tenant, "drop constraint fussy").await;
        stack.configure_daemons("JALUR_INGEST__RETRY_DELAYS", "200ms".into());
        stack.add_daemon().await;
        stack.stored(tenant, 1).await;
        assert_eq!(ids(&stack, tenant).await, [id]);
    }
}
