//! Batches in Node, as users would write them: `node/consumer.js`, with `amqplib` and `pg`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::{process::Command, time::timeout};

use super::{BATCH, room::Room};
use crate::{
    fill::{PREFETCH, PREFETCH_LEAST},
    ground::Ground,
};

const PACKAGE: &str = include_str!("node/package.json");
const CONSUMER: &str = include_str!("node/consumer.js");
/// What a slow registry may take, and what a full queue.
const INSTALLING: Duration = Duration::from_secs(120);
const DRAINING: Duration = Duration::from_secs(120);

/// The consumer, and what it needs, in a folder below `target`.
#[derive(Debug)]
pub(crate) struct Node {
    folder: PathBuf,
}

impl Node {
    /// Installs the packages, where an earlier run has not. The error says what is missing.
    pub(crate) async fn find() -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-peer");
        run(Command::new("node").arg("--version"), INSTALLING)
            .await
            .context("node is not here; on Debian: apt-get install nodejs npm")?;
        let installed = folder.join("installed.json");
        if fs::read_to_string(&installed).is_ok_and(|installed| installed == PACKAGE) {
            fs::write(folder.join("consumer.js"), CONSUMER)?;
            return Ok(Self { folder });
        }
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("package.json"), PACKAGE)?;
        fs::write(folder.join("consumer.js"), CONSUMER)?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-fund", "--no-audit", "--ignore-scripts"])
            .current_dir(&folder);
        run(&mut npm, INSTALLING).await.context(
            "npm cannot install amqplib and pg; a run of the bench where it can does so for all that share this target folder",
        )?;
        // Not before it went well.
        fs::write(installed, PACKAGE)?;
        Ok(Self { folder })
    }

    /// How long it takes to store what is in so many full queues.
    pub(super) async fn batched(
        &self,
        ground: &Ground,
        queues: usize,
        count: usize,
        bytes: usize,
    ) -> anyhow::Result<Duration> {
        let room = Room::open(ground, queues, 1, count, bytes).await?;
        let prefetch = (PREFETCH / queues).max(PREFETCH_LEAST);
        let mut node = Command::new("node");
        node.arg("consumer.js")
            .current_dir(&self.folder)
            .env("AMQP_URL", ground.stack.amqp_url())
            .env("DATABASE_URL", ground.stack.database_url())
            .env("QUEUES", room.queues.join(","))
            .env("COUNT", count.to_string())
            .env("BATCH", BATCH.to_string())
            .env("PREFETCH", prefetch.to_string());
        let output = run(&mut node, DRAINING).await?;
        let seconds: f64 = String::from_utf8(output.stdout)?
            .trim()
            .parse()
            .context("the peer in Node says no time")?;
        room.close(count).await?;
        Ok(Duration::try_from_secs_f64(seconds)?)
    }
}

/// Runs a command to its good end.
async fn run(command: &mut Command, within: Duration) -> anyhow::Result<Output> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(within, output).await {
        Ok(output) => output?,
        Err(_) => bail!("it does not end within {} s", within.as_secs()),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "it failed ({}): {}",
        output.status,
        said.trim()
    );
    Ok(output)
}
