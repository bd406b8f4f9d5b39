//! What can be configured, and what is wrong with it.

use std::time::Duration;

use common::{
    broker,
    config::{
        self as shared, ClientTls, Database, Error, Log, Metrics, Rabbitmq, Secret, Shutdown, check_clear,
    },
    database, tls,
};
use serde::{Deserialize, Serialize};
use tonic::transport::Uri;

/// Shorter is no pause, and longer is an operator's business.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(24 * 3_600);

/// How many connections to PostgreSQL tenants under suspicion share: one of them may be slow while others are tried.
pub(crate) const SUSPECT_CONNECTIONS: usize = 2;

/// The daemon's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The daemon's id, unique in the fleet. Empty: made from the host's name at every start.
    pub id: String,
    /// How many workers it may run, over all tenants. A worker is a share of a commit and costs nothing while idle, so
    /// the default is beyond what one daemon is likely to be given.
    pub capacity: u32,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub admin: String,
    /// Whether it may speak with other machines in clear.
    pub insecure: bool,
    /// Where assignments come from.
    pub control_plane: ControlPlane,
    /// Where messages are stored.
    pub database: Database,
    /// Where messages come from.
    pub rabbitmq: Rabbitmq,
    /// What a message may be.
    pub limits: Limits,
    /// How messages are taken and stored.
    pub ingest: Ingest,
    /// What is measured.
    pub metrics: Metrics,
    /// How the program logs.
    pub log: Log,
    /// How it stops.
    pub shutdown: Shutdown,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: String::new(),
            capacity: 100_000,
            admin: "127.0.0.1:9091".into(),
            insecure: false,
            control_plane: ControlPlane::default(),
            database: Database::default(),
            rabbitmq: Rabbitmq::default(),
            limits: Limits::default(),
            ingest: Ingest::default(),
            metrics: Metrics::default(),
            log: Log::default(),
            shutdown: Shutdown::default(),
        }
    }
}

/// How the control plane is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlPlane {
    /// Its addresses, tried in turn: `https://host:port`, or `http://`.
    pub endpoints: Vec<String>,
    /// A token with the role `daemon`.
    pub token: Secret,
    /// How `https://` is spoken.
    pub tls: ClientTls,
}

impl Default for ControlPlane {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:8080".into()],
            token: Secret::default(),
            tls: ClientTls::default(),
        }
    }
}

/// What a message may be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest body, in bytes.
    pub message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 1 << 20,
        }
    }
}

/// How messages are taken and stored. All bounds are per shard, but for the bytes that are held.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ingest {
    /// How many shards there are: each has an AMQP channel and a PostgreSQL connection.
    pub shards: usize,
    /// The most messages one worker takes together.
    pub run_messages: usize,
    /// The most messages of one commit.
    pub commit_messages: usize,
    /// The most messages of one commit when it is spread over many tenants.
    pub commit_messages_spread: usize,
    /// About the most bytes of one commit: the message that exceeds it is its last.
    pub commit_bytes: usize,
    /// The most tenants of one commit. Each costs PostgreSQL three locks until the commit ends, and
    /// `max_locks_per_transaction` is finite.
    pub commit_tenants: usize,
    /// The most bytes of messages taken from the broker and not yet stored, for the whole daemon, beside one message at a
    /// time that is taken beyond that. How many messages that is follows from what comes.
    pub prefetch_bytes: usize,
    /// The pauses before a row that PostgreSQL refused is tried again; after one attempt more it is dead-lettered.
    #[serde(with = "shared::duration::list")]
    pub retry_delays: Vec<Duration>,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            shards: 2,
            run_messages: 250,
            commit_messages: 1_000,
            commit_messages_spread: 4_000,
            commit_bytes: 1 << 20,
            commit_tenants: 250,
            prefetch_bytes: 64 << 20,
            retry_delays: [1, 5, 30, 120].map(Duration::from_secs).into(),
        }
    }
}

impl shared::Config for Config {
    const SECRETS: &[&str] = &[
        "control_plane.token",
        "database.url",
        "database.schema_url",
        "rabbitmq.url",
        "rabbitmq.management_url",
        "rabbitmq.prometheus_url",
    ];
    const FOREIGN: &[&str] = &[
        "listen",
        "tls.cert_file",
        "tls.key_file",
        "tls.client_ca_file",
        "workers",
        "auth.secret",
        "auth.secret_file",
        "auth.keys",
        "auth.trusted",
        "auth.sign_in_folder",
        "auth.issuer",
        "auth.audience",
        "auth.token_ttl",
        "auth.check_revocation",
        "http.cors_origins",
        "http.docs",
        "http.console",
        "grpc.reflection",
        "limits.body_bytes",
        "limits.memory_bytes",
        "limits.requests_per_second",
        "limits.calls",
        "limits.streams",
        "limits.tenants",
        "depth_interval",
        "audit.max_age",
    ];

    fn validate(&self) -> Result<(), Error> {
        database::check(&self.database, self.insecure)?;
        broker::check(&self.rabbitmq, self.insecure)?;
        if !self.id.is_empty() && !is_id(&self.id) {
            return Err(Error::key(
                "id",
                format!(
                    "{:?} must be 1 to 100 of letters, digits, '.', '_' and '-'",
                    self.id
                ),
            ));
        }
        if self.control_plane.endpoints.is_empty() {
            return Err(Error::key(
                "control_plane.endpoints",
                "is to name at least one, such as http://127.0.0.1:8080",
            ));
        }
        tls::Client::new("control_plane.tls", &self.control_plane.tls)?;
        for endpoint in &self.control_plane.endpoints {
            check_endpoint(endpoint, self.insecure)?;
        }
        if self.control_plane.token.is_empty() {
            return Err(Error::key(
                "control_plane.token",
                "is missing; `control-plane token --role daemon --ttl 365d` makes one; set it in the file, as JALUR_CONTROL_PLANE__TOKEN or as JALUR_CONTROL_PLANE__TOKEN_FILE",
            ));
        }
        let ingest = &self.ingest;
        within("capacity", self.capacity as usize, 1, 1_000_000)?;
        within("limits.message_bytes", self.limits.message_bytes, 1, 64 << 20)?;
        within("ingest.shards", ingest.shards, 1, 64)?;
        within("ingest.run_messages", ingest.run_messages, 1, 10_000)?;
        within("ingest.commit_messages", ingest.commit_messages, 1, 50_000)?;
        within(
            "ingest.commit_messages_spread",
            ingest.commit_messages_spread,
            ingest.commit_messages,
            50_000,
        )?;
        within("ingest.commit_bytes", ingest.commit_bytes, 1, 256 << 20)?;
        within("ingest.commit_tenants", ingest.commit_tenants, 1, 1_000)?;
        within("ingest.prefetch_bytes", ingest.prefetch_bytes, 1, 4 << 30)?;
        // Each has a queue of its own in the broker.
        within("ingest.retry_delays", ingest.retry_delays.len(), 0, 10)?;
        for delay in &ingest.retry_delays {
            if !(RETRY_DELAY_MIN..=RETRY_DELAY_MAX).contains(delay) {
                return Err(Error::key(
                    "ingest.retry_delays",
                    format!(
                        "{} must be between 100ms and 24h",
                        humantime::format_duration(*delay)
                    ),
                ));
            }
        }
        let connections = self.ingest.shards + SUSPECT_CONNECTIONS + 1;
        if (self.database.max_connections as usize) < connections {
            return Err(Error::key(
                "database.max_connections",
                format!(
                    "must be at least {connections}: one a shard (ingest.shards), {SUSPECT_CONNECTIONS} for tenants \
                     under suspicion and one for readiness"
                ),
            ));
        }
        self.shutdown.validate()
    }
}

/// The token is sent to every endpoint: in clear to none on another machine, unless `insecure`.
fn check_endpoint(endpoint: &str, insecure: bool) -> Result<(), Error> {
    const KEY: &str = "control_plane.endpoints";
    let uri: Option<Uri> = endpoint.parse().ok();
    let parts = uri
        .as_ref()
        .and_then(|uri| Some((uri.scheme_str()?, uri.host()?)));
    match parts {
        Some(("http", host)) if !insecure => check_clear(KEY, host, "use https://"),
        Some(("http" | "https", _)) => Ok(()),
        _ => Err(Error::key(
            KEY,
            format!("{endpoint:?} must be https://host:port or http://host:port"),
        )),
    }
}

/// Whether `id` is one that the fleet takes.
fn is_id(id: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=100).contains(&id.len()) && id.bytes().all(known)
}

fn within(key: &str, value: usize, min: usize, max: usize) -> Result<(), Error> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::key(
        key,
        format!("{value} must be between {min} and {max}"),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use common::config::load;

    use super::*;

    fn loaded(pairs: &[(&str, &str)]) -> Result<Config, Error> {
        let env = [
            ("JALUR_DATABASE__URL", "postgres://u:p@localhost/d"),
            ("JALUR_RABBITMQ__URL", "amqp://u:p@localhost"),
            ("JALUR_CONTROL_PLANE__TOKEN", "t"),
        ];
        // A map: of two values for one variable the later counts.
        let env: BTreeMap<_, _> = env.iter().chain(pairs).copied().collect();
        load(
            None,
            env.into_iter().map(|(name, value)| (name.into(), value.into())),
            &[],
        )
    }

    #[test]
    fn the_defaults_are_good_once_the_services_are_named() {
        let config = loaded(&[("JALUR_WORKERS", "5")]).unwrap();
        assert_eq!(config.ingest.commit_messages, 1_000);
        assert!(
            load::<Config>(None, [], &[])
                .unwrap_err()
                .to_string()
                .contains("database.url")
        );
    }

    #[test]
    fn retry_delays_are_a_list_and_may_be_none() {
        let delays = |text| {
            loaded(&[("JALUR_INGEST__RETRY_DELAYS", text)])
                .unwrap()
                .ingest
                .retry_delays
        };
        assert_eq!(delays("200ms, 2m"), [200, 120_000].map(Duration::from_millis));
        assert!(delays("").is_empty());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (name, value, key) in [
            ("JALUR_ID", "a b", "id"),
            ("JALUR_CAPACITY", "0", "capacity"),
            ("JALUR_INGEST__SHARDS", "0", "ingest.shards"),
            (
                "JALUR_INGEST__COMMIT_MESSAGES_SPREAD",
                "10",
                "ingest.commit_messages_spread",
            ),
            ("JALUR_DATABASE__MAX_CONNECTIONS", "4", "database.max_connections"),
            (
                "JALUR_CONTROL_PLANE__ENDPOINTS",
                "localhost:8080",
                "control_plane.endpoints",
            ),
            ("JALUR_CONTROL_PLANE__ENDPOINTS", "", "control_plane.endpoints"),
            ("JALUR_CONTROL_PLANE__TOKEN", "", "control_plane.token"),
            ("JALUR_INGEST__RETRY_DELAYS", "1s,soon", "ingest.retry_delays"),
            ("JALUR_INGEST__RETRY_DELAYS", "99ms", "ingest.retry_delays"),
            ("JALUR_INGEST__RETRY_DELAYS", "1s,25h", "ingest.retry_delays"),
            (
                "JALUR_INGEST__RETRY_DELAYS",
                "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s",
                "ingest.retry_delays",
            ),
        ] {
            let error = loaded(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
