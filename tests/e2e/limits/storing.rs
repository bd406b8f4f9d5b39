//! How fast a tenant is stored.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::load::{Publisher, Reader};

use super::set;
use crate::support::{Options, Stack, eventually};

#[tokio::test]
async fn a_limited_tenant_is_stored_at_its_rate_and_its_neighbour_as_ever() {
    // One shard: they share everything.
    let stack = Stack::start(Options {
        daemon_env: vec![("JALUR_INGEST__SHARDS", "1".into())],
        ..Options::default()
    })
    .await;
    let (limited, neighbour) = (stack.tenant("limited").await, stack.tenant("free").await);
    set(&stack, limited, json!({ "store_per_second": 100 })).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let start = Instant::now();
    let sent = publisher.send(&[limited], 600, 256).await.unwrap();
    let beside = publisher.send(&[neighbour], 2_000, 256).await.unwrap();
    stack.stored(neighbour, 2_000).await;
    let (then, stored) = (start.elapsed(), stack.count(limited).await);
    // A second's worth more than the time that has passed, for the clock and what was saved up.
    let most = 100.0 * (then.as_secs_f64() + 1.0);
    assert!(stored as f64 <= most, "{stored} after {then:?}");
    stack.stored(limited, 600).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(4_500), "{took:?}");

    // What waited is no problem, and nothing came twice.
    let (_, seen) = stack
        .get(&format!("/api/tenants/{limited}"), &stack.admin())
        .await;
    assert_eq!(seen["runtime"].get("problem"), None, "{seen}");
    for (tenant, sent) in [(limited, sent), (neighbour, beside)] {
        let reader = Reader::new(&stack.rest(), tenant);
        reader.expect(&sent[&tenant]).await.unwrap();
    }
    let metrics = stack.daemon().metrics().await.unwrap();
    assert!(
        metrics.contains(r#"jalur_messages_total{outcome="stored"} 2600"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"jalur_messages_total{outcome="duplicate"} 0"#),
        "{metrics}"
    );
    assert!(metrics.contains("jalur_lane_restarts_total 0"), "{metrics}");
}

#[tokio::test]
async fn a_limit_on_storing_is_set_and_lifted_live() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("lifted").await;
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[tenant], 200, 256).await.unwrap();
    stack.stored(tenant, 200).await;
    set(&stack, tenant, json!({ "store_per_second": 1 })).await;
    // It is a new revision, which the daemon has taken over before anything more is sent.
    eventually("the daemon runs it so", async || {
        let behind: i64 = sqlx::query_scalar(
            "select count(*) from assignments where tenant_id = $1 and observed_revision < revision",
        )
        .bind(tenant.0)
        .fetch_one(stack.pool())
        .await
        .unwrap();
        behind == 0
    })
    .await;
    let start = Instant::now();
    let sent = publisher.send(&[tenant], 3_000, 256).await.unwrap();
    stack.stored(tenant, 205).await;
    let (then, stored) = (start.elapsed(), stack.count(tenant).await - 200);
    assert!(
        stored as f64 <= then.as_secs_f64() + 3.0,
        "{stored} after {then:?}"
    );
    set(&stack, tenant, json!({})).await;
    // At the limit it would take the better part of an hour.
    stack.stored(tenant, 3_200).await;
    let stored = stack.count(tenant).await;
    assert_eq!(stored, 200 + sent[&tenant].len() as u64);
    let metrics = stack.daemon().metrics().await.unwrap();
    assert!(
        metrics.contains(r#"jalur_messages_total{outcome="duplicate"} 0"#),
        "{metrics}"
    );
}
