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
    let stack = Stack::without_daemons().await;
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
async fn a_tenant_that_is_gone_takes_its_tokens_with_it() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("gone").await;
    let path = format!("/api/tenants/{tenant}");
    let token = stack.token(Role::TenantAdmin, Some(tenant.0));
    assert_eq!(stack.get(&path, &token).await.0, 200);
    assert_eq!(stack.delete(&path, &stack.admin()).await.0, 200);

    let message = json!({ "messages": [{ "payload": 1 }] });
    let never_was = stack.token(Role::Tenant, Some(Uuid::now_v7()));
    for (what, (status, answer)) in [
        ("read", stack.get(&path, &token).await),
        ("messages", stack.get("/messages", &token).await),
        (
            "publish",
            stack.post(&format!("{path}/messages"), &token, &message).await,
        ),
        (
            "workers",
            stack
                .put(
                    &format!("{path}/config/concurrency"),
                    &token,
                    &json!({ "workers": 2 }),
                )
                .await,
        ),
        (
            "dead letters",
            stack.get(&format!("{path}/dead-letters"), &token).await,
        ),
        (
            "replay",
            stack
                .post(
                    &format!("{path}/dead-letters/replay"),
                    &token,
                    &json!({ "all": true }),
                )
                .await,
        ),
        (
            "purge",
            stack.delete(&format!("{path}/dead-letters"), &token).await,
        ),
        ("one that never was", stack.get("/messages", &never_was).await),
    ] {
        assert_eq!((status, &answer["code"]), (401, &json!(16)), "{what}: {answer}");
    }
    assert_eq!(
        stack.get(&path, &stack.admin()).await.0,
        404,
        "an admin's is good"
    );
}

#[tokio::test]
async fn keys_follow_one_another_while_everything_runs() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let configure = |keys: &[(&str, &str, &str)]| {
        let mut text = "auth:\n  keys:\n".to_owned();
        for (kid, algorithm, pem) in keys {
            let folder = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../control-plane/src/identity/keys/tests"
            );
            text += &format!(
                "    - {{ kid: {kid}, algorithm: {algorithm}, private_key_file: {folder}/{pem} }}\n"
            );
        }
        std::fs::write(file.path(), text).unwrap();
    };
    let (first, second) = (("first", "ES256", "es256.pem"), ("second", "EdDSA", "eddsa.pem"));
    configure(&[first]);
    let stack = Stack::start(Options {
        control_plane_env: vec![("JALUR_CONFIG", file.path().display().to_string())],
        ..Options::default()
    })
    .await;
    let mint = async || {
        let output = stack.control_plane_command(&["token", "--role", "admin"]).await;
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let status = async |token: &str| stack.get("/tenants", token).await.0;
    let old = mint().await;
    assert_eq!(status(&old).await, 200);

    configure(&[first, second]);
    configure(&[second, first]);
    let new = mint().await;
    assert_ne!(old, new);
    eventually("the second key is known", async || status(&new).await == 200).await;
    assert_eq!(status(&old).await, 200);

    std::fs::write(file.path(), "auth: { keys: [{ kid: third }] }").unwrap();
    configure(&[second]);
    eventually("the first one is not any more", async || {
        status(&old).await == 401
    })
    .await;
    assert_eq!(status(&new).await, 200);
    assert_eq!(
        status(&stack.admin()).await,
        200,
        "nor has the one without a name changed"
    );
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
    let stack = Stack::without_daemons().await;
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
