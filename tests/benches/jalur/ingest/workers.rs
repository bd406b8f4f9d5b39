//! A tenant's workers are felt where the database is far away.

use std::time::Duration;

use common::id::TenantId;
use serde_json::json;
use tests::{Options, Proxy, Stack};

use tests::bench::{Report, Series, rate};

use crate::{ground::Ground, plan::Plan};

const DELAY: Duration = Duration::from_millis(20);
const BYTES: usize = 256;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let options = Options {
        daemons: 0,
        ..Options::default()
    };
    let mut stack = Stack::start(options).await?;
    let proxy = Proxy::start(stack.database_url(), DELAY).await?;
    stack.configure_daemons("JALUR_DATABASE__URL", proxy.url().to_owned());
    stack.add_daemon().await?;
    let ground = Ground::with(stack).await?;
    let mut all = [1, 2, 4].map(|workers| (workers, Series::default()));
    for n in 0..plan.rounds {
        for (workers, rates) in &mut all {
            eprintln!("{workers} workers, round {}", n + 1);
            let tenant = ground.full_tenant("far away", plan.slow_messages, BYTES).await?;
            set(&ground, tenant, *workers).await?;
            let took = ground.drain(tenant, plan.slow_messages).await?;
            rates.push(rate(plan.slow_messages, took));
            ground.delete(tenant).await?;
        }
    }
    let [(_, one), rest @ ..] = &all;
    for (workers, rates) in rest {
        report.ratio(
            format!("one tenant, {workers} workers, the database 20 ms away"),
            rates.rate(),
            format!("1 worker {}", one.rate()),
            rates.over(one).median(),
            None,
        );
    }
    Ok(())
}

async fn set(ground: &Ground, tenant: TenantId, workers: u32) -> anyhow::Result<()> {
    let path = format!("/api/tenants/{tenant}/config/concurrency");
    ground
        .rest
        .put(&path, &json!({ "workers": workers }))
        .await?
        .expect(200)?;
    Ok(())
}
