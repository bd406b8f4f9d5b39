//! How what is stored is read: found in a long history, exported, followed.

mod crowd;
mod export;
mod following;
mod history;

use tests::bench::Report;

use crate::{ground::Ground, plan::Plan};

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    following::measure(plan, report).await?;
    crowd::measure(plan, report).await?;
    let ground = Ground::start(1).await?;
    let long = history::measure(&ground, plan, report).await?;
    export::measure(&ground, long, plan, report).await
}
