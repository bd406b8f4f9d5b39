//! What may be configured, and what is said of the rest.

use super::*;
use crate::config::{Auth, Trusted as Configured};

fn configured(text: &str) -> Result<Vec<Entry>, String> {
    let trusted: Vec<Configured> = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let auth = Auth {
        trusted,
        ..Auth::default()
    };
    entry::read(&auth, false).map_err(|error| error.to_string())
}

#[test]
fn an_issuer_and_where_its_keys_are_is_enough() {
    let entries = configured("[{ issuer: i, jwks_url: 'https://id.example.com/jwks' }]").unwrap();
    let [entry] = entries.as_slice() else {
        panic!("{entries:?}")
    };
    assert_eq!((entry.issuer.as_str(), entry.audience.as_str()), ("i", "jalur"));
    assert_eq!(entry.algorithms, [Algorithm::RS256]);
    let Mapping { role, tenant, roles } = &entry.mapping;
    assert_eq!(
        (role.as_str(), tenant.as_str(), roles.len()),
        ("role", "tenant_id", 0)
    );
}

#[test]
fn what_is_wrong_is_told_by_its_place() {
    let more = |more: &str| format!("[{{ issuer: i, jwks_url: 'https://h/jwks', {more} }}]");
    for (text, says) in [
        (
            "[{ issuer: '', jwks_url: 'https://h' }]".to_owned(),
            "auth.trusted[0].issuer",
        ),
        (
            "[{ issuer: jalur, jwks_url: 'https://h' }]".to_owned(),
            "auth.trusted[0].issuer: \"jalur\" is auth.issuer, too",
        ),
        (
            "[{ issuer: i, jwks_url: 'https://h' }, { issuer: i, jwks_url: 'https://h' }]".to_owned(),
            "auth.trusted[1].issuer: \"i\" is auth.trusted[0], too",
        ),
        ("[{ issuer: i }]".to_owned(), "auth.trusted[0].jwks_url"),
        (
            more("jwks_file: /x"),
            "auth.trusted[0].jwks_url: or jwks_file must be given",
        ),
        (
            "[{ issuer: i, jwks_url: 'http://h/jwks' }]".to_owned(),
            "auth.trusted[0].jwks_url: speaks in clear",
        ),
        (
            "[{ issuer: i, jwks_url: 'https://u:hunter2@h/jwks' }]".to_owned(),
            "auth.trusted[0].jwks_url: must hold no login",
        ),
        (
            "[{ issuer: i, jwks_url: 'file:///etc/jwks' }]".to_owned(),
            "auth.trusted[0].jwks_url: \"file",
        ),
        (
            "[{ issuer: i, jwks_url: jwks }]".to_owned(),
            "auth.trusted[0].jwks_url: \"jwks\" must be https://",
        ),
        (
            "[{ issuer: i, jwks_file: /nope }]".to_owned(),
            "auth.trusted[0].jwks_file: /nope cannot be read",
        ),
        (
            "[{ issuer: i, jwks_file: /dev/null }]".to_owned(),
            "auth.trusted[0].jwks_file: /dev/null is no JWK set",
        ),
        (
            more("algorithms: []"),
            "auth.trusted[0].algorithms: must name one",
        ),
        (
            more("algorithms: [RS256, HS256]"),
            "auth.trusted[0].algorithms[1]: \"HS256\" must be one of RS256",
        ),
        (
            more("algorithms: [none]"),
            "auth.trusted[0].algorithms[0]: \"none\"",
        ),
        (
            more("roles: { ops: root }"),
            "auth.trusted[0].roles.ops: \"root\" must be admin",
        ),
        (more("role_claim: ''"), "auth.trusted[0].role_claim"),
        (more("tenant_claim: ''"), "auth.trusted[0].tenant_claim"),
        (more("colour: red"), "colour"),
    ] {
        let error = configured(&text).unwrap_err();
        assert!(
            error.contains(says) && !error.contains("hunter2"),
            "{text}: {error}"
        );
    }
}

#[test]
fn clear_text_is_for_this_machine_alone() {
    for url in [
        "http://127.0.0.1:8080/jwks",
        "http://localhost/jwks",
        "http://[::1]/jwks",
    ] {
        assert!(
            configured(&format!("[{{ issuer: i, jwks_url: '{url}' }}]")).is_ok(),
            "{url}"
        );
    }
    let auth = Auth {
        trusted: serde_yaml::from_str("[{ issuer: i, jwks_url: 'http://h/jwks' }]").unwrap(),
        ..Auth::default()
    };
    assert!(entry::read(&auth, true).is_ok());
}
