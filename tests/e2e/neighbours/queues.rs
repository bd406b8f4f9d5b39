//! A tenant's queues are lost, or are otherwise than they should be.

use common::id::TenantId;
use futures::future::join_all;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tests::{RawPublisher, raw::properties};
use uuid::Uuid;

use super::UNNOTICED;
use crate::support::{Options, Stack, eventually};

/// Queues that tenants' are made as before Jalur makes them: options, and an argument.
type Made = (QueueDeclareOptions, Option<(&'static str, AMQPValue)>);

const DURABLE: QueueDeclareOptions = QueueDeclareOptions {
    passive: false,
    durable: true,
    exclusive: false,
    auto_delete: false,
    nowait: false,
};

pub(super) async fn delete_queue(stack: &Stack, queue: String) {
    let (_connection, channel) = stack.amqp().await;
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await
        .unwrap();
}

async fn declare(stack: &Stack, queue: String, (options, argument): Made) {
    let (_connection, channel) = stack.amqp().await;
    let mut arguments = FieldTable::default();
    if let Some((name, value)) = argument {
        arguments.insert(name.into(), value);
    }
    channel
        .queue_declare(queue.into(), options, arguments)
        .await
        .unwrap();
}

/// Creates a tenant of that id, and again while the answer is to try again.
pub(super) async fn create(stack: &Stack, tenant: TenantId) -> (u16, Value) {
    let new = json!({ "id": tenant.to_string(), "name": tenant.to_string() });
    let mut answer = (503, Value::Null);
    eventually("an answer", async || {
        answer = stack.post("/api/tenants", &stack.admin(), &new).await;
        answer.0 != 503
    })
    .await;
    answer
}

pub(super) async fn problem(stack: &Stack, tenant: TenantId) -> Value {
    let (status, answer) = stack.get(&format!("/api/tenants/{tenant}"), &stack.admin()).await;
    assert_eq!(status, 200, "{answer}");
    answer["runtime"]["problem"].clone()
}

#[tokio::test]
async fn a_queue_that_is_missing_is_no_empty_one_and_is_its_tenants_problem() {
    let stack = Stack::without_daemons().await;
    let tenant = stack.tenant("bereft").await;
    for (queue, count) in [
        (tenant.queue(), "queue_depth"),
        (tenant.dead_letter_queue(), "dead_letters"),
    ] {
        let path = format!("/api/tenants/{tenant}");
        // It may be made again before anybody has looked.
        eventually("it is missed", async || {
            delete_queue(&stack, queue.clone()).await;
            let (status, seen) = stack.get(&path, &stack.admin()).await;
            assert_eq!(status, 200, "{seen}");
            let runtime = &seen["runtime"];
            let missed = runtime[count] == Value::Null;
            if missed {
                assert_eq!(runtime["problem"]["kind"], "queue", "{runtime}");
                let detail = runtime["problem"]["detail"].as_str().unwrap();
                assert!(detail.contains(&queue) && detail.contains("missing"), "{detail}");
            }
            missed
        })
        .await;
        eventually("it is there again, and all is well", async || {
            let (_, seen) = stack.get(&path, &stack.admin()).await;
            seen["runtime"][count] == 0 && seen["runtime"]["problem"] == Value::Null
        })
        .await;
    }
}

async fn publish(stack: &Stack, tenant: TenantId) -> u16 {
    let body = json!({ "messages": [{ "payload": 1 }] });
    let (status, _) = stack
        .post(&format!("/api/tenants/{tenant}/messages"), &stack.admin(), &body)
        .await;
    status
}

pub(super) async fn are_there(stack: &Stack, tenant: TenantId) {
    eventually("the queues are there", async || {
        stack.queue(&tenant.queue()).await.is_some()
            && stack.queue(&tenant.dead_letter_queue()).await.is_some()
    })
    .await;
}

/// Publishes until it is answered 200, and waits until that is stored.
pub(super) async fn flows(stack: &Stack, tenant: TenantId) {
    let before = stack.count(tenant).await;
    eventually("a message is taken", async || publish(stack, tenant).await == 200).await;
    stack.stored(tenant, before + 1).await;
}

#[tokio::test]
async fn queues_that_are_deleted_come_back_and_neighbours_do_not_notice() {
    let stack = Stack::start(Options::default()).await;
    let tenants = stack.tenants(4).await;
    let (hostile, neighbours) = tenants.split_first().unwrap();
    let account = stack.account(neighbours, 20).await;
    for _ in 0..3 {
        flows(&stack, *hostile).await;
        delete_queue(&stack, hostile.queue()).await;
        delete_queue(&stack, hostile.dead_letter_queue()).await;
        are_there(&stack, *hostile).await;
    }
    flows(&stack, *hostile).await;
    account.finish().await.unwrap().assert_undisturbed(UNNOTICED);
    eventually("the tenant is well", async || {
        problem(&stack, *hostile).await == Value::Null
    })
    .await;
}

#[tokio::test]
async fn a_paused_tenants_queues_come_back_and_a_deleted_ones_do_not() {
    let stack = Stack::start(Options::default()).await;
    let [paused, deleted] = [stack.tenant("paused").await, stack.tenant("deleted").await];
    let (admin, path) = (stack.admin(), format!("/api/tenants/{paused}"));
    let (status, _) = stack.patch(&path, &admin, &json!({ "status": "paused" })).await;
    assert_eq!(status, 200);
    let (status, _) = stack.delete(&format!("/api/tenants/{deleted}"), &admin).await;
    assert_eq!(status, 200);
    for queue in [paused.queue(), paused.dead_letter_queue()] {
        delete_queue(&stack, queue).await;
    }
    are_there(&stack, paused).await;
    assert_eq!(publish(&stack, paused).await, 200);
    assert_eq!(stack.queue(&paused.queue()).await, Some((1, 0)));
    // Its turn was everybody's.
    assert_eq!(stack.queue(&deleted.queue()).await, None);
    assert_eq!(stack.queue(&deleted.dead_letter_queue()).await, None);
}

#[tokio::test]
async fn a_broker_that_is_wiped_has_everything_again() {
    let stack = Stack::start(Options::default()).await;
    let tenants = stack.tenants(60).await;
    let (admin, paused) = (stack.admin(), tenants[0]);
    let path = format!("/api/tenants/{paused}");
    let (status, _) = stack.patch(&path, &admin, &json!({ "status": "paused" })).await;
    assert_eq!(status, 200);
    stack.wipe_broker().await;
    join_all(tenants.iter().map(|&tenant| are_there(&stack, tenant))).await;
    for &tenant in &tenants[1..] {
        flows(&stack, tenant).await;
    }
    // The delay queues, too: what is refused once is stored when it is tried again.
    let refused = tenants[1];
    let constraint = format!(
        "alter table messages_{} add check (payload <> '2')",
        refused.0.simple()
    );
    sqlx::query(sqlx::AssertSqlSafe(constraint.clone()))
        .execute(stack.pool())
        .await
        .unwrap();
    let body = json!({ "messages": [{ "payload": 2 }] });
    let (status, answer) = stack
        .post(&format!("/api/tenants/{refused}/messages"), &admin, &body)
        .await;
    assert_eq!(status, 200, "{answer}");
    eventually("it waits for its retry", async || {
        stack
            .queue("jalur.retry.1000ms")
            .await
            .is_some_and(|(messages, _)| messages == 1)
    })
    .await;
    let before = stack.count(refused).await;
    let constraint = constraint.split(" add ").next().unwrap().to_owned();
    let name = format!("messages_{}_payload_check", refused.0.simple());
    let drop = format!("{constraint} drop constraint {name}");
    sqlx::query(sqlx::AssertSqlSafe(drop))
        .execute(stack.pool())
        .await
        .unwrap();
    stack.stored(refused, before + 1).await;
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_used_and_said_to_be_a_problem() {
    let stack = Stack::start(Options::default()).await;
    let made: [Made; 4] = [
        (DURABLE, Some(("x-max-length", AMQPValue::LongInt(1_000)))),
        (DURABLE, Some(("x-message-ttl", AMQPValue::LongInt(600_000)))),
        (
            DURABLE,
            Some(("x-queue-type", AMQPValue::LongString("quorum".into()))),
        ),
        (
            QueueDeclareOptions {
                durable: false,
                ..DURABLE
            },
            None,
        ),
    ];
    for (number, made) in made.into_iter().enumerate() {
        let tenant = TenantId(Uuid::now_v7());
        let dead_letters = number % 2 == 1;
        let queue = if dead_letters {
            tenant.dead_letter_queue()
        } else {
            tenant.queue()
        };
        declare(&stack, queue.clone(), made).await;
        let (status, answer) = create(&stack, tenant).await;
        assert_eq!(status, 201, "{answer}");
        let shown = &answer["runtime"]["problem"];
        assert_eq!(shown["kind"], "queue", "{answer}");
        let detail = shown["detail"].as_str().unwrap();
        assert!(detail.contains(&queue) && detail.contains("must be"), "{detail}");
        flows(&stack, tenant).await;
        // What an operator is told to do helps.
        delete_queue(&stack, queue).await;
        eventually("all is well", async || {
            problem(&stack, tenant).await == Value::Null
        })
        .await;
        are_there(&stack, tenant).await;
        flows(&stack, tenant).await;
    }
}

#[tokio::test]
async fn a_queue_that_cannot_be_used_is_for_an_operator() {
    let stack = Stack::start(Options::default()).await;
    let held = stack.amqp().await;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..DURABLE
    };
    let stream: Made = (
        DURABLE,
        Some(("x-queue-type", AMQPValue::LongString("stream".into()))),
    );
    for number in 0..2 {
        let tenant = TenantId(Uuid::now_v7());
        if number == 0 {
            declare(&stack, tenant.queue(), stream.clone()).await;
        } else {
            let declared = held
                .1
                .queue_declare(tenant.queue().into(), exclusive, FieldTable::default());
            declared.await.unwrap();
        }
        let (status, answer) = create(&stack, tenant).await;
        assert_eq!((status, &answer["code"]), (409, &json!(9)), "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(&tenant.queue()), "{message}");
        for raw in ["AMQP", "PRECONDITION", "RESOURCE_LOCKED", "channel"] {
            assert!(!message.contains(raw), "{message}");
        }
        assert_eq!(problem(&stack, tenant).await["kind"], "queue");
        // Once it is mended the same request does it.
        if number == 0 {
            delete_queue(&stack, tenant.queue()).await;
        } else {
            let deleted = held
                .1
                .queue_delete(tenant.queue().into(), QueueDeleteOptions::default());
            deleted.await.unwrap();
        }
        let (status, answer) = create(&stack, tenant).await;
        assert_eq!(status, 201, "{answer}");
        assert_eq!(answer["runtime"]["problem"], Value::Null);
        flows(&stack, tenant).await;
    }
}

#[tokio::test]
async fn tenants_that_come_and_go_all_at_once_are_all_made_and_all_gone() {
    let options = Options {
        control_planes: 2,
        ..Options::default()
    };
    let stack = Stack::start(options).await;
    let admin = stack.admin();
    let neighbours = stack.tenants(2).await;
    let account = stack.account(&neighbours, 20).await;
    let life = async |_| {
        for _ in 0..2 {
            let tenant = TenantId(Uuid::now_v7());
            let (status, answer) = create(&stack, tenant).await;
            assert_eq!(status, 201, "{answer}");
            let (_connection, channel) = stack.amqp().await;
            let sent = channel.basic_publish(
                "".into(),
                tenant.queue().into(),
                BasicPublishOptions::default(),
                b"1",
                BasicProperties::default(),
            );
            sent.await.unwrap();
            let (status, answer) = stack.delete(&format!("/api/tenants/{tenant}"), &admin).await;
            if status != 200 {
                // On a machine that is slow enough PostgreSQL is not done in time; then that is what is said.
                let message = answer["message"].as_str().unwrap();
                let rest = message.replace(&tenant.to_string(), "");
                assert!(status == 503 && rest.contains("other transactions"), "{answer}");
                assert!(!rest.contains("tenant_"), "{message}");
            }
            assert_eq!(stack.queue(&tenant.queue()).await, None);
        }
    };
    join_all((0..8).map(life)).await;
    account.finish().await.unwrap().assert_undisturbed(UNNOTICED);
    eventually("only the neighbours are left", async || {
        let left = "select count(*) from pg_inherits where inhparent = 'messages'::regclass";
        let left = sqlx::query_scalar::<_, i64>(left);
        left.fetch_one(stack.pool()).await.unwrap() == 2
    })
    .await;
}

#[tokio::test]
async fn a_large_letter_that_nobody_takes_keeps_no_room_from_others() {
    let stack = Stack::start(Options::default()).await;
    let (full, other) = (TenantId(Uuid::now_v7()), stack.tenant("other").await);
    let mut refuses = FieldTable::default();
    refuses.insert("x-max-length".into(), AMQPValue::LongInt(0));
    refuses.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    let (_connection, channel) = stack.amqp().await;
    channel
        .queue_declare(full.dead_letter_queue().into(), DURABLE, refuses)
        .await
        .unwrap();
    create(&stack, full).await;
    let mut publisher = RawPublisher::connect(stack.amqp_url()).await.unwrap();
    let body = vec![b'x'; 60 << 20];
    let mut send = async |tenant: TenantId| {
        let properties = properties(&[], b"m-1");
        publisher
            .publish(&tenant.queue(), &properties, &body)
            .await
            .unwrap();
    };
    send(full).await;
    eventually("its letter is refused", async || {
        stack
            .daemon()
            .log_tail(1_000)
            .contains("what failed cannot be published")
    })
    .await;
    send(other).await;
    eventually("the other's is taken", async || {
        stack.queue(&other.dead_letter_queue()).await == Some((1, 0))
    })
    .await;
}
