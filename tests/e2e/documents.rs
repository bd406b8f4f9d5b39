//! What is served and shipped to read: it says what is true.

use std::collections::{BTreeMap, BTreeSet};

use common::config::Config;
use reqwest::Method;
use serde::Serialize;
use serde_yaml::Value;

use crate::support::Stack;

/// A program's keys and what each is by default, as a variable would say it.
fn defaults(config: &impl Serialize) -> BTreeMap<String, String> {
    fn walk(value: &Value, key: &str, into: &mut BTreeMap<String, String>) {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            value => serde_yaml::to_string(value).unwrap().trim().to_owned(),
        };
        match value {
            Value::Mapping(section) => {
                for (name, value) in section {
                    let dot = if key.is_empty() { "" } else { "." };
                    walk(value, &format!("{key}{dot}{}", name.as_str().unwrap()), into);
                }
            }
            Value::Sequence(items) => {
                let items: Vec<_> = items.iter().map(text).collect();
                into.insert(key.to_owned(), items.join(","));
            }
            value => {
                into.insert(key.to_owned(), text(value));
            }
        }
    }
    let mut into = BTreeMap::new();
    walk(&serde_yaml::to_value(config).unwrap(), "", &mut into);
    into
}

fn variable(key: &str) -> String {
    format!("JALUR_{}", key.to_uppercase().replace('.', "__"))
}

#[test]
fn the_env_example_lists_every_variable_and_no_other_with_its_default() {
    let programs = [
        defaults(&control_plane::Config::default()),
        defaults(&ingest_daemon::Config::default()),
    ];
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in programs.into_iter().flatten() {
        known.entry(variable(&key)).or_default().push(value);
    }
    let example = include_str!("../../.env.example");
    let mut listed = BTreeSet::new();
    for line in example.lines() {
        let is_default = line.starts_with('#');
        let Some((name, value)) = line.trim_start_matches('#').split_once('=') else {
            continue;
        };
        let of_a_secret = name.ends_with("_FILE") && !known.contains_key(name);
        if !name.starts_with("JALUR_") || of_a_secret {
            continue;
        }
        listed.insert(name.to_owned());
        // What is no comment has no default.
        if let Some(values) = known.get(name).filter(|_| is_default) {
            assert!(
                values.contains(&value.to_owned()),
                "{name} is {values:?} by default, not {value}"
            );
        }
    }
    assert_eq!(listed, known.into_keys().collect());
}

/// The keys that a program alone has, with the files of its secrets.
fn own<C: Config>(others: &BTreeMap<String, String>) -> BTreeSet<String> {
    let keys = defaults(&C::default()).into_keys();
    let mut own: BTreeSet<_> = keys.filter(|key| !others.contains_key(key)).collect();
    let files = C::SECRETS.iter().filter(|key| own.contains(**key));
    let files: Vec<_> = files.map(|key| format!("{key}_file")).collect();
    own.extend(files);
    own
}

#[test]
fn each_program_passes_over_what_is_the_others_alone() {
    let of_control_plane = defaults(&control_plane::Config::default());
    let of_daemon = defaults(&ingest_daemon::Config::default());
    let foreign = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(
        foreign(control_plane::Config::FOREIGN),
        own::<ingest_daemon::Config>(&of_control_plane),
        "control-plane/src/config.rs: FOREIGN is to list the daemon's own keys"
    );
    assert_eq!(
        foreign(ingest_daemon::Config::FOREIGN),
        own::<control_plane::Config>(&of_daemon),
        "ingest-daemon/src/config.rs: FOREIGN is to list the control plane's own keys"
    );
}

#[test]
fn the_openapi_document_in_the_repository_is_the_programs() {
    let committed = include_str!("../../docs/openapi.json");
    let current = format!("{:#}\n", control_plane::gateway::openapi());
    assert!(
        committed == current,
        "docs/openapi.json has drifted: cargo run -p control-plane -- openapi > docs/openapi.json"
    );
}

#[tokio::test]
async fn the_openapi_document_and_its_page_are_served_without_a_token() {
    let stack = Stack::without_daemons().await;
    let (status, document) = stack.get("/openapi.json", "").await;
    assert_eq!(status, 200);
    assert_eq!(document, control_plane::gateway::openapi());
    for path in [
        "/api/tenants",
        "/api/tenants/{id}",
        "/api/tenants/{tenant_id}/messages",
        "/api/messages",
    ] {
        assert!(document["paths"][path].is_object(), "{path} is not described");
    }
    let page = stack.send(Method::GET, "/docs/", "", None).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("swagger-ui"), "{}", page.text);
    assert!(
        !page.text.contains("https://"),
        "the page asks somebody else: {}",
        page.text
    );
}
