//! The client against a control plane of the test's own.

use std::{num::NonZeroU32, pin::Pin};

use common::id::TenantId;
use proto::v1::{
    self,
    fleet_service_server::{FleetService, FleetServiceServer},
    watch_request::Message,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::*;
use crate::{
    lane::{Observed, Standing, Wanted},
    shard::{self, Command},
};

/// One stream as the control plane sees it.
struct Stream1 {
    authorization: Option<String>,
    requests: Streaming<v1::WatchRequest>,
    responses: mpsc::Sender<Result<v1::WatchResponse, Status>>,
}

impl Stream1 {
    /// The next request that is no empty heartbeat.
    async fn next(&mut self) -> Message {
        loop {
            let request = timeout(Duration::from_secs(5), self.requests.next())
                .await
                .unwrap();
            match request.unwrap().unwrap().message.unwrap() {
                Message::Observed(observed) if observed.lanes.is_empty() => {}
                message => return message,
            }
        }
    }

    async fn hello(&mut self) -> v1::Hello {
        match self.next().await {
            Message::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    async fn send(&self, response: v1::WatchResponse) {
        self.responses.send(Ok(response)).await.unwrap();
    }
}

struct Fake(mpsc::Sender<Stream1>);

#[tonic::async_trait]
impl FleetService for Fake {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<v1::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        let (responses, receiver) = mpsc::channel(8);
        let stream = Stream1 {
            authorization,
            requests: request.into_inner(),
            responses,
        };
        self.0
            .send(stream)
            .await
            .map_err(|_| Status::unavailable("over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_daemons(
        &self,
        _: Request<v1::ListDaemonsRequest>,
    ) -> Result<Response<v1::ListDaemonsResponse>, Status> {
        Err(Status::unimplemented("no daemon asks for this"))
    }

    async fn drain_daemon(
        &self,
        _: Request<v1::DrainDaemonRequest>,
    ) -> Result<Response<v1::DrainDaemonResponse>, Status> {
        Err(Status::unimplemented("no daemon asks for this"))
    }

    async fn undrain_daemon(
        &self,
        _: Request<v1::UndrainDaemonRequest>,
    ) -> Result<Response<v1::UndrainDaemonResponse>, Status> {
        Err(Status::unimplemented("no daemon asks for this"))
    }
}

/// A daemon's client, with a shard that only listens, and the control plane that it talks to.
struct House {
    streams: mpsc::Receiver<Stream1>,
    commands: mpsc::Receiver<Command>,
    board: Arc<Board>,
    synced: Arc<AtomicBool>,
    stopping: CancellationToken,
    leave: CancellationToken,
    client: JoinHandle<()>,
}

impl House {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Nobody listens on the first: the client goes on to the next.
        let dead = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let endpoints = vec![
            format!("http://{dead}"),
            format!("http://{}", listener.local_addr().unwrap()),
        ];
        let (sender, streams) = mpsc::channel(8);
        let server = Server::builder().add_service(FleetServiceServer::new(Fake(sender)));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

        let (handle, commands) = shard::Handle::new();
        let board = Arc::new(Board::default());
        let config = config::ControlPlane {
            endpoints,
            token: "secret".into(),
            ..config::ControlPlane::default()
        };
        let identity = Identity {
            id: "d1".into(),
            incarnation: Uuid::from_u128(5),
            capacity: 10,
        };
        let manager = Arc::new(TenantManager::new(vec![handle]));
        let token = config.token.clone();
        let token = Arc::new(move || Ok(token.clone()));
        let client = Client::new(identity, &config, token, manager, Arc::clone(&board)).unwrap();
        let (stopping, leave) = (CancellationToken::new(), CancellationToken::new());
        Self {
            streams,
            commands,
            board,
            synced: client.synced(),
            client: tokio::spawn(client.run(stopping.clone(), leave.clone())),
            stopping,
            leave,
        }
    }

    async fn stream(&mut self) -> Stream1 {
        timeout(Duration::from_secs(5), self.streams.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn command(&mut self) -> Command {
        timeout(Duration::from_secs(5), self.commands.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

fn tenant(n: u128) -> TenantId {
    TenantId(Uuid::from_u128(n))
}

fn assign(nonce: &str, n: u128, workers: u32, revision: i64) -> v1::WatchResponse {
    v1::WatchResponse {
        nonce: nonce.into(),
        epoch: "e".into(),
        revision,
        assignments: vec![v1::Assignment {
            tenant_id: tenant(n).to_string(),
            workers,
            revision,
            store_per_second: None,
            message_bytes: Some(300),
        }],
        withdrawals: Vec::new(),
        snapshot_complete: true,
    }
}

#[tokio::test]
async fn assignments_are_applied_acknowledged_and_reported() {
    let mut house = House::new().await;
    let mut stream = house.stream().await;
    assert_eq!(stream.authorization.as_deref(), Some("Bearer secret"));
    let hello = stream.hello().await;
    assert_eq!((hello.daemon_id.as_str(), hello.capacity), ("d1", 10));
    assert!(hello.running.is_empty() && hello.epoch.is_empty());
    assert!(!house.synced.load(Ordering::Relaxed));

    stream.send(assign("n1", 1, 3, 7)).await;
    let ack = v1::Ack {
        nonce: "n1".into(),
        errors: Vec::new(),
    };
    assert_eq!(stream.next().await, Message::Ack(ack));
    assert!(house.synced.load(Ordering::Relaxed));
    let command = house.command().await;
    assert!(
        matches!(command, Command::Run(t, Wanted { workers: 3, revision: 7, message_bytes, .. })
            if t == tenant(1) && message_bytes == NonZeroU32::new(300)),
        "{command:?}"
    );

    let running = Observed {
        revision: 7,
        state: Standing::Running,
        workers: 3,
        busy: 1,
        held: 20,
        oldest: None,
        problem: None,
        message_bytes: NonZeroU32::new(700),
    };
    house.board.set(tenant(1), running);
    match stream.next().await {
        Message::Observed(observed) => {
            assert_eq!(observed.lanes.len(), 1);
            let lane = &observed.lanes[0];
            assert_eq!(
                (lane.state(), lane.busy, lane.held, lane.message_bytes),
                (v1::LaneState::Running, 1, 20, Some(700))
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_bad_assignment_is_refused_by_name() {
    let mut house = House::new().await;
    let mut stream = house.stream().await;
    stream.hello().await;
    stream.send(assign("n1", 1, 0, 7)).await;
    match stream.next().await {
        Message::Ack(ack) => {
            assert_eq!((ack.nonce.as_str(), ack.errors.len()), ("n1", 1));
            assert!(ack.errors[0].message.contains("workers"), "{ack:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_that_breaks_is_opened_again_with_what_runs() {
    let mut house = House::new().await;
    let mut stream = house.stream().await;
    stream.hello().await;
    stream.send(assign("n1", 1, 3, 7)).await;
    house.command().await;
    let running = Observed {
        revision: 7,
        state: Standing::Running,
        workers: 3,
        busy: 0,
        held: 0,
        oldest: None,
        problem: None,
        message_bytes: NonZeroU32::new(700),
    };
    house.board.set(tenant(1), running);
    stream.next().await;
    stream
        .responses
        .send(Err(Status::unavailable("moved")))
        .await
        .unwrap();

    let mut stream = house.stream().await;
    let hello = stream.hello().await;
    assert_eq!((hello.epoch.as_str(), hello.running.len()), ("e", 1));
    assert_eq!(hello.running[0].revision, 7);
    assert!(matches!(stream.next().await, Message::Observed(all) if all.lanes.len() == 1));
    assert!(
        house.commands.try_recv().is_err(),
        "nothing was stopped or started again"
    );
}

#[tokio::test]
async fn a_daemon_that_stops_takes_nothing_on_and_says_goodbye_last() {
    let mut house = House::new().await;
    let mut stream = house.stream().await;
    stream.hello().await;
    house.stopping.cancel();
    stream.send(assign("n1", 1, 3, 7)).await;
    assert!(matches!(stream.next().await, Message::Ack(ack) if ack.errors.len() == 1));
    assert!(house.commands.try_recv().is_err());

    house.board.set(tenant(1), Observed::stopped(7));
    house.leave.cancel();
    assert!(matches!(stream.next().await, Message::Observed(last) if last.lanes.len() == 1));
    assert!(matches!(stream.next().await, Message::Leave(_)));
    let early = timeout(Duration::from_millis(20), &mut house.client).await;
    assert!(early.is_err(), "it waits for the server to end the stream");
    drop(stream);
    timeout(Duration::from_secs(1), house.client)
        .await
        .unwrap()
        .unwrap();
}
