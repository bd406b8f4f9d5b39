//! Everybody who might call.

use std::time::{SystemTime, UNIX_EPOCH};

use control_plane::identity::Role;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::support::{Stack, eventually};

/// Keys that are there for the control plane's own tests.
macro_rules! pem {
    ($name:literal) => {
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../control-plane/src/identity/keys/tests/",
            $name
        )
    };
}

/// The name of a key of which everybody may know the public half.
const KID: &str = "rsa";

/// One who calls.
pub(super) struct Caller {
    pub(super) what: String,
    /// Empty for none.
    pub(super) token: String,
    /// None where the token is no good.
    pub(super) role: Option<Role>,
    /// Whether its tenant was deleted.
    pub(super) is_gone: bool,
}

/// A configuration with an RSA key beside the secret that tests have.
pub(super) fn keys() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let text = format!(
        "auth:\n  keys:\n    - {{ kid: {KID}, algorithm: RS256, private_key_file: {} }}\n",
        pem!("rs256.pem")
    );
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Every kind of caller of `own`, and of the tenant that is gone.
pub(super) async fn all(stack: &Stack, own: Uuid, gone: Uuid) -> Vec<Caller> {
    let good = |what: &str, role: Role, tenant: Option<Uuid>| Caller {
        what: what.to_owned(),
        token: stack.token(role, tenant),
        role: Some(role),
        is_gone: tenant == Some(gone),
    };
    let mut callers = vec![
        good("an admin", Role::Admin, None),
        good("a tenant_admin", Role::TenantAdmin, Some(own)),
        good("a tenant", Role::Tenant, Some(own)),
        good("a daemon", Role::Daemon, None),
        good(
            "a tenant_admin of a tenant that is gone",
            Role::TenantAdmin,
            Some(gone),
        ),
        good("a tenant that is gone", Role::Tenant, Some(gone)),
    ];
    let (bought, revoked) = tokio::join!(bought(stack, own), revoked(stack, own));
    callers.push(Caller {
        what: "a tenant's credential".to_owned(),
        token: bought.1,
        role: Some(Role::Tenant),
        is_gone: false,
    });
    callers.push(Caller {
        what: "one whose credential was revoked".to_owned(),
        token: revoked,
        role: None,
        is_gone: false,
    });
    callers.extend(bad(stack.secret(), own).into_iter().map(|(what, token)| Caller {
        what: format!("one whose token is {what}"),
        token,
        role: None,
        is_gone: false,
    }));
    callers
}

/// A credential of the tenant, and a token that it has bought.
async fn bought(stack: &Stack, tenant: Uuid) -> (String, String) {
    let path = format!("/api/tenants/{tenant}/credentials");
    let (status, credential) = stack.post(&path, &stack.admin(), &json!({})).await;
    assert_eq!(status, 201, "{credential}");
    let id = credential["client_id"].as_str().unwrap().to_owned();
    let (status, token) = stack
        .post("/api/auth/token", "", &credential_of(&credential))
        .await;
    assert_eq!(status, 200, "{token}");
    (id, token["access_token"].as_str().unwrap().to_owned())
}

fn credential_of(created: &Value) -> Value {
    json!({ "client_id": created["client_id"], "client_secret": created["client_secret"] })
}

/// The token of a credential that was revoked since, where that is known already.
async fn revoked(stack: &Stack, tenant: Uuid) -> String {
    let (id, token) = bought(stack, tenant).await;
    let path = format!("/api/tenants/{tenant}/credentials/{id}");
    assert_eq!(stack.delete(&path, &stack.admin()).await.0, 200);
    eventually("the revocation is known", async || {
        stack.get("/messages", &token).await.0 == 401
    })
    .await;
    token
}

/// Tokens that are no good, and why.
fn bad(secret: &str, own: Uuid) -> Vec<(&'static str, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = |change: &[(&str, Value)]| {
        let mut claims = json!({
            "iss": "jalur", "aud": "jalur", "sub": "test", "iat": now, "exp": now + 600, "role": "admin",
        });
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        claims
    };
    let sign = |header: &Header, claims: &Value, key: &EncodingKey| {
        jsonwebtoken::encode(header, claims, key).unwrap()
    };
    let named = |algorithm, kid: &str| Header {
        kid: Some(kid.to_owned()),
        ..Header::new(algorithm)
    };
    let file = |path: &str| std::fs::read(path).unwrap();
    let ours = EncodingKey::from_secret(secret.as_bytes());
    let other = EncodingKey::from_secret(b"another key, which is as long as the real one");
    let public = EncodingKey::from_secret(&file(pem!("rs256.pub.pem")));
    let elliptic = EncodingKey::from_ec_pem(&file(pem!("es256.pem"))).unwrap();
    let hs256 = Header::default();
    let signed = |claims: &Value| sign(&hs256, claims, &ours);
    let plain = claims(&[]);
    let body = signed(&plain).split('.').nth(1).unwrap().to_owned();
    let tenant = json!("tenant");
    vec![
        ("missing", String::new()),
        ("nonsense", "nonsense".to_owned()),
        ("expired", signed(&claims(&[("exp", json!(now - 60))]))),
        ("without an end", signed(&claims(&[("exp", Value::Null)]))),
        ("of another key", sign(&hs256, &plain, &other)),
        (
            "of a key nobody knows",
            sign(&named(Algorithm::HS256, "unknown"), &plain, &ours),
        ),
        (
            "of another issuer",
            signed(&claims(&[("iss", json!("somebody"))])),
        ),
        (
            "for another audience",
            signed(&claims(&[("aud", json!("something"))])),
        ),
        // {"alg":"none","typ":"JWT"}
        (
            "not signed",
            format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}."),
        ),
        (
            "signed with what is public",
            sign(&named(Algorithm::HS256, KID), &plain, &public),
        ),
        (
            "of another algorithm than its key's",
            sign(&named(Algorithm::ES256, KID), &plain, &elliptic),
        ),
        (
            "of a role that there is not",
            signed(&claims(&[("role", json!("root"))])),
        ),
        (
            "a tenant's without a tenant",
            signed(&claims(&[("role", tenant)])),
        ),
        (
            "an admin's with a tenant",
            signed(&claims(&[("tenant_id", json!(own))])),
        ),
    ]
}
