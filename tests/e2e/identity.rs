//! Who may do what.

use std::time::{Duration, SystemTime};

use control_plane::identity::Role;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[tokio::test]
async fn without_a_good_token_nothing_is_answered() {
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let claims = |change: fn(&mut Value)| {
        let mut claims = json!({
            "iss": "jalur", "aud": "jalur", "sub": "test", "iat": now(), "exp": now() + 60, "role": "admin",
        });
        change(&mut claims);
        claims
    };
    let key = EncodingKey::from_secret(stack.secret().as_bytes());
    let other_key = EncodingKey::from_secret(b"another key, which is as long as the real one");
    let sign =
        |claims: &Value, key: &EncodingKey| jsonwebtoken::encode(&Header::default(), claims, key).unwrap();
    let good = claims(|_| {});
    assert_eq!(
        stack.get("/api/tenants", &sign(&good, &key)).await.0,
        200,
        "the test signs as the program does"
    );

    let unsigned = {
        let signed = sign(&good, &key);
        let body = signed.split('.').nth(1).unwrap();
        // {"alg":"none","typ":"JWT"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.")
    };
    let expired = claims(|claims| claims["exp"] = json!(now() - 60));
    let no_expiry = claims(|claims| drop(claims.as_object_mut().unwrap().remove("exp")));
    let other_issuer = claims(|claims| claims["iss"] = json!("somebody"));
    let other_audience = claims(|claims| claims["aud"] = json!("something"));
    let no_tenant = claims(|claims| claims["role"] = json!("tenant"));
    let bad = [
        ("of another key", sign(&good, &other_key)),
        ("alg none", unsigned),
        ("expired", sign(&expired, &key)),
        ("without expiry", sign(&no_expiry, &key)),
        ("of another issuer", sign(&other_issuer, &key)),
        ("for another audience", sign(&other_audience, &key)),
        ("a tenant's without a tenant", sign(&no_tenant, &key)),
        ("nonsense", "nonsense".to_owned()),
        ("missing", String::new()),
    ];
    for (what, token) in bad {
        let (status, body) = stack.get("/api/tenants", &token).await;
        assert_eq!((status, &body["code"]), (401, &json!(16)), "{what}: {body}");
        assert!(!body["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_tenants_token_reaches_that_tenant_and_no_other() {
    let stack = Stack::start(Options::default()).await;
    let (own, other) = (stack.tenant("own").await, stack.tenant("other").await);
    let token = stack.token(Role::Tenant, Some(own.0));
    let publish = json!({ "messages": [{ "payload": 1 }] });
    assert_eq!(stack.get(&format!("/api/tenants/{own}"), &token).await.0, 200);
    assert_eq!(
        stack
            .post(&format!("/api/tenants/{own}/messages"), &token, &publish)
            .await
            .0,
        200
    );
    assert_eq!(
        stack.get("/messages", &token).await.0,
        200,
        "its token names the tenant"
    );
    assert_eq!(
        stack.get(&format!("/messages?tenant_id={own}"), &token).await.0,
        200
    );

    // Whether or not it exists.
    for foreign in [other.0, Uuid::now_v7()] {
        for path in [
            format!("/tenants/{foreign}"),
            format!("/tenants/{foreign}/messages"),
            format!("/messages?tenant_id={foreign}"),
        ] {
            let (status, body) = stack.get(&path, &token).await;
            assert_eq!((status, &body["code"]), (403, &json!(7)), "{path}: {body}");
        }
        assert_eq!(
            stack
                .post(&format!("/tenants/{foreign}/messages"), &token, &publish)
                .await
                .0,
            403
        );
    }
}

#[tokio::test]
async fn every_role_does_what_it_may_and_no_more() {
    let stack = Stack::start(Options::default()).await;
    let own = stack.tenant("own").await;
    let tokens = [
        ("tenant", stack.token(Role::Tenant, Some(own.0))),
        ("tenant_admin", stack.token(Role::TenantAdmin, Some(own.0))),
        ("daemon", stack.token(Role::Daemon, None)),
    ];
    for (role, token) in &tokens {
        let create = stack.post("/tenants", token, &json!({ "name": "new" })).await.0;
        let list = stack.get("/tenants", token).await.0;
        let rename = stack
            .patch(&format!("/tenants/{own}"), token, &json!({ "name": "n" }))
            .await
            .0;
        let delete = stack.delete(&format!("/tenants/{own}"), token).await.0;
        assert_eq!([create, list, rename, delete], [403; 4], "{role}");
        let workers = stack
            .put(
                &format!("/tenants/{own}/config/concurrency"),
                token,
                &json!({ "workers": 2 }),
            )
            .await
            .0;
        assert_eq!(workers, if *role == "tenant_admin" { 200 } else { 403 }, "{role}");
        let read = stack.get(&format!("/tenants/{own}/messages"), token).await.0;
        assert_eq!(read, if *role == "daemon" { 403 } else { 200 }, "{role}");
    }
}

#[tokio::test]
async fn a_token_from_the_command_line_is_good_for_as_long_as_it_says() {
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let output = stack
        .control_plane_command(&["token", "--role", "admin", "--ttl", "1h"])
        .await;
    assert!(output.status.success());
    let token = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stack.get("/tenants", token.trim()).await.0, 200);
    let keys = control_plane::identity::Keys::new(stack.secret(), "jalur", "jalur");
    let lapsed = keys.mint(Role::Admin, None, "test", Duration::ZERO).unwrap();
    eventually("the token has expired", async || {
        stack.get("/tenants", &lapsed).await.0 == 401
    })
    .await;
}
