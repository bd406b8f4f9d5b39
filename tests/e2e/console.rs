//! The console is served, by itself and with nothing from outside, and signs in by a link where `cargo run` wants it to.

use control_plane::identity::Codes;
use reqwest::Method;
use serde_json::json;

use crate::support::{Options, Stack};

#[tokio::test]
async fn the_console_is_served_and_a_link_signs_in_once() {
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack::start(Options {
        daemons: 0,
        control_plane_env: vec![(
            "JALUR_AUTH__SIGN_IN_FOLDER",
            folder.path().to_str().unwrap().to_owned(),
        )],
        ..Options::default()
    })
    .await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/console/app/main.js", "text/javascript; charset=utf-8"),
        ("/console/style/base.css", "text/css; charset=utf-8"),
        ("/console/favicon.svg", "image/svg+xml"),
    ] {
        let answer = stack.send(Method::GET, path, "", None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert_eq!(answer.headers["content-type"], content_type, "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert_eq!(answer.headers["cache-control"], "no-cache");
        assert!(answer.headers.contains_key("etag") && answer.headers.contains_key("x-request-id"));
    }
    let page = stack.send(Method::GET, "/", "", None).await.text;
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    assert_eq!(stack.get("/console/app/none.js", "").await.0, 404);
    let refused = stack.send(Method::POST, "/", "", None).await;
    assert_eq!(
        (refused.status, refused.headers["allow"].to_str().unwrap()),
        (405, "GET, HEAD")
    );

    let code = Codes::new(folder.path()).issue().unwrap();
    let redeem = async |body: serde_json::Value| {
        let body = ("application/json", body.to_string().into_bytes());
        stack.send(Method::POST, "/console/sign-in", "", Some(body)).await
    };
    let answer = redeem(json!({ "code": code })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let token = answer.json["access_token"].as_str().unwrap();
    assert_eq!(stack.get("/api/daemons", token).await.0, 200);
    for (body, status) in [
        (json!({ "code": code }), 401),
        (json!({ "code": "../secret" }), 401),
        (json!({}), 400),
        (json!({ "code": "0".repeat(2_000) }), 413),
    ] {
        let answer = redeem(body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(!answer.json["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_console_can_be_turned_off_and_there_are_no_links_unless_they_are_configured() {
    let stack = Stack::without_daemons().await;
    let body = ("application/json", br#"{"code":""}"#.to_vec());
    let answer = stack.send(Method::POST, "/console/sign-in", "", Some(body)).await;
    // It is a file that there is not, like any other.
    assert_eq!(answer.status, 405, "{}", answer.text);
    let stack = Stack::start(Options {
        daemons: 0,
        control_plane_env: vec![("JALUR_HTTP__CONSOLE", "false".into())],
        ..Options::default()
    })
    .await;
    for path in ["/", "/console", "/console/app/main.js"] {
        assert_eq!(stack.get(path, "").await.0, 404, "{path}");
    }
}
