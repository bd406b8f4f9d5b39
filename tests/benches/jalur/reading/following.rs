//! From published to seen by a follower, beside from published to readable.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use common::id::TenantId;
use proto::v1::{StreamMessagesRequest, message_service_client::MessageServiceClient};
use tests::bench::{Report, Series, Target};
use tokio::{task::JoinHandle, time::timeout};
use tonic::{Request, transport::Channel};
use uuid::Uuid;

use crate::{
    ground::Ground,
    plan::Plan,
    probe::{self, Stream},
};

const TENANTS: usize = 20;
const PER_SECOND: u32 = 1_000;
const BYTES: usize = 256;
/// How long after the last message a follower waits for another.
const SILENCE: Duration = Duration::from_secs(2);

/// When each message was seen.
type Seen = HashMap<Uuid, Instant>;

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(1).await?;
    let (mut more_p50, mut more_p99) = (Series::default(), Series::default());
    let (mut readable_p50, mut readable_p99) = (Series::default(), Series::default());
    for n in 0..plan.rounds {
        eprintln!("following, round {}", n + 1);
        let tenants = ground
            .tenants(&format!("followed {n}"), TENANTS, "active")
            .await?;
        let mut followers = Vec::new();
        for &tenant in &tenants {
            followers.push(follow(&ground, tenant).await?);
        }
        let stream = Stream {
            tenants: &tenants,
            per_second: PER_SECOND,
            during: plan.steady,
            bytes: BYTES,
        };
        let probe::Probed { took, published } = probe::probe(&ground, &stream).await?;
        let mut seen = Seen::new();
        for follower in followers {
            seen.extend(follower.await??);
        }
        let mut followed = Series::default();
        for (id, published) in published {
            let seen = seen.get(&id).context("a message was never seen")?;
            followed.push((*seen - published).as_secs_f64());
        }
        more_p50.push(followed.at(0.50) - took.at(0.50));
        more_p99.push(followed.at(0.99) - took.at(0.99));
        readable_p50.push(took.at(0.50));
        readable_p99.push(took.at(0.99));
        for tenant in tenants {
            ground.delete(tenant).await?;
        }
    }
    for (name, more, readable, bound) in [
        ("p50", &more_p50, &readable_p50, 2.0),
        ("p99", &more_p99, &readable_p99, 10.0),
    ] {
        report.bounded(
            format!(
                "seen by a follower after it can be read, 1,000 /s over {TENANTS} tenants: {name} (readable after {})",
                readable.millis()
            ),
            more.millis(),
            more.median() * 1e3,
            Target::Within(bound, "ms"),
        );
    }
    Ok(())
}

/// Follows a tenant until nothing more comes.
async fn follow(ground: &Ground, tenant: TenantId) -> anyhow::Result<JoinHandle<anyhow::Result<Seen>>> {
    let mut client = MessageServiceClient::<Channel>::new(ground.stack.channel()?);
    let mut request = Request::new(StreamMessagesRequest {
        tenant_id: tenant.to_string(),
        follow: true,
        ..Default::default()
    });
    let token = format!("Bearer {}", ground.stack.admin_token()?).parse()?;
    request.metadata_mut().insert("authorization", token);
    let mut messages = client.stream_messages(request).await?.into_inner();
    Ok(tokio::spawn(async move {
        let mut seen = Seen::new();
        // The first comes once all are set up.
        let mut patience = Duration::from_secs(60);
        while let Ok(message) = timeout(patience, messages.message()).await {
            let message = message?.and_then(|message| message.message).context("it ended")?;
            seen.insert(message.id.parse()?, Instant::now());
            patience = SILENCE;
        }
        Ok(seen)
    }))
}
