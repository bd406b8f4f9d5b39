//! An answer belongs to its message, and to its caller.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use common::id::TenantId;
use futures::{StreamExt as _, future::join_all, stream};
use lapin::{
    BasicProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tests::{Proxy, load::Publisher};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

/// Longer than a call to the broker may take.
const STALL: Duration = Duration::from_secs(7);
/// What a call may take that the broker does not answer, on a busy machine: one call's time, and not a queue of them.
const ONE_CALL: Duration = Duration::from_secs(12);

/// Publishes one message, and answers its id beside the answer.
async fn publish(stack: &Stack, admin: &str, tenant: TenantId) -> (Uuid, u16, Value) {
    let id = Uuid::now_v7();
    let body = json!({ "messages": [{ "id": id, "payload": { "a": 1 } }] });
    let path = format!("/api/tenants/{tenant}/messages");
    let (status, answer) = stack.post(&path, admin, &body).await;
    (id, status, answer)
}

/// Publishes so many at once, again and again, until told to stop.
async fn publish_on(
    stack: &Stack,
    tenant: TenantId,
    at_once: usize,
    stop: &CancellationToken,
) -> Vec<(Uuid, u16, Value)> {
    let admin = stack.admin();
    let calls = stream::repeat(()).take_until(stop.cancelled());
    let calls = calls
        .map(|()| publish(stack, &admin, tenant))
        .buffer_unordered(at_once);
    calls.collect().await
}

async fn stored_ids(stack: &Stack, tenant: TenantId) -> BTreeSet<Uuid> {
    let ids = sqlx::query_scalar::<_, Uuid>("select id from messages where tenant_id = $1");
    let ids = ids.bind(tenant.0).fetch_all(stack.pool()).await.unwrap();
    ids.into_iter().collect()
}

fn taken(answers: &[(Uuid, u16, Value)]) -> BTreeSet<Uuid> {
    let taken = answers.iter().filter(|(_, status, _)| *status == 200);
    taken.map(|(id, ..)| *id).collect()
}

#[tokio::test]
async fn an_answer_is_about_the_callers_own_message() {
    let stack = Stack::start(Options::default()).await;
    let (busy, bereft) = (stack.tenant("busy").await, stack.tenant("bereft").await);
    let admin = stack.admin();
    let stop = CancellationToken::new();
    let watching = async {
        let mut answers = Vec::new();
        for _ in 0..3 {
            let (_connection, channel) = stack.amqp().await;
            let options = QueueDeleteOptions::default();
            channel
                .queue_delete(bereft.queue().into(), options)
                .await
                .unwrap();
            for _ in 0..30 {
                let answer = publish(&stack, &admin, bereft).await;
                let missing = answer.1 != 200;
                answers.push(answer);
                if !missing {
                    break;
                }
            }
            // What was taken is stored before the queue goes again.
            let wanted = taken(&answers);
            eventually("what was taken is stored", async || {
                stored_ids(&stack, bereft).await.is_superset(&wanted)
            })
            .await;
        }
        stop.cancel();
        answers
    };
    let (others, answers) = tokio::join!(publish_on(&stack, busy, 16, &stop), watching);

    assert!(answers.iter().any(|(_, status, _)| *status == 503), "{answers:?}");
    for (_, status, answer) in &answers {
        assert!([200, 503].contains(status), "{status} {answer}");
    }
    assert!(others.len() > 50, "{}", others.len());
    for (_, status, answer) in &others {
        assert_eq!(*status, 200, "{answer}");
    }
    stack.stored(busy, others.len() as u64).await;
}

#[tokio::test]
async fn what_fails_during_an_alarm_is_not_published_afterwards() {
    let options = Options::default();
    let Some(stack) = Stack::start_alone("a memory alarm", options).await else {
        return;
    };
    let tenant = stack.tenant("a").await;
    let stop = CancellationToken::new();
    let alarm = async {
        stack.stored(tenant, 20).await;
        stack.memory_alarm(true).await;
        let admin = stack.admin();
        eventually("publishing is refused", async || {
            publish(&stack, &admin, tenant).await.1 == 503
        })
        .await;
        let start = Instant::now();
        let calls = join_all((0..20).map(|_| publish(&stack, &admin, tenant))).await;
        for (_, status, answer) in &calls {
            assert_eq!(*status, 503, "{answer}");
            assert!(
                answer["message"].as_str().unwrap().contains("memory or disk"),
                "{answer}"
            );
        }
        assert!(
            start.elapsed() < ONE_CALL / 4,
            "not at once: {:?}",
            start.elapsed()
        );
        stop.cancel();
        stack.memory_alarm(false).await;
        eventually("publishing goes on", async || {
            publish(&stack, &admin, tenant).await.1 == 200
        })
        .await;
        calls
    };
    let (mut answers, more) = tokio::join!(publish_on(&stack, tenant, 20, &stop), alarm);
    answers.extend(more);
    let taken = taken(&answers);
    stack.stored(tenant, taken.len() as u64).await;
    let refused: BTreeSet<_> = answers
        .iter()
        .map(|(id, ..)| *id)
        .filter(|id| !taken.contains(id))
        .collect();
    assert!(!refused.is_empty());
    let stored = stored_ids(&stack, tenant).await;
    let late: Vec<_> = stored.intersection(&refused).collect();
    assert!(
        late.is_empty(),
        "refused, and published all the same: {late:?} of {}",
        refused.len()
    );
}

#[tokio::test]
async fn a_full_queue_is_named_as_that() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("a").await;
    let admin = stack.admin();
    let (status, answer) = stack
        .patch(
            &format!("/api/tenants/{tenant}"),
            &admin,
            &json!({ "status": "paused" }),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    // Somebody's queue of that name, with a limit; as a policy would have it.
    let (_connection, channel) = stack.amqp().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(10));
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let deleted = channel.queue_delete(tenant.queue().into(), QueueDeleteOptions::default());
    let declared = channel.queue_declare(tenant.queue().into(), options, arguments);
    // Sent together, before anybody declares it again.
    let (deleted, declared) = tokio::join!(deleted, declared);
    deleted.unwrap();
    declared.unwrap();

    let mut answers = Vec::new();
    for _ in 0..15 {
        answers.push(publish(&stack, &admin, tenant).await);
    }
    assert_eq!(taken(&answers).len(), 10, "{answers:?}");
    for (_, status, answer) in answers.iter().filter(|(_, status, _)| *status != 200) {
        let message = answer["message"].as_str().unwrap();
        assert_eq!(*status, 429, "{answer}");
        assert!(
            message.contains("is full") && message.contains("10 messages wait"),
            "{message}"
        );
        assert_eq!(answer["code"], 8, "{answer}");
    }
}

#[tokio::test]
async fn a_dead_broker_is_told_to_everybody_at_once() {
    let Some(stack) = Stack::start_alone("a dead broker", Options::default()).await else {
        return;
    };
    let tenant = stack.tenant("a").await;
    let admin = stack.admin();
    assert_eq!(publish(&stack, &admin, tenant).await.1, 200);
    let twenty = async |within: Duration| {
        let start = Instant::now();
        for (_, status, answer) in join_all((0..20).map(|_| publish(&stack, &admin, tenant))).await {
            assert_eq!(status, 503, "{answer}");
        }
        assert!(start.elapsed() < within, "{:?}", start.elapsed());
    };
    stack.freeze_rabbitmq(true);
    twenty(ONE_CALL).await;
    stack.freeze_rabbitmq(false);
    eventually("publishing goes on", async || {
        publish(&stack, &admin, tenant).await.1 == 200
    })
    .await;
    stack.stop_rabbitmq().await;
    twenty(ONE_CALL / 3).await;
}

#[tokio::test]
async fn a_letter_is_sent_once_however_long_its_confirm_takes() {
    const POISON: usize = 300;
    let options = Options {
        daemons: 0,
        ..Options::default()
    };
    let mut stack = Stack::start(options).await;
    let proxy = Proxy::start(stack.amqp_url(), Duration::ZERO).await.unwrap();
    // The connection is to outlive the silence.
    stack.configure_daemons("JALUR_RABBITMQ__URL", format!("{}?heartbeat=60", proxy.url()));
    stack.add_daemon().await;
    let tenant = stack.tenant("a").await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let letters = async || stack.queue(&tenant.dead_letter_queue()).await.unwrap().0 as usize;
    for n in 0..POISON {
        let poison = BasicProperties::default()
            .with_message_id(Uuid::now_v7().to_string().into())
            .with_delivery_mode(2);
        publisher.send_one(tenant, b"no json", poison).await.unwrap();
        if n == POISON / 2 {
            eventually("letters are under way", async || letters().await > 0).await;
            proxy.stand_still();
        }
    }
    sleep_until(Instant::now() + STALL).await;
    proxy.go_on();
    eventually("all of them are letters", async || letters().await >= POISON).await;
    eventually("nothing waits", async || {
        stack.queue(&tenant.queue()).await.unwrap().0 == 0
    })
    .await;
    assert_eq!(letters().await, POISON);
}

#[tokio::test]
async fn nobody_is_told_of_another_tenants_queues() {
    const AT_ONCE: usize = 8;
    const EACH: usize = 4;
    let stack = Arc::new(Stack::start(Options::default()).await);
    let admin = stack.admin();
    let one = async |worker: usize| {
        let mut answers = Vec::new();
        for n in 0..EACH {
            let id = Uuid::now_v7();
            let body = json!({ "id": id, "name": format!("{worker}.{n}") });
            let path = format!("/api/tenants/{id}");
            answers.push((id, stack.post("/api/tenants", &admin, &body).await));
            answers.push((id, stack.get(&path, &admin).await));
            answers.push((id, stack.delete(&path, &admin).await));
        }
        answers
    };
    let answers: Vec<_> = join_all((0..AT_ONCE).map(one))
        .await
        .into_iter()
        .flatten()
        .collect();
    let ids: BTreeSet<_> = answers.iter().map(|(id, _)| *id).collect();
    for (id, (status, answer)) in &answers {
        let text = answer.to_string();
        for other in ids.iter().filter(|other| *other != id) {
            assert!(!text.contains(&other.to_string()), "{status} to {id}: {text}");
        }
    }
}
