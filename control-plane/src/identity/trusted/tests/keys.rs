//! Which key of a set a token is checked with.

use super::*;

const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

fn changed(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

#[test]
fn a_key_has_to_be_for_signatures_and_for_the_algorithm() {
    let key = || public(Some("k"), Algorithm::RS256);
    for (name, value) in [
        ("use", json!("sig")),
        ("key_ops", json!(["verify"])),
        ("alg", json!("RS256")),
        ("x5c", json!(["whatever"])),
    ] {
        let good = set(&[changed(key(), name, value)]);
        assert!(good.find(Some("k"), Algorithm::RS256).is_ok(), "{name}");
    }
    for (name, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["encrypt"])),
        ("alg", json!("RS512")),
        ("alg", json!("HS256")),
        ("alg", json!("RSA-OAEP")),
        ("kty", json!("oct")),
        ("kty", json!("EC")),
        ("n", json!("AQAB")),
        ("n", json!("not base64!")),
    ] {
        let bad = set(&[changed(key(), name, value.clone())]);
        assert!(!bad.is_for(&[Algorithm::RS256]), "{name}: {value}");
    }
    let elliptic = || public(Some("k"), Algorithm::ES256);
    for (name, value) in [
        ("crv", json!("P-384")),
        ("crv", json!("P-521")),
        ("crv", json!("secp256k1")),
        ("x", json!("AQAB")),
    ] {
        let bad = set(&[changed(elliptic(), name, value.clone())]);
        assert!(!bad.is_for(&[Algorithm::ES256]), "{name}: {value}");
    }
    let short = changed(public(Some("k"), Algorithm::EdDSA), "x", json!("AQAB"));
    assert!(!set(&[short]).is_for(&[Algorithm::EdDSA]));
}

#[test]
fn a_key_checks_what_it_is_for_and_nothing_else() {
    let keys = set(&ALL.map(|algorithm| public(Some(&format!("{algorithm:?}")), algorithm)));
    for named in ALL {
        for algorithm in ALL {
            let found = keys.find(Some(&format!("{named:?}")), algorithm);
            assert_eq!(found.is_ok(), named == algorithm, "{named:?} for {algorithm:?}");
        }
    }
    assert!(keys.find(Some("RS256"), Algorithm::HS256).is_err());
}

#[test]
fn a_secret_in_a_set_is_none() {
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256" });
    assert!(!set(&[secret]).is_for(&[Algorithm::HS256]));
}

#[test]
fn without_a_name_it_has_to_be_clear_which_one_is_meant() {
    let one = set(&[
        public(Some("k"), Algorithm::RS256),
        public(None, Algorithm::ES256),
    ]);
    assert!(one.find(None, Algorithm::RS256).is_ok());
    assert!(one.find(None, Algorithm::ES256).is_ok());
    assert!(matches!(
        one.find(None, Algorithm::EdDSA),
        Err(Refusal::Ambiguous)
    ));
    let two = set(&[
        public(Some("k"), Algorithm::RS256),
        public(Some("l"), Algorithm::RS256),
    ]);
    assert!(matches!(
        two.find(None, Algorithm::RS256),
        Err(Refusal::Ambiguous)
    ));
    assert!(two.find(Some("l"), Algorithm::RS256).is_ok());
}

#[test]
fn what_is_not_known_spoils_no_other_key() {
    let keys = json!({ "keys": [
        { "kty": "AKP", "alg": "ML-DSA-44", "pub": "x" }, {}, 7, null,
        public(Some("k"), Algorithm::ES256),
    ], "more": 1 });
    let keys = Jwks::parse(keys.to_string().as_bytes()).unwrap();
    assert!(keys.find(Some("k"), Algorithm::ES256).is_ok());
    assert_eq!(keys.kids(), ["k"]);
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
        assert!(Jwks::parse(text.as_bytes()).is_err(), "{text}");
    }
}
