//! Pages of dead letters, and those of one reason.

use std::time::{Duration, Instant};

use common::id::TenantId;
use serde_json::{Value, json};

use super::{buried, bury_for, bury_many, list, path, payloads, replay, replay_all};
use crate::support::{Options, Stack, eventually};

/// A page, and the token of the next.
async fn page(stack: &Stack, tenant: TenantId, query: &str) -> (Vec<Value>, Option<String>) {
    let (status, page) = stack
        .get(&format!("{}?{query}", path(tenant)), &stack.admin())
        .await;
    assert_eq!(status, 200, "{query}: {page}");
    let next = page
        .get("next_page_token")
        .map(|token| token.as_str().unwrap().to_owned());
    (page["dead_letters"].as_array().unwrap().clone(), next)
}

/// All pages.
async fn pages(stack: &Stack, tenant: TenantId, query: &str) -> Vec<Value> {
    let (mut all, mut next) = page(stack, tenant, query).await;
    while let Some(token) = next {
        let (more, token) = page(stack, tenant, &format!("{query}&page_token={token}")).await;
        assert!(!more.is_empty(), "a token leads to something");
        all.extend(more);
        next = token;
    }
    all
}

fn numbers(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

fn every_third(number: u32) -> &'static str {
    match number % 3 {
        0 => "not_json",
        1 => "too_large",
        _ => "no reason of ours",
    }
}

#[tokio::test]
async fn pages_show_all_of_them_in_their_order_as_often_as_one_likes() {
    for queue_type in ["classic", "quorum"] {
        let stack = Stack::start(Options {
            daemons: 0,
            env: vec![("JALUR_RABBITMQ__QUEUE_TYPE", queue_type.into())],
            ..Options::default()
        })
        .await;
        let (tenant, other) = (stack.tenant("many").await, stack.tenant("other").await);
        bury_for(&stack, tenant, 2_400, every_third).await;
        for _ in 0..2 {
            let all = pages(&stack, tenant, "limit=1000").await;
            assert_eq!(payloads(&all), numbers(0..2_400), "{queue_type}");
            assert_eq!(buried(&stack, tenant).await, 2_400, "{queue_type}");
        }
        let unknown = pages(&stack, tenant, "limit=300&reason=unknown").await;
        assert_eq!(payloads(&unknown), numbers((2..2_400).step_by(3)), "{queue_type}");

        // Each page is gone before the next is read.
        let (first, token) = page(&stack, tenant, "limit=10").await;
        let ids: Vec<_> = first.iter().map(|letter| &letter["id"]).collect();
        assert_eq!(
            replay(&stack, tenant, json!({ "ids": ids })).await,
            (200, json!({ "replayed": 10, "remaining": 0 }))
        );
        let next = format!("limit=10&page_token={}", token.unwrap());
        assert_eq!(payloads(&page(&stack, tenant, &next).await.0), numbers(10..20));
        for (of, query, word) in [
            (other, next.clone(), "another tenant"),
            (tenant, format!("{next}&reason=refused"), "another reason"),
        ] {
            let (status, answer) = stack.get(&format!("{}?{query}", path(of)), &stack.admin()).await;
            assert_eq!(status, 400, "{answer}");
            assert!(answer["message"].as_str().unwrap().contains(word), "{answer}");
        }
    }
}

#[tokio::test]
async fn those_of_one_reason_are_replayed_and_deleted_and_the_others_stay() {
    const LETTERS: u32 = 6_000;
    let stack = Stack::without_daemons().await;
    let (tenant, admin) = (stack.tenant("mixed").await, stack.admin());
    bury_for(&stack, tenant, LETTERS, every_third).await;
    let third = LETTERS / 3;
    let meant = json!({ "all": true, "reason": "not_json" });
    assert_eq!(replay_all(&stack, tenant, meant).await, u64::from(third));
    assert_eq!(stack.queue(&tenant.queue()).await, Some((third, 0)));
    assert_eq!(
        replay(&stack, tenant, json!({ "reason": "not_json" })).await,
        (200, json!({ "replayed": 0, "remaining": 0 }))
    );
    let purge = format!("{}?reason=too_large", path(tenant));
    assert_eq!(
        stack.delete(&purge, &admin).await,
        (200, json!({ "purged": third }))
    );
    assert_eq!(stack.delete(&purge, &admin).await, (200, json!({ "purged": 0 })));
    assert_eq!(buried(&stack, tenant).await, third);
    let left = pages(&stack, tenant, "limit=1000").await;
    assert_eq!(payloads(&left), numbers((2..LETTERS).step_by(3)));
    assert!(left.iter().all(|letter| letter["reason"] == "unknown"));
}

#[tokio::test]
async fn a_replay_keeps_its_pace_and_lets_others_read_meanwhile() {
    let stack = Stack::without_daemons().await;
    let tenant = stack.tenant("paced").await;
    bury_many(&stack, tenant, 30).await;
    let began = Instant::now();
    assert_eq!(
        replay(&stack, tenant, json!({ "all": true, "per_second": 20 })).await,
        (200, json!({ "replayed": 30, "remaining": 0 }))
    );
    // Two at a time, a tenth of a second apart.
    assert!(
        began.elapsed() >= Duration::from_millis(1_400),
        "{:?}",
        began.elapsed()
    );

    bury_many(&stack, tenant, 100).await;
    let slow = replay(&stack, tenant, json!({ "all": true, "per_second": 5 }));
    let reading = async {
        eventually("it is under way", async || buried(&stack, tenant).await < 100).await;
        list(&stack, tenant).await.len()
    };
    let ((status, answer), read) = tokio::join!(slow, reading);
    assert_eq!(status, 200, "{answer}");
    let counts = ["replayed", "remaining"].map(|name| answer[name].as_u64().unwrap());
    assert_eq!(counts.iter().sum::<u64>(), 100, "{answer}");
    assert!(counts[0] <= 30, "it went on for some seconds only: {answer}");
    assert_eq!(read as u64, counts[1], "all that were left");
    assert_eq!(
        stack.queue(&tenant.queue()).await,
        Some((30 + counts[0] as u32, 0))
    );
}
