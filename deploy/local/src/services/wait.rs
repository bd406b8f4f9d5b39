//! Waiting until a service answers, by really talking to it.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, bail};
use common::config::Secret;
use lapin::ConnectionProperties;
use sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep, timeout};

use crate::processes::Process;

/// How long a service may take to answer: seconds as a rule, more than a minute on a machine that is very busy.
pub(super) const READY: Duration = Duration::from_secs(120);
const ATTEMPT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// Tries until it works, at most [`READY`]. If `process` ends meanwhile, its last words are the error.
pub(super) async fn until<F>(
    what: &str,
    process: Option<&Process>,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let until = Instant::now() + READY;
    loop {
        let error = match timeout(ATTEMPT, attempt()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("no answer within {} s", ATTEMPT.as_secs()),
        };
        if let Some(process) = process.filter(|process| process.exited().is_some()) {
            bail!("{what} did not start. {}", process.obituary());
        }
        if Instant::now() >= until {
            let log = process.map_or_else(String::new, |process| {
                format!(
                    "\nThe end of {}:\n{}",
                    process.log().display(),
                    process.log_tail(15)
                )
            });
            bail!("{what} is not ready after {} s: {error:#}{log}", READY.as_secs());
        }
        sleep(PAUSE).await;
    }
}

/// Connects to PostgreSQL and runs a statement.
pub(super) async fn postgres(url: &str) -> anyhow::Result<()> {
    let options: PgConnectOptions = url.parse().context("JALUR_DATABASE__URL is no postgres:// URL")?;
    let mut connection = options.disable_statement_logging().connect().await?;
    sqlx::query("select 1").execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// Connects to RabbitMQ.
pub(super) async fn rabbitmq(url: &str) -> anyhow::Result<()> {
    let uri = common::broker::parse(&Secret::from(url))?;
    let properties = ConnectionProperties::default().with_connection_name("jalur probe".into());
    let connection = lapin::Connection::connect_uri(uri, properties).await?;
    Ok(connection.close(200, "ready".into()).await?)
}

/// Asks the management plugin for anything.
pub(super) async fn management(client: &reqwest::Client, url: &str) -> anyhow::Result<()> {
    // The login in the URL becomes the header.
    let request = client
        .get(format!("{}/api/overview", url.trim_end_matches('/')))
        .timeout(ATTEMPT);
    request.send().await?.error_for_status()?;
    Ok(())
}

/// Asks the Prometheus plugin for the smallest of what the control plane asks it for.
pub(super) async fn prometheus(client: &reqwest::Client, url: &str) -> anyhow::Result<()> {
    let request = client
        .get(format!("{url}/metrics/detailed?family=connection_churn_metrics"))
        .timeout(ATTEMPT);
    request.send().await?.error_for_status()?;
    Ok(())
}
