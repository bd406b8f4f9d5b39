//! A tenant's table does what it should not while its rows are stored together with others'.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use common::id::TenantId;
use sqlx::AssertSqlSafe;
use tests::load::{Publisher, Reader};
use tokio::time::sleep;

use super::UNNOTICED;
use crate::support::{Options, Stack, eventually};

/// All in one shard, and so in one commit.
async fn start() -> Stack {
    Stack::start(Options {
        daemon_env: vec![
            ("JALUR_INGEST__SHARDS", "1".into()),
            // What a trigger refuses is tried again soon, and for longer than any refuses here.
            ("JALUR_INGEST__RETRY_DELAYS", ["1s"; 10].join(",")),
        ],
        ..Options::default()
    })
    .await
}

async fn execute(stack: &Stack, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(stack.pool())
        .await
        .unwrap();
}

/// What the tenant's triggers do from now on. It needs no lock on the table.
async fn do_for_each_row(stack: &Stack, tenant: TenantId, body: &str) {
    let name = tenant.partition();
    execute(
        stack,
        format!(
            "create or replace function on_{name}() returns trigger language plpgsql as
             $$ begin {body} return new; end $$"
        ),
    )
    .await;
}

/// A tenant whose table has a trigger, which does nothing yet.
async fn tenant_with_trigger(stack: &Stack, deferred: bool) -> TenantId {
    let tenant = stack.tenant("hostile").await;
    let name = tenant.partition();
    do_for_each_row(stack, tenant, "").await;
    let trigger = match deferred {
        true => format!(
            "create constraint trigger hostile after insert on {name} deferrable initially deferred
             for each row execute function on_{name}()"
        ),
        false => format!(
            "create trigger hostile before insert on {name} for each row execute function on_{name}()"
        ),
    };
    execute(stack, trigger).await;
    tenant
}

/// The tenant's table does this to each of its rows while three neighbours are stored, and then no more.
async fn beside_neighbours(stack: &Stack, hostile: TenantId, bodies: &[&str]) {
    const SENT: usize = 20;
    let neighbours = stack.tenants(3).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let account = stack.account(&neighbours, 50).await;
    let mut reader = Reader::new(&stack.rest(), hostile);
    let mut wanted = BTreeSet::new();
    for body in bodies {
        do_for_each_row(stack, hostile, body).await;
        let sent = publisher.send(&[hostile], SENT, 64).await.unwrap();
        let stored = stack.count(neighbours[0]).await;
        // A second's worth.
        stack.stored(neighbours[0], stored + 50).await;
        do_for_each_row(stack, hostile, "").await;
        wanted.extend(&sent[&hostile]);
        reader = reader.expect(&wanted).await.unwrap();
        let dead = stack.queue(&hostile.dead_letter_queue()).await;
        assert_eq!(dead, Some((0, 0)), "{body}");
    }
    account.finish().await.unwrap().assert_undisturbed(UNNOTICED);
}

#[tokio::test]
async fn a_trigger_that_sleeps_keeps_nobody_else_waiting() {
    let stack = start().await;
    let hostile = tenant_with_trigger(&stack, false).await;
    beside_neighbours(
        &stack,
        hostile,
        &["perform pg_sleep(11);", "perform pg_sleep(0.2);"],
    )
    .await;
}

#[tokio::test]
async fn a_trigger_that_sleeps_when_the_transaction_ends_keeps_nobody_else_waiting() {
    let stack = start().await;
    let hostile = tenant_with_trigger(&stack, true).await;
    beside_neighbours(&stack, hostile, &["perform pg_sleep(11);"]).await;
}

#[tokio::test]
async fn a_table_that_was_locked_for_a_moment_does_not_wait_for_one_that_is_slow() {
    const SLEEP: Duration = Duration::from_secs(25);
    let stack = start().await;
    let slow = tenant_with_trigger(&stack, false).await;
    let sleeps = format!("perform pg_sleep({});", SLEEP.as_secs());
    do_for_each_row(&stack, slow, &sleeps).await;
    let locked = stack.tenant("locked").await;
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[slow], 20, 64).await.unwrap();
    let path = format!("/api/tenants/{slow}");
    eventually("the slow one is stored apart", async || {
        let (_, tenant) = stack.get(&path, &stack.admin()).await;
        tenant["runtime"]["problem"]["kind"] == "table"
    })
    .await;
    let mut sent = 0;
    for _ in 0..4 {
        let mut lock = stack.pool().begin().await.unwrap();
        let statement = format!("lock table {} in access exclusive mode", locked.partition());
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut *lock)
            .await
            .unwrap();
        sent += 10;
        publisher.send(&[locked], 10, 64).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        lock.rollback().await.unwrap();
        let free = Instant::now();
        stack.stored(locked, sent).await;
        assert!(free.elapsed() < SLEEP / 2, "{:?}", free.elapsed());
    }
}

#[tokio::test]
async fn a_trigger_that_ends_its_session_or_breaks_it_harms_nobody_else() {
    let stack = start().await;
    let hostile = tenant_with_trigger(&stack, false).await;
    let bodies = [
        "perform pg_terminate_backend(pg_backend_pid());",
        "perform pg_cancel_backend(pg_backend_pid());",
        "execute 'deallocate all';",
        "perform set_config('transaction_read_only', 'on', true); create temporary table t (); drop table t;",
    ];
    beside_neighbours(&stack, hostile, &bodies).await;
}

#[tokio::test]
async fn a_trigger_that_sets_what_others_are_stored_with_or_shouts_harms_nobody_else() {
    let stack = start().await;
    let hostile = tenant_with_trigger(&stack, false).await;
    let bodies = [
        "perform set_config('search_path', '', false);",
        "perform set_config('role', 'pg_monitor', false);",
        "perform set_config('statement_timeout', '1', false);",
        "raise warning '%', repeat('no ', 70000);",
    ];
    beside_neighbours(&stack, hostile, &bodies).await;
    let log = stack.daemon().log_tail(10_000);
    assert!(log.lines().all(|line| line.len() < 3_000), "a line too long");
    assert!(!log.contains("cannot store"), "everything was held");
}

#[tokio::test]
async fn a_trigger_that_raises_whatever_code_harms_nobody_else() {
    let stack = start().await;
    let hostile = tenant_with_trigger(&stack, false).await;
    let codes = ["57014", "XX001", "58030", "53200", "40P01", "54000", "P0001"];
    let bodies = codes.map(|code| format!("raise exception 'no' using errcode = '{code}';"));
    let mut bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    bodies.push("raise exception '%', repeat('no ', 70000);");
    beside_neighbours(&stack, hostile, &bodies).await;
}

#[tokio::test]
async fn counters_that_are_behind_their_tables_or_missing_are_mended() {
    let stack = start().await;
    let tenants = stack.tenants(3).await;
    let [behind, missing, neighbour] = tenants.as_slice() else {
        return;
    };
    let mut publisher = Publisher::new(stack.amqp_url());
    let before = publisher.send(&tenants, 200, 64).await.unwrap();
    let mut readers = Vec::new();
    for &tenant in &tenants {
        let reader = Reader::new(&stack.rest(), tenant);
        readers.push(reader.expect(&before[&tenant]).await.unwrap());
    }
    let account = stack.account(&[*neighbour], 50).await;
    execute(
        &stack,
        format!("update positions set last = 7 where tenant_id = '{behind}'; delete from positions where tenant_id = '{missing}'"),
    )
    .await;
    let after = publisher.send(&[*behind, *missing], 200, 64).await.unwrap();
    // With the cursors from before: what is new comes after everything that was there.
    for (reader, tenant) in readers.into_iter().zip([behind, missing]) {
        let wanted: BTreeSet<_> = before[tenant].union(&after[tenant]).copied().collect();
        reader.expect(&wanted).await.unwrap();
        assert_eq!(stack.count(*tenant).await, wanted.len() as u64);
        assert_eq!(stack.queue(&tenant.dead_letter_queue()).await, Some((0, 0)));
    }
    account.finish().await.unwrap().assert_undisturbed(UNNOTICED);
}

#[tokio::test]
async fn a_database_that_may_only_be_read_for_a_moment_holds_everything_and_is_no_messages_fault() {
    let stack = start().await;
    let tenants = stack.tenants(3).await;
    let account = stack.account(&tenants, 50).await;
    let set = async |value: &str| {
        // The test's own sessions may have begun while the database was read-only.
        let set = format!(
            "set transaction read write;
             do $$ begin execute format('alter database %I {value}', current_database()); end $$;
             select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and application_name = 'jalur-ingest-daemon'"
        );
        execute(&stack, set).await;
    };
    set("set default_transaction_read_only = on").await;
    eventually("the daemon says so", async || {
        stack.daemon().log_tail(1_000).contains("cannot store")
    })
    .await;
    set("reset default_transaction_read_only").await;
    eventually("it stores again", async || {
        stack.daemon().log_tail(1_000).contains("stores again")
    })
    .await;
    let report = account.finish().await.unwrap();
    assert_eq!(
        (
            report.lost,
            report.doubled,
            report.redelivered,
            report.dead_lettered
        ),
        (0, 0, 0, 0),
        "{report:?}"
    );
}

#[tokio::test]
async fn sessions_that_somebody_ends_are_replaced_and_nobody_notices() {
    let stack = start().await;
    let tenants = stack.tenants(3).await;
    let account = stack.account(&tenants, 50).await;
    for _ in 0..5 {
        let stored = stack.count(tenants[0]).await;
        execute(
            &stack,
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and application_name = 'jalur-ingest-daemon'"
                .into(),
        )
        .await;
        stack.stored(tenants[0], stored + 20).await;
    }
    account.finish().await.unwrap().assert_undisturbed(UNNOTICED);
}
