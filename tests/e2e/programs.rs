//! The programs themselves: exit codes, configuration, migrations, the admin listener.

use std::io::Write as _;

use crate::support::{Options, Stack};

#[tokio::test]
async fn bad_configuration_exits_64_and_names_the_key() {
    let stack = Stack::start(Options {
        control_planes: 0,
        daemons: 0,
        ..Options::default()
    })
    .await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"database: { uri: 'postgres://h/d' }").unwrap();
    let path = file.path().to_str().unwrap();
    for (arguments, named) in [
        (vec!["config", "check", "--config", path], "database.uri"),
        (vec!["config", "check", "--set", "workers=257"], "workers"),
        (vec!["serve", "--set", "workers=many"], "workers"),
        (vec!["serve", "--set", "auth.secret=short"], "auth.secret"),
        (vec!["serve", "--set", "rabbitmq.url=http://h"], "rabbitmq.url"),
        (vec!["--set", "database.url="], "database.url"),
        (
            vec!["--set", "database.url=postgres://u@elsewhere/d"],
            "sslmode=verify-full",
        ),
        (vec!["--set", "rabbitmq.url=amqp://elsewhere"], "amqps://"),
        (vec!["--set", "listen=0.0.0.0:1"], "tls.cert_file"),
        (vec!["--set", "tls.cert_file=/nope"], "tls.key_file"),
        (
            vec!["--set", "rabbitmq.tls.ca_file=/nope"],
            "rabbitmq.tls.ca_file",
        ),
        (vec!["--no-such-flag"], "--no-such-flag"),
    ] {
        let output = stack.control_plane_command(&arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(
            said.contains(named),
            "{arguments:?} does not name {named}: {said}"
        );
    }
    for (arguments, named) in [
        (
            vec!["config", "check", "--set", "ingest.shards=0"],
            "ingest.shards",
        ),
        (
            vec!["serve", "--set", "control_plane.token="],
            "control_plane.token",
        ),
        (
            vec!["--set", "control_plane.endpoints=http://elsewhere:8080"],
            "https://",
        ),
    ] {
        let output = stack.daemon_command(&arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(
            said.contains(named),
            "{arguments:?} does not name {named}: {said}"
        );
    }
}

#[tokio::test]
async fn the_contracts_configuration_file_is_good_for_both_programs() {
    let stack = Stack::start(Options {
        control_planes: 0,
        daemons: 0,
        ..Options::default()
    })
    .await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(
        b"rabbitmq: { url: amqp://user:hunter2@localhost:5672/ }\ndatabase: { url: postgres://user:hunter2@localhost:5432/app }\nworkers: 3\n",
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    for output in [
        stack
            .control_plane_command(&["config", "show", "--config", path])
            .await,
        stack.daemon_command(&["config", "show", "--config", path]).await,
    ] {
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!shown.contains("hunter2"), "a secret is shown: {shown}");
    }
}

#[tokio::test]
async fn migrations_go_up_and_down_and_up_again() {
    let stack = Stack::start(Options {
        control_planes: 0,
        daemons: 0,
        ..Options::default()
    })
    .await;
    let tables = async || -> Vec<String> {
        sqlx::query_scalar("select tablename from pg_tables where schemaname = 'public' order by 1")
            .fetch_all(stack.pool())
            .await
            .unwrap()
    };
    let before = tables().await;
    assert!(before.iter().any(|table| table == "messages"), "{before:?}");
    let steps: i64 = sqlx::query_scalar("select count(*) from _sqlx_migrations")
        .fetch_one(stack.pool())
        .await
        .unwrap();
    for step in (0..steps).rev() {
        let output = stack.control_plane_command(&["migrate", "down"]).await;
        assert!(
            output.status.success(),
            "step {step}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(
        tables().await,
        ["_sqlx_migrations"],
        "every migration takes back what it made"
    );
    assert!(
        stack
            .control_plane_command(&["migrate", "up"])
            .await
            .status
            .success()
    );
    assert_eq!(tables().await, before);
    let status = stack.control_plane_command(&["migrate", "status"]).await;
    let text = String::from_utf8(status.stdout).unwrap();
    assert!(text.contains("applied") && !text.contains("pending"), "{text}");
}

#[tokio::test]
async fn the_admin_listeners_say_that_the_programs_live_are_ready_and_what_they_measure() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("measured").await;
    let mut publisher = tests::load::Publisher::new(stack.amqp_url());
    publisher.send(&[tenant], 100, 64).await.unwrap();
    stack.stored(tenant, 100).await;
    // As of some seconds ago, and what waits not as of the same moment as who is there.
    for wanted in [
        format!(r#"jalur_queue_depth{{tenant_id="{tenant}"}} 0"#),
        format!(r#"jalur_dead_letters{{tenant_id="{tenant}"}} 0"#),
        r#"jalur_tenants{status="active"} 1"#.into(),
        r#"jalur_tenants{status="paused"} 0"#.into(),
        r#"jalur_daemons{state="ready"} 1"#.into(),
        r#"jalur_daemons{state="draining"} 0"#.into(),
        r#"jalur_problems{kind="queue"} 0"#.into(),
        "jalur_http_requests_total{".into(),
        "jalur_rpc_duration_seconds_bucket{".into(),
    ] {
        stack.control_plane_metrics_with(&wanted).await;
    }
    let daemon = stack.daemon().metrics().await.unwrap();
    for wanted in [
        format!(r#"jalur_workers{{state="idle",tenant_id="{tenant}"}} 3"#),
        format!(r#"jalur_workers{{state="busy",tenant_id="{tenant}"}} 0"#),
        r#"jalur_messages_total{outcome="stored"} 100"#.into(),
        "jalur_commit_duration_seconds_count".into(),
        "jalur_batch_messages_count".into(),
        "jalur_delivery_latency_seconds_count".into(),
    ] {
        assert!(daemon.contains(&wanted), "{wanted} is not in\n{daemon}");
    }
}

#[tokio::test]
async fn a_container_of_kubernetes_and_one_environment_for_both_programs_are_no_reason_not_to_start() {
    let mut env: Vec<(&'static str, String)> = vec![
        ("JALUR_SERVICE_HOST", "10.96.0.11".into()),
        ("JALUR_PORT", "tcp://10.96.0.11:8080".into()),
        ("JALUR_PORT_8080_TCP_ADDR", "10.96.0.11".into()),
        ("JALUR_CONTROL_PLANE_SERVICE_PORT_GRPC", "8080".into()),
        ("JALUR_CONTROL_PLANE_PORT", "tcp://10.96.0.11:8080".into()),
        (
            "JALUR_INGEST_DAEMON_PORT_9091_TCP",
            "tcp://10.96.0.11:9091".into(),
        ),
    ];
    // Each has a key that only the other knows.
    env.extend([
        ("JALUR_DEPTH_INTERVAL", "5s".to_owned()),
        ("JALUR_INGEST__SHARDS", "2".to_owned()),
    ]);
    Stack::start(Options {
        env,
        ..Options::default()
    })
    .await;
}

#[tokio::test]
async fn a_password_is_shown_by_no_command_whatever_it_looks_like() {
    let stack = Stack::start(Options {
        control_planes: 0,
        daemons: 0,
        ..Options::default()
    })
    .await;
    for url in [
        "postgres://u:hunter2/x@h/v",
        "postgres://u:x/hunter2@h/v",
        "postgres://u:hunter2@x@h/v",
        "postgres://h/v?user=u&password=hunter2&sslpassword=hunter2",
        "postgres://u:hunter2#x@h/v",
        "host=h password=hunter2",
        "hunter2",
    ] {
        let set = format!("database.url={url}");
        for command in ["show", "check"] {
            let arguments = ["config", command, "--set", &set];
            for output in [
                stack.control_plane_command(&arguments).await,
                stack.daemon_command(&arguments).await,
            ] {
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                assert!(!said.contains("hunter2"), "{url}: config {command} says {said}");
            }
        }
    }
    let output = stack
        .control_plane_command(&[
            "config",
            "check",
            "--set",
            "database.url=postgres://h/v?sslrootcert=/nope",
        ])
        .await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("sslrootcert") && said.contains("/nope"), "{said}");
}
