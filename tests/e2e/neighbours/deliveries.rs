//! A tenant's messages are such that no client could read them, or too much for one.

use std::collections::BTreeSet;

use common::id::TenantId;
use lapin::{
    BasicProperties,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tests::{
    RawPublisher,
    load::Publisher,
    raw::{entry, nested, properties},
};

use super::UNNOTICED;
use crate::support::{Options, Stack, eventually};

/// What the daemon's connections have been through.
async fn connections(stack: &Stack) -> usize {
    let log = stack.daemon().log_tail(100_000);
    log.matches("connected to RabbitMQ").count()
}

#[tokio::test]
async fn messages_that_no_client_can_read_trouble_nobody_else() {
    let stack = Stack::start(Options::default()).await;
    let hostile = stack.tenant("hostile").await;
    let neighbours = stack.tenants(3).await;
    let before = connections(&stack).await;
    let account = stack.account(&neighbours, 20).await;

    let mut publisher = RawPublisher::connect(stack.amqp_url()).await.unwrap();
    let queue = hostile.queue();
    let large = entry(b"large", &[b'x'; 130_000]);
    let bad_id = properties(&[], &[0xff, 0xfe]);
    let sent: [(Vec<u8>, &[u8]); 9] = [
        (bad_id.clone(), b"{\"good\":false}"),
        (bad_id, b"no JSON either"),
        (properties(&[entry(b"x-jalur-id", b"\xff")], b"\xff"), b"3"),
        // Dead letters for their bodies, which their headers must not keep from getting there.
        (properties(std::slice::from_ref(&large), b"large-1"), b"no JSON"),
        (properties(&[entry(b"\xff", b"bad name")], b"name-1"), b"no JSON"),
        // Stored: nobody asks for these headers.
        (
            properties(&[entry(b"\xff", b"bad name")], b"name-2"),
            b"{\"good\":1}",
        ),
        (properties(&[large], b"large-2"), b"{\"good\":2}"),
        (properties(&[nested(b"deep", 20_000)], b"deep-1"), b"{\"good\":3}"),
        (properties(&[entry(b"", b"no name")], b""), b"{\"good\":4}"),
    ];
    for (properties, body) in &sent {
        publisher.publish(&queue, properties, body).await.unwrap();
    }

    stack.stored(hostile, 4).await;
    eventually("the others are dead letters", async || {
        stack.queue(&hostile.dead_letter_queue()).await == Some((5, 0))
    })
    .await;
    let path = format!("/api/tenants/{hostile}/dead-letters");
    let (status, letters) = stack.get(&path, &stack.admin()).await;
    assert_eq!(status, 200, "{letters}");
    let letters = letters["dead_letters"].as_array().unwrap();
    let reasons: Vec<_> = letters
        .iter()
        .map(|letter| letter["reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons.iter().filter(|reason| **reason == "unreadable").count(),
        3,
        "{letters:?}"
    );
    let bodies: BTreeSet<_> = letters
        .iter()
        .map(|letter| letter["payload"].as_str().unwrap())
        .collect();
    assert_eq!(
        bodies,
        BTreeSet::from(["{\"good\":false}", "no JSON either", "3", "no JSON"])
    );
    let named = |letter: &&Value| letter["detail"] == "message_id cannot be read: fffe";
    assert_eq!(letters.iter().filter(named).count(), 2, "{letters:?}");

    let report = account.finish().await.unwrap();
    report.assert_undisturbed(UNNOTICED);
    assert_eq!(connections(&stack).await, before, "a connection was lost");
}

#[tokio::test]
async fn dead_letters_that_nobody_put_there_can_be_read_whatever_they_are() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("letters").await;
    let mut publisher = RawPublisher::connect(stack.amqp_url()).await.unwrap();
    let queue = tenant.dead_letter_queue();
    publisher
        .publish(&queue, &properties(&[], &[0xff]), b"1")
        .await
        .unwrap();
    let odd = properties(&[entry(b"\xff", b"x"), nested(b"deep", 20_000)], b"m-1");
    publisher.publish(&queue, &odd, b"2").await.unwrap();

    let path = format!("/api/tenants/{tenant}/dead-letters");
    let (status, letters) = stack.get(&path, &stack.admin()).await;
    assert_eq!(status, 200, "{letters}");
    assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 2, "{letters}");
    assert!(stack.control_plane().runs());
}

async fn alter(stack: &Stack, statement: String) {
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(stack.pool())
        .await
        .unwrap();
}

/// A death such as the broker writes, in the tenant's own queue: whoever believes it sees a message go in circles.
fn forged_death(tenant: TenantId) -> AMQPValue {
    let mut death = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    death.insert("queue".into(), text(&tenant.queue()));
    death.insert("reason".into(), text("expired"));
    death.insert("exchange".into(), text(""));
    death.insert("count".into(), AMQPValue::LongLongInt(1));
    death.insert("time".into(), AMQPValue::Timestamp(1));
    let keys = vec![text(&tenant.queue())];
    death.insert("routing-keys".into(), AMQPValue::FieldArray(keys.into()));
    AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into())
}

#[tokio::test]
async fn headers_that_the_broker_acts_on_or_has_no_room_for_cost_no_message_its_retry() {
    let stack = Stack::start(Options {
        daemon_env: vec![("JALUR_INGEST__RETRY_DELAYS", "3s".into())],
        ..Options::default()
    })
    .await;
    let (tenant, loud) = (stack.tenant("fussy").await, stack.tenant("loud").await);
    let table = tenant.partition();
    alter(
        &stack,
        format!("alter table {table} add constraint fussy check (false) not valid"),
    )
    .await;
    let function = "create function shout() returns trigger language plpgsql as \
                    $$begin raise exception '%', repeat('ä', 200000); end$$";
    alter(&stack, function.into()).await;
    let trigger = format!(
        "create trigger shout before insert on {} for each row execute function shout()",
        loud.partition()
    );
    alter(&stack, trigger).await;

    let (_connection, channel) = stack.amqp().await;
    let options = QueueDeclareOptions::default();
    let spy = channel.queue_declare("spy".into(), options, FieldTable::default());
    spy.await.unwrap();
    let text = |text: String| AMQPValue::LongString(text.into());
    let copies = AMQPValue::FieldArray(vec![text("spy".into())].into());
    let headers = [
        ("x-death", forged_death(tenant)),
        ("x-first-death-queue", text(tenant.queue())),
        ("CC", copies),
        ("large", text("x".repeat(100_000))),
        ("x-jalur-attempts", AMQPValue::LongLongInt(-5)),
    ];
    let mut publisher = Publisher::new(stack.amqp_url());
    for (name, value) in headers {
        let mut table = FieldTable::default();
        table.insert(name.into(), value);
        let properties = BasicProperties::default()
            .with_expiration("60000".into())
            .with_message_id(name.into())
            .with_headers(table);
        publisher.send_one(tenant, b"1", properties).await.unwrap();
    }
    publisher
        .send_one(loud, b"2", BasicProperties::default())
        .await
        .unwrap();

    eventually("all wait for their retry", async || {
        stack
            .queue("jalur.retry.3000ms")
            .await
            .is_some_and(|(ready, _)| ready >= 5)
    })
    .await;
    alter(&stack, format!("alter table {table} drop constraint fussy")).await;
    stack.stored(tenant, 5).await;
    assert_eq!(
        stack.queue("spy").await,
        Some((1, 0)),
        "a copy of its own for every way"
    );
    assert_eq!(stack.queue(&tenant.dead_letter_queue()).await, Some((0, 0)));

    eventually("the other is a dead letter", async || {
        stack.queue(&loud.dead_letter_queue()).await == Some((1, 0))
    })
    .await;
    let path = format!("/api/tenants/{loud}/dead-letters");
    let (status, letters) = stack.get(&path, &stack.admin()).await;
    assert_eq!(status, 200, "{letters}");
    let detail = letters["dead_letters"][0]["detail"].as_str().unwrap();
    assert!(detail.len() <= 1_010 && detail.contains('ä'), "{detail}");
    let log = stack.daemon().log_tail(1_000);
    assert!(log.lines().all(|line| line.len() < 3_000), "a line too long");
}

#[tokio::test]
async fn heavy_headers_count_as_bodies_do() {
    let stack = Stack::start(Options::default()).await;
    let heavy = stack.tenant("heavy").await;
    let neighbours = stack.tenants(3).await;
    let path = format!("/api/tenants/{heavy}");
    let set = async |status: &str| {
        let (code, answer) = stack
            .patch(&path, &stack.admin(), &json!({ "status": status }))
            .await;
        assert_eq!(code, 200, "{answer}");
    };
    set("paused").await;
    let account = stack.account(&neighbours, 20).await;
    let mut publisher = RawPublisher::connect(stack.amqp_url()).await.unwrap();
    // More than the daemon may hold, of bodies that weigh nothing.
    let headers = [entry(b"heavy", &[b'x'; 120_000])];
    for number in 0..700_u64 {
        let properties = properties(&headers, format!("m-{number}").as_bytes());
        publisher
            .publish(&heavy.queue(), &properties, b"{}")
            .await
            .unwrap();
    }
    set("active").await;
    stack.stored(heavy, 700).await;
    account.finish().await.unwrap().assert_undisturbed(UNNOTICED);
    let log = stack.control_plane().log_tail(100_000);
    assert!(
        !log.contains("until there is room"),
        "more was asked for than fits"
    );
}

/// So many messages of 60 MiB, over so many tenants, which have long been there when they are consumed.
async fn flood(tenants: usize, messages: usize) {
    let stack = Stack::start(Options::default()).await;
    let tenants = stack.tenants(tenants).await;
    let mut publisher = RawPublisher::connect(stack.amqp_url()).await.unwrap();
    let body = vec![b'x'; 60 << 20];
    let before = stack.daemon_memory();
    let mut most = before;
    for tenant in tenants.iter().cycle().take(messages) {
        publisher
            .publish(&tenant.queue(), &properties(&[], b""), &body)
            .await
            .unwrap();
        most = most.max(stack.daemon_memory());
    }
    eventually("all of them are dead letters", async || {
        most = most.max(stack.daemon_memory());
        let mut letters = 0;
        for tenant in &tenants {
            letters += stack
                .queue(&tenant.dead_letter_queue())
                .await
                .map_or(0, |(ready, _)| ready);
        }
        letters as usize == messages
    })
    .await;
    // The budget, and one beyond it: as it comes, and as it is published again.
    let limit = before + (64 << 20) + 4 * (60 << 20);
    assert!(most < limit, "{} MiB", most >> 20);
}

#[tokio::test]
async fn one_tenants_large_messages_do_not_fill_the_memory() {
    flood(1, 8).await;
}

#[tokio::test]
async fn many_tenants_large_messages_do_not_fill_the_memory() {
    flood(6, 8).await;
}
