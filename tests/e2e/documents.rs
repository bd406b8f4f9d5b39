//! What is served and shipped to read: it says what is true.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_yaml::Value;

use crate::support::{Options, Stack};

/// The dotted keys of a configuration, as environment variables.
fn variables(config: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    let Some(section) = config.as_mapping() else {
        into.insert(format!("JALUR_{}", prefix.to_uppercase()));
        return;
    };
    for (name, value) in section {
        let name = name.as_str().unwrap();
        let key = if prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{prefix}__{name}")
        };
        variables(value, &key, into);
    }
}

#[test]
fn the_env_example_lists_every_variable_and_no_other() {
    let mut known = BTreeSet::new();
    variables(
        &serde_yaml::to_value(control_plane::Config::default()).unwrap(),
        "",
        &mut known,
    );
    variables(
        &serde_yaml::to_value(ingest_daemon::Config::default()).unwrap(),
        "",
        &mut known,
    );
    let example = include_str!("../../.env.example");
    let assigned = example
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='));
    let listed: BTreeSet<String> = assigned
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("JALUR_") && !name.ends_with("_FILE"))
        .collect();
    assert_eq!(listed, known);
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
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let (status, document) = stack.get("/openapi.json", "").await;
    assert_eq!(status, 200);
    assert_eq!(document, control_plane::gateway::openapi());
    for path in [
        "/api/tenants",
        "/tenants/{id}",
        "/api/tenants/{tenant_id}/messages",
        "/messages",
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
