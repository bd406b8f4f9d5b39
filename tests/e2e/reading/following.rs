use std::time::Duration;

use control_plane::identity::Role;
use proto::v1::{self, message_service_client::MessageServiceClient};
use reqwest::Method;
use serde_json::json;
use tests::load::{Publisher, Reader};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{paused, positions, put, streams::Stream};
use crate::{
    grpc::{channel, with_token},
    support::{Options, Stack, eventually},
};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_follower_sees_everything_as_it_is_stored_and_goes_on_where_it_was() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("followed").await;
    let path = format!("/api/tenants/{tenant}/messages/stream");
    let own = stack.token(Role::Tenant, Some(tenant.0));
    let follow = format!("{path}?follow=true");
    let mut events = Stream::events(&stack, &follow, &own, None).await;
    let mut lines = Stream::lines(&stack, &follow, &own).await;
    // Nobody reads this one.
    let _ignored = Stream::lines(&stack, &follow, &own).await;
    let mut client = MessageServiceClient::new(channel(&stack).await);
    let request = v1::StreamMessagesRequest {
        follow: true,
        ..Default::default()
    };
    let mut grpc = client
        .stream_messages(with_token(request, &own))
        .await
        .unwrap()
        .into_inner();

    let mut publisher = Publisher::new(stack.amqp_url());
    let sent = publisher.send(&[tenant], 3_000, 2_000).await.unwrap();
    let mut reader = Reader::new(&stack.rest(), tenant);
    reader.until(3_000).await.unwrap();
    reader.expect(&sent[&tenant]).await.unwrap();
    let (_, page) = stack
        .get(
            &format!("/api/tenants/{tenant}/messages?order=newest&limit=1"),
            &own,
        )
        .await;
    let last = positions(page["data"].as_array().unwrap())[0];
    let seen = events.take(3_000).await;
    assert!(seen.is_sorted_by(|a, b| a < b) && seen.last() == Some(&last));
    assert_eq!(lines.take(3_000).await, seen);
    let mut by_grpc = Vec::new();
    while by_grpc.len() < 3_000 {
        let message = timeout(PATIENCE, grpc.message()).await.unwrap().unwrap().unwrap();
        by_grpc.push(message.message.unwrap().position);
    }
    assert_eq!(by_grpc, seen);

    // Who does not read keeps no connection to the database.
    eventually("nobody is at work", async || {
        let busy: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and application_name like '%reading' and state <> 'idle'",
        )
        .fetch_one(stack.pool())
        .await
        .unwrap();
        busy == 0
    })
    .await;

    // A browser that was cut off says what it saw last, whatever its address says.
    let from = seen[1_499].to_string();
    let mut resumed = Stream::events(&stack, &format!("{follow}&cursor=5"), &own, Some(&from)).await;
    assert_eq!(resumed.take(1_500).await, seen[1_500..]);
    let body = json!({ "messages": [{ "payload": { "exact": 1.10 } }] });
    let (status, _) = stack
        .post(&format!("/api/tenants/{tenant}/messages"), &own, &body)
        .await;
    assert_eq!(status, 200);
    for stream in [&mut events, &mut lines, &mut resumed] {
        assert!(stream.take(1).await[0] > last);
    }

    // A tenant that is paused is followed all the same; one that is gone is not.
    let (status, _) = stack
        .patch(
            &format!("/api/tenants/{tenant}"),
            &stack.admin(),
            &json!({ "status": "paused" }),
        )
        .await;
    assert_eq!(status, 200);
    put(
        &stack,
        tenant,
        &[(last + 100, OffsetDateTime::now_utc(), json!(1))],
    )
    .await;
    assert_eq!(events.take(1).await, [last + 100]);
    let mut by_admin = Stream::events(&stack, &format!("{follow}&cursor={last}"), &stack.admin(), None).await;
    let (status, _) = stack
        .delete(&format!("/api/tenants/{tenant}"), &stack.admin())
        .await;
    assert_eq!(status, 200);
    assert!(
        events
            .error()
            .await
            .starts_with("the token is not accepted: its tenant")
    );
    assert!(
        events.next().await.unwrap().is_none(),
        "an event says why, and it is over"
    );
    assert!(
        lines
            .error()
            .await
            .starts_with("the token is not accepted: its tenant")
    );
    assert!(lines.next().await.is_err(), "lines break off");
    assert!(by_admin.error().await.ends_with("does not exist"));
    let status = loop {
        match timeout(PATIENCE, grpc.message()).await.unwrap() {
            Ok(message) => assert!(message.is_some(), "it says why it ends"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn an_export_is_everything_there_is_and_streams_end_with_what_they_need() {
    let stack = Stack::without_daemons().await;
    let tenant = paused(&stack, "exported").await;
    let path = format!("/api/tenants/{tenant}/messages/stream");
    let now = OffsetDateTime::now_utc();
    let rows: Vec<_> = (1..=2_500_i64).map(|n| (n * 3, now, json!({ "n": n }))).collect();
    put(&stack, tenant, &rows).await;
    let large: Vec<_> = (1..=7_i64)
        .map(|n| (10_000 + n, now, json!("x".repeat(900_000))))
        .collect();
    put(&stack, tenant, &large).await;
    let wanted: Vec<_> = rows
        .iter()
        .chain(&large)
        .map(|(position, ..)| *position)
        .collect();
    let mut export = Stream::lines(&stack, &path, &stack.admin()).await;
    assert_eq!(export.take(2_507).await, wanted);
    assert!(export.next().await.unwrap().is_none());
    let mut rest = Stream::events(&stack, &format!("{path}?cursor=7500"), &stack.admin(), None).await;
    assert_eq!(rest.take(7).await, wanted[2_500..]);
    assert!(rest.next().await.unwrap().is_none());

    for (query, last, wanted) in [
        ("?cursor=-1", None, "cursor must be the position of a message"),
        ("?cursor=x", None, "cursor must be an integer"),
        ("?follow=yes", None, "follow must be true or false"),
        ("", Some("yesterday"), "Last-Event-ID must be the id of an event"),
        ("", Some("-3"), "cursor must be the position of a message"),
    ] {
        let mut request = local::http::client().get(format!("{}{path}{query}", stack.url()));
        request = request.header("authorization", format!("Bearer {}", stack.admin()));
        if let Some(last) = last {
            request = request
                .header("last-event-id", last)
                .header("accept", "text/event-stream");
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status == 400 && text.contains(wanted), "{query}: {status} {text}");
    }
    let nobody = path.replace(&tenant.to_string(), "0198c0de-0000-7000-8000-000000000001");
    let answer = stack.send(Method::GET, &nobody, &stack.admin(), None).await;
    assert_eq!(answer.status, 404, "{}", answer.text);
    let other = stack.token(Role::Tenant, Some(uuid::Uuid::now_v7()));
    assert_eq!(stack.send(Method::GET, &path, &other, None).await.status, 403);

    // A stream lasts as long as the credential that it was opened with.
    let credentials = format!("/api/tenants/{tenant}/credentials");
    let (_, credential) = stack
        .post(
            &credentials,
            &stack.admin(),
            &json!({ "role": "tenant", "label": "follower" }),
        )
        .await;
    let (_, token) = stack
        .post("/api/auth/token", "", &credential_of(&credential))
        .await;
    let token = token["access_token"].as_str().unwrap();
    let follow = format!("{path}?follow=true&cursor=10006");
    let mut follower = Stream::events(&stack, &follow, token, None).await;
    follower.take(1).await;
    let client_id = credential["client_id"].as_str().unwrap();
    let (status, _) = stack
        .delete(&format!("{credentials}/{client_id}"), &stack.admin())
        .await;
    assert_eq!(status, 200);
    assert!(follower.error().await.contains("credential was revoked"));

    // And no longer than the control plane.
    let mut follower = Stream::events(&stack, &follow, &stack.admin(), None).await;
    let mut lines = Stream::lines(&stack, &follow, &stack.admin()).await;
    follower.take(1).await;
    let stopped = stack.member("control-plane-1").terminate();
    let (stopped, told, told_in_a_line) = tokio::join!(stopped, follower.error(), lines.error());
    assert!(stopped.success());
    for told in [told, told_in_a_line] {
        assert!(told.contains("is stopping; connect again"), "{told}");
    }
}

fn credential_of(created: &serde_json::Value) -> serde_json::Value {
    json!({ "client_id": created["client_id"], "client_secret": created["client_secret"] })
}
