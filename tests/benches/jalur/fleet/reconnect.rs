//! What a daemon is sent that comes back with everything as it was: by a daemon that only speaks the protocol.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use control_plane::identity::Role;
use prost::Message as _;
use proto::v1::{
    self,
    fleet_service_client::FleetServiceClient,
    watch_request::Message::{self, Ack, Hello, Observed},
};
use tests::bench::{self, Report, Target, thousands};
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use uuid::Uuid;

use crate::{ground::Ground, plan::Plan};

/// How long anything may take to come.
const PATIENCE: Duration = Duration::from_secs(20);
const HEARTBEAT: Duration = Duration::from_secs(1);

struct Stream {
    requests: mpsc::Sender<v1::WatchRequest>,
    responses: Streaming<v1::WatchResponse>,
}

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(0).await?;
    let count = plan.reconnect_lanes;
    let hello = v1::Hello {
        daemon_id: "bench".into(),
        incarnation: Uuid::now_v7().to_string(),
        capacity: 100_000,
        ..v1::Hello::default()
    };
    let mut stream = Stream::open(&ground, hello.clone()).await?;
    let (epoch, running) = tokio::try_join!(stream.run(count), async {
        bench::tenants(&ground.rest, "reconnect", count, "active").await
    })?
    .0;

    drop(stream);
    let running = running.into_iter();
    let running = running.map(|(tenant_id, revision)| v1::RunningLane { tenant_id, revision });
    let hello = v1::Hello {
        epoch,
        running: running.collect(),
        ..hello
    };
    let said = hello.encoded_len();
    let mut stream = Stream::open(&ground, hello).await?;
    let (mut bytes, mut resources) = (0, 0);
    loop {
        let response = stream.next().await?;
        bytes += response.encoded_len();
        resources += response.assignments.len() + response.withdrawals.len();
        if response.snapshot_complete {
            break;
        }
        stream.acknowledge(&response).await?;
    }
    report.bounded(
        format!(
            "a stream that comes back with {} lanes and nothing changed: resources sent, bytes down / up",
            thousands(count as f64)
        ),
        format!("{resources}, {bytes} / {}", thousands(said as f64)),
        resources as f64,
        Target::Within(0.0, "resources"),
    );
    Ok(())
}

impl Stream {
    async fn open(ground: &Ground, hello: v1::Hello) -> anyhow::Result<Self> {
        let (requests, receiver) = mpsc::channel(64);
        let mut client = FleetServiceClient::new(ground.stack.channel()?);
        let mut request = Request::new(ReceiverStream::new(receiver));
        let token = ground.stack.token(Role::Daemon, None)?;
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse()?);
        requests.send(of(Hello(hello))).await?;
        let responses = client.watch(request).await?.into_inner();
        Ok(Self { requests, responses })
    }

    async fn next(&mut self) -> anyhow::Result<v1::WatchResponse> {
        timeout(PATIENCE, self.responses.message())
            .await
            .context("nothing came")??
            .context("the stream has ended")
    }

    async fn acknowledge(&self, response: &v1::WatchResponse) -> anyhow::Result<()> {
        let nonce = response.nonce.clone();
        let errors = Vec::new();
        Ok(self.requests.send(of(Ack(v1::Ack { nonce, errors }))).await?)
    }

    /// Says of every lane at once that it runs, until there are `count`; answers the epoch and their revisions.
    async fn run(&mut self, count: usize) -> anyhow::Result<(String, BTreeMap<String, i64>)> {
        let mut running = BTreeMap::new();
        let mut heartbeat = interval(HEARTBEAT);
        loop {
            tokio::select! {
                response = self.next() => {
                    let response = response?;
                    self.acknowledge(&response).await?;
                    running.extend(response.assignments.iter().map(|lane| (lane.tenant_id.clone(), lane.revision)));
                    let lanes = response.assignments.into_iter().map(runs).collect();
                    self.requests.send(of(Observed(v1::Observed { lanes }))).await?;
                    if running.len() == count {
                        return Ok((response.epoch, running));
                    }
                }
                _ = heartbeat.tick() => self.requests.send(of(Observed(v1::Observed::default()))).await?,
            }
        }
    }
}

fn runs(lane: v1::Assignment) -> v1::ObservedLane {
    v1::ObservedLane {
        tenant_id: lane.tenant_id,
        revision: lane.revision,
        state: v1::LaneState::Running.into(),
        workers: lane.workers,
        busy: 0,
        held: 0,
        problem: None,
        message_bytes: None,
    }
}

fn of(message: Message) -> v1::WatchRequest {
    v1::WatchRequest {
        message: Some(message),
    }
}
