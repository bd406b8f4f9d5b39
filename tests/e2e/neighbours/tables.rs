//! A tenant's partition is lost, or in somebody's hands; and a database that takes no changes.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::UNNOTICED;
use crate::support::{Options, Stack, eventually};

#[tokio::test]
async fn a_partition_that_is_dropped_comes_back_and_its_queue_is_stored() {
    let stack = Stack::start(Options::default()).await;
    let tenants = stack.tenants(3).await;
    let (hostile, neighbours) = tenants.split_first().unwrap();
    let account = stack.account(neighbours, 20).await;
    let path = format!("/api/tenants/{hostile}/messages");
    let body = json!({ "messages": [{ "payload": 1 }] });
    let drop = format!("drop table messages_{}", hostile.0.simple());
    sqlx::query(AssertSqlSafe(drop))
        .execute(stack.pool())
        .await
        .unwrap();
    let (status, answer) = stack.post(&path, &stack.admin(), &body).await;
    assert_eq!(status, 200, "{answer}");
    eventually("it is stored", async || {
        let (_, page) = stack.get(&path, &stack.admin()).await;
        page["data"].as_array().is_some_and(|data| data.len() == 1)
    })
    .await;
    account.finish().await.unwrap().assert_undisturbed(UNNOTICED);
}

#[tokio::test]
async fn readers_of_locked_partitions_are_told_so_and_keep_nobody_from_reading() {
    let stack = Stack::start(Options::default()).await;
    let (hostile, neighbour) = (stack.tenants(3).await, stack.tenant("a neighbour").await);
    let (admin, path) = (stack.admin(), format!("/api/tenants/{neighbour}/messages"));
    let body = json!({ "messages": [{ "payload": 1 }] });
    let mut locks = Vec::new();
    for &tenant in &hostile {
        locks.push(stack.lock_table(tenant).await);
    }
    let reading = async {
        // Ten of each again and again: more than there are connections.
        let read = async |tenant| {
            stack
                .get(&format!("/api/tenants/{tenant}/messages"), &admin)
                .await
        };
        loop {
            let reads = hostile.iter().flat_map(|tenant| [tenant; 10]);
            for (status, answer) in join_all(reads.map(read)).await {
                assert_eq!(status, 503, "{answer}");
                let message = answer["message"].as_str().unwrap();
                assert!(
                    message.contains("waited too long") || message.contains("others read"),
                    "{message}"
                );
            }
        }
    };
    let asking = async {
        for _ in 0..20 {
            for answer in [
                stack.post(&path, &admin, &body).await,
                stack.get(&path, &admin).await,
            ] {
                assert_eq!(answer.0, 200, "{}", answer.1);
            }
        }
    };
    let start = Instant::now();
    tokio::select! {
        () = asking => {}
        () = reading => {}
    }
    let each = start.elapsed() / 40;
    assert!(each < Duration::from_millis(500), "a call took {each:?}");
    drop(locks);
    eventually("the tenant is read again", async || {
        stack
            .get(&format!("/api/tenants/{}/messages", hostile[0]), &admin)
            .await
            .0
            == 200
    })
    .await;
}

#[tokio::test]
async fn a_deletion_behind_a_long_transaction_says_so_in_time_and_is_finished_later() {
    let stack = Stack::start(Options::default()).await;
    let (admin, tenant) = (stack.admin(), stack.tenant("goes").await);
    let other = stack.tenant("another that goes").await;
    let mut long = stack.pool().begin().await.unwrap();
    sqlx::query("select count(*) from messages")
        .execute(&mut *long)
        .await
        .unwrap();
    for tenant in [tenant, other] {
        let start = Instant::now();
        let (status, answer) = stack.delete(&format!("/api/tenants/{tenant}"), &admin).await;
        assert_eq!(status, 503, "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(
            message.contains("is being deleted") && message.contains("other transactions"),
            "{message}"
        );
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    }
    // Nobody else waits for it.
    let start = Instant::now();
    stack.tenant("comes").await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    long.rollback().await.unwrap();
    for tenant in [tenant, other] {
        eventually("it is gone", async || {
            let phase: String = sqlx::query_scalar("select phase from tenants where id = $1")
                .bind(tenant.0)
                .fetch_one(stack.pool())
                .await
                .unwrap();
            phase == "gone"
        })
        .await;
    }
}

#[tokio::test]
async fn while_postgresql_takes_no_changes_every_change_is_told_so() {
    let stack = Stack::start(Options::default()).await;
    let (admin, tenant) = (stack.admin(), stack.tenant("t").await);
    let path = format!("/api/tenants/{tenant}");
    set_read_only(&stack, true).await;
    let (status, answer) = stack.get(&path, &admin).await;
    assert_eq!(status, 200, "{answer}");
    let concurrency = format!("{path}/config/concurrency");
    for (status, answer) in [
        stack.post("/api/tenants", &admin, &json!({ "name": "u" })).await,
        stack.patch(&path, &admin, &json!({ "description": "x" })).await,
        stack.patch(&path, &admin, &json!({ "status": "paused" })).await,
        stack.put(&concurrency, &admin, &json!({ "workers": 4 })).await,
        stack.delete(&path, &admin).await,
    ] {
        assert_eq!(status, 503, "{answer}");
        assert!(
            answer["message"].as_str().unwrap().contains("read-only"),
            "{answer}"
        );
    }
    set_read_only(&stack, false).await;
    eventually("changes are taken again", async || {
        let (status, answer) = stack.put(&concurrency, &admin, &json!({ "workers": 4 })).await;
        status == 200 && answer["applied"] == Value::Bool(true)
    })
    .await;
}

/// For every connection, those that are there included.
async fn set_read_only(stack: &Stack, on: bool) {
    let database: String = sqlx::query_scalar("select current_database()")
        .fetch_one(stack.pool())
        .await
        .unwrap();
    let value = if on { "on" } else { "off" };
    let mut connection = stack.pool().acquire().await.unwrap();
    for sql in [
        "set default_transaction_read_only = off".to_owned(),
        format!("alter database {database} set default_transaction_read_only = {value}"),
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()"
            .to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *connection)
            .await
            .unwrap();
    }
}
