//! One daemon's stream: the differences to it, its acknowledgements and reports back.
//!
//! What was sent is a cursor over the daemon's rows, ordered by revision; what changes meanwhile is in the rows, so
//! nothing is queued here however slow the daemon is, and several changes of one lane are one. A database that does
//! not answer stops nothing but the writing: the daemon is heard all the same.

mod reports;
mod session;

use std::{collections::BTreeMap, time::Duration};

use common::id::TenantId;
use proto::v1;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, info};
use uuid::Uuid;

use self::session::{Session, Told};
use super::{
    Changes, Connections,
    connections::within,
    history,
    lanes::Report,
    members::{self, Member},
    membership::Speaker,
};
use crate::{
    error::Error as CallError,
    excerpt::excerpt,
    failure::Reason,
    identity::{Keys, Lifetime},
    problems::{Kind, Problem},
    tenants::Missed,
};

/// How many lanes one response holds: about 30 kB.
const LANES_MAX: i64 = 500;
/// How many responses may wait for their acknowledgement.
const OUTSTANDING_MAX: usize = 4;
/// How long a response may wait for it: a daemon acknowledges at once what it has understood.
const ACK_LIMIT: Duration = Duration::from_secs(5);
/// How long a new stream may take to say who it is.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// How often it is looked whether the daemon is late.
const TICK: Duration = Duration::from_millis(250);
/// A look that comes so late says that this process stood still, and not the daemon.
const STANDSTILL: Duration = Duration::from_secs(1);

/// How often a lease is renewed, and how long that may take.
const RENEW_EVERY: Duration = Duration::from_secs(1);
const RENEW_LIMIT: Duration = Duration::from_secs(2);
/// A daemon whose lease could not be renewed for this long has just the time to try another control plane.
const UNRENEWED_MAX: Duration = Duration::from_secs(3);
/// How long letting a daemon in, or writing down how its stream ended, may take.
const JOIN_LIMIT: Duration = Duration::from_secs(5);
/// How long reading what a daemon is to run may take, and writing down what it does.
const QUERY_LIMIT: Duration = Duration::from_secs(5);
const REPORT_LIMIT: Duration = Duration::from_secs(12);
/// How long a failed write waits.
const RETRY: Duration = Duration::from_millis(500);
/// How many reports are written at once. Their rows are locked meanwhile.
const WRITTEN_MAX: usize = 1_000;
/// How many lanes' reports may wait for the database: more than anyone has tenants, and 20 MB.
const REPORTS_MAX: usize = 100_000;

/// What a stream is served from.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) connections: Connections,
    pub(crate) changes: Changes,
    pub(crate) missed: Missed,
    /// What tokens are checked with that come on a stream.
    pub(crate) keys: Keys,
    pub(crate) stop: CancellationToken,
}

/// Where responses go.
pub(crate) type Responses = mpsc::Sender<Result<v1::WatchResponse, Status>>;

/// How a stream ended.
#[derive(Debug)]
enum End {
    /// The daemon said that it leaves.
    Left,
    /// The daemon closed it.
    Closed,
    /// The daemon is not heard of any more, or does not keep to the protocol.
    Broke(Status),
    /// The daemon is no member any more, or has another stream.
    Refused(Status),
    /// It is this control plane that ends it: the daemon keeps its lease, to find another, or this one again.
    Ours(Status),
}

impl Watch {
    /// Serves a stream to its end, which is that of its token at the latest, and says its last word if that is an error.
    pub(crate) async fn serve(
        self,
        mut requests: Streaming<v1::WatchRequest>,
        responses: Responses,
        lifetime: Lifetime,
    ) {
        let opened = tokio::time::timeout(HELLO_LIMIT, requests.message()).await;
        let result = match opened {
            Ok(Ok(Some(v1::WatchRequest {
                message: Some(v1::watch_request::Message::Hello(hello)),
            }))) => self.session(hello, requests, responses.clone(), lifetime).await,
            Ok(Ok(_)) => Err(invalid(
                "message",
                "the first request of a stream must be a hello",
            )),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Reason::RequestTimeout.status("no hello came")),
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
        lifetime: Lifetime,
    ) -> Result<(), Status> {
        let (member, capacity, running) = check(&hello)?;
        let join = async |connection: &mut _| members::join(connection, &member, capacity).await;
        within(&self.connections.leases, JOIN_LIMIT, join)
            .await
            .map_err(status)?;
        let told = self.told(&hello.epoch, running).await?;
        let known = told.unnamed.as_ref().map_or(0, BTreeMap::len);
        info!(daemon = member.id, running = known, "a daemon joined");
        let session = Session::new(self, &member, responses, lifetime);
        let end = session.run(requests, told).await;
        let ending = match &end {
            End::Left => {
                let leave = async |connection: &mut _| members::leave(connection, &member).await;
                within(&self.connections.leases, JOIN_LIMIT, leave).await
            }
            End::Closed | End::Broke(_) => {
                let lose = async |connection: &mut _| members::lose(connection, &member).await;
                within(&self.connections.leases, JOIN_LIMIT, lose).await
            }
            End::Refused(_) | End::Ours(_) => Ok(()),
        };
        if let Err(error) = ending {
            // Somebody is in its place already, or its lease ends by itself.
            debug!(daemon = member.id, %error, "could not write down that a daemon's stream ended");
        }
        let (how, said) = match end {
            End::Left => ("left", Ok(())),
            End::Closed => ("closed", Ok(())),
            End::Broke(status) => ("broke", Err(status)),
            End::Refused(status) => ("refused", Err(status)),
            End::Ours(status) => ("ended here", Err(status)),
        };
        info!(
            daemon = member.id,
            how,
            why = said.as_ref().map_or_else(Status::message, |()| ""),
            "a daemon's stream ended"
        );
        said
    }

    /// What a daemon that runs these lanes of that epoch knows already.
    async fn told(&self, epoch: &str, running: BTreeMap<TenantId, i64>) -> Result<Told, Status> {
        let read = async |connection: &mut sqlx::PgConnection| {
            let (known, revision) = members::fleet(connection).await?;
            if known.to_string() != epoch {
                // Revisions of another history say nothing: everything is named anew.
                return Ok(Told::new(known, BTreeMap::new()));
            }
            if running.values().all(|&running| running <= revision) {
                return Ok(Told::new(known, running));
            }
            history::begin_after(connection, known).await?;
            Ok(Told::new(members::fleet(connection).await?.0, BTreeMap::new()))
        };
        let told = within(&self.connections.rounds, JOIN_LIMIT, read).await;
        told.map_err(|error: sqlx::Error| CallError::from(error).into())
    }
}

fn report(lane: &v1::ObservedLane) -> Result<Report, Status> {
    let state = match lane.state() {
        v1::LaneState::Starting => "starting",
        v1::LaneState::Running => "running",
        v1::LaneState::Stopped => "stopped",
        v1::LaneState::Unspecified => {
            return Err(invalid(
                "observed.lanes.state",
                "must be starting, running or stopped",
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
        message_bytes: lane.message_bytes.map(count).filter(|bytes| *bytes > 0),
    })
}

fn problem(problem: &v1::Problem) -> Result<Problem, Status> {
    let kind = match problem.kind() {
        v1::ProblemKind::Queue => Kind::Queue,
        v1::ProblemKind::Table => Kind::Table,
        v1::ProblemKind::Delivery => Kind::Delivery,
        v1::ProblemKind::Letters => Kind::Letters,
        v1::ProblemKind::Unspecified => {
            return Err(invalid(
                "observed.lanes.problem.kind",
                "must be queue, table, delivery or letters",
            ));
        }
    };
    let since = problem.since.and_then(|since| {
        OffsetDateTime::from_unix_timestamp(since.seconds)
            .ok()?
            .replace_nanosecond(since.nanos.try_into().ok()?)
            .ok()
            // What PostgreSQL cannot hold as a time is none.
            .filter(|since| *since >= OffsetDateTime::UNIX_EPOCH)
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

fn invalid(field: &str, message: impl Into<String>) -> Status {
    CallError::invalid(field, message).into()
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
        let message = format!(
            "{:?} is not 1 to 100 of letters, digits, '.', '_' and '-'",
            excerpt(id)
        );
        return Err(invalid("hello.daemon_id", message));
    }
    let incarnation = Uuid::try_parse(&hello.incarnation).map_err(|_| {
        let message = format!("{:?} is not a UUID", excerpt(&hello.incarnation));
        invalid("hello.incarnation", message)
    })?;
    let capacity = i32::try_from(hello.capacity).unwrap_or(i32::MAX);
    if capacity == 0 {
        return Err(invalid("hello.capacity", "must be 1 at least"));
    }
    let lane =
        |lane: &v1::RunningLane| Ok((tenant("hello.running.tenant_id", &lane.tenant_id)?, lane.revision));
    let running = hello.running.iter().map(lane).collect::<Result<_, Status>>()?;
    Ok((
        Member {
            id: id.clone(),
            speaker: Speaker {
                process: incarnation,
                stream: Uuid::new_v4(),
            },
        },
        capacity,
        running,
    ))
}

fn status(error: members::Error) -> Status {
    match error {
        members::Error::IdInUse(_) => Reason::AlreadyExists.status(error.to_string()),
        members::Error::Out(_) | members::Error::Replaced(_) => Reason::Aborted.status(error.to_string()),
        members::Error::NotAlive(_) => Reason::DaemonNotFound.status(error.to_string()),
        members::Error::Database(error) => CallError::from(error).into(),
    }
}
