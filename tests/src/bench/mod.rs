//! What the bench is made of: series, the table, the machine they ran on, and many tenants.

pub mod machine;
mod report;
mod series;

use anyhow::Context as _;
use common::id::TenantId;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

pub use self::{
    machine::Machine,
    report::{Report, Target},
    series::{Series, rate, thousands},
};
use crate::Rest;

/// How many tenants are created at a time.
const CREATING: usize = 8;

/// Creates so many tenants; `status` as in REST.
pub async fn tenants(rest: &Rest, name: &str, count: usize, status: &str) -> anyhow::Result<Vec<TenantId>> {
    stream::iter(0..count)
        .map(async |n| {
            let tenant = json!({ "name": format!("{name} {n}"), "status": status });
            let tenant = rest.post("/api/tenants", &tenant).await?.expect(201)?;
            let id = tenant["id"].as_str().context("a tenant without an id")?;
            anyhow::Ok(id.parse::<TenantId>()?)
        })
        .buffered(CREATING)
        .try_collect()
        .await
}
