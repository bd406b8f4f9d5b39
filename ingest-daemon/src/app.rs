//! The program put together, and the order in which it stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use common::{
    admin::{self, Readiness},
    broker::{self, Broker, Meter, Supervisor},
    cli::Options,
    database::{self, Sessions},
    telemetry::{self, Metrics, Telemetry},
    tls,
};
use sqlx::PgPool;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    broker::{Delays, Publisher, Returns},
    commit::{Committer, Gate},
    config::{Config, SUSPECT_CONNECTIONS},
    fleet::{Client, Identity},
    flow,
    lane::Board,
    metrics::Instruments,
    quarantine::Pace,
    reach::{self, Reach},
    retry::{Policy, Store, Waiting},
    shard::{self, Committers, Shard},
    spans::Spans,
    tenant_manager::TenantManager,
};

/// What is kept of the grace for saying goodbye, after the lanes have drained or run out of time.
const GOODBYE: Duration = Duration::from_secs(4);

/// The daemon, ready to run.
pub(crate) struct App {
    grace: Duration,
    admin: TcpListener,
    metrics: Metrics,
    readiness: Readiness,
    supervisors: [Supervisor; 3],
    shards: Vec<Shard>,
    returns: Returns,
    reach: Reach,
    manager: Arc<TenantManager>,
    client: Client,
}

impl App {
    /// Builds everything. Nothing is connected to yet, so the services may be down; the admin listener is bound, so
    /// that a port that is taken is an error at once.
    pub(crate) async fn build(
        config: Config,
        options: Options,
        telemetry: &Telemetry,
    ) -> anyhow::Result<Self> {
        let id = match config.id.as_str() {
            "" => random_id(),
            id => id.to_owned(),
        };
        let sessions = Sessions::new(&config.database)?;
        sessions.check().await?;
        let Telemetry { metrics, traces } = telemetry;
        let board = Arc::new(Board::default());
        let instruments = Instruments::new(metrics, Arc::clone(&board), config.metrics.per_tenant);
        let spans = Spans::new(traces.clone());

        // One for the daemon, whatever the number of shards and connections.
        let meter = Meter::new(config.ingest.prefetch_bytes as u64);
        let (consuming, consuming_supervisor) =
            broker::connect_metered(&config.rabbitmq, &format!("{id} consumes"), meter)?;
        // Apart: a broker short of memory stops reading from connections that publish, acknowledgements included.
        let (publishing, publishing_supervisor) =
            broker::connect(&config.rabbitmq, &format!("{id} publishes"))?;
        let retry = Policy::new(&config.ingest.retry_delays);
        let (returning, returning_supervisor) = broker::connect(&config.rabbitmq, &format!("{id} returns"))?;
        // For readiness, and what is asked now and then.
        let database = database::pool(&config.database, "jalur-ingest-daemon readiness")?;
        let store = Store::new(database.clone());
        let waiting = Arc::new(Waiting::new(store.clone()));
        let reach = Reach::new(database.clone());
        let meter = metrics.meter();
        telemetry::build_info(&meter, "ingest-daemon", env!("CARGO_PKG_VERSION"));
        telemetry::up(
            &meter,
            "jalur_database_up",
            "Whether this process reaches PostgreSQL",
            reach.up(),
        );
        let (control_plane, rabbitmq) = (&config.control_plane.tls, &config.rabbitmq.tls);
        tls::expiry(
            &meter,
            [
                ("control_plane.tls.ca_file", control_plane.ca_file.as_str()),
                ("control_plane.tls.cert_file", &control_plane.cert_file),
                ("rabbitmq.tls.ca_file", &rabbitmq.ca_file),
                ("rabbitmq.tls.cert_file", &rabbitmq.cert_file),
            ],
        );
        let links = [consuming.clone(), publishing.clone(), returning.clone()];
        telemetry::up(
            &meter,
            "jalur_broker_up",
            "Whether all of this process's connections to RabbitMQ are there",
            move || links.iter().all(Broker::is_up),
        );
        let delays = Arc::new(Delays::new(&retry, config.rabbitmq.queue_type, store));
        let returns = Returns::new(returning, Arc::clone(&delays), Arc::clone(&waiting));
        let publisher = Arc::new(Publisher::new(publishing, delays, waiting));

        let gate = Gate::new(SUSPECT_CONNECTIONS);
        let mut shards = Vec::with_capacity(config.ingest.shards);
        let mut handles = Vec::with_capacity(config.ingest.shards);
        for _ in 0..config.ingest.shards {
            let (handle, commands) = shard::Handle::new();
            let options = shard::Options {
                daemon: id.clone(),
                flow: flow::Policy::of(&config.ingest),
                message_bytes_max: config.limits.message_bytes,
                retry: retry.clone(),
                broker: consuming.clone(),
                publisher: Arc::clone(&publisher),
                board: Arc::clone(&board),
                instruments: instruments.clone(),
                spans: spans.clone(),
            };
            let watchers = || (instruments.clone(), spans.clone());
            let suspects = |pace| Committer::suspects(&config.database, watchers(), Arc::clone(&gate), pace);
            let committers = Committers {
                shared: Committer::shared(&config.database, watchers())?.spawn(),
                quick: suspects(Pace::Quick)?.spawn(),
                slow: suspects(Pace::Slow)?.spawn(),
            };
            shards.push(Shard::new(options, committers, commands));
            handles.push(handle);
        }
        let manager = Arc::new(TenantManager::new(handles));
        let identity = Identity {
            id: id.clone(),
            incarnation: Uuid::new_v4(),
            capacity: config.capacity,
        };
        let client = Client::new(
            identity,
            &config.control_plane,
            Arc::new(move || Ok(options.load::<Config>()?.control_plane.token)),
            Arc::clone(&manager),
            board,
        )?;
        let admin = TcpListener::bind(&config.admin)
            .await
            .with_context(|| format!("admin: cannot listen on {}", config.admin))?;
        info!(id, admin = %admin.local_addr()?, "ingest daemon");
        Ok(Self {
            grace: config.shutdown.grace,
            readiness: readiness(consuming, database, sessions, client.synced()),
            admin,
            metrics: metrics.clone(),
            supervisors: [consuming_supervisor, publishing_supervisor, returning_supervisor],
            shards,
            returns,
            reach,
            manager,
            client,
        })
    }

    /// Runs until `stop`, then stops in order: the lanes finish and commit what their workers took and give back the
    /// rest, the control plane is told, the connections close. What is not done within the grace is left
    /// unacknowledged, and so redelivered.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let (leave, close) = (CancellationToken::new(), CancellationToken::new());
        let mut connections = JoinSet::new();
        for supervisor in self.supervisors {
            connections.spawn(supervisor.run(close.clone()));
        }
        connections.spawn(self.reach.run(close.clone()));
        let mut lanes = JoinSet::new();
        for shard in self.shards {
            lanes.spawn(shard.run());
        }
        let mut returns = tokio::spawn(self.returns.run(leave.clone()));
        let mut client = tokio::spawn(self.client.run(stop.clone(), leave.clone()));
        let mut admin = tokio::spawn(admin::serve(
            self.admin,
            self.readiness,
            self.metrics,
            stop.clone(),
            close.clone(),
        ));

        // None ends by itself: when one does it has panicked, and with a part of it missing the daemon is no use.
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = lanes.join_next() => return ended.context("a shard failed"),
            ended = &mut returns => return ended.context("what returns from delay queues failed"),
            Some(ended) = connections.join_next() => return ended.context("the way to RabbitMQ or PostgreSQL failed"),
            ended = &mut client => return ended.context("the fleet client failed"),
            ended = &mut admin => return ended.context("the admin listener failed"),
        }

        let deadline = Instant::now() + self.grace;
        self.manager.shut_down();
        let drained = timeout_at(deadline - GOODBYE.min(self.grace / 2), async {
            while let Some(ended) = lanes.join_next().await {
                if let Err(error) = ended {
                    warn!(%error, "a shard failed while stopping");
                }
            }
        });
        if drained.await.is_err() {
            warn!("not everything was stored in time; what is left will be delivered again");
            lanes.abort_all();
        }
        leave.cancel();
        let goodbye = async {
            let _ = client.await;
            let _ = returns.await;
            close.cancel();
            while connections.join_next().await.is_some() {}
            let _ = admin.await;
        };
        if timeout_at(deadline, goodbye).await.is_err() {
            warn!("the connections did not close in time");
        }
        info!("stopped");
        Ok(())
    }
}

/// Ready when messages can be taken and stored, and it is known whose.
fn readiness(consuming: Broker, database: PgPool, sessions: Sessions, synced: Arc<AtomicBool>) -> Readiness {
    Readiness::new(move || {
        let (consuming, database, synced) = (consuming.clone(), database.clone(), Arc::clone(&synced));
        let sessions = sessions.clone();
        async move {
            sessions.check().await.map_err(|error| error.to_string())?;
            let mut waiting = Vec::new();
            if !consuming.is_up() {
                waiting.push("RabbitMQ cannot be reached");
            }
            if !reach::answers(&database).await {
                waiting.push("PostgreSQL cannot be reached");
            }
            if !synced.load(Ordering::Relaxed) {
                waiting.push("the control plane has not said yet what to run");
            }
            match waiting.is_empty() {
                true => Ok(()),
                false => Err(waiting.join("; ")),
            }
        }
    })
}

/// An id of the host's name and something random: two daemons of one host differ, and so do two lives of one.
fn random_id() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default();
    let host: String = host
        .trim()
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || ".-_".contains(*letter))
        .take(64)
        .collect();
    let host = if host.is_empty() { "daemon" } else { &host };
    format!("{host}-{:08x}", rand::random::<u32>())
}
