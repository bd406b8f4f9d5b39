//! A stop is said at once, answers whom it owes an answer, and waits for nobody else.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::{Code, Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

use crate::support::{Options, Stack, eventually};

/// Long enough to see that a program says that it stops while it still answers.
const DELAY: &str = "2s";
/// Far below the grace of 30 s, and enough for a busy machine.
const PROMPT: Duration = Duration::from_secs(10);

const NOT_SERVING: i32 = 2;

async fn status_of(url: &str) -> u16 {
    match local::http::client().get(url).timeout(PROMPT).send().await {
        Ok(answer) => answer.status().as_u16(),
        Err(_) => 0,
    }
}

async fn health(stack: &Stack) -> Streaming<HealthCheckResponse> {
    let channel = Channel::from_shared(stack.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = HealthClient::new(channel);
    let request = HealthCheckRequest {
        service: "jalur.v1.TenantService".into(),
    };
    client.watch(request).await.unwrap().into_inner()
}

async fn sent(stack: &Stack, bytes: &[u8]) -> TcpStream {
    let address = stack.url().replace("http://", "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

#[tokio::test]
async fn a_control_plane_says_that_it_stops_and_no_open_stream_or_silent_connection_delays_it() {
    let stack = Stack::start(Options {
        control_plane_env: vec![("JALUR_SHUTDOWN__DELAY", DELAY.into())],
        ..Options::default()
    })
    .await;
    let mut watched = Vec::new();
    for _ in 0..3 {
        watched.push(health(&stack).await);
    }
    for stream in &mut watched {
        assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    }
    let idle = sent(&stack, b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let open = [
        idle,
        sent(&stack, b"").await,
        sent(&stack, b"GET / HTTP/1.1\r\nHost: x\r\n").await,
        sent(&stack, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await,
    ];
    let control_plane = stack.control_plane();
    let ready = format!("{}/readyz", control_plane.admin_url());
    assert_eq!(status_of(&ready).await, 200);

    let start = Instant::now();
    let told = async {
        eventually("it says that it is not ready", async || {
            status_of(&ready).await == 503
        })
        .await;
        for stream in &mut watched {
            let last = stream.message().await.unwrap().unwrap();
            assert_eq!(last.status, NOT_SERVING);
        }
        // It has been told to stop, and still answers.
        let (status, tenants) = stack.get("/api/tenants", &stack.admin()).await;
        assert_eq!(status, 200, "{tenants}");
    };
    let (ended, ()) = tokio::join!(control_plane.terminate(), told);
    assert_eq!(ended.code(), Some(0), "{}", control_plane.log_tail(20));
    assert!(start.elapsed() < PROMPT, "it took {:?}", start.elapsed());
    for stream in &mut watched {
        assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    }
    for mut stream in open {
        timeout(PROMPT, stream.read_to_end(&mut Vec::new()))
            .await
            .expect("the connection is closed")
            .ok();
    }
}

#[tokio::test]
async fn a_daemon_says_that_it_stops_while_it_still_does() {
    let stack = Stack::start(Options {
        daemon_env: vec![("JALUR_SHUTDOWN__GRACE", "20s".into())],
        ..Options::default()
    })
    .await;
    let ready = format!("{}/readyz", stack.daemon().admin_url());
    // Its goodbye is not answered, which it waits for.
    stack.control_plane().freeze();
    let told = async {
        eventually("it says that it is not ready", async || {
            status_of(&ready).await == 503
        })
        .await;
        stack.control_plane().thaw();
    };
    let (ended, ()) = tokio::join!(stack.daemon().terminate(), told);
    assert_eq!(ended.code(), Some(0), "{}", stack.daemon().log_tail(20));
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_closed_and_a_slow_body_is_408() {
    let stack = Stack::without_daemons().await;
    let mut silent = sent(&stack, b"").await;
    let head = format!(
        "POST /api/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\n{{",
        stack.admin()
    );
    let mut slow = sent(&stack, head.as_bytes()).await;
    let (mut nothing, mut answer) = (Vec::new(), Vec::new());
    let limit = Duration::from_secs(20);
    let (closed, answered) = tokio::join!(
        timeout(limit, silent.read_to_end(&mut nothing)),
        timeout(limit, slow.read_to_end(&mut answer)),
    );
    closed.expect("the silent connection is closed").unwrap();
    answered.expect("the slow one is answered, and closed").unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":4"#), "{answer}");
}
