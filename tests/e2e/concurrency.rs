//! Workers, set live.

use serde_json::json;
use tests::load::{Publisher, Reader};

use crate::support::{Options, Stack};

#[tokio::test]
async fn workers_change_under_load_without_a_redelivery() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("resized").await;
    let path = format!("/api/tenants/{tenant}/config/concurrency");
    let mut publisher = Publisher::new(stack.amqp_url());
    let tenants = [tenant];
    let sending = publisher.send(&tenants, 20_000, 256);
    let resizing = async {
        for workers in [1, 8, 2, 256, 8, 1] {
            let (status, answer) = stack
                .put(&path, &stack.admin(), &json!({ "workers": workers }))
                .await;
            let wanted = json!({ "tenant_id": tenant.to_string(), "workers": workers, "applied": true });
            assert_eq!((status, &answer), (200, &wanted));
            let (_, seen) = stack.get(&format!("/api/tenants/{tenant}"), &stack.admin()).await;
            assert_eq!(seen["workers"], workers);
            let consumers = seen["runtime"]["consumers"].as_array().unwrap();
            assert_eq!(consumers.len(), 1, "{seen}");
            assert_eq!(consumers[0]["workers"], workers, "{seen}");
        }
    };
    let (sent, ()) = tokio::join!(sending, resizing);
    let sent = sent.unwrap();
    Reader::new(&stack.rest(), tenant)
        .expect(&sent[&tenant])
        .await
        .unwrap();
    // Every message has an id: a redelivery would have been stored before, and counted as a duplicate.
    let metrics = stack.daemon().metrics().await.unwrap();
    assert!(
        metrics.contains(r#"jalur_messages_total{outcome="stored"} 20000"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"jalur_messages_total{outcome="duplicate"} 0"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_a_daemon_a_change_is_kept_and_not_applied() {
    let mut stack = Stack::without_daemons().await;
    let tenant = stack.tenant("waiting").await;
    let path = format!("/api/tenants/{tenant}/config/concurrency");
    let (status, answer) = stack.put(&path, &stack.admin(), &json!({ "workers": 9 })).await;
    assert_eq!((status, &answer["applied"]), (200, &json!(false)));
    stack.add_daemon().await;
    let (status, answer) = stack.put(&path, &stack.admin(), &json!({ "workers": 9 })).await;
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
}

#[tokio::test]
async fn one_worker_keeps_the_order_of_the_queue() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("ordered").await;
    let path = format!("/api/tenants/{tenant}/config/concurrency");
    stack.put(&path, &stack.admin(), &json!({ "workers": 1 })).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let sent = publisher.send(&[tenant], 3_000, 64).await.unwrap();
    Reader::new(&stack.rest(), tenant)
        .expect(&sent[&tenant])
        .await
        .unwrap();
    let numbers: Vec<i64> = sqlx::query_scalar(
        "select (payload->>'number')::bigint from messages where tenant_id = $1 order by position",
    )
    .bind(tenant.0)
    .fetch_all(stack.pool())
    .await
    .unwrap();
    assert!(numbers.is_sorted(), "stored out of order");
}

#[tokio::test]
async fn lanes_that_want_more_all_at_once_all_get_it() {
    let mut stack = Stack::start(Options {
        daemons: 0,
        daemon_env: vec![("JALUR_INGEST__SHARDS", "1".into())],
        ..Options::default()
    })
    .await;
    let tenants = stack.tenants(40).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&tenants, 300 * tenants.len(), 64).await.unwrap();
    stack.add_daemon().await;
    for tenant in tenants {
        stack.stored(tenant, 300).await;
    }
}
