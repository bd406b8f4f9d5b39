//! Who did what to which tenant when, and how it ended.

use common::id::TenantId;
use control_plane::identity::Role;
use proto::v1::{self, tenant_service_client::TenantServiceClient};
use reqwest::Method;
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

/// The trail's newest events; `query` may say more.
async fn events(stack: &Stack, query: &str) -> Vec<Value> {
    let (status, page) = stack
        .get(&format!("/api/audit?limit=1000{query}"), &stack.admin())
        .await;
    assert_eq!(status, 200, "{page}");
    page["data"].as_array().unwrap().clone()
}

/// What an event says of how a call ended: its method, its code and its tenant.
fn end(event: &Value) -> (&str, &str, Option<&str>) {
    let method = event["method"].as_str().unwrap();
    (
        method.rsplit('.').next().unwrap(),
        event["code"].as_str().unwrap_or_default(),
        event["tenant_id"].as_str(),
    )
}

#[tokio::test]
async fn a_tenants_life_and_what_was_refused_is_told_of_both_faces() {
    let stack = Stack::start(Options::default()).await;
    let admin = stack.admin();
    let tenant = stack.tenant("acme").await;
    let id = tenant.to_string();
    let path = format!("/api/tenants/{id}");
    let own = stack.token(Role::TenantAdmin, Some(tenant.0));
    let other = Uuid::now_v7();
    let secret = json!({ "messages": [{ "payload": "hunter2" }] });
    let wrong_name = json!({ "name": "acme" });

    stack.patch(&path, &admin, &json!({ "status": "paused" })).await;
    stack
        .put(
            &format!("{path}/config/concurrency"),
            &own,
            &json!({ "workers": 7 }),
        )
        .await;
    stack
        .put(
            &format!("{path}/config/concurrency"),
            &own,
            &json!({ "workers": 0 }),
        )
        .await;
    stack.post("/api/tenants", &admin, &wrong_name).await;
    stack.delete(&format!("/api/tenants/{other}"), &admin).await;
    stack.delete(&path, &own).await;
    stack.delete(&path, "hunter2").await;
    stack.post(&format!("{path}/messages"), &own, &secret).await;
    stack
        .post(&format!("/api/tenants/{other}/messages"), &own, &secret)
        .await;
    stack.get(&path, &own).await;
    let channel = Channel::from_shared(stack.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut tenants = TenantServiceClient::new(channel);
    let mut delete = tonic::Request::new(v1::DeleteTenantRequest { id: id.clone() });
    let metadata = delete.metadata_mut();
    metadata.insert("x-request-id", "the-end".parse().unwrap());
    metadata.insert("authorization", format!("Bearer {admin}").parse().unwrap());
    tenants.delete_tenant(delete).await.unwrap();

    let (id, other) = (Some(id.as_str()), other.to_string());
    let told = events(&stack, "").await;
    let ends: Vec<_> = told.iter().rev().map(end).collect();
    assert_eq!(
        ends,
        [
            ("TenantService/CreateTenant", "OK", id),
            ("TenantService/UpdateTenant", "OK", id),
            ("TenantService/SetConcurrency", "OK", id),
            ("TenantService/SetConcurrency", "INVALID_ARGUMENT", id),
            // It would have been made under an id that nobody has.
            ("TenantService/CreateTenant", "ALREADY_EXISTS", ends[4].2),
            ("TenantService/DeleteTenant", "NOT_FOUND", Some(&other)),
            ("TenantService/DeleteTenant", "PERMISSION_DENIED", id),
            ("TenantService/DeleteTenant", "UNAUTHENTICATED", id),
            (
                "MessageService/PublishMessages",
                "PERMISSION_DENIED",
                Some(&other)
            ),
            ("TenantService/DeleteTenant", "OK", id),
        ]
    );
    let [last, .., first] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(first["summary"], "name=\"acme\"");
    assert_eq!(
        (&last["request_id"], &last["role"]),
        (&json!("the-end"), &json!("admin"))
    );
    let set = &told[7];
    assert_eq!(
        (&set["role"], &set["summary"]),
        (&json!("tenant_admin"), &json!("workers=7"))
    );
    assert_eq!(set["caller_tenant_id"].as_str(), id);
    assert!(told[6]["message"].as_str().unwrap().starts_with("workers"));
    let nobody = &told[2];
    assert_eq!((&nobody["sub"], &nobody["role"]), (&Value::Null, &Value::Null));
    for event in &told {
        assert_eq!(event["address"], "127.0.0.1");
        assert!(event["sub"].is_string() || event["code"] == "UNAUTHENTICATED");
        assert!(!event["request_id"].as_str().unwrap().is_empty());
        assert!(!event.to_string().contains("hunter2"), "{event}");
    }
    let log = stack.control_plane().log_tail(1_000);
    let lines = log
        .lines()
        .filter(|line| line.contains("audit") && line.contains("code="));
    assert_eq!(lines.count(), told.len(), "{log}");
    assert!(!log.contains("hunter2"));
}

#[tokio::test]
async fn the_trail_is_paged_back_in_time_by_tenant_and_for_admins_alone() {
    let stack = Stack::without_daemons().await;
    let (one, two) = (TenantId(Uuid::now_v7()), TenantId(Uuid::now_v7()));
    for count in 0..25 {
        let tenant = if count % 5 == 0 { two } else { one };
        let path = format!("/api/tenants/{tenant}/config/concurrency");
        assert_eq!(
            stack.put(&path, &stack.admin(), &json!({ "workers": 1 })).await.0,
            404
        );
    }
    let pages = async |query: &str| {
        let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
        loop {
            let path = format!("/audit?limit=10&cursor={cursor}{query}");
            let (status, page) = stack.get(&path, &stack.admin()).await;
            assert_eq!(status, 200, "{page}");
            let data = page["data"].as_array().unwrap();
            let next = page["next_cursor"].as_str().unwrap().to_owned();
            if data.is_empty() {
                assert_eq!(next, cursor, "the end stays where it is");
                return seen;
            }
            let position = |event: &Value| -> i64 { event["position"].as_str().unwrap().parse().unwrap() };
            seen.extend(
                data.iter()
                    .map(|event| (position(event), event["tenant_id"].clone())),
            );
            cursor = next;
        }
    };
    let all = pages("").await;
    assert_eq!(all.len(), 25);
    assert!(
        all.windows(2).all(|pair| pair[0].0 > pair[1].0),
        "newest first: {all:?}"
    );
    let of_two = pages(&format!("&tenant_id={two}")).await;
    assert_eq!(of_two.len(), 5);
    assert!(of_two.iter().all(|(_, tenant)| *tenant == two.to_string()));

    for (role, tenant) in [
        (Role::TenantAdmin, Some(one.0)),
        (Role::Tenant, Some(one.0)),
        (Role::Daemon, None),
    ] {
        let answer = stack.get("/api/audit", &stack.token(role, tenant)).await;
        assert_eq!(answer.0, 403, "{}", answer.1);
    }
    for query in ["cursor=x", "cursor=-1", "limit=0", "limit=1001", "tenant_id=x"] {
        let answer = stack.get(&format!("/api/audit?{query}"), &stack.admin()).await;
        assert_eq!(answer.0, 400, "{query}: {}", answer.1);
    }
}

#[tokio::test]
async fn what_is_too_old_leaves_the_trail() {
    let stack = Stack::start(Options {
        daemons: 0,
        control_plane_env: vec![("JALUR_AUDIT__MAX_AGE", "10m".into())],
        ..Options::default()
    })
    .await;
    stack
        .delete(&format!("/tenants/{}", Uuid::now_v7()), &stack.admin())
        .await;
    let old = "insert into audit_events (at, request_id, method, summary)
               select now() - interval '11 minutes', 'old', 'm', '' from generate_series(1, 2500)";
    sqlx::query(old).execute(stack.pool()).await.unwrap();
    let count = async |request: &str| {
        let count = sqlx::query_scalar::<_, i64>("select count(*) from audit_events where request_id = $1");
        count.bind(request).fetch_one(stack.pool()).await.unwrap()
    };
    assert_eq!(count("old").await, 2_500);
    // It looks as it starts, and removes in steps.
    stack.control_plane().restart().await.unwrap();
    eventually("old rows are removed", async || count("old").await == 0).await;
    assert_eq!(events(&stack, "").await.len(), 1, "what is not old stays");
}

#[tokio::test]
async fn a_change_that_cannot_be_written_down_is_not_made() {
    let stack = Stack::without_daemons().await;
    let admin = stack.admin();
    let rename = async |to: &str| {
        let sql = sqlx::AssertSqlSafe(format!("alter table {to}"));
        sqlx::query(sql).execute(stack.pool()).await.unwrap();
    };
    rename("audit_events rename to elsewhere").await;
    let body = json!({ "name": "acme", "status": "paused" });
    let (status, answer) = stack.post("/api/tenants", &admin, &body).await;
    assert_eq!(
        (status, &answer["code"]),
        (503, &json!(Code::Unavailable as i32)),
        "{answer}"
    );
    assert!(answer.to_string().contains("AUDIT_UNAVAILABLE"));
    let (_, list) = stack.get("/api/tenants", &admin).await;
    assert_eq!(list["tenants"], json!([]), "nothing was made");
    let answer = stack.send(Method::DELETE, "/tenants/x", "", None).await;
    assert_eq!(answer.status, 401, "what is refused is refused for what it is");
    rename("elsewhere rename to audit_events").await;
    assert_eq!(stack.post("/api/tenants", &admin, &body).await.0, 201);
}
