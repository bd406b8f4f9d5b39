//! A control plane's memory, whatever is sent to it, and everybody else's patience meanwhile.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use control_plane::identity::Role;
use futures::future::join_all;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Raw, usage};
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

const MIB: usize = 1 << 20;
/// What requests may hold here, and what a control plane has besides: its program, its caches, its threads.
const MEMORY: usize = 128 * MIB;
const BESIDES: u64 = 128 << 20;
/// One of them: nearly the largest that is taken.
const BODY: usize = 15 * MIB;
/// How long a neighbour may wait on two busy cores.
const PATIENCE: Duration = Duration::from_secs(2);

async fn stack() -> Stack {
    Stack::start(Options {
        control_plane_env: vec![("JALUR_LIMITS__MEMORY_BYTES", MEMORY.to_string())],
        ..Options::default()
    })
    .await
}

/// Does it while a neighbour goes on asking; answers the neighbour's longest wait.
async fn beside_a_neighbour<T>(stack: &Stack, work: impl Future<Output = T>) -> (T, Duration) {
    let neighbour = stack.tenant("a neighbour").await;
    let (path, token) = (
        format!("/api/tenants/{neighbour}"),
        stack.token(Role::Tenant, Some(neighbour.0)),
    );
    let done = AtomicBool::new(false);
    let asking = async {
        let mut longest = Duration::ZERO;
        while !done.load(Ordering::Relaxed) {
            let start = Instant::now();
            let (status, body) = stack.get(&path, &token).await;
            assert_eq!(status, 200, "{body}");
            longest = longest.max(start.elapsed());
            sleep(Duration::from_millis(10)).await;
        }
        longest
    };
    let work = async {
        let answer = work.await;
        done.store(true, Ordering::Relaxed);
        answer
    };
    tokio::join!(work, asking)
}

fn assert_bounded(stack: &Stack) {
    // None where it is not known.
    let peak = usage::peak_memory(stack.control_plane().pid()).unwrap_or_default();
    assert!(peak < MEMORY as u64 + BESIDES, "{} MiB at the peak", peak >> 20);
}

#[tokio::test]
async fn eight_bodies_of_empty_messages_are_refused_at_once_and_a_neighbour_does_not_notice() {
    let stack = stack().await;
    let tenant = stack.tenant("hostile").await;
    let token = stack.token(Role::Tenant, Some(tenant.0));
    let path = format!("/api/tenants/{tenant}/messages");
    let empty = format!(r#"{{"messages":[{}{{}}]}}"#, "{},".repeat(BODY / 3)).into_bytes();
    let posts = (0..8).map(|_| {
        let body = Some(("application/json", empty.clone()));
        stack.send(Method::POST, &path, &token, body)
    });
    let (answers, waited) = beside_a_neighbour(&stack, join_all(posts)).await;
    for answer in &answers {
        assert!([400, 429, 503].contains(&answer.status), "{}", answer.text);
        if answer.status != 400 {
            assert!(answer.headers.contains_key("retry-after"));
        }
    }
    // One at a time fits, and is told what is wrong with it.
    let body = Some(("application/json", empty.clone()));
    let alone = stack.send(Method::POST, &path, &token, body).await;
    assert_eq!(alone.status, 400, "{}", alone.text);
    for answer in answers.iter().chain([&alone]) {
        let said = answer.status != 400 || answer.text.contains("1000");
        assert!(said, "{}", answer.text);
    }
    assert!(waited < PATIENCE, "a neighbour waited {waited:?}");
    assert_bounded(&stack);
}

#[tokio::test]
async fn eight_large_bodies_are_published_or_told_to_come_again() {
    let stack = stack().await;
    let tenant = stack.tenant("large").await;
    let token = stack.token(Role::Tenant, Some(tenant.0));
    let path = format!("/api/tenants/{tenant}/messages");
    let messages: Vec<_> = (0..15)
        .map(|_| json!({ "payload": "x".repeat(MIB - 100) }))
        .collect();
    let body = json!({ "messages": messages }).to_string().into_bytes();
    let posts = (0..8).map(|_| {
        let body = Some(("application/json", body.clone()));
        stack.send(Method::POST, &path, &token, body)
    });
    let (answers, waited) = beside_a_neighbour(&stack, join_all(posts)).await;
    let taken = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in &answers {
        assert!([200, 429, 503].contains(&answer.status), "{}", answer.text);
    }
    assert!(taken > 0, "one at a time fits");
    assert!(waited < PATIENCE, "a neighbour waited {waited:?}");
    stack.stored(tenant, 15 * taken as u64).await;
    assert_bounded(&stack);
}

#[tokio::test]
async fn empty_messages_over_grpc_are_counted_before_they_are_made() {
    let stack = stack().await;
    let tenant = stack.tenant("hostile").await;
    let token = format!("Bearer {}", stack.token(Role::Tenant, Some(tenant.0)));
    let channel = Channel::from_shared(stack.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let publish = async |count: usize| {
        // Two bytes each: the second field of a request, and nothing in it.
        let mut request = Request::new([0x12, 0].repeat(count));
        request
            .metadata_mut()
            .insert("authorization", token.parse().unwrap());
        let mut client = Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/jalur.v1.MessageService/PublishMessages");
        client.unary(request, path, Raw).await.unwrap_err()
    };
    let many = join_all((0..4).map(|_| publish(BODY / 2)));
    let (refused, waited) = beside_a_neighbour(&stack, many).await;
    for status in &refused {
        let code = status.code();
        assert!(
            [Code::InvalidArgument, Code::ResourceExhausted, Code::Unavailable].contains(&code),
            "{status}"
        );
    }
    assert!(waited < PATIENCE, "a neighbour waited {waited:?}");
    assert_eq!(
        publish(10 * MIB).await.code(),
        Code::ResourceExhausted,
        "too large"
    );
    assert_bounded(&stack);
}

#[tokio::test]
async fn dead_letters_as_large_as_the_broker_takes_them_are_read_and_replayed_in_bounded_memory() {
    const LARGE: usize = 32 * MIB;
    const SMALL: usize = 40;
    const TENANTS: usize = 4;
    const EACH: usize = 4;
    let stack = Stack::start(Options {
        daemons: 0,
        control_plane_env: vec![("JALUR_LIMITS__MEMORY_BYTES", MEMORY.to_string())],
        ..Options::default()
    })
    .await;
    let tenants = stack.tenants(TENANTS).await;
    let (_connection, channel) = stack.amqp().await;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let large = vec![b'x'; LARGE];
    for tenant in &tenants {
        // So many small ones that more are asked for together than there is room for of large ones.
        for n in 0..SMALL + EACH {
            let body = if n < SMALL { b"small" } else { &large[..] };
            let queue = tenant.dead_letter_queue().into();
            let properties = BasicProperties::default().with_message_id(Uuid::now_v7().to_string().into());
            let options = BasicPublishOptions::default();
            let sent = channel
                .basic_publish("".into(), queue, options, body, properties)
                .await;
            assert!(sent.unwrap().await.unwrap().is_ack());
        }
    }
    let admin = stack.admin();
    let lists = tenants.iter().map(|tenant| {
        let path = format!("/api/tenants/{tenant}/dead-letters?limit=1000");
        let (stack, admin) = (&stack, &admin);
        async move {
            // The broker may take its time over so much.
            let mut page = (503, Value::Null);
            eventually("a page", async || {
                page = stack.get(&path, admin).await;
                page.0 != 503
            })
            .await;
            page
        }
    });
    let (pages, waited) = beside_a_neighbour(&stack, join_all(lists)).await;
    for (status, page) in &pages {
        assert_eq!(*status, 200, "{page}");
        let letters = page["dead_letters"].as_array().unwrap();
        assert!(letters.len() >= SMALL, "{}", letters.len());
        assert_eq!(
            (&letters[0]["payload"], &letters[0]["bytes"]),
            (&json!("small"), &json!(5))
        );
        assert_eq!(letters[0]["truncated"], Value::Null);
        for large in &letters[SMALL..] {
            assert_eq!(
                (&large["bytes"], &large["truncated"]),
                (&json!(LARGE), &json!(true))
            );
            assert_eq!(large["payload"].as_str().unwrap().len(), 4_096);
        }
    }
    assert!(waited < PATIENCE, "a neighbour waited {waited:?}");
    for tenant in &tenants {
        let path = format!("/api/tenants/{tenant}/dead-letters/replay");
        eventually("all are replayed", async || {
            let (status, answer) = stack.post(&path, &admin, &json!({ "all": true })).await;
            assert!([200, 503].contains(&status), "{answer}");
            answer["remaining"] == 0
        })
        .await;
        let waiting = stack.queue(&tenant.queue()).await.unwrap().0;
        assert_eq!(waiting as usize, SMALL + EACH, "each once");
    }
    assert_bounded(&stack);
}

#[tokio::test]
async fn a_page_of_large_rows_is_a_page_whatever_they_become_as_text() {
    let stack = stack().await;
    let tenant = stack.tenant("large rows").await;
    // As it was published, one that compresses to next to nothing, and small ones among them.
    let insert = async |count: i32, payload: &str| {
        sqlx::query(
            "insert into messages (id, tenant_id, payload, position)
             select gen_random_uuid(), $1, to_jsonb($3::text),
                    row_number() over () + (select coalesce(max(position), 0) from messages where tenant_id = $1)
             from generate_series(1, $2)",
        )
        .bind(tenant.0)
        .bind(count)
        .bind(payload)
        .execute(stack.pool())
        .await
        .unwrap();
    };
    insert(150, "small").await;
    insert(100, &"x".repeat(MIB - 100)).await;
    insert(1_000, &"y".repeat(3_000)).await;
    let temporary = async || -> i64 {
        let bytes = "select temp_bytes from pg_stat_database where datname = current_database()";
        sqlx::query_scalar(bytes).fetch_one(stack.pool()).await.unwrap()
    };
    let before = temporary().await;
    let (mut cursor, mut positions) = ("0".to_owned(), Vec::new());
    loop {
        let path = format!("/api/tenants/{tenant}/messages?limit=1000&cursor={cursor}");
        let (status, page) = stack.get(&path, &stack.admin()).await;
        assert_eq!(status, 200, "{page}");
        let data = page["data"].as_array().unwrap();
        if data.is_empty() {
            break;
        }
        assert!(page.to_string().len() < 3 * MIB);
        positions.extend(
            data.iter()
                .map(|row| row["position"].as_str().unwrap().parse::<i64>().unwrap()),
        );
        cursor = page["next_cursor"].as_str().unwrap().to_owned();
    }
    assert_eq!(positions, (1..=1_250).collect::<Vec<_>>(), "each once, in order");
    // What it would have made into text and thrown away, PostgreSQL would have put into files: 100 MiB a page, 50 times.
    let files = temporary().await - before;
    assert!(files < 1 << 30, "{} MiB were made for nothing", files >> 20);
    assert_bounded(&stack);
}
