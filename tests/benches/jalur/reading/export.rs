//! Everything of a tenant, a message a line.

use std::time::Instant;

use anyhow::ensure;
use common::id::TenantId;
use tests::bench::{Report, Series, Target, rate};

use crate::{ground::Ground, plan::Plan};

/// Messages a second.
const WANTED: f64 = 50_000.0;

pub(super) async fn measure(
    ground: &Ground,
    tenant: TenantId,
    plan: &Plan,
    report: &mut Report,
) -> anyhow::Result<()> {
    let url = format!(
        "{}/api/tenants/{tenant}/messages/stream?cursor={}",
        ground.stack.url(),
        plan.long_history - plan.exported
    );
    let mut rates = Series::default();
    for n in 0..plan.rounds {
        eprintln!("export, round {}", n + 1);
        let started = Instant::now();
        let client = local::http::client();
        let request = client.get(&url).bearer_auth(ground.stack.admin_token()?);
        let mut answer = request.send().await?.error_for_status()?;
        let mut lines = 0;
        while let Some(chunk) = answer.chunk().await? {
            lines += chunk.iter().filter(|&&byte| byte == b'\n').count();
        }
        ensure!(lines == plan.exported, "{lines} messages came");
        rates.push(rate(lines, started.elapsed()));
    }
    report.bounded(
        "an export of messages of 256 B over loopback",
        rates.rate(),
        rates.median(),
        Target::AtLeast(WANTED),
    );
    Ok(())
}
