//! One `Watch` stream, from hello to its end.

use std::{num::NonZeroU32, pin::pin, sync::atomic::Ordering, time::Duration};

use common::{causes::with_causes, id::TenantId};
use proto::v1::{self, fleet_service_client::FleetServiceClient, watch_request::Message};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming, transport::Endpoint};
use tracing::info;

use super::{Client, ledger::Change};
use crate::lane::{Board, Kind, Observed, Problem, Standing};

/// How often the daemon is heard of at least.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Lanes that start, stop or take a revision within this time are told of together.
const COALESCE_URGENT: Duration = Duration::from_millis(10);
/// The same for how busy they are and what they hold.
const COALESCE: Duration = Duration::from_millis(100);
/// What telling of one lane so takes out of the time until it is done again: thousands of busy lanes change all the
/// time, and what the control plane writes of each costs PostgreSQL as much as a message. 5,000 are told of every
/// second.
const REST_PER_LANE: Duration = Duration::from_micros(200);
/// The most lanes of one report; the rest follows at once. About 60 bytes each.
const LANES_MAX: usize = 1_000;
/// Requests that wait to be sent. More means that the stream is stalled.
const REQUESTS_MAX: usize = 16;
/// How long a request may wait for its place, and the server to answer the call.
const STALLED: Duration = Duration::from_secs(5);
/// How long the server has to end the stream after a leave.
const GOODBYE: Duration = Duration::from_secs(2);

/// A stream.
pub(super) struct Session<'a> {
    client: &'a mut Client,
    stopping: &'a CancellationToken,
    leave: &'a CancellationToken,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        client: &'a mut Client,
        stopping: &'a CancellationToken,
        leave: &'a CancellationToken,
    ) -> Self {
        Self {
            client,
            stopping,
            leave,
        }
    }

    /// Runs the stream. `Ok` once the daemon has left.
    pub(super) async fn run(mut self, endpoint: &Endpoint) -> Result<(), Status> {
        let (requests, mut responses) = tokio::select! {
            () = self.leave.cancelled() => return Ok(()),
            opened = timeout(STALLED, self.open(endpoint)) => opened.map_err(|_| stalled())??,
        };
        // Whoever listens now may know nothing of what was told before.
        self.client.board.tell_all();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut report_at, mut urgent_at): (Option<Instant>, Option<Instant>) = (None, None);
        let mut rested = Instant::now();
        let mut another_token = pin!(self.client.token.another());
        loop {
            let board = &self.client.board;
            tokio::select! {
                response = responses.message() => {
                    let response = response?.ok_or_else(|| Status::unavailable("the stream was ended"))?;
                    let answer = self.take(response).await;
                    send(&requests, answer).await?;
                }
                () = board.urgent(), if urgent_at.is_none() => urgent_at = Some(Instant::now() + COALESCE_URGENT),
                () = sleep_until(urgent_at.unwrap_or(rested)), if urgent_at.is_some() => {
                    urgent_at = None;
                    self.report(&requests, Board::take_urgent).await?;
                }
                () = board.changed(), if report_at.is_none() => report_at = Some(rested.max(Instant::now() + COALESCE)),
                () = sleep_until(report_at.unwrap_or(rested)), if report_at.is_some() => {
                    report_at = None;
                    let told = self.report(&requests, Board::take_changed).await?;
                    rested = Instant::now() + REST_PER_LANE * told;
                }
                // A report, even an empty one.
                _ = heartbeat.tick() => send(&requests, Message::Observed(v1::Observed::default())).await?,
                bearer = &mut another_token => {
                    let token = bearer.expose().to_owned();
                    send(&requests, Message::Renewal(v1::Renewal { token })).await?;
                    info!("another token is configured; the control plane has it now");
                    self.client.token.replace(bearer);
                    another_token.set(self.client.token.another());
                }
                () = self.leave.cancelled() => break,
            }
        }
        self.report(&requests, Board::take_changed).await?;
        send(&requests, Message::Leave(v1::Leave {})).await?;
        drop(requests);
        // Its end says that the lanes may move; without it they do so when the daemon is missed.
        let _ = timeout(GOODBYE, async {
            while let Ok(Some(_)) = responses.message().await {}
        })
        .await;
        Ok(())
    }

    async fn open(
        &mut self,
        endpoint: &Endpoint,
    ) -> Result<(mpsc::Sender<v1::WatchRequest>, Streaming<v1::WatchResponse>), Status> {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let identity = &self.client.identity;
        let hello = v1::Hello {
            daemon_id: identity.id.clone(),
            incarnation: identity.incarnation.to_string(),
            capacity: identity.capacity,
            epoch: self.client.ledger.epoch().to_owned(),
            running: self.client.ledger.running(),
        };
        // Before the call: the server may wait for it before it answers.
        send(&requests, Message::Hello(hello)).await?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Status::unavailable(format!("{}: {}", endpoint.uri(), with_causes(&error))))?;
        let mut request = Request::new(ReceiverStream::new(receiver));
        request
            .metadata_mut()
            .insert("authorization", self.client.token.current().authorization());
        let responses = FleetServiceClient::new(channel)
            .watch(request)
            .await?
            .into_inner();
        Ok((requests, responses))
    }

    /// Applies a response and answers it.
    async fn take(&mut self, response: v1::WatchResponse) -> Message {
        let nonce = response.nonce.clone();
        if self.stopping.is_cancelled() {
            let refuse = |assignment: v1::Assignment| v1::AssignmentError {
                tenant_id: assignment.tenant_id,
                revision: assignment.revision,
                message: "the daemon is stopping".into(),
            };
            let errors = response.assignments.into_iter().map(refuse).collect();
            return Message::Ack(v1::Ack { nonce, errors });
        }
        let (changes, errors) = self.client.ledger.take(&response);
        for change in changes {
            match change {
                Change::Run(tenant, wanted) => self.client.manager.run(tenant, wanted).await,
                Change::Stop { tenant, revision } => self.client.manager.stop(tenant, revision).await,
            }
        }
        if response.snapshot_complete && !self.client.synced.swap(true, Ordering::Relaxed) {
            self.client.watching();
        }
        Message::Ack(v1::Ack { nonce, errors })
    }

    /// Reports what has changed, if anything has, and answers of how many lanes.
    async fn report(
        &self,
        requests: &mpsc::Sender<v1::WatchRequest>,
        take: fn(&Board, usize) -> Vec<(TenantId, Observed)>,
    ) -> Result<u32, Status> {
        let mut told = 0;
        loop {
            let changed = take(&self.client.board, LANES_MAX);
            if changed.is_empty() {
                return Ok(told);
            }
            told += changed.len() as u32;
            let lanes = changed
                .into_iter()
                .map(|(tenant, lane)| observed(tenant.to_string(), lane));
            let lanes = lanes.collect();
            send(requests, Message::Observed(v1::Observed { lanes })).await?;
        }
    }
}

async fn send(requests: &mpsc::Sender<v1::WatchRequest>, message: Message) -> Result<(), Status> {
    let request = v1::WatchRequest {
        message: Some(message),
    };
    match timeout(STALLED, requests.send(request)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Status::unavailable("the stream was ended")),
        Err(_) => Err(stalled()),
    }
}

fn stalled() -> Status {
    Status::deadline_exceeded("the control plane does not answer")
}

fn observed(tenant_id: String, lane: Observed) -> v1::ObservedLane {
    let state = match lane.state {
        Standing::Starting => v1::LaneState::Starting,
        Standing::Running => v1::LaneState::Running,
        Standing::Stopped => v1::LaneState::Stopped,
    };
    v1::ObservedLane {
        tenant_id,
        revision: lane.revision,
        state: state.into(),
        workers: lane.workers,
        busy: lane.busy,
        held: lane.held,
        problem: lane.problem.map(problem),
        message_bytes: lane.message_bytes.map(NonZeroU32::get),
    }
}

fn problem(problem: Problem) -> v1::Problem {
    let kind = match problem.kind {
        Kind::Queue => v1::ProblemKind::Queue,
        Kind::Table => v1::ProblemKind::Table,
        Kind::Delivery => v1::ProblemKind::Delivery,
        Kind::Letters => v1::ProblemKind::Letters,
    };
    v1::Problem {
        kind: kind.into(),
        detail: problem.detail.to_string(),
        since: Some(problem.since.into()),
    }
}
