//! A watch lasts as long as its token, and as long as the next one that comes on it.

use std::time::Instant;

use control_plane::identity::Keys;
use proto::v1::watch_request::Message::Renewal;

use super::*;

/// How long a token is accepted beyond its end: clocks differ.
const LEEWAY: Duration = Duration::from_secs(5);

fn token(stack: &Stack, role: Role, ttl: Duration) -> String {
    let keys = Keys::new(stack.secret(), "jalur", "jalur");
    keys.mint(role, None, "test", ttl).unwrap()
}

fn renewal(token: String) -> Message {
    Renewal(v1::Renewal { token })
}

/// Acknowledges everything until the stream is ended, and answers why it is.
async fn ended(daemon: &mut Daemon) -> Status {
    loop {
        match daemon.next().await {
            Ok(response) => daemon.answer(&response.nonce, Vec::new()).await,
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token_or_with_the_next_one_that_came_on_it() {
    const LONGER: Duration = Duration::from_secs(5);
    let stack = nobody().await;
    let short = || token(&stack, Role::Daemon, Duration::from_secs(2));
    let (begun, first, second) = (Instant::now(), short(), short());
    let longer = token(&stack, Role::Daemon, LONGER);
    let mut ends = Daemon::open(&stack, &first, Hello(hello("ends"))).await.unwrap();
    let mut lasts = Daemon::open(&stack, &second, Hello(hello("lasts")))
        .await
        .unwrap();
    lasts.send(renewal(longer)).await;

    let lasting = tokio::spawn(async move { (ended(&mut lasts).await, begun.elapsed()) });
    for (status, after, least) in [
        (ended(&mut ends).await, begun.elapsed(), LEEWAY),
        // A token's seconds are whole ones.
        lasting
            .await
            .map(|(status, after)| (status, after, LEEWAY + LONGER - Duration::from_secs(1)))
            .unwrap(),
    ] {
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().contains("the token has expired"), "{status}");
        assert!(after >= least, "after {after:?}: {status}");
    }
}

#[tokio::test]
async fn a_new_token_that_is_no_good_ends_the_stream_and_says_why() {
    let stack = nobody().await;
    let expired = jsonwebtoken::encode(
        &jsonwebtoken::Header::default(),
        &json!({
            "iss": "jalur", "aud": "jalur", "sub": "test", "iat": 0, "exp": 1, "role": "daemon",
        }),
        &jsonwebtoken::EncodingKey::from_secret(stack.secret().as_bytes()),
    )
    .unwrap();
    for (id, token, code, said) in [
        ("nonsense", "nonsense".to_owned(), Code::Unauthenticated, "no JWT"),
        ("expired", expired, Code::Unauthenticated, "it has expired"),
        (
            "admin",
            stack.admin(),
            Code::PermissionDenied,
            "role admin may not watch",
        ),
    ] {
        let mut daemon = Daemon::join(&stack, hello(id)).await;
        daemon.send(renewal(token)).await;
        let status = ended(&mut daemon).await;
        assert_eq!(status.code(), code, "{id}: {status}");
        assert!(
            status.message().starts_with("renewal.token: ") && status.message().contains(said),
            "{id}: {status}"
        );
    }
}

#[tokio::test]
async fn a_daemon_whose_token_is_replaced_in_time_keeps_its_stream_and_one_whose_is_not_says_what_to_do() {
    const HOUR: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_secs(4);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut options = Options::default();
    options.daemon_env.push((
        "JALUR_CONTROL_PLANE__TOKEN_FILE",
        file.path().display().to_string(),
    ));
    options.daemons = 0;
    let mut stack = Stack::start(options).await;
    let replace = |stack: &Stack, ttl| {
        let token = token(stack, Role::Daemon, ttl);
        std::fs::write(file.path(), &token).unwrap();
        token
    };
    replace(&stack, HOUR);
    stack.add_daemon().await;
    let tenant = stack.tenant("t").await;
    let count = |what: &str| {
        let log = stack.control_plane().log_tail(10_000);
        log.lines().filter(|line| line.contains(what)).count()
    };
    let renewed = async |times| {
        eventually("the new token is there", async || {
            count("a daemon's token was renewed") == times
        })
        .await;
    };
    let over = async |token: String| {
        eventually("the token has ended", async || {
            stack.get("/tenants", &token).await.0 == 401
        })
        .await;
    };

    // The stream would end with the short one.
    let short = replace(&stack, SHORT);
    renewed(1).await;
    replace(&stack, HOUR);
    renewed(2).await;
    over(short).await;
    let path = format!("/tenants/{tenant}/config/concurrency");
    let (status, answer) = stack.put(&path, &stack.admin(), &json!({ "workers": 7 })).await;
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    assert_eq!(count("a daemon joined"), 1, "one stream all the time");

    let short = replace(&stack, SHORT);
    renewed(3).await;
    over(short).await;
    eventually("the daemon says what to do", async || {
        let log = stack.daemon().log_tail(10_000);
        log.contains("the token has expired") && log.contains("control_plane.token_file")
    })
    .await;
    replace(&stack, HOUR);
    eventually("it is back", async || count("a daemon joined") > 1).await;
    eventually("and works", async || {
        let (_, answer) = stack.put(&path, &stack.admin(), &json!({ "workers": 8 })).await;
        answer["applied"] == json!(true)
    })
    .await;
}
