//! One daemon's stream: the differences to it, its acknowledgements and reports back.
//!
//! What was sent is a cursor over the daemon's rows, ordered by revision; what changes meanwhile is in the rows, so
//! nothing is queued here however slow the daemon is, and several changes of one lane are one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::id::TenantId;
use proto::v1;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    Changes, GRACE, LEASE,
    changes::{self, Topic},
    members::{self, Lane, Member, Report},
};
use crate::{
    error::Error as CallError,
    problems::{Kind, Problem},
};

/// How many lanes one response holds: about 30 kB.
const LANES_MAX: i64 = 500;
/// How many responses may wait for their acknowledgement.
const OUTSTANDING_MAX: usize = 4;
/// How long a response may wait for it: a daemon acknowledges at once what it has understood.
const ACK_LIMIT: Duration = Duration::from_secs(5);
/// How long a new stream may take to say who it is.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// The lease is written down a little after the stream is seen to break.
const GRACE_MARGIN: Duration = Duration::from_millis(100);

/// What a stream is served from.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) pool: PgPool,
    pub(crate) changes: Changes,
    pub(crate) stop: CancellationToken,
}

/// Where responses go.
pub(crate) type Responses = mpsc::Sender<Result<v1::WatchResponse, Status>>;

/// A stream that is open.
struct Session<'a> {
    watch: &'a Watch,
    member: Member,
    epoch: Uuid,
    /// The last row sent.
    sent: (i64, Uuid),
    /// What the daemon said it runs and the snapshot has not named yet; `None` once the snapshot is complete.
    unnamed: Option<BTreeMap<TenantId, i64>>,
    nonce: u64,
    outstanding: BTreeMap<u64, Instant>,
    responses: Responses,
}

impl Watch {
    /// Serves a stream to its end, and says its last word if that is an error.
    pub(crate) async fn serve(self, mut requests: Streaming<v1::WatchRequest>, responses: Responses) {
        let opened = tokio::time::timeout(HELLO_LIMIT, requests.message()).await;
        let result = match opened {
            Ok(Ok(Some(v1::WatchRequest {
                message: Some(v1::watch_request::Message::Hello(hello)),
            }))) => self.session(hello, requests, responses.clone()).await,
            Ok(Ok(_)) => Err(Status::invalid_argument(
                "message: the first request of a stream is to be a hello",
            )),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::deadline_exceeded("no hello came")),
        };
        if let Err(status) = result {
            // Whoever is no longer there needs no answer.
            let _ = responses.try_send(Err(status));
        }
    }

    async fn session(
        &self,
        hello: v1::Hello,
        requests: Streaming<v1::WatchRequest>,
        responses: Responses,
    ) -> Result<(), Status> {
        let (member, capacity, running) = check(&hello)?;
        members::join(&self.pool, &member, capacity)
            .await
            .map_err(status)?;
        let (epoch, revision) = members::fleet(&self.pool).await.map_err(CallError::from)?;
        // Revisions of another history say nothing: then everything is named anew.
        let same_history =
            hello.epoch == epoch.to_string() && running.values().all(|&running| running <= revision);
        let unnamed = if same_history { running } else { BTreeMap::new() };
        info!(daemon = member.id, running = unnamed.len(), "a daemon joined");
        let mut session = Session {
            watch: self,
            member,
            epoch,
            sent: (0, Uuid::nil()),
            unnamed: Some(unnamed),
            nonce: 0,
            outstanding: BTreeMap::new(),
            responses,
        };
        let ended = session.run(requests).await;
        let member = &session.member;
        let after = match &ended {
            Ok(End::Left) => members::leave(&self.pool, member).await,
            Ok(End::Stopping) => Ok(()),
            Ok(End::Closed) | Err(_) => {
                self.look_after_the_grace();
                members::lose(&self.pool, member).await
            }
        };
        if let Err(error) = after {
            warn!(daemon = member.id, %error, "could not write down that a daemon's stream ended");
        }
        info!(daemon = member.id, how = ?ended.as_ref().map_err(Status::message), "a daemon's stream ended");
        match ended {
            // The daemon is to find another control plane, or this one again once it is back.
            Ok(End::Stopping) => Err(Status::unavailable(
                "this control plane is stopping; connect again",
            )),
            Ok(_) => Ok(()),
            Err(status) => Err(status),
        }
    }
}

impl Watch {
    /// A daemon whose stream broke is out when its grace is over: somebody has to look then, and not at the next tick.
    fn look_after_the_grace(&self) {
        let pool = self.pool.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE + GRACE_MARGIN).await;
            if let Err(error) = changes::notify(&pool, Topic::Demand).await {
                debug!(%error, "could not ask for a round; the next tick does");
            }
        });
    }
}

/// How a stream ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The daemon said that it leaves.
    Left,
    /// The daemon closed it.
    Closed,
    /// This control plane stops.
    Stopping,
}

impl Session<'_> {
    async fn run(&mut self, mut requests: Streaming<v1::WatchRequest>) -> Result<End, Status> {
        let mut assignments = self.watch.changes.subscribe(Topic::Assignments);
        let mut heard = Instant::now();
        loop {
            assignments.mark_unchanged();
            self.send_changes().await?;
            let silent = heard + LEASE;
            let unacknowledged = self.outstanding.values().next().map(|sent| *sent + ACK_LIMIT);
            tokio::select! {
                () = self.watch.stop.cancelled() => return Ok(End::Stopping),
                request = requests.message() => {
                    heard = Instant::now();
                    match request? {
                        Some(request) => if self.take(request).await? { return Ok(End::Left) },
                        None => return Ok(End::Closed),
                    }
                }
                // The sender lives as long as `changes`, which is here.
                _ = assignments.changed() => {}
                () = tokio::time::sleep_until(silent) => {
                    return Err(Status::deadline_exceeded("no heartbeat came in time; connect again"));
                }
                () = tokio::time::sleep_until(unacknowledged.unwrap_or(silent)), if unacknowledged.is_some() => {
                    return Err(Status::deadline_exceeded("a response was not acknowledged in time; connect again"));
                }
            }
        }
    }

    /// Sends what the daemon does not know yet, as far as it keeps up.
    async fn send_changes(&mut self) -> Result<(), Status> {
        while self.outstanding.len() < OUTSTANDING_MAX {
            let lanes = members::lanes_after(&self.watch.pool, &self.member.id, self.sent, LANES_MAX)
                .await
                .map_err(CallError::from)?;
            let more = lanes.len() as i64 == LANES_MAX;
            if let Some(last) = lanes.last() {
                self.sent = (last.revision, last.tenant.0);
            }
            let mut response = v1::WatchResponse {
                epoch: self.epoch.to_string(),
                revision: self.sent.0,
                ..v1::WatchResponse::default()
            };
            for lane in lanes {
                self.add(lane, &mut response);
            }
            if !more && let Some(unnamed) = self.unnamed.take() {
                // What it runs and no row names was withdrawn while it was away.
                response
                    .withdrawals
                    .extend(unnamed.into_keys().map(|tenant| v1::Withdrawal {
                        tenant_id: tenant.to_string(),
                        revision: self.sent.0,
                    }));
                response.snapshot_complete = true;
            }
            if response.assignments.is_empty()
                && response.withdrawals.is_empty()
                && !response.snapshot_complete
            {
                if more {
                    continue;
                }
                return Ok(());
            }
            self.send(response)?;
            if !more {
                return Ok(());
            }
        }
        Ok(())
    }

    fn add(&mut self, lane: Lane, response: &mut v1::WatchResponse) {
        let known = self
            .unnamed
            .as_mut()
            .and_then(|unnamed| unnamed.remove(&lane.tenant));
        let (tenant_id, revision) = (lane.tenant.to_string(), lane.revision);
        if lane.workers == 0 {
            response.withdrawals.push(v1::Withdrawal { tenant_id, revision });
        } else if known != Some(revision) {
            response.assignments.push(v1::Assignment {
                tenant_id,
                workers: lane.workers,
                revision,
            });
        }
    }

    fn send(&mut self, mut response: v1::WatchResponse) -> Result<(), Status> {
        self.nonce += 1;
        response.nonce = self.nonce.to_string();
        self.outstanding.insert(self.nonce, Instant::now());
        // The channel has room for all that may be outstanding: a full one is a stream that does not move.
        self.responses
            .try_send(Ok(response))
            .map_err(|_| Status::unavailable("the stream is gone"))
    }

    /// Takes a request; answers whether the daemon leaves.
    async fn take(&mut self, request: v1::WatchRequest) -> Result<bool, Status> {
        use v1::watch_request::Message;
        match request.message {
            Some(Message::Hello(_)) => Err(Status::invalid_argument(
                "message: only the first request is a hello",
            )),
            Some(Message::Ack(ack)) => self.acknowledge(&ack).map(|()| false),
            Some(Message::Observed(observed)) => self.observe(observed).await.map(|()| false),
            Some(Message::Leave(_)) => Ok(true),
            None => Err(Status::invalid_argument(
                "message: is to be an ack, observed or leave",
            )),
        }
    }

    fn acknowledge(&mut self, ack: &v1::Ack) -> Result<(), Status> {
        let nonce: Option<u64> = ack.nonce.parse().ok();
        if nonce.and_then(|nonce| self.outstanding.remove(&nonce)).is_none() {
            return Err(Status::invalid_argument(format!(
                "ack.nonce: {:?} is not outstanding",
                ack.nonce
            )));
        }
        for error in &ack.errors {
            // Its last good state stays, and it is not sent again until it changes.
            warn!(
                daemon = self.member.id,
                tenant = error.tenant_id,
                revision = error.revision,
                error = error.message,
                "a daemon refused an assignment"
            );
        }
        Ok(())
    }

    async fn observe(&mut self, observed: v1::Observed) -> Result<(), Status> {
        members::renew(&self.watch.pool, &self.member)
            .await
            .map_err(status)?;
        if observed.lanes.is_empty() {
            return Ok(());
        }
        let mut seen = BTreeSet::new();
        // The last report of a lane counts.
        let mut reports = observed
            .lanes
            .iter()
            .rev()
            .map(report)
            .collect::<Result<Vec<_>, _>>()?;
        reports.retain(|report| seen.insert(report.tenant));
        Ok(members::observe(&self.watch.pool, &self.member, &reports)
            .await
            .map_err(CallError::from)?)
    }
}

fn report(lane: &v1::ObservedLane) -> Result<Report, Status> {
    let state = match lane.state() {
        v1::LaneState::Starting => "starting",
        v1::LaneState::Running => "running",
        v1::LaneState::Stopped => "stopped",
        v1::LaneState::Unspecified => {
            return Err(Status::invalid_argument(
                "observed.lanes.state: is to be starting, running or stopped",
            ));
        }
    };
    let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    Ok(Report {
        tenant: tenant("observed.lanes.tenant_id", &lane.tenant_id)?,
        revision: lane.revision,
        state,
        workers: count(lane.workers),
        busy: count(lane.busy),
        held: count(lane.held),
        problem: lane.problem.as_ref().map(problem).transpose()?,
    })
}

fn problem(problem: &v1::Problem) -> Result<Problem, Status> {
    let kind = match problem.kind() {
        v1::ProblemKind::Queue => Kind::Queue,
        v1::ProblemKind::Table => Kind::Table,
        v1::ProblemKind::Delivery => Kind::Delivery,
        v1::ProblemKind::Letters => Kind::Letters,
        v1::ProblemKind::Unspecified => {
            return Err(Status::invalid_argument(
                "observed.lanes.problem.kind: is to be queue, table, delivery or letters",
            ));
        }
    };
    let since = problem.since.and_then(|since| {
        OffsetDateTime::from_unix_timestamp(since.seconds)
            .ok()?
            .replace_nanosecond(since.nanos.try_into().ok()?)
            .ok()
    });
    Ok(Problem::new(
        kind,
        &problem.detail,
        since.unwrap_or_else(OffsetDateTime::now_utc),
    ))
}

fn tenant(field: &str, text: &str) -> Result<TenantId, Status> {
    crate::tenants::model::parse_id(field, text).map_err(Status::from)
}

/// Whether a daemon may be called so: 1 to 100 of letters, digits, `.`, `_` and `-`.
pub(crate) fn is_daemon_id(text: &str) -> bool {
    let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    (1..=100).contains(&text.len()) && text.chars().all(allowed)
}

/// Reads who a daemon is: itself, its capacity, and what it runs.
fn check(hello: &v1::Hello) -> Result<(Member, i32, BTreeMap<TenantId, i64>), Status> {
    let id = &hello.daemon_id;
    if !is_daemon_id(id) {
        let message = format!("hello.daemon_id: {id:?} is not 1 to 100 of letters, digits, '.', '_' and '-'");
        return Err(Status::invalid_argument(message));
    }
    let incarnation = Uuid::try_parse(&hello.incarnation).map_err(|_| {
        Status::invalid_argument(format!("hello.incarnation: {:?} is no UUID", hello.incarnation))
    })?;
    let capacity = i32::try_from(hello.capacity).unwrap_or(i32::MAX);
    if capacity == 0 {
        return Err(Status::invalid_argument("hello.capacity: is to be 1 at least"));
    }
    let lane =
        |lane: &v1::RunningLane| Ok((tenant("hello.running.tenant_id", &lane.tenant_id)?, lane.revision));
    let running = hello.running.iter().map(lane).collect::<Result<_, Status>>()?;
    Ok((
        Member {
            id: id.clone(),
            incarnation,
        },
        capacity,
        running,
    ))
}

fn status(error: members::Error) -> Status {
    match error {
        members::Error::IdInUse(_) => Status::already_exists(error.to_string()),
        members::Error::Out(_) => Status::aborted(error.to_string()),
        members::Error::NotAlive(_) => Status::not_found(error.to_string()),
        members::Error::Database(error) => CallError::from(error).into(),
    }
}
