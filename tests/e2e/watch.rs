//! The watch protocol, spoken by hand: what a daemon may count on, and what comes of one that breaks it.

mod sizes;
mod tokens;

use std::time::Duration;

use common::id::TenantId;
use control_plane::identity::Role;
use proto::v1::{
    self,
    fleet_service_client::FleetServiceClient,
    watch_request::Message::{self, Ack, Hello, Leave, Observed},
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

/// Longer than a lease, which is the longest that a stream waits for anything.
const PATIENCE: Duration = Duration::from_secs(15);

/// A daemon that does what a test says.
struct Daemon {
    requests: mpsc::Sender<v1::WatchRequest>,
    responses: Streaming<v1::WatchResponse>,
    /// Its heartbeats, which end with it.
    heart: JoinSet<()>,
}

fn hello(id: &str) -> v1::Hello {
    v1::Hello {
        daemon_id: id.into(),
        incarnation: Uuid::now_v7().to_string(),
        capacity: 100,
        ..Default::default()
    }
}

/// The same process again, which runs one lane.
fn again(hello: &v1::Hello, epoch: &str, tenant: TenantId, revision: i64) -> v1::Hello {
    v1::Hello {
        epoch: epoch.into(),
        running: vec![v1::RunningLane {
            tenant_id: tenant.to_string(),
            revision,
        }],
        ..hello.clone()
    }
}

fn nack(tenant: TenantId, revision: i64) -> Vec<v1::AssignmentError> {
    vec![v1::AssignmentError {
        tenant_id: tenant.to_string(),
        revision,
        message: "no".into(),
    }]
}

async fn nobody() -> Stack {
    let options = Options {
        daemons: 0,
        ..Options::default()
    };
    Stack::start(options).await
}

impl Daemon {
    async fn open(stack: &Stack, token: &str, first: Message) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(8);
        requests.send(request(first)).await.unwrap();
        let channel = Channel::from_shared(stack.url()).unwrap();
        let mut client = FleetServiceClient::new(channel.connect().await.unwrap());
        let mut call = Request::new(ReceiverStream::new(receiver));
        let bearer = format!("Bearer {token}").parse().unwrap();
        call.metadata_mut().insert("authorization", bearer);
        let responses = client.watch(call).await?.into_inner();
        let (mut heart, beats) = (JoinSet::new(), requests.clone());
        heart.spawn(async move {
            while beats
                .send(request(Observed(v1::Observed::default())))
                .await
                .is_ok()
            {
                sleep(Duration::from_secs(1)).await;
            }
        });
        Ok(Self {
            requests,
            responses,
            heart,
        })
    }

    /// One that is let in.
    async fn join(stack: &Stack, hello: v1::Hello) -> Self {
        let token = stack.token(Role::Daemon, None);
        Self::open(stack, &token, Hello(hello)).await.unwrap()
    }

    async fn send(&self, message: Message) {
        self.requests.send(request(message)).await.unwrap();
    }

    async fn answer(&self, nonce: &str, errors: Vec<v1::AssignmentError>) {
        let nonce = nonce.to_owned();
        self.send(Ack(v1::Ack { nonce, errors })).await;
    }

    /// What comes next, not acknowledged.
    async fn next(&mut self) -> Result<v1::WatchResponse, Status> {
        let response = timeout(PATIENCE, self.responses.message()).await.unwrap()?;
        response.ok_or_else(|| Status::ok("the stream has ended"))
    }

    /// The first assignment to come; everything until there is acknowledged.
    async fn assigned(&mut self) -> (v1::WatchResponse, v1::Assignment) {
        loop {
            let response = self.next().await.unwrap();
            self.answer(&response.nonce, Vec::new()).await;
            if let [assignment] = response.assignments.as_slice() {
                let assignment = assignment.clone();
                return (response, assignment);
            }
        }
    }

    /// Why the stream is ended.
    async fn refused(mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

fn request(message: Message) -> v1::WatchRequest {
    v1::WatchRequest {
        message: Some(message),
    }
}

#[tokio::test]
async fn a_watch_needs_a_daemons_token_and_begins_with_a_hello() {
    let stack = nobody().await;
    let tenant = stack.tenant("t").await;
    for (token, wanted) in [
        (stack.token(Role::Tenant, Some(tenant.0)), Code::PermissionDenied),
        (stack.admin(), Code::PermissionDenied),
        ("nonsense".to_owned(), Code::Unauthenticated),
    ] {
        let refused = Daemon::open(&stack, &token, Hello(hello("d1"))).await;
        assert_eq!(refused.err().unwrap().code(), wanted);
    }
    let token = stack.token(Role::Daemon, None);
    for (first, said) in [
        (Leave(v1::Leave {}), "hello"),
        (Hello(hello("a b")), "daemon_id"),
        (
            Hello(v1::Hello {
                capacity: 0,
                ..hello("d1")
            }),
            "capacity",
        ),
        (
            Hello(v1::Hello {
                incarnation: "x".into(),
                ..hello("d1")
            }),
            "incarnation",
        ),
    ] {
        let daemon = Daemon::open(&stack, &token, first).await.unwrap();
        let status = daemon.refused().await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(said), "{status}");
    }
}

#[tokio::test]
async fn a_snapshot_and_then_only_what_changes() {
    let stack = nobody().await;
    let tenant = stack.tenant("watched").await;
    let first = hello("by-hand");
    let mut daemon = Daemon::join(&stack, first.clone()).await;
    let (response, assignment) = daemon.assigned().await;
    assert_eq!(
        (assignment.tenant_id, assignment.workers),
        (tenant.to_string(), 3)
    );
    let (epoch, revision) = (response.epoch, assignment.revision);

    // A second process under the same id is refused while the first is there.
    let second = Daemon::join(&stack, hello("by-hand")).await;
    assert_eq!(second.refused().await.code(), Code::AlreadyExists);

    // The same process comes back and runs what it was told: nothing is sent again.
    drop(daemon);
    let mut daemon = Daemon::join(&stack, again(&first, &epoch, tenant, revision)).await;
    let snapshot = daemon.next().await.unwrap();
    assert!(snapshot.snapshot_complete);
    let sent = (snapshot.assignments.len(), snapshot.withdrawals.len());
    assert_eq!(sent, (0, 0), "{snapshot:?}");

    // What was withdrawn meanwhile is named.
    drop(daemon);
    let path = format!("/api/tenants/{tenant}");
    let (admin, pause) = (stack.admin(), json!({ "status": "paused" }));
    let pausing = stack.patch(&path, &admin, &pause);
    let coming_back = async {
        eventually("the lane is withdrawn", async || {
            let workers = sqlx::query_scalar::<_, i32>("select workers from assignments");
            workers.fetch_all(stack.pool()).await.unwrap().iter().sum::<i32>() == 0
        })
        .await;
        let mut daemon = Daemon::join(&stack, again(&first, &epoch, tenant, revision)).await;
        loop {
            let response = daemon.next().await.unwrap();
            daemon.answer(&response.nonce, Vec::new()).await;
            if let [withdrawal] = response.withdrawals.as_slice() {
                assert_eq!(withdrawal.tenant_id, tenant.to_string());
                let stopped = v1::ObservedLane {
                    tenant_id: withdrawal.tenant_id.clone(),
                    revision: withdrawal.revision,
                    state: v1::LaneState::Stopped.into(),
                    ..Default::default()
                };
                daemon.send(Observed(v1::Observed { lanes: vec![stopped] })).await;
                return daemon;
            }
        }
    };
    let ((status, answer), daemon) = tokio::join!(pausing, coming_back);
    assert_eq!(status, 200, "{answer}");

    // An acknowledgement of what was never sent ends the stream, and says so.
    daemon.answer("never sent", Vec::new()).await;
    let status = daemon.refused().await;
    assert!(
        status.code() == Code::InvalidArgument && status.message().contains("nonce"),
        "{status}"
    );
}

#[tokio::test]
async fn a_refused_assignment_is_not_sent_again_until_it_changes() {
    let stack = nobody().await;
    let tenant = stack.tenant("refused").await;
    let mut daemon = Daemon::join(&stack, hello("picky")).await;
    let refused = loop {
        let response = daemon.next().await.unwrap();
        let errors = response
            .assignments
            .iter()
            .flat_map(|lane| nack(tenant, lane.revision))
            .collect();
        daemon.answer(&response.nonce, errors).await;
        if let [assignment] = response.assignments.as_slice() {
            break assignment.revision;
        }
    };
    let (other, (_, assignment)) = tokio::join!(stack.tenant("taken"), daemon.assigned());
    assert_eq!(assignment.tenant_id, other.to_string(), "nothing but what is new");

    let path = format!("/api/tenants/{tenant}/config/concurrency");
    let (admin, five) = (stack.admin(), json!({ "workers": 5 }));
    let ((status, answer), (_, assignment)) =
        tokio::join!(stack.put(&path, &admin, &five), daemon.assigned());
    assert_eq!((status, &answer["applied"]), (200, &json!(false)), "{answer}");
    assert_eq!(
        (assignment.tenant_id, assignment.workers),
        (tenant.to_string(), 5)
    );
    assert!(assignment.revision > refused);
}

#[tokio::test]
async fn a_stream_that_never_acknowledges_is_ended_and_harms_no_other() {
    let stack = nobody().await;
    let silent = Daemon::join(&stack, hello("silent")).await;
    let silent = tokio::spawn(silent.refused());
    let mut other = Daemon::join(&stack, hello("other")).await;
    let (tenants, (_, assignment)) = tokio::join!(stack.tenants(2), other.assigned());
    assert!(
        tenants
            .iter()
            .any(|tenant| tenant.to_string() == assignment.tenant_id)
    );
    let status = silent.await.unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("acknowledged"), "{status}");
}

#[tokio::test]
async fn a_stream_without_heartbeats_is_ended_and_its_daemon_out() {
    let stack = nobody().await;
    let mut daemon = Daemon::join(&stack, hello("hung")).await;
    daemon.heart.abort_all();
    let snapshot = daemon.next().await.unwrap();
    daemon.answer(&snapshot.nonce, Vec::new()).await;
    let status = daemon.next().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("heartbeat"), "{status}");
    eventually("it is out", async || {
        let (_, daemons) = stack.get("/api/daemons", &stack.admin()).await;
        daemons["daemons"] == json!([])
    })
    .await;
}

#[tokio::test]
async fn a_daemon_with_revisions_of_a_lost_future_begins_a_new_epoch_and_is_told_everything_anew() {
    let stack = nobody().await;
    let tenant = stack.tenant("restored").await;
    let first = hello("from-the-future");
    let mut daemon = Daemon::join(&stack, first.clone()).await;
    let (response, assignment) = daemon.assigned().await;
    drop(daemon);
    // The database knows nothing of this revision: it was restored to a time before.
    let future = assignment.revision + 1_000;
    let mut daemon = Daemon::join(&stack, again(&first, &response.epoch, tenant, future)).await;
    let (anew, same) = daemon.assigned().await;
    assert_eq!(same.tenant_id, tenant.to_string());
    assert_ne!(anew.epoch, response.epoch);
    assert!(same.revision > future, "beyond whatever was given out");
}

#[tokio::test]
async fn the_end_of_a_half_open_stream_harms_no_later_one_of_the_same_daemon() {
    let stack = nobody().await;
    let first = hello("twice");
    let old = Daemon::join(&stack, first.clone()).await;
    eventually("it has joined", async || lease(&stack).await > 0.0).await;
    let mut new = Daemon::join(&stack, first).await;
    let snapshot = new.next().await.unwrap();
    new.answer(&snapshot.nonce, Vec::new()).await;
    // The old one still speaks, and is told that it counts no more.
    let status = old.refused().await;
    assert_eq!(status.code(), Code::Aborted, "{status}");
    // Its end has cut nothing: a grace would be a second.
    assert!(lease(&stack).await > 2.0);
}

/// What is left of the only daemon's lease, in seconds.
async fn lease(stack: &Stack) -> f64 {
    let left = sqlx::query_scalar::<_, f64>(
        "select coalesce(max(extract(epoch from lease_until - clock_timestamp())), 0)::float8 from daemons",
    );
    left.fetch_one(stack.pool()).await.unwrap()
}
