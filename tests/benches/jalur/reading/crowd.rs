//! What many followers of one control plane cost.

use std::time::Duration;

use anyhow::Context as _;
use common::id::TenantId;
use control_plane::identity::Role;
use proto::v1::{StreamMessagesRequest, message_service_client::MessageServiceClient};
use tests::{
    bench::{Report, Series},
    usage,
};
use tokio::task::JoinSet;
use tonic::Request;

use crate::{
    ground::Ground,
    plan::Plan,
    probe::{self, Stream},
};

const TENANTS: usize = 100;
/// Streams that share a connection.
const TOGETHER: usize = 50;
const PER_SECOND: u32 = 500;
const BYTES: usize = 256;

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(1).await?;
    let tenants = ground
        .tenants("crowd", TENANTS.min(plan.followers), "active")
        .await?;
    let control_plane = ground.stack.member("control-plane-1")?.pid();
    let memory = || usage::memory(control_plane).context("the kernel does not tell");
    let before = memory()?;
    let mut followers = JoinSet::new();
    for begin in (0..plan.followers).step_by(TOGETHER) {
        let client = MessageServiceClient::new(ground.stack.channel()?);
        for number in begin..(begin + TOGETHER).min(plan.followers) {
            let tenant = tenants[number % tenants.len()];
            // Each tenant has callers of its own, as it would: what one caller may do is limited.
            let token = ground.stack.token(Role::Tenant, Some(tenant.0))?;
            follow(&mut followers, client.clone(), tenant, &token).await?;
        }
    }
    let idle = cost(&ground, control_plane, async {
        tokio::time::sleep(plan.steady).await;
        Ok(())
    });
    let idle = idle.await?;
    let stream = Stream {
        tenants: &tenants,
        per_second: PER_SECOND,
        during: plan.steady,
        bytes: BYTES,
    };
    let mut p99 = Series::default();
    let busy = cost(&ground, control_plane, async {
        p99.push(probe::run(&ground, &stream).await?.at(0.99));
        Ok(())
    });
    let busy = busy.await?;
    let held = memory()?.saturating_sub(before);
    let name = |what: &str| {
        format!(
            "{} followers of {} tenants, {what}",
            plan.followers,
            tenants.len()
        )
    };
    let of_a_core = |(control_plane, postgres): (f64, f64)| {
        format!(
            "control plane {:.0} %, PostgreSQL {:.0} % of a core",
            control_plane * 1e2,
            postgres * 1e2
        )
    };
    report.figure(name("nothing comes"), of_a_core(idle));
    let each = plan.followers / tenants.len();
    report.figure(
        name(&format!(
            "{PER_SECOND} /s are stored, {} /s are sent",
            PER_SECOND as usize * each
        )),
        format!("{}; readable p99 {}", of_a_core(busy), p99.millis()),
    );
    report.figure(
        name("memory of the control plane"),
        format!("{:.0} kB each", held as f64 / 1e3 / plan.followers as f64),
    );
    followers.abort_all();
    Ok(())
}

async fn follow(
    followers: &mut JoinSet<()>,
    mut client: MessageServiceClient<tonic::transport::Channel>,
    tenant: TenantId,
    token: &str,
) -> anyhow::Result<()> {
    let mut request = Request::new(StreamMessagesRequest {
        tenant_id: tenant.to_string(),
        follow: true,
        ..Default::default()
    });
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse()?);
    let mut messages = client.stream_messages(request).await?.into_inner();
    followers.spawn(async move { while let Ok(Some(_)) = messages.message().await {} });
    Ok(())
}

/// What control plane and PostgreSQL use of a processor meanwhile.
async fn cost(
    ground: &Ground,
    control_plane: i32,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<(f64, f64)> {
    let used = || {
        let control_plane = usage::cpu(control_plane).unwrap_or(Duration::ZERO).as_secs_f64();
        anyhow::Ok((control_plane, ground.cpu()?.map_or(0.0, |cpu| cpu.postgres)))
    };
    let (before, began) = (used()?, std::time::Instant::now());
    work.await?;
    let (after, took) = (used()?, began.elapsed().as_secs_f64());
    Ok(((after.0 - before.0) / took, (after.1 - before.1) / took))
}
