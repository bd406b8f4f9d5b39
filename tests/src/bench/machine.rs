//! Where it was measured.

use std::fs;

use sqlx::{Connection as _, PgConnection};

use crate::Environment;

/// The load average before anything is measured: what else the machine is busy with.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// The machine, and the services on it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// In one paragraph.
    pub text: String,
    /// PostgreSQL's major version.
    pub postgres: String,
    /// RabbitMQ's version, as far as its private instance tells.
    pub rabbitmq: String,
}

/// What there is to say of it.
pub async fn describe(load: &str) -> anyhow::Result<Machine> {
    let environment = Environment::shared().await?;
    let services = environment.services();
    let mut connection = PgConnection::connect(services.database_url()).await?;
    let version: String = sqlx::query_scalar("show server_version")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    let rabbitmq = services
        .native()
        .map_or_else(|| "elsewhere".into(), |native| native.rabbitmq().version());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".into());
    let memory = value("/proc/meminfo", "MemTotal").unwrap_or_default();
    let memory = memory.trim_end_matches(" kB").parse().unwrap_or(0.0) / 1024.0 / 1024.0;
    let date = time::OffsetDateTime::now_utc().date();
    let text = format!(
        "{date}: {cores} cores of {cpu}, {memory:.0} GiB, {}; PostgreSQL {version}, RabbitMQ {rabbitmq} ({} \
         services, `fsync` on), publisher, broker, daemon and database all on this machine; load average before \
         the run: {load}.",
        kernel(),
        services.kind(),
    );
    let major = version.split(['.', ' ']).next().unwrap_or_default();
    Ok(Machine {
        text,
        postgres: major.to_owned(),
        rabbitmq,
    })
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {}", std::env::consts::OS, release.trim())
}

fn value(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
