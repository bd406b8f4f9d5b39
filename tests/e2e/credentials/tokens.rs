//! Tokens: bought in every way that there is, refused, and asked for too often.

use std::time::{Duration, Instant};

use super::*;

const FORM: &str = "application/x-www-form-urlencoded";

/// Asks for a token with a form, and perhaps by HTTP Basic.
async fn ask(stack: &Stack, basic: Option<&Credential>, form: String) -> Answer {
    let mut request = local::http::client()
        .post(format!("{}/api/auth/token", stack.url()))
        .timeout(Duration::from_secs(30))
        .header(CONTENT_TYPE, FORM)
        .body(form);
    if let Some(Credential { id, secret }) = basic {
        request = request.basic_auth(id, Some(secret));
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    Answer {
        status,
        headers,
        json: serde_json::from_str(&text).unwrap(),
        text,
    }
}

#[tokio::test]
async fn a_credential_buys_tokens_in_every_way_that_oauth_clients_know() {
    let stack = Stack::without_daemons().await;
    let tenant = stack.tenant("shop").await;
    let body = json!({ "role": "tenant_admin", "label": "order service" });
    let credential = Credential::create(&stack, tenant, &stack.admin(), &body).await;
    assert_eq!(
        stack.get(&path(tenant), &stack.admin()).await.1["credentials"][0]["last_used_at"],
        Value::Null
    );

    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        credential.id, credential.secret
    );
    let json = ("application/json", credential.json().to_string().into_bytes());
    let post = reqwest::Method::POST;
    for (way, answer) in [
        ("JSON", stack.send(post, "/api/auth/token", "", Some(json)).await),
        ("a form", ask(&stack, None, form).await),
        (
            "HTTP Basic",
            ask(&stack, Some(&credential), "grant_type=client_credentials".into()).await,
        ),
    ] {
        assert_eq!(answer.status, 200, "{way}: {}", answer.text);
        assert_eq!(answer.headers[CACHE_CONTROL], "no-store", "{way}");
        assert_eq!(
            (&answer.json["token_type"], &answer.json["expires_in"]),
            (&json!("Bearer"), &json!(3600)),
            "{way}"
        );
        let token = answer.json["access_token"].as_str().unwrap();
        assert_eq!(stack.get(&path(tenant), token).await.0, 200, "{way}");
        assert_eq!(stack.get("/api/tenants", token).await.0, 403, "{way}");
    }
    let mut auth = AuthServiceClient::connect(stack.url()).await.unwrap();
    let request = v1::IssueTokenRequest {
        client_id: credential.id.clone(),
        client_secret: credential.secret.clone(),
    };
    let token = auth.issue_token(request).await.unwrap().into_inner().access_token;
    assert_eq!(stack.get("/messages", &token).await.0, 200);

    let (status, list) = stack.get(&path(tenant), &token).await;
    assert_eq!(status, 200, "{list}");
    let listed = &list["credentials"][0];
    assert_eq!(
        [
            &listed["client_id"],
            &listed["role"],
            &listed["label"],
            &listed["amqp"]
        ],
        [
            &json!(credential.id),
            &json!("tenant_admin"),
            &json!("order service"),
            &json!(false)
        ]
    );
    assert!(listed["last_used_at"].is_string(), "{list}");
    let kept: String = sqlx::query_scalar("select c::text from credentials c")
        .fetch_one(stack.pool())
        .await
        .unwrap();
    assert!(kept.contains("$argon2id$"), "{kept}");
    for (place, text) in [
        ("the list", list.to_string()),
        ("the database", kept),
        ("the log", stack.control_plane().log_tail(1_000)),
    ] {
        assert!(!text.contains(&credential.secret), "{place}: {text}");
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_credential_the_answer_is_the_same() {
    let stack = Stack::without_daemons().await;
    let tenant = stack.tenant("shop").await;
    let [credential, revoked] = [
        Credential::of(&stack, tenant).await,
        Credential::of(&stack, tenant).await,
    ];
    let revoke = format!("{}/{}", path(tenant), revoked.id);
    assert_eq!(stack.delete(&revoke, &stack.admin()).await.0, 200);
    let of = |id: &str, secret: &str| json!({ "client_id": id, "client_secret": secret });
    let mut answers = Vec::new();
    for (what, body) in [
        ("a wrong secret", of(&credential.id, &revoked.secret)),
        (
            "an unknown id",
            of(&Uuid::new_v4().to_string(), &credential.secret),
        ),
        ("no id at all", of("nobody", &credential.secret)),
        ("a revoked one", of(&revoked.id, &revoked.secret)),
    ] {
        let body = ("application/json", body.to_string().into_bytes());
        let answer = stack
            .send(reqwest::Method::POST, "/api/auth/token", "", Some(body))
            .await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        assert_eq!(
            answer.headers[WWW_AUTHENTICATE], "Basic realm=\"jalur\"",
            "{what}"
        );
        assert_eq!(answer.headers[CACHE_CONTROL], "no-store", "{what}");
        assert_eq!(
            (&answer.json["code"], &answer.json["error"]),
            (&json!(16), &json!("invalid_client")),
            "{what}"
        );
        assert_eq!(answer.json["message"], answer.json["error_description"], "{what}");
        // Each request has an id of its own; nothing else tells them apart.
        let id = answer.headers["x-request-id"].to_str().unwrap();
        answers.push(answer.text.replace(id, ""));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");

    for (form, status, error) in [
        (
            format!("grant_type=password&client_id={}", credential.id),
            400,
            "unsupported_grant_type",
        ),
        (
            "grant_type=client_credentials&scope=x".to_owned(),
            400,
            "invalid_scope",
        ),
        ("grant_type=client_credentials".to_owned(), 400, "invalid_request"),
        (
            format!("client_secret={}", "x".repeat(20_000)),
            413,
            "invalid_request",
        ),
    ] {
        let answer = ask(&stack, None, form).await;
        assert_eq!(
            (answer.status, &answer.json["error"]),
            (status, &json!(error)),
            "{}",
            answer.text
        );
    }
    let (status, answer) = stack
        .post("/api/auth/token", "", &json!({ "client": credential.id }))
        .await;
    assert_eq!(
        (status, &answer["error"]),
        (400, &json!("invalid_request")),
        "{answer}"
    );
}

#[tokio::test]
async fn a_flood_of_token_requests_is_refused_and_stops_nobody_else() {
    let stack = Stack::without_daemons().await;
    let [greedy, calm] = [stack.tenant("greedy").await, stack.tenant("calm").await];
    let [flooding, other] = [
        Credential::of(&stack, greedy).await,
        Credential::of(&stack, calm).await,
    ];
    let admin = stack.admin();
    let flood = join_all((0..400).map(|number| {
        let (stack, flooding) = (&stack, &flooding);
        async move {
            let secret = if number % 2 == 0 {
                &flooding.secret
            } else {
                "wrong"
            };
            let id = if number % 4 == 3 {
                Uuid::new_v4().to_string()
            } else {
                flooding.id.clone()
            };
            let body = json!({ "client_id": id, "client_secret": secret }).to_string();
            let body = ("application/json", body.into_bytes());
            stack
                .send(reqwest::Method::POST, "/api/auth/token", "", Some(body))
                .await
        }
    }));
    let others = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let start = Instant::now();
            assert_eq!(stack.get(&format!("/api/tenants/{calm}"), &admin).await.0, 200);
            slowest = slowest.max(start.elapsed());
        }
        // Its own credential has room among all that.
        other.token(&stack).await;
        slowest
    };
    let (flood, slowest) = tokio::join!(flood, others);
    let mut counts = std::collections::BTreeMap::<u16, usize>::new();
    for answer in &flood {
        *counts.entry(answer.status).or_default() += 1;
        if answer.status == 429 {
            assert!(answer.headers.contains_key(RETRY_AFTER), "{}", answer.text);
            assert_eq!(answer.json["error"], "temporarily_unavailable", "{}", answer.text);
        }
    }
    let statuses: Vec<_> = counts.keys().copied().collect();
    assert_eq!(statuses, [200, 401, 429], "{counts:?}");
    assert!(counts[&429] > 200, "{counts:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
