use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use jsonwebtoken::{Algorithm, EncodingKey, Header};

use super::*;
use crate::config::{Auth, Key, KeyAlgorithm};

const SECRET: &str = "a secret of thirty-two bytes, or more";
const TENANT: Uuid = Uuid::from_u128(7);
const HOUR: Duration = Duration::from_secs(3_600);

fn keys() -> Keys {
    Keys::new(SECRET, "jalur", "jalur-api")
}

fn claims() -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    json!({
        "iss": "jalur", "aud": "jalur-api", "sub": "s", "iat": now, "exp": now + 60,
        "role": "tenant", "tenant_id": TENANT,
    })
}

fn signed(algorithm: Algorithm, claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

fn with(name: &str, value: Value) -> Result<Caller, Error> {
    let mut claims = claims();
    claims[name] = value;
    keys().verify(&signed(Algorithm::HS256, &claims))
}

#[test]
fn what_is_minted_is_accepted() {
    let keys = keys();
    for (role, tenant) in [
        (Role::Admin, None),
        (Role::Daemon, None),
        (Role::Tenant, Some(TENANT)),
        (Role::TenantAdmin, Some(TENANT)),
    ] {
        let token = keys.mint(role, tenant, "somebody", HOUR).unwrap();
        let caller = keys.verify(&token).unwrap();
        let said = (
            caller.role(),
            caller.tenant().map(|tenant| tenant.0),
            caller.subject(),
        );
        assert_eq!(said, (role, tenant, "somebody"));
        let left = caller.expires().duration_since(SystemTime::now()).unwrap();
        assert!(
            left > HOUR - Duration::from_secs(60) && left <= HOUR + Duration::from_secs(LEEWAY_SECONDS + 1)
        );
    }
}

#[test]
fn a_tenants_role_needs_its_tenant_and_no_other_role_has_one() {
    assert!(matches!(
        keys().mint(Role::Tenant, None, "s", HOUR),
        Err(Error::TenantMissing(_))
    ));
    assert!(matches!(
        keys().mint(Role::Admin, Some(TENANT), "s", HOUR),
        Err(Error::TenantNotAllowed(_))
    ));
    assert!(matches!(
        with("tenant_id", Value::Null),
        Err(Error::TenantMissing(_))
    ));
    assert!(matches!(
        with("role", json!("daemon")),
        Err(Error::TenantNotAllowed(_))
    ));
}

#[test]
fn an_unsigned_token_is_refused() {
    for algorithm in ["none", "None", "NONE"] {
        let header = json!({ "alg": algorithm, "typ": "JWT" }).to_string();
        let parts = [header, claims().to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
        for signature in ["", "AAAA"] {
            let refused = keys().verify(&format!("{}.{signature}", parts.join(".")));
            assert!(matches!(refused, Err(Error::Algorithm("HS256"))), "{refused:?}");
        }
    }
}

#[test]
fn another_key_or_algorithm_is_refused() {
    let token = Keys::new("another secret", "jalur", "jalur-api")
        .mint(Role::Admin, None, "s", HOUR)
        .unwrap();
    assert!(matches!(keys().verify(&token), Err(Error::Signature)));
    let token = signed(Algorithm::HS512, &claims());
    assert!(matches!(keys().verify(&token), Err(Error::Algorithm(_))));
}

#[test]
fn another_issuer_or_audience_is_refused() {
    assert!(matches!(with("iss", json!("other")), Err(Error::Issuer(_))));
    assert!(matches!(with("aud", json!("other")), Err(Error::Audience(_))));
    assert!(with("aud", json!(["other", "jalur-api"])).is_ok());
}

#[test]
fn time_is_checked_with_a_small_leeway() {
    let now = jsonwebtoken::get_current_timestamp();
    assert!(with("exp", json!(now - 2)).is_ok());
    assert!(matches!(with("exp", json!(now - 30)), Err(Error::Expired)));
    assert!(matches!(with("nbf", json!(now + 30)), Err(Error::NotYet)));
}

#[test]
fn every_claim_has_to_be_there() {
    for claim in ["iss", "aud", "sub", "iat", "exp", "role", "tenant_id"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        let error = keys().verify(&signed(Algorithm::HS256, &claims)).unwrap_err();
        assert!(error.to_string().contains(claim), "{claim}: {error}");
    }
    assert!(matches!(with("role", json!("root")), Err(Error::Claims(_))));
    assert!(matches!(with("tenant_id", json!("x")), Err(Error::Claims(_))));
    assert!(matches!(with("exp", json!("soon")), Err(Error::Claims(_))));
}

#[test]
fn what_is_wrong_with_a_claim_is_said_in_words_of_ours() {
    for (claim, value, says) in [
        ("exp", json!("soon"), "exp is of another type; a number"),
        (
            "role",
            json!(["admin"]),
            "role must be admin, tenant_admin, tenant or daemon",
        ),
        ("role", json!("root"), "role must be admin"),
        ("tenant_id", json!("x"), "tenant_id must be a tenant's UUID"),
        ("tenant_id", json!([1]), "tenant_id must be a tenant's UUID"),
    ] {
        let error = with(claim, value).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_is_no_token_is_refused() {
    for text in ["", ".", "..", "a.b.c", "é", "a.b.c.d"] {
        assert!(matches!(keys().verify(text), Err(Error::Malformed)), "{text}");
    }
}

#[test]
fn a_lifetime_beyond_all_dates_is_refused() {
    let minted = keys().mint(Role::Admin, None, "s", Duration::MAX);
    assert!(matches!(minted, Err(Error::Lifetime)));
}

#[test]
fn the_secret_is_not_shown() {
    assert!(!format!("{:?}", keys()).contains(SECRET));
}

/// A key of the folder `tests/`, made with openssl.
fn key(kid: &str, algorithm: KeyAlgorithm, file: &str) -> Key {
    let path = format!("{}/src/identity/keys/tests/{file}", env!("CARGO_MANIFEST_DIR"));
    let mut key = Key {
        kid: kid.to_owned(),
        algorithm,
        secret_file: String::new(),
        private_key_file: String::new(),
        public_key_file: String::new(),
    };
    match file.contains(".pub.") {
        true => key.public_key_file = path,
        false => key.private_key_file = path,
    }
    key
}

fn ring(secret: &str, keys: &[Key]) -> Result<Keys, String> {
    let auth = Auth {
        secret: secret.into(),
        keys: keys.to_vec(),
        ..Auth::default()
    };
    let ring = Ring::read(&auth, false);
    ring.map(Keys::of).map_err(|error| error.to_string())
}

const KINDS: [(KeyAlgorithm, &str); 3] = [
    (KeyAlgorithm::RS256, "rs256"),
    (KeyAlgorithm::ES256, "es256"),
    (KeyAlgorithm::EdDSA, "eddsa"),
];

#[test]
fn a_key_pair_signs_and_its_public_half_checks() {
    for (algorithm, name) in KINDS {
        let private = ring("", &[key("k", algorithm, &format!("{name}.pem"))]).unwrap();
        let token = private.mint(Role::Admin, None, "s", HOUR).unwrap();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!((header.alg, header.kid.as_deref()), (algorithm.into(), Some("k")));
        private.verify(&token).unwrap();
        let public = key("k", algorithm, &format!("{name}.pub.pem"));
        ring(
            SECRET,
            &[key("s", algorithm, &format!("{name}.pem")), public.clone()],
        )
        .unwrap()
        .verify(&token)
        .unwrap();
        let alone = ring("", &[public]).unwrap_err();
        assert!(
            alone.contains("auth.keys[0]") && alone.contains("signs"),
            "{alone}"
        );
    }
}

#[test]
fn a_key_checks_its_own_algorithm_and_no_other() {
    for (algorithm, name) in KINDS {
        let keys = ring("", &[key("k", algorithm, &format!("{name}.pem"))]).unwrap();
        let public = key("k", algorithm, &format!("{name}.pub.pem")).public_key_file;
        // Known to all, and taken for a secret by whoever believes what a token says of itself.
        let secret = std::fs::read(public).unwrap();
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("k".to_owned());
        let mut claims = claims();
        claims["aud"] = json!("jalur");
        let forged = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
        assert!(matches!(keys.verify(&forged), Err(Error::Algorithm(word)) if word == algorithm.word()));
    }
}

#[test]
fn one_key_follows_another() {
    let [first, second] = [
        key("first", KeyAlgorithm::ES256, "es256.pem"),
        key("second", KeyAlgorithm::EdDSA, "eddsa.pem"),
    ];
    let keys = ring("", std::slice::from_ref(&first)).unwrap();
    let mint = |keys: &Keys| keys.mint(Role::Admin, None, "s", HOUR).unwrap();
    let old = mint(&keys);
    let renew = |with: &[Key]| keys.replace(Ring::clone(&ring("", with).unwrap().ring()));

    renew(&[first.clone(), second.clone()]);
    assert!(keys.verify(&old).is_ok());
    renew(&[second.clone(), first]);
    let new = mint(&keys);
    assert!(keys.verify(&old).is_ok() && keys.verify(&new).is_ok());
    renew(&[second]);
    assert!(matches!(keys.verify(&old), Err(Error::UnknownKey(kid)) if kid == "first"));
    assert!(keys.verify(&new).is_ok());
}

#[test]
fn the_secret_without_a_name_is_one_key_among_others() {
    let alone = ring(SECRET, &[]).unwrap();
    let unnamed = alone.mint(Role::Admin, None, "s", HOUR).unwrap();
    let named = key("k", KeyAlgorithm::ES256, "es256.pem");
    let both = ring(SECRET, std::slice::from_ref(&named)).unwrap();
    assert!(both.verify(&unnamed).is_ok());
    let named = ring("", &[named]).unwrap();
    assert!(matches!(named.verify(&unnamed), Err(Error::NoKey)));
}

#[test]
fn what_is_wrong_with_a_key_is_told_by_its_place() {
    let good = key("k", KeyAlgorithm::ES256, "es256.pem");
    let change = |change: fn(&mut Key)| {
        let mut key = good.clone();
        change(&mut key);
        ring("", &[key]).unwrap_err()
    };
    for (error, says) in [
        (change(|key| key.kid.clear()), "auth.keys[0].kid"),
        (
            change(|key| key.private_key_file.clear()),
            "auth.keys[0].algorithm",
        ),
        (
            change(|key| key.public_key_file = "/x".into()),
            "auth.keys[0].algorithm",
        ),
        (
            change(|key| key.algorithm = KeyAlgorithm::HS256),
            "auth.keys[0].private_key_file",
        ),
        (
            change(|key| key.algorithm = KeyAlgorithm::EdDSA),
            "auth.keys[0].private_key_file",
        ),
        (
            change(|key| key.private_key_file = "/nope".into()),
            "auth.keys[0].private_key_file",
        ),
        (
            ring("", &[good.clone(), good.clone()]).unwrap_err(),
            "auth.keys[1].kid",
        ),
        (ring("", &[]).unwrap_err(), "auth.secret"),
    ] {
        assert!(error.contains(says), "{error}");
    }
}
