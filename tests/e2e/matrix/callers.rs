//! Everybody who might call.

use std::time::{SystemTime, UNIX_EPOCH};

use control_plane::identity::Role;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::support::Stack;

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
pub(super) fn all(stack: &Stack, own: Uuid, gone: Uuid) -> Vec<Caller> {
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
    callers.extend(bad(stack.secret(), own).into_iter().map(|(what, token)| Caller {
        what: format!("one whose token is {what}"),
        token,
        role: None,
        is_gone: false,
    }));
    callers
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
