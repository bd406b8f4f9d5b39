//! Tokens of outside issuers, good ones and tries.

mod configuration;
mod fetching;
mod keys;

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{claims::Mapping, entry::Entry, issuer::Issuer, jwks::Jwks, *};
use crate::identity::{Caller, Role, keys::Error as Refusal};

const ISSUER: &str = "https://id.example.com";
const TENANT: Uuid = Uuid::from_u128(7);

const RSA: &[u8] = include_bytes!("../../keys/tests/rs256.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../../keys/tests/rs256.pub.pem");
const EC: &[u8] = include_bytes!("../../keys/tests/es256.pem");
const ED: &[u8] = include_bytes!("../../keys/tests/eddsa.pem");

fn signing(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_pem(EC).unwrap(),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(ED).unwrap(),
        _ => EncodingKey::from_rsa_pem(RSA).unwrap(),
    }
}

/// The public half of a key, as a set has it.
fn public(kid: Option<&str>, algorithm: Algorithm) -> Value {
    let mut jwk = Jwk::from_encoding_key(&signing(algorithm), algorithm).unwrap();
    jwk.common.key_id = kid.map(str::to_owned);
    jwk.common.key_algorithm = None;
    serde_json::to_value(jwk).unwrap()
}

fn set(keys: &[Value]) -> Jwks {
    Jwks::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn entry(issuer: &str, algorithms: &[Algorithm], source: Source) -> Entry {
    Entry {
        issuer: issuer.into(),
        audience: "jalur".into(),
        algorithms: algorithms.to_vec(),
        mapping: Mapping {
            role: "role".into(),
            tenant: "tenant_id".into(),
            roles: [].into(),
        },
        source,
    }
}

fn issuer(algorithms: &[Algorithm], keys: &[Value]) -> Issuer {
    Issuer::new(entry(ISSUER, algorithms, Source::File(set(keys))))
}

fn claims() -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    json!({
        "iss": ISSUER, "aud": ["account", "jalur"], "sub": "ann", "iat": now, "exp": now + 60,
        "role": "tenant", "tenant_id": TENANT,
    })
}

fn header(kid: Option<&str>, algorithm: Algorithm) -> Header {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    header
}

fn token(kid: Option<&str>, algorithm: Algorithm, claims: &Value) -> String {
    jsonwebtoken::encode(&header(kid, algorithm), claims, &signing(algorithm)).unwrap()
}

/// What comes of a token with another claim, which is good otherwise.
async fn with(name: &str, value: Value) -> Result<Caller, Refusal> {
    let mut claims = claims();
    claims[name] = value;
    let issuer = issuer(&[Algorithm::ES256], &[public(Some("k"), Algorithm::ES256)]);
    issuer.verify(&token(Some("k"), Algorithm::ES256, &claims)).await
}

/// Header and claims as they are, with some signature.
fn raw(header: &Value, signature: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let parts = [header.to_string(), claims().to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{}.{signature}", parts.join("."))
}

#[tokio::test]
async fn what_an_issuer_signed_is_accepted() {
    for algorithm in [
        Algorithm::RS256,
        Algorithm::PS256,
        Algorithm::ES256,
        Algorithm::EdDSA,
    ] {
        let issuer = issuer(&[algorithm], &[public(Some("k"), algorithm)]);
        let caller = issuer
            .verify(&token(Some("k"), algorithm, &claims()))
            .await
            .unwrap();
        assert_eq!(caller.role(), Role::Tenant);
        assert_eq!(caller.tenant().map(|tenant| tenant.0), Some(TENANT));
        assert_eq!(caller.subject(), "ann");
        assert!(caller.expires() > std::time::SystemTime::now());
    }
}

#[tokio::test]
async fn a_token_is_checked_by_the_issuer_that_it_names_and_by_no_other() {
    let trusted = Trusted::default();
    let one = Source::File(set(&[public(Some("k"), Algorithm::ES256)]));
    let other = Source::File(set(&[public(Some("e"), Algorithm::EdDSA)]));
    trusted.replace(vec![
        entry(ISSUER, &[Algorithm::ES256, Algorithm::EdDSA], one),
        entry("https://other.example.com", &[Algorithm::EdDSA], other),
    ]);
    let good = token(Some("k"), Algorithm::ES256, &claims());
    assert!(trusted.issuer_of(&good).unwrap().verify(&good).await.is_ok());

    // A key of the other issuer's, under the name of this one.
    let forged = token(Some("e"), Algorithm::EdDSA, &claims());
    let refused = trusted.issuer_of(&forged).unwrap().verify(&forged).await;
    assert!(
        matches!(&refused, Err(Refusal::NotIssuers(kid, Algorithm::EdDSA)) if kid == "e"),
        "{refused:?}"
    );
    let named = token(Some("k"), Algorithm::EdDSA, &claims());
    let refused = trusted.issuer_of(&named).unwrap().verify(&named).await;
    assert!(matches!(refused, Err(Refusal::NotIssuers(..))), "{refused:?}");

    for iss in [
        json!("jalur"),
        json!("https://evil.example.com"),
        json!([ISSUER]),
        Value::Null,
    ] {
        let mut claims = claims();
        claims["iss"] = iss;
        let stranger = token(Some("k"), Algorithm::ES256, &claims);
        assert!(trusted.issuer_of(&stranger).is_none(), "{claims}");
    }
    for nonsense in ["", "a.b.c", "x"] {
        assert!(trusted.issuer_of(nonsense).is_none());
    }
}

#[tokio::test]
async fn algorithms_are_what_is_configured_whatever_a_token_says() {
    let key = public(Some("k"), Algorithm::RS256);
    let issuer = issuer(&[Algorithm::RS256], std::slice::from_ref(&key));
    for algorithm in ["none", "None", "HS256", "ES512", "made-up"] {
        for signature in ["", "AAAA"] {
            let unsigned = raw(&json!({ "alg": algorithm, "typ": "JWT", "kid": "k" }), signature);
            let refused = issuer.verify(&unsigned).await;
            assert!(
                matches!(&refused, Err(Refusal::Algorithms(wanted)) if wanted == "RS256"),
                "{refused:?}"
            );
        }
    }
    // Known to all, and taken for a secret by whoever believes what a token says of itself.
    for secret in [RSA_PUBLIC, key["n"].as_str().unwrap().as_bytes()] {
        let forged = jsonwebtoken::encode(
            &header(Some("k"), Algorithm::HS256),
            &claims(),
            &EncodingKey::from_secret(secret),
        );
        let refused = issuer.verify(&forged.unwrap()).await;
        assert!(matches!(refused, Err(Refusal::Algorithms(_))), "{refused:?}");
    }
    // Of the same family, and signed by the right key.
    for algorithm in [Algorithm::RS512, Algorithm::PS256] {
        let refused = issuer.verify(&token(Some("k"), algorithm, &claims())).await;
        assert!(matches!(refused, Err(Refusal::Algorithms(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn keys_that_a_token_brings_along_are_not_looked_at() {
    let issuer = issuer(
        &[Algorithm::ES256, Algorithm::EdDSA],
        &[public(Some("k"), Algorithm::ES256)],
    );
    let mut own = header(Some("k"), Algorithm::EdDSA);
    own.jwk = serde_json::from_value(public(Some("k"), Algorithm::EdDSA)).ok();
    own.jku = Some("https://evil.example.com/jwks".into());
    own.x5u = Some("https://evil.example.com/cert".into());
    let forged = jsonwebtoken::encode(&own, &claims(), &signing(Algorithm::EdDSA)).unwrap();
    let refused = issuer.verify(&forged).await;
    assert!(matches!(refused, Err(Refusal::NotIssuers(..))), "{refused:?}");

    own.alg = Algorithm::ES256;
    let good = jsonwebtoken::encode(&own, &claims(), &signing(Algorithm::ES256)).unwrap();
    assert!(
        issuer.verify(&good).await.is_ok(),
        "nor do they harm one that is good"
    );
}

#[tokio::test]
async fn a_token_that_is_for_something_else_is_refused() {
    let issuer = issuer(&[Algorithm::ES256], &[public(Some("k"), Algorithm::ES256)]);
    let of_type = async |kind: Option<&str>, crit: Option<&str>| {
        let mut header = header(Some("k"), Algorithm::ES256);
        header.typ = kind.map(str::to_owned);
        header.crit = crit.map(|crit| vec![crit.to_owned()]);
        let token = jsonwebtoken::encode(&header, &claims(), &signing(Algorithm::ES256)).unwrap();
        issuer.verify(&token).await
    };
    for kind in [None, Some("JWT"), Some("at+jwt"), Some("application/at+JWT")] {
        assert!(of_type(kind, None).await.is_ok(), "{kind:?}");
    }
    for kind in ["logout+jwt", "dpop+jwt", "secevent+jwt"] {
        let refused = of_type(Some(kind), None).await.unwrap_err();
        assert!(refused.to_string().contains(kind), "{refused}");
    }
    let refused = of_type(None, Some("b64")).await.unwrap_err();
    assert!(refused.to_string().contains("crit"), "{refused}");
}

#[tokio::test]
async fn registered_claims_are_checked_as_those_of_ours() {
    let now = jsonwebtoken::get_current_timestamp();
    assert!(with("exp", json!(now - 2)).await.is_ok());
    assert!(matches!(
        with("exp", json!(now - 30)).await,
        Err(Refusal::Expired)
    ));
    assert!(matches!(with("nbf", json!(now + 30)).await, Err(Refusal::NotYet)));
    assert!(matches!(
        with("aud", json!("other")).await,
        Err(Refusal::Audience(_))
    ));
    for (claim, value, says) in [
        ("exp", Value::Null, "exp is missing"),
        ("exp", json!("soon"), "exp is of another type"),
        ("sub", Value::Null, "sub is missing"),
        ("aud", Value::Null, "aud is missing"),
        ("role", json!("daemon"), "role names no role"),
        ("tenant_id", Value::Null, "role tenant needs a tenant"),
    ] {
        let refused = with(claim, value).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
    let changed = token(Some("k"), Algorithm::ES256, &claims());
    let (rest, _) = changed.rsplit_once('.').unwrap();
    let issuer = issuer(&[Algorithm::ES256], &[public(Some("k"), Algorithm::ES256)]);
    let refused = issuer.verify(&format!("{rest}.AAAA")).await;
    assert!(matches!(refused, Err(Refusal::Signature)), "{refused:?}");
}
