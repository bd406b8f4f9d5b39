//! PgBouncer between the programs and PostgreSQL: in session mode everything works; in another the start says so.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use local::ports;
use tests::{Options, Stack, eventually, load::Publisher};
use url::Url;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A PgBouncer of a test's own, in front of one database.
struct Pooler {
    process: Child,
    port: u16,
    url: String,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// `None`, said loudly, where there is none installed. None of its settings is for our sake.
    async fn start(mode: &str, database_url: &str) -> Option<Self> {
        let places = [
            "/usr/sbin/pgbouncer",
            "/usr/bin/pgbouncer",
            "/opt/homebrew/bin/pgbouncer",
        ];
        let Some(binary) = places.map(PathBuf::from).into_iter().find(|path| path.is_file()) else {
            eprintln!("SKIPPED: PgBouncer is not installed: nothing is tried behind it");
            return None;
        };
        let mut url = Url::parse(database_url).unwrap();
        let port = ports::private().unwrap();
        let database = url.path().trim_start_matches('/').to_owned();
        let configuration = format!(
            "[databases]\n{database} = host={} port={} user={} password={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n",
            url.host_str().unwrap(),
            url.port().unwrap(),
            url.username(),
            url.password().unwrap_or_default(),
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, configuration).unwrap();
        // It does not run as root, and is to read it all the same.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(binary);
        if nix::unistd::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let process = command.arg("-q").arg(&file).stdin(Stdio::null()).spawn().unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        eventually("PgBouncer listens", PATIENCE, async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
            Ok(())
        })
        .await;
        Some(Self {
            process,
            port,
            url: url.into(),
            _folder: folder,
        })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        ports::release(self.port);
    }
}

async fn stack() -> Stack {
    let options = Options {
        control_planes: 0,
        daemons: 0,
        ..Options::default()
    };
    Stack::start(options).await.unwrap()
}

#[tokio::test]
async fn in_session_mode_everything_works_without_a_setting_for_us() {
    let mut stack = stack().await;
    let Some(pooler) = Pooler::start("session", stack.database_url()).await else {
        return;
    };
    stack.configure("JALUR_DATABASE__URL", pooler.url.clone());
    let migrated = stack.control_plane_command(&["migrate", "status"]).await.unwrap();
    assert!(
        migrated.status.success(),
        "{}",
        String::from_utf8_lossy(&migrated.stderr)
    );
    stack.add_control_plane().await.unwrap();
    stack.add_daemon().await.unwrap();
    let rest = stack.rest().unwrap();
    let body = serde_json::json!({ "name": "behind a pooler" });
    let tenant = rest
        .post("/api/tenants", &body)
        .await
        .unwrap()
        .expect(201)
        .unwrap();
    let tenant: common::id::TenantId = tenant["id"].as_str().unwrap().parse().unwrap();
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[tenant], 100, 64).await.unwrap();
    eventually("the messages are stored", PATIENCE, async || {
        let page = rest
            .get(&format!("/api/tenants/{tenant}/messages"))
            .await?
            .expect(200)?;
        let count = page["data"].as_array().map_or(0, Vec::len);
        anyhow::ensure!(count == 100, "{count}");
        Ok(())
    })
    .await;
    // What the sessions are set to, they are set to behind it as well.
    let path = format!("/api/tenants/{tenant}/config/concurrency");
    let body = serde_json::json!({ "workers": 5 });
    let applied = rest.put(&path, &body).await.unwrap().expect(200).unwrap();
    assert_eq!(applied["applied"], true);
}

#[tokio::test]
async fn in_transaction_mode_the_start_says_so_and_what_to_do() {
    let mut stack = stack().await;
    let Some(pooler) = Pooler::start("transaction", stack.database_url()).await else {
        return;
    };
    stack.configure("JALUR_DATABASE__URL", pooler.url.clone());
    for output in [
        stack.control_plane_command(&["serve"]).await.unwrap(),
        stack.control_plane_command(&["migrate", "up"]).await.unwrap(),
        stack.daemon_command(&["serve"]).await.unwrap(),
    ] {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        for word in ["database.url", "pool_mode = session"] {
            assert!(said.contains(word), "{word} is not in {said}");
        }
    }
}
