//! Many daemons and many control planes: who runs what, and what happens when one of them is not there.

use std::{collections::BTreeMap, time::Duration};

use common::id::TenantId;
use control_plane::identity::Role;
use futures::future::join_all;
use serde_json::{Value, json};
use tests::{
    Rest,
    load::{Publisher, Reader},
};

use crate::support::{Options, Stack, eventually};

/// A new tenant's.
const WORKERS: u64 = 3;

async fn fleet(control_planes: u16, daemons: u16) -> Stack {
    let options = Options {
        control_planes,
        daemons,
        ..Options::default()
    };
    Stack::start(options).await
}

/// Waits until every tenant is consumed with the workers it has.
async fn all_consumed(stack: &Stack, tenants: &[TenantId], by: impl Fn(&BTreeMap<String, u64>) -> bool) {
    eventually("every tenant is consumed", async || {
        let consumers = join_all(tenants.iter().map(|&tenant| stack.consumers(tenant))).await;
        consumers
            .iter()
            .all(|consumers| consumers.values().sum::<u64>() == WORKERS && by(consumers))
    })
    .await;
}

async fn daemons(stack: &Stack) -> BTreeMap<String, Value> {
    let (status, page) = stack.get("/api/daemons", &stack.admin()).await;
    assert_eq!(status, 200, "{page}");
    let daemons = page["daemons"].as_array().unwrap().iter();
    let by_id = |daemon: &Value| (daemon["id"].as_str().unwrap().to_owned(), daemon.clone());
    daemons.map(by_id).collect()
}

#[tokio::test]
async fn a_drained_daemon_hands_its_lanes_over_and_gets_none_until_it_is_undrained_or_restarted() {
    let stack = fleet(1, 2).await;
    let mut tenants = stack.tenants(6).await;
    let both = daemons(&stack).await;
    assert_eq!(both.len(), 2, "{both:?}");
    for daemon in both.values() {
        assert_eq!(
            (&daemon["state"], &daemon["lanes"], &daemon["workers"]),
            (&json!("ready"), &json!(3), &json!(9))
        );
    }
    let (admin, nothing) = (stack.admin(), json!({}));
    let (status, first) = stack.get("/api/daemons?page_size=1", &admin).await;
    assert_eq!((status, first["daemons"].as_array().unwrap().len()), (200, 1));
    let next = format!(
        "/api/daemons?page_token={}",
        first["next_page_token"].as_str().unwrap()
    );
    let (_, rest) = stack.get(&next, &admin).await;
    assert_eq!(
        (&rest["daemons"][0]["id"], &rest["next_page_token"]),
        (&json!("ingest-daemon-2"), &json!(""))
    );

    let drain = "/api/daemons/ingest-daemon-1/drain";
    let (status, drained) = stack.post(drain, &admin, &nothing).await;
    assert_eq!(status, 200, "{drained}");
    assert_eq!(
        (&drained["state"], &drained["lanes"]),
        (&json!("draining"), &json!(0))
    );
    tenants.push(stack.tenant("after").await);
    let on_the_other = |consumers: &BTreeMap<String, u64>| consumers.contains_key("ingest-daemon-2");
    all_consumed(&stack, &tenants, on_the_other).await;
    let (status, _) = stack.post(drain, &admin, &nothing).await;
    assert_eq!(status, 200, "again is no error");

    let takes_lanes_again = async || {
        eventually("it takes lanes again", async || {
            daemons(&stack)
                .await
                .get("ingest-daemon-1")
                .is_some_and(|daemon| daemon["lanes"].as_u64() > Some(0))
        })
        .await;
    };
    let undrain = "/api/daemons/ingest-daemon-1/undrain";
    let (status, ready) = stack.post(undrain, &admin, &nothing).await;
    assert_eq!((status, &ready["state"]), (200, &json!("ready")), "{ready}");
    takes_lanes_again().await;
    let (status, _) = stack.post(drain, &admin, &nothing).await;
    assert_eq!(status, 200);
    stack.member("ingest-daemon-1").restart().await.unwrap();
    takes_lanes_again().await;
    all_consumed(&stack, &tenants, |_| true).await;
}

#[tokio::test]
async fn operators_mistakes_are_told() {
    let stack = fleet(1, 1).await;
    let tenant = stack.tenant("t").await;
    let (admin, nothing) = (stack.admin(), json!({}));
    let (status, error) = stack.post("/api/daemons/nobody/drain", &admin, &nothing).await;
    assert_eq!(status, 404);
    assert!(error["message"].as_str().unwrap().contains("nobody"), "{error}");
    // What no daemon can be called, and what PostgreSQL cannot hold as a text.
    for id in ["%00", "a%00b", "a%20b", "%F0%9F%92%A9"] {
        for verb in ["drain", "undrain"] {
            let path = format!("/api/daemons/{id}/{verb}");
            let (status, error) = stack.post(&path, &admin, &nothing).await;
            assert_eq!(status, 400, "{path}: {error}");
            assert!(error["message"].as_str().unwrap().starts_with("id: "), "{error}");
        }
    }
    let (status, _) = stack.post("/api/daemons/nobody/undrain", &admin, &nothing).await;
    assert_eq!(status, 404);
    let (status, _) = stack.get("/api/daemons?page_token=%00", &admin).await;
    assert_eq!(status, 400);
    let (status, error) = stack.get("/api/daemons?page_token=%20", &admin).await;
    assert_eq!(status, 400);
    assert!(
        error["message"].as_str().unwrap().contains("page_token"),
        "{error}"
    );
    for role in [Role::Tenant, Role::TenantAdmin] {
        let token = stack.token(role, Some(tenant.0));
        let (status, _) = stack.get("/api/daemons", &token).await;
        assert_eq!(status, 403);
        let (status, _) = stack
            .post("/api/daemons/ingest-daemon-1/drain", &token, &nothing)
            .await;
        assert_eq!(status, 403);
    }
}

#[tokio::test]
async fn a_wide_tenant_is_spread_and_its_workers_sum_to_what_was_set() {
    let stack = fleet(1, 3).await;
    let tenant = stack.tenant("wide").await;
    let path = format!("/api/tenants/{tenant}/config/concurrency");
    for workers in [100_u64, 64, 1] {
        let (status, answer) = stack
            .put(&path, &stack.admin(), &json!({ "workers": workers }))
            .await;
        assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
        let consumers = stack.consumers(tenant).await;
        assert_eq!(consumers.values().sum::<u64>(), workers, "{consumers:?}");
        assert_eq!(consumers.len(), if workers > 1 { 3 } else { 1 }, "{consumers:?}");
    }
}

#[tokio::test]
async fn a_hung_daemon_is_out_and_drops_its_lanes_when_it_wakes() {
    let stack = fleet(1, 2).await;
    let tenants = stack.tenants(6).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let hung = stack.member("ingest-daemon-1");
    hung.freeze();
    let mut sent = publisher.send(&tenants, 600, 256).await.unwrap();
    for &tenant in &tenants {
        stack.stored(tenant, 100).await;
    }
    let on_the_other = |consumers: &BTreeMap<String, u64>| !consumers.contains_key("ingest-daemon-1");
    all_consumed(&stack, &tenants, on_the_other).await;
    assert!(!daemons(&stack).await.contains_key("ingest-daemon-1"));

    hung.thaw();
    eventually("it is back", async || {
        daemons(&stack)
            .await
            .get("ingest-daemon-1")
            .is_some_and(|daemon| daemon["lanes"] != 0)
    })
    .await;
    for (tenant, ids) in publisher.send(&tenants, 600, 256).await.unwrap() {
        sent.entry(tenant).or_default().extend(ids);
    }
    for &tenant in &tenants {
        let reader = Reader::new(&stack.rest(), tenant);
        reader.expect(&sent[&tenant]).await.unwrap();
        assert_eq!(stack.count(tenant).await, sent[&tenant].len() as u64);
    }
    all_consumed(&stack, &tenants, |_| true).await;
}

#[tokio::test]
async fn two_daemons_that_both_own_a_tenant_store_each_message_once() {
    const MESSAGES: usize = 20_000;
    let stack = fleet(1, 2).await;
    let tenant = stack.tenant("contended").await;
    let (amqp_url, to) = (stack.amqp_url().to_owned(), [tenant]);
    let sending = tokio::spawn(async move { Publisher::new(&amqp_url).send(&to, MESSAGES, 256).await });
    let mut reader = Reader::new(&stack.rest(), tenant);
    let reading = tokio::spawn(async move { reader.until(MESSAGES).await.map(|()| reader) });
    // Each round of assignment takes it from one of them, and then both have it again.
    while !sending.is_finished() {
        sqlx::query(
            "with next as (update fleet set revision = revision + 1 returning revision)
             insert into assignments (tenant_id, daemon_id, workers, revision)
             select $1, id, 3, revision from daemons, next where state = 'ready'
             on conflict (tenant_id, daemon_id) do update set workers = 3, revision = excluded.revision",
        )
        .bind(tenant.0)
        .execute(stack.pool())
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let sent = sending.await.unwrap().unwrap();
    let reader = reading.await.unwrap().unwrap();
    reader.expect(&sent[&tenant]).await.unwrap();
    assert_eq!(stack.count(tenant).await, MESSAGES as u64);
    all_consumed(&stack, &[tenant], |_| true).await;
}

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing() {
    let stack = fleet(1, 2).await;
    let tenants = stack.tenants(4).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let mut sent = publisher.send(&tenants, 400, 256).await.unwrap();
    // Forward: every lease is over. Back: none will be for an hour.
    for jump in ["- interval '1 hour'", "+ interval '1 hour'"] {
        let jump = format!("update daemons set lease_until = lease_until {jump}");
        sqlx::query(sqlx::AssertSqlSafe(jump))
            .execute(stack.pool())
            .await
            .unwrap();
        for (tenant, ids) in publisher.send(&tenants, 400, 256).await.unwrap() {
            sent.entry(tenant).or_default().extend(ids);
        }
        all_consumed(&stack, &tenants, |_| true).await;
    }
    // A daemon that dies then is missed all the same.
    stack.member("ingest-daemon-1").kill().await;
    let on_the_other = |consumers: &BTreeMap<String, u64>| !consumers.contains_key("ingest-daemon-1");
    all_consumed(&stack, &tenants, on_the_other).await;
    for &tenant in &tenants {
        let reader = Reader::new(&stack.rest(), tenant);
        reader.expect(&sent[&tenant]).await.unwrap();
    }
}

#[tokio::test]
async fn any_control_plane_serves_any_call_and_the_death_of_one_moves_its_role() {
    let stack = fleet(2, 2).await;
    let tenants = stack.tenants(4).await;
    let (first, second) = (stack.member("control-plane-1"), stack.member("control-plane-2"));
    let rest = |url: Option<String>| Rest::new(&url.unwrap(), Some(stack.admin()));
    let both = [rest(first.url()), rest(second.url())];
    let workers = async |rest: &Rest, workers: u32| {
        for tenant in &tenants {
            let path = format!("/api/tenants/{tenant}/config/concurrency");
            let answer = rest.put(&path, &json!({ "workers": workers })).await.unwrap();
            let answer = answer.expect(200).unwrap();
            assert_eq!(answer["applied"], true, "{answer}");
        }
    };
    for (n, rest) in (1..).zip(&both) {
        workers(rest, n).await;
    }
    first.kill().await;
    eventually("the daemons have found the other one", async || {
        let page = both[1].get("/api/daemons").await.unwrap().expect(200).unwrap();
        let connected = sqlx::query_scalar::<_, i64>(
            "select count(*) from daemons where lease_until > now() + interval '3 s'",
        );
        page["daemons"].as_array().unwrap().len() == 2
            && connected.fetch_one(stack.pool()).await.unwrap() == 2
    })
    .await;
    workers(&both[1], 5).await;
}
