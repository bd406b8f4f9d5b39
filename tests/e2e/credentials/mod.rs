//! What a tenant's programs identify themselves with, and the tokens that it buys.

mod tokens;

use common::id::TenantId;
use control_plane::identity::Role;
use futures::future::join_all;
use proto::v1::{self, auth_service_client::AuthServiceClient};
use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use tests::{Answer, Rest};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

/// An id and its secret.
struct Credential {
    id: String,
    secret: String,
}

impl Credential {
    /// Made by whoever has this token.
    async fn create(stack: &Stack, tenant: TenantId, token: &str, body: &Value) -> Self {
        let (status, answer) = stack.post(&path(tenant), token, body).await;
        assert_eq!(status, 201, "{answer}");
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self {
            id: text("client_id"),
            secret: text("client_secret"),
        }
    }

    async fn of(stack: &Stack, tenant: TenantId) -> Self {
        Self::create(stack, tenant, &stack.admin(), &json!({})).await
    }

    fn json(&self) -> Value {
        json!({ "client_id": self.id, "client_secret": self.secret })
    }

    /// Buys a token.
    async fn token(&self, stack: &Stack) -> String {
        let (status, answer) = stack.post("/api/auth/token", "", &self.json()).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

fn path(tenant: TenantId) -> String {
    format!("/api/tenants/{tenant}/credentials")
}

#[tokio::test]
async fn a_revoked_credentials_living_tokens_stop() {
    let stack = Stack::start(Options {
        control_planes: 2,
        daemons: 0,
        ..Options::default()
    })
    .await;
    let tenant = stack.tenant("shop").await;
    let [gone, other] = [
        Credential::of(&stack, tenant).await,
        Credential::of(&stack, tenant).await,
    ];
    let (token, others) = (gone.token(&stack).await, other.token(&stack).await);
    let second = Rest::new(&stack.member("control-plane-2").url().unwrap(), None);
    let there = async |token: &str| {
        let answer = second.with_token(token).get("/messages").await.unwrap();
        answer.status
    };
    assert_eq!(
        (stack.get("/messages", &token).await.0, there(&token).await),
        (200, 200)
    );

    let revoke = format!("{}/{}", path(tenant), gone.id);
    assert_eq!(stack.delete(&revoke, &stack.admin()).await.0, 200);
    eventually("it is known where it was revoked", async || {
        stack.get("/messages", &token).await.0 == 401
    })
    .await;
    eventually("and elsewhere", async || there(&token).await == 401).await;
    let (_, refused) = stack.get("/messages", &token).await;
    assert!(
        refused["message"].as_str().unwrap().contains("was revoked"),
        "{refused}"
    );
    assert_eq!(stack.post("/api/auth/token", "", &gone.json()).await.0, 401);
    assert_eq!(there(&others).await, 200);
    let (_, list) = stack.get(&path(tenant), &stack.admin()).await;
    assert_eq!(list["credentials"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(
        stack.delete(&revoke, &stack.admin()).await.0,
        404,
        "once is enough"
    );

    stack.control_plane().restart().await.unwrap();
    eventually("it is known after a restart", async || {
        stack.get("/messages", &token).await.0 == 401
    })
    .await;
    assert_eq!(stack.get("/messages", &others).await.0, 200);
}

#[tokio::test]
async fn whoever_runs_a_tenant_has_to_do_with_its_credentials_alone() {
    let stack = Stack::without_daemons().await;
    let [own, other] = [stack.tenant("own").await, stack.tenant("other").await];
    let foreign = Credential::of(&stack, other).await;
    let body = json!({ "role": "tenant_admin" });
    let credential = Credential::create(&stack, own, &stack.admin(), &body).await;
    let admin = credential.token(&stack).await;
    let more = Credential::create(&stack, own, &admin, &json!({ "label": "made by it" })).await;
    let user = more.token(&stack).await;

    let revoke = |of: TenantId, credential: &Credential| format!("{}/{}", path(of), credential.id);
    assert_eq!(stack.post(&path(other), &admin, &json!({})).await.0, 403);
    assert_eq!(stack.get(&path(other), &admin).await.0, 403);
    assert_eq!(stack.delete(&revoke(other, &foreign), &admin).await.0, 403);
    assert_eq!(
        stack.delete(&revoke(own, &foreign), &admin).await.0,
        404,
        "another's is none of its own"
    );
    assert_eq!(stack.post(&path(own), &user, &json!({})).await.0, 403);
    assert_eq!(stack.get(&path(own), &user).await.0, 403);
    assert_eq!(stack.delete(&revoke(own, &more), &user).await.0, 403);
    let daemon = stack.token(Role::Daemon, None);
    assert_eq!(stack.get(&path(own), &daemon).await.0, 403);
    foreign.token(&stack).await;

    for (body, field) in [
        (json!({ "role": "admin" }), "role"),
        (json!({ "role": "daemon" }), "role"),
        (json!({ "label": "x".repeat(101) }), "label"),
        (json!({ "label": "two\nlines" }), "label"),
    ] {
        let (status, answer) = stack.post(&path(own), &admin, &body).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["message"].as_str().unwrap().starts_with(field), "{answer}");
    }
    assert_eq!(stack.delete(&format!("{}/x", path(own)), &admin).await.0, 400);
    let nowhere = TenantId(Uuid::now_v7());
    assert_eq!(
        stack.post(&path(nowhere), &stack.admin(), &json!({})).await.0,
        404
    );
    assert_eq!(stack.get(&path(nowhere), &stack.admin()).await.0, 404);

    sqlx::query(
        "insert into credentials (client_id, tenant_id, role, label, secret_hash, amqp)
         select gen_random_uuid(), $1, 'tenant', '', '', false from generate_series(1, 98)",
    )
    .bind(own.0)
    .execute(stack.pool())
    .await
    .unwrap();
    let (status, full) = stack.post(&path(own), &admin, &json!({})).await;
    assert_eq!(status, 409, "{full}");
    assert!(full["message"].as_str().unwrap().contains("revoke one"), "{full}");
}

#[tokio::test]
async fn credentials_go_with_their_tenant() {
    let stack = Stack::without_daemons().await;
    let tenant = stack.tenant("shop").await;
    let credential = Credential::of(&stack, tenant).await;
    let token = credential.token(&stack).await;
    assert_eq!(
        stack
            .delete(&format!("/api/tenants/{tenant}"), &stack.admin())
            .await
            .0,
        200
    );
    assert_eq!(stack.post("/api/auth/token", "", &credential.json()).await.0, 401);
    assert_eq!(stack.get("/messages", &token).await.0, 401);
    assert_eq!(stack.get(&path(tenant), &stack.admin()).await.0, 404);
    let left: i64 = sqlx::query_scalar("select count(*) from credentials")
        .fetch_one(stack.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}
