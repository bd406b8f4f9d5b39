//! The whole program: what is built, in which order it stops.

use std::{num::NonZeroU32, time::Duration};

use anyhow::Context as _;
use common::{
    admin, broker,
    broker::{Broker, Meter},
    cli::Options,
    config as settings, database,
    database::Sessions,
    listener, shutdown,
    telemetry::{self, Telemetry},
    tls,
};
use proto::v1::{
    audit_service_server::{AuditServiceServer, SERVICE_NAME as AUDIT},
    auth_service_server::{AuthServiceServer, SERVICE_NAME as AUTH},
    credential_service_server::{CredentialServiceServer, SERVICE_NAME as CREDENTIALS},
    dead_letter_service_server::{DeadLetterServiceServer, SERVICE_NAME as DEAD_LETTERS},
    fleet_service_server::{FleetServiceServer, SERVICE_NAME as FLEET},
    message_service_server::{MessageServiceServer, SERVICE_NAME as MESSAGES},
    tenant_service_server::{SERVICE_NAME as TENANTS, TenantServiceServer},
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding::Gzip, service::Routes};
use tonic_health::ServingStatus;
use tracing::{info, warn};

use crate::{
    audit::{self, Audit},
    broker::{DeadLetterQueues, Publisher, Queues, management::Management, plugin::Plugin},
    config::Config,
    credentials::{Credentials, Hashing, Logins, revocations},
    dead_letters::DeadLetters,
    fleet::{Changes, Connections, Fleet, assigner, expiry::Expiry, watch::Watch},
    gateway::{self, Console, Front, Origins, PUBLIC_MESSAGE_BYTES, Pages},
    grpc::{AuditApi, AuthApi, CredentialApi, DeadLetterApi, FleetApi, MessageApi, TenantApi},
    identity::{Codes, Keys},
    limits::{Backlogs, Callers, Limiting, PublishRates},
    memory::Memory,
    messages::{Feed, MESSAGES_MAX, Publishing, Reading, Tails},
    offload::Offload,
    overview::Overview,
    readiness::readiness,
    retention::{self, Sweep},
    tasks::Tasks,
    telemetry::Instruments,
    tenants::{Missed, Tenants, partition, reconciler},
};

/// What is kept of the grace for ending what requests needed, after they are answered or ran out of time.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs until a signal.
pub(crate) async fn run(
    config: Config,
    keys: Keys,
    options: Options,
    telemetry: &Telemetry,
) -> anyhow::Result<()> {
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    let tls = tls::Server::new("tls", &config.tls)?;
    let listener = bind("listen", &config.listen).await?;
    let admin_listener = bind("admin", &config.admin).await?;
    let sessions = Sessions::new(&config.database)?;
    sessions.check().await?;
    let Telemetry { metrics, traces } = telemetry;
    let meter = metrics.meter();
    telemetry::build_info(&meter, "control-plane", env!("CARGO_PKG_VERSION"));
    let settings::ClientTls {
        ca_file, cert_file, ..
    } = &config.rabbitmq.tls;
    tls::expiry(
        &meter,
        [
            ("tls.cert_file", config.tls.cert_file.as_str()),
            ("tls.client_ca_file", &config.tls.client_ca_file),
            ("rabbitmq.tls.ca_file", ca_file),
            ("rabbitmq.tls.cert_file", cert_file),
        ],
    );
    let fleet_connections = Connections::new(&config.database)?;
    let others = config.database.max_connections.saturating_sub(Connections::COUNT);
    let for_reading = others / 2;
    let for_requests = settings::Database {
        max_connections: others - for_reading,
        ..config.database.clone()
    };
    let pool = database::pool(&for_requests, "jalur control-plane")?;
    // Connections of their own: what declares and counts waits neither behind what publishes nor behind dead letters,
    // which are as large as the broker takes them.
    let (queues, queues_supervisor) = broker::connect(&config.rabbitmq, "jalur control-plane queues")?;
    let (letters, letters_supervisor) = broker::connect_metered(
        &config.rabbitmq,
        "jalur control-plane dead letters",
        Meter::new(DeadLetterQueues::BYTES_MAX),
    )?;
    let (publishing, publishing_supervisor) =
        broker::connect(&config.rabbitmq, "jalur control-plane publishing")?;

    let instruments = Instruments::new(&meter);
    // Streams end with it, and nothing more is accepted.
    let closing = CancellationToken::new();
    let changes = Changes::new();
    let queues_broker = queues.clone();
    let queues = Queues::new(queues, config.rabbitmq.queue_type);
    let fleet = Fleet::new(pool.clone(), changes.clone());
    let missed = Missed::default();
    let management = Management::new(&config.rabbitmq)?;
    let backlogs = Backlogs::new(management.clone());
    let (overview, overview_readers) = Overview::new(
        pool.clone(),
        queues.clone(),
        Plugin::new(&config.rabbitmq)?,
        config.depth_interval,
    );
    overview.measure(&meter, config.metrics.per_tenant);
    let connections = [queues_broker.clone(), letters.clone(), publishing.clone()];
    telemetry::up(
        &meter,
        "jalur_broker_up",
        "Whether all of this process's connections to RabbitMQ are there",
        move || connections.iter().all(Broker::is_up),
    );
    let tenants = Tenants {
        pool: pool.clone(),
        schema: partition::pool(&config.database, "jalur control-plane schema")?,
        queues: queues.clone(),
        max: NonZeroU32::new(config.limits.tenants),
        backlogs: backlogs.clone(),
        fleet: fleet.clone(),
        missed: missed.clone(),
        overview,
        propagation: instruments.propagation.clone(),
    };
    let publisher = Publisher::new(publishing.clone(), queues.clone());
    let offload = Offload::new();
    let publish = Publishing {
        tenants: tenants.clone(),
        publisher: publisher.clone(),
        rates: PublishRates::new(MESSAGES_MAX),
        message_bytes_max: config.limits.message_bytes,
        offload: offload.clone(),
        messages: instruments.messages.clone(),
        traces: traces.clone(),
    };
    let memory = Memory::new(config.limits.memory_bytes);
    let reading = Reading::new(
        &config.database,
        for_reading,
        tenants.clone(),
        config.limits.message_bytes,
    )?;
    let tails = Tails::new(reading.clone());
    let one_connection = common::config::Database {
        max_connections: 1,
        ..config.database.clone()
    };
    let dead_letters = DeadLetters::new(
        tenants.clone(),
        DeadLetterQueues::new(letters, publisher, queues.in_hand(), config.rabbitmq.queue_type),
        database::pool(&one_connection, "jalur control-plane dead letters")?,
    );
    let logins = Logins::new(pool.clone(), tenants.clone(), management);
    let credentials = Credentials::new(
        pool.clone(),
        tenants.clone(),
        Hashing::new()?,
        logins.clone(),
        keys.clone(),
        config.auth.token_ttl,
    );
    let watch = Watch {
        connections: fleet_connections.clone(),
        changes: changes.clone(),
        missed,
        keys: keys.clone(),
        stop: closing.clone(),
    };

    // What requests need outlives them: it stops once the last one is answered.
    let background = CancellationToken::new();
    let mut tasks = Tasks::default();
    let stopping = || background.clone();
    tasks.spawn("queues' connection", queues_supervisor.run(stopping()));
    tasks.spawn("dead letters' connection", letters_supervisor.run(stopping()));
    tasks.spawn("publishing connection", publishing_supervisor.run(stopping()));
    let listening = changes.clone().run(fleet_connections.rounds.clone(), stopping());
    tasks.spawn("listening for changes", listening);
    tasks.spawn(
        "assigner",
        assigner::run(fleet_connections.clone(), changes, stopping()),
    );
    let expiry = Expiry::new(fleet_connections.clone());
    let sighted = expiry.sighted();
    tasks.spawn("expiry of leases", expiry.run(stopping()));
    let reconciling = reconciler::run(tenants.clone(), queues_broker.clone(), stopping());
    tasks.spawn("reconciler", reconciling);
    let looking = database::pool(&one_connection, "jalur control-plane followers")?;
    tasks.spawn("followers' counters", tails.clone().run(looking, stopping()));
    tasks.spawn("backlogs", backlogs.clone().run(pool.clone(), stopping()));
    let trusted = keys.trusted().clone();
    let reading_options = options.clone();
    tasks.spawn(
        "outside issuers",
        trusted.renew(move || reading_options.load(), stopping()),
    );
    let renewing = keys.clone().renew(move || options.load(), stopping());
    tasks.spawn("keys", renewing);
    tasks.spawn("logins", logins.run(stopping()));
    let sweep = Sweep::new(
        retention::pool(&config.database, "jalur control-plane retention")?,
        tenants.schema.clone(),
        &meter,
    );
    tasks.spawn("removal of what tenants do not keep", sweep.run(stopping()));
    let removing = audit::remove_old(pool.clone(), config.audit.max_age, stopping());
    tasks.spawn("removal of old audit events", removing);
    let revoked = config.auth.check_revocation.then(|| keys.revoked());
    tasks.spawn("revocations", revocations::run(pool.clone(), revoked, stopping()));
    if let Some(tls) = tls.clone() {
        tasks.spawn("certificates", tls.renew(stopping()));
    }
    tasks.spawn("overview", overview_readers.run(stopping()));

    let readiness = readiness(pool.clone(), sessions, queues_broker, publishing, sighted);
    let admin = tokio::spawn(admin::serve(
        admin_listener,
        readiness,
        metrics.clone(),
        stop.clone(),
        background.clone(),
    ));

    let body_bytes = config.limits.body_bytes;
    // The gateway bounds what REST sends; here it must pass, whatever a message adds to it.
    let message_bytes = body_bytes.saturating_mul(2);
    let grpc = Routes::new(
        TenantServiceServer::new(TenantApi {
            tenants: tenants.clone(),
            limiting: Limiting {
                pool: pool.clone(),
                backlogs,
            },
            workers: config.workers,
        })
        .max_decoding_message_size(message_bytes)
        .send_compressed(Gzip),
    )
    .add_service(
        MessageServiceServer::new(MessageApi {
            publishing: publish,
            feed: Feed::new(reading.clone(), tails),
            reading,
            tenants,
        })
        .max_decoding_message_size(message_bytes)
        .send_compressed(Gzip),
    )
    .add_service(DeadLetterServiceServer::new(DeadLetterApi { dead_letters }).send_compressed(Gzip))
    .add_service(
        CredentialServiceServer::new(CredentialApi {
            credentials: credentials.clone(),
        })
        .send_compressed(Gzip),
    )
    .add_service(
        AuthServiceServer::new(AuthApi { credentials }).max_decoding_message_size(PUBLIC_MESSAGE_BYTES),
    )
    // A stream's messages are opened by its decoder, as far as it decodes.
    .add_service(
        FleetServiceServer::new(FleetApi { watch, fleet })
            .accept_compressed(Gzip)
            .send_compressed(Gzip),
    )
    .add_service(AuditServiceServer::new(AuditApi { pool: pool.clone() }).send_compressed(Gzip));
    let (health, health_service) = tonic_health::server::health_reporter();
    // The empty name is the whole program's.
    let services = [
        "",
        TENANTS,
        MESSAGES,
        DEAD_LETTERS,
        CREDENTIALS,
        AUTH,
        FLEET,
        AUDIT,
    ];
    for service in services {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    let mut grpc = grpc.add_service(health_service.max_decoding_message_size(PUBLIC_MESSAGE_BYTES));
    if config.grpc.reflection {
        grpc = grpc
            .add_service(
                reflection()
                    .build_v1()
                    .context("reflection")?
                    .max_decoding_message_size(PUBLIC_MESSAGE_BYTES),
            )
            .add_service(
                reflection()
                    .build_v1alpha()
                    .context("reflection")?
                    .max_decoding_message_size(PUBLIC_MESSAGE_BYTES),
            );
    }
    let folder = Some(&config.auth.sign_in_folder).filter(|folder| !folder.is_empty());
    let console = config.http.console.then(|| Console {
        sign_in: folder.map(|folder| (Codes::new(folder), keys.clone())),
    });
    let pages = Pages {
        docs: config.http.docs,
        console,
    };
    let options = gateway::Options {
        keys,
        body_bytes_max: body_bytes,
        memory,
        offload,
        audit: Audit::new(pool.clone()),
        callers: Callers::new(&config.limits),
        closing: closing.clone(),
    };
    let origins = Origins::new(&config.http.cors_origins).map_err(anyhow::Error::msg)?;
    let router = gateway::router(Front::new(grpc, options, &meter), origins, pages, traces.clone());

    info!(listen = %listener.local_addr()?, tls = tls.is_some(), "serving gRPC and REST");
    let mut serving = tokio::spawn(listener::serve(listener, tls, router, closing.clone()));
    tokio::select! {
        () = stop.cancelled() => {}
        ended = &mut serving => return ended.context("serving failed"),
        // Without any of them the program is no use; whoever started it starts it again.
        failed = tasks.failed() => return Err(failed),
    }

    // Whoever asks is told before anybody is turned away; one deadline for all that follows.
    let settings::Shutdown { grace, delay } = config.shutdown;
    let deadline = Instant::now() + grace;
    for service in services {
        health
            .set_service_status(service, ServingStatus::NotServing)
            .await;
    }
    sleep(delay).await;
    closing.cancel();
    if timeout_at(deadline - GOODBYE.min(grace / 4), &mut serving)
        .await
        .is_err()
    {
        warn!("requests are still running; ending them");
        serving.abort();
    }
    background.cancel();
    let ended = async {
        tasks.ended().await;
        fleet_connections.close().await;
        pool.close().await;
        admin.await
    };
    match timeout_at(deadline, ended).await {
        Ok(admin) => admin.context("the admin listener failed")?,
        Err(_) => warn!("background work did not end in time"),
    }
    info!("stopped");
    Ok(())
}

/// What reflection tells: our services, health, and itself.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

async fn bind(key: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (configuration key {key})"))
}
