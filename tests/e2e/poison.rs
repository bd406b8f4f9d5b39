//! Bad messages: each that can be stored is, each other is a dead letter with a reason, and nobody waits for them.

use std::collections::{BTreeMap, BTreeSet};

use common::id::TenantId;
use lapin::{
    BasicProperties,
    message::BasicGetMessage,
    options::BasicGetOptions,
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};
use serde_json::json;
use tests::load::{Publisher, Reader};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

/// A body that can never be stored: its name, the word for programs, a word for people, the body.
type Poison = (&'static str, &'static str, &'static str, Vec<u8>);

fn poison() -> [Poison; 10] {
    let deep = "[".repeat(5_000) + &"]".repeat(5_000);
    [
        ("no JSON", "not_json", "JSON", b"not json".to_vec()),
        ("nothing", "not_json", "empty", b"".to_vec()),
        ("an end that is missing", "not_json", "JSON", b"{\"a\":".to_vec()),
        ("two values", "not_json", "JSON", b"1 2".to_vec()),
        ("no UTF-8", "not_json", "UTF-8", b"\"\xff\"".to_vec()),
        ("NUL", "not_storable", "u0000", br#"{"a":"\u0000"}"#.to_vec()),
        (
            "half a surrogate pair",
            "not_storable",
            "surrogate",
            br#""\ud800""#.to_vec(),
        ),
        (
            "a number out of range",
            "not_storable",
            "digits",
            b"1e131071".to_vec(),
        ),
        ("deep nesting", "not_storable", "nest", deep.into_bytes()),
        (
            "a body over the limit",
            "too_large",
            "bytes",
            format!("\"{}\"", "x".repeat(1 << 20)).into_bytes(),
        ),
    ]
}

fn properties() -> BasicProperties {
    BasicProperties::default()
        .with_app_id("a test".into())
        .with_delivery_mode(2)
}

fn named(id: &str) -> BasicProperties {
    properties().with_message_id(id.into())
}

/// Takes the tenant's dead letters, once there are so many.
async fn dead_letters(stack: &Stack, tenant: TenantId, count: u32) -> Vec<BasicGetMessage> {
    eventually("what cannot be stored is a dead letter", async || {
        stack.queue(&tenant.dead_letter_queue()).await == Some((count, 0))
    })
    .await;
    let (_connection, channel) = stack.amqp().await;
    let mut letters = Vec::new();
    for _ in 0..count {
        let options = BasicGetOptions { no_ack: true };
        let letter = channel
            .basic_get(tenant.dead_letter_queue().into(), options)
            .await;
        letters.push(letter.unwrap().unwrap());
    }
    letters
}

/// Asserts that a dead letter says what was wrong and is what came otherwise.
fn assert_explained((name, reason, word, body): &Poison, letter: &BasicGetMessage) {
    let headers = letter
        .properties
        .headers()
        .as_ref()
        .map(FieldTable::inner)
        .unwrap();
    let text = |name: &str| match headers.get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{name} is {other:?}"),
    };
    assert_eq!(text("x-jalur-reason"), *reason, "{name}");
    assert!(text("x-jalur-detail").contains(word), "{name}: {headers:?}");
    for header in ["x-jalur-id", "x-jalur-first-failed-at", "x-jalur-failed-at"] {
        assert!(!text(header).is_empty(), "{name}");
    }
    assert_eq!(headers["x-jalur-attempts"], AMQPValue::LongLongInt(1), "{name}");
    assert!(letter.data == *body, "{name}: the body came back changed");
    let app_id = letter.properties.app_id().as_ref().map(ShortString::as_str);
    assert_eq!(app_id, Some("a test"), "{name}: properties stay");
}

/// Publishes good messages, then what `publish` does, then good ones again, all of which one consumer finds at once.
/// Answers the ids of the good ones.
async fn among_a_thousand(
    stack: &Stack,
    name: &str,
    publish: impl AsyncFnOnce(&mut Publisher, TenantId),
) -> (TenantId, BTreeSet<Uuid>) {
    let tenant = stack.tenant(name).await;
    let path = format!("/api/tenants/{tenant}");
    let set = async |status: &str| {
        let answer = stack
            .patch(&path, &stack.admin(), &json!({ "status": status }))
            .await;
        assert_eq!(answer.0, 200, "{answer:?}");
    };
    set("paused").await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let mut good = BTreeMap::new();
    good.append(&mut publisher.send(&[tenant], 500, 64).await.unwrap());
    publish(&mut publisher, tenant).await;
    let after = publisher.send(&[tenant], 500, 64).await.unwrap();
    good.entry(tenant).or_default().extend(&after[&tenant]);
    set("active").await;
    (tenant, good.remove(&tenant).unwrap())
}

#[tokio::test]
async fn what_comes_alone_and_cannot_be_stored_is_dead_lettered() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("poisoned").await;
    let mut publisher = Publisher::new(stack.amqp_url());
    for poison in poison() {
        publisher.send_one(tenant, &poison.3, properties()).await.unwrap();
        let letters = dead_letters(&stack, tenant, 1).await;
        assert_explained(&poison, &letters[0]);
    }
    // The lane never stopped.
    let good = publisher.send(&[tenant], 20, 64).await.unwrap();
    Reader::new(&stack.rest(), tenant)
        .expect(&good[&tenant])
        .await
        .unwrap();
}

#[tokio::test]
async fn what_cannot_be_stored_is_found_among_a_thousand_good_neighbours() {
    let stack = Stack::start(Options::default()).await;
    for poison in poison() {
        let publish = async |publisher: &mut Publisher, tenant| {
            publisher.send_one(tenant, &poison.3, properties()).await.unwrap();
        };
        let (tenant, good) = among_a_thousand(&stack, poison.0, publish).await;
        Reader::new(&stack.rest(), tenant).expect(&good).await.unwrap();
        let letters = dead_letters(&stack, tenant, 1).await;
        assert_explained(&poison, &letters[0]);
    }
}

#[tokio::test]
async fn ids_repeated_in_one_batch_are_stored_once_and_the_first_wins() {
    let stack = Stack::start(Options::default()).await;
    let id = Uuid::now_v7();
    let publish = async |publisher: &mut Publisher, tenant| {
        for body in ["1", "2", "3"] {
            for name in [id.to_string().as_str(), "order-7"] {
                publisher
                    .send_one(tenant, body.as_bytes(), named(name))
                    .await
                    .unwrap();
            }
        }
    };
    let (tenant, mut good) = among_a_thousand(&stack, "repeated", publish).await;
    let order = tenant.message_id("order-7");
    good.extend([id, order]);
    let reader = Reader::new(&stack.rest(), tenant).expect(&good).await.unwrap();
    assert_eq!((&reader.seen[&id], &reader.seen[&order]), (&json!(1), &json!(1)));
    assert_eq!(stack.queue(&tenant.dead_letter_queue()).await, Some((0, 0)));
}

#[tokio::test]
async fn whatever_the_properties_are_the_message_is_stored() {
    let stack = Stack::start(Options::default()).await;
    let mut nested = FieldTable::default();
    nested.insert(
        "a".into(),
        AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Void])),
    );
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("unknown", AMQPValue::FieldTable(nested)),
        ("x-jalur-attempts", AMQPValue::LongString("many".into())),
        ("x-jalur-published-at", AMQPValue::Boolean(true)),
        (
            "x-jalur-first-failed-at",
            AMQPValue::LongString("yesterday".into()),
        ),
        ("x-jalur-reason", AMQPValue::LongString(vec![0xff_u8].into())),
        ("x-jalur-id", AMQPValue::Double(0.5)),
        ("x-death", AMQPValue::LongString("?".into())),
    ] {
        headers.insert(name.into(), value);
    }
    let odd = [
        named("no-uuid").with_headers(headers),
        named("").with_content_type("text/nonsense".into()),
        named(&"n".repeat(255))
            .with_timestamp(u64::MAX)
            .with_priority(255),
        named("\u{fc}\n'--").with_content_encoding("gzip".into()),
    ];
    let publish = async |publisher: &mut Publisher, tenant| {
        for properties in odd.clone() {
            publisher.send_one(tenant, b"7", properties).await.unwrap();
        }
    };
    let (tenant, good) = among_a_thousand(&stack, "odd", publish).await;
    let mut reader = Reader::new(&stack.rest(), tenant);
    reader.until(good.len() + odd.len()).await.unwrap();
    for id in ["no-uuid", &"n".repeat(255), "\u{fc}\n'--"] {
        assert_eq!(reader.seen[&tenant.message_id(id)], json!(7), "{id}");
    }
    assert!(good.iter().all(|id| reader.seen.contains_key(id)));
    assert_eq!(stack.queue(&tenant.dead_letter_queue()).await, Some((0, 0)));
}
