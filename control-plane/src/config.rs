//! What can be configured.

mod trusted;

use std::time::Duration;

use common::{
    broker,
    config::{Database, Error, Log, Metrics, Rabbitmq, Secret, ServerTls, Shutdown, check_clear, duration},
    database, tls,
};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

pub(crate) use self::trusted::Trusted;
use crate::{
    broker::{management, plugin},
    fleet::Connections,
    gateway::Origins,
    memory::COPIES,
};

/// The control plane's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where gRPC and REST are served, as `host:port`.
    pub listen: String,
    /// Who it is where it listens, if TLS is spoken there.
    pub tls: ServerTls,
    /// Whether it may listen, and speak with other machines, in clear, and sign with a short key.
    pub insecure: bool,
    /// Where `/livez`, `/readyz` and `/metrics` are served, as `host:port`.
    pub admin: String,
    /// How many workers a new tenant has, 1 to 256.
    pub workers: i32,
    /// Who may call.
    pub auth: Auth,
    /// Where the state is.
    pub database: Database,
    /// Where the queues are.
    pub rabbitmq: Rabbitmq,
    /// What is served over HTTP beside the API itself.
    pub http: Http,
    /// What is served over gRPC beside the API itself.
    pub grpc: Grpc,
    /// How much requests may hold, and how many there may be.
    pub limits: Limits,
    /// What is kept of who did what.
    pub audit: Audit,
    /// What is measured.
    pub metrics: Metrics,
    /// How often queue depths are read for `/metrics`.
    #[serde(with = "duration")]
    pub depth_interval: Duration,
    /// How it logs.
    pub log: Log,
    /// How it stops.
    pub shutdown: Shutdown,
}

/// Which tokens are believed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// An HS256 key without a name, 32 bytes at least.
    pub secret: Secret,
    /// Keys with names: the first signs, all check. They may be changed while the program runs.
    pub keys: Vec<Key>,
    /// Outside issuers whose tokens are believed, too. They may be changed while the program runs.
    pub trusted: Vec<Trusted>,
    /// The `iss` that tokens must have.
    pub issuer: String,
    /// The `aud` that tokens must have.
    pub audience: String,
    /// How long the tokens are good that credentials buy.
    #[serde(with = "duration")]
    pub token_ttl: Duration,
    /// Whether a revoked credential's living tokens are refused.
    pub check_revocation: bool,
    /// The folder of the codes with which the console signs somebody in as admin, once each; none unless said.
    pub sign_in_folder: String,
}

/// A key that tokens name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its name, which stands in a token's header.
    pub kid: String,
    /// What it is for; it is used for nothing else.
    pub algorithm: KeyAlgorithm,
    /// The file of an HS256 key, 32 bytes at least.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub secret_file: String,
    /// The PEM file of another one that signs and checks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub private_key_file: String,
    /// The PEM file of one that only checks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub public_key_file: String,
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// One secret, for signing and checking.
    HS256,
    /// RSA, of 2048 bits or more.
    RS256,
    /// ECDSA over P-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl KeyAlgorithm {
    /// As tokens write it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::HS256 => Self::HS256,
            KeyAlgorithm::RS256 => Self::RS256,
            KeyAlgorithm::ES256 => Self::ES256,
            KeyAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// What is served over HTTP beside the API itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// The origins whose pages may call, such as `https://console.example.com`; `*` is any. None unless said.
    pub cors_origins: Vec<String>,
    /// Whether `/docs` and `/openapi.json` are served.
    pub docs: bool,
    /// Whether the console is, at `/`.
    pub console: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            cors_origins: Vec::new(),
            docs: true,
            console: true,
        }
    }
}

/// What is served over gRPC beside the API itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// Whether reflection is served.
    pub reflection: bool,
}

impl Default for Grpc {
    fn default() -> Self {
        Self { reflection: true }
    }
}

/// How much requests may hold, and how many there may be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest body of one message, in bytes. The same for control planes and daemons.
    pub message_bytes: usize,
    /// The largest request, in bytes.
    pub body_bytes: usize,
    /// The most memory that requests may hold, in bytes, all together; one tenant's half of it. More is refused.
    pub memory_bytes: usize,
    /// How many requests a second one caller may make of this process; 0 is no limit.
    pub requests_per_second: u32,
    /// How many calls one caller may have under way in this process.
    pub calls: u32,
    /// How many streams one caller may have open to this process.
    pub streams: u32,
    /// How many tenants there may be; 0 is no limit.
    pub tenants: u32,
}

/// What is kept of who did what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// For how long.
    #[serde(with = "duration")]
    pub max_age: Duration,
}

impl Default for Audit {
    fn default() -> Self {
        let max_age = Duration::from_secs(90 * 24 * 3_600);
        Self { max_age }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            tls: ServerTls::default(),
            insecure: false,
            admin: "127.0.0.1:9090".into(),
            workers: 3,
            auth: Auth::default(),
            database: Database::default(),
            rabbitmq: Rabbitmq::default(),
            http: Http::default(),
            grpc: Grpc::default(),
            limits: Limits::default(),
            audit: Audit::default(),
            metrics: Metrics::default(),
            depth_interval: Duration::from_secs(5),
            log: Log::default(),
            shutdown: Shutdown::default(),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            secret: Secret::default(),
            keys: Vec::new(),
            trusted: Vec::new(),
            issuer: "jalur".into(),
            audience: "jalur".into(),
            token_ttl: Duration::from_secs(3_600),
            check_revocation: true,
            sign_in_folder: String::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 1 << 20,
            body_bytes: 16 << 20,
            memory_bytes: 256 << 20,
            requests_per_second: 0,
            calls: 1_000,
            streams: 1_000,
            tenants: 0,
        }
    }
}

/// The shortest and the longest time that a credential's tokens may be good for. The longest is how long revoked
/// credentials are kept in mind.
const TOKEN_TTL_MIN: Duration = Duration::from_secs(10);
pub(crate) const TOKEN_TTL_MAX: Duration = Duration::from_secs(24 * 3_600);

/// One to read messages, and two for other requests and the reconciler.
const REQUESTS_CONNECTIONS_MIN: u32 = 3;

/// More than a process has memory for.
const UNDER_WAY_MAX: u32 = 1_000_000;
/// A century.
const AUDIT_AGE_MAX: Duration = Duration::from_secs(36_525 * 24 * 3_600);

impl common::config::Config for Config {
    const SECRETS: &[&str] = &[
        "auth.secret",
        "database.url",
        "database.schema_url",
        "rabbitmq.url",
        "rabbitmq.management_url",
        "rabbitmq.prometheus_url",
    ];
    const FOREIGN: &[&str] = &[
        "id",
        "capacity",
        "control_plane.endpoints",
        "control_plane.token",
        "control_plane.token_file",
        "control_plane.tls.ca_file",
        "control_plane.tls.cert_file",
        "control_plane.tls.key_file",
        "ingest.shards",
        "ingest.run_messages",
        "ingest.commit_messages",
        "ingest.commit_messages_spread",
        "ingest.commit_bytes",
        "ingest.commit_tenants",
        "ingest.prefetch_bytes",
        "ingest.retry_delays",
    ];

    fn validate(&self) -> Result<(), Error> {
        if !(1..=256).contains(&self.workers) {
            return Err(Error::key(
                "workers",
                format!("must be between 1 and 256, got {}", self.workers),
            ));
        }
        let connections_min = Connections::COUNT + REQUESTS_CONNECTIONS_MIN;
        if self.database.max_connections < connections_min {
            let message = format!(
                "must be {connections_min} at least: {} are the fleet's own, the rest is for requests",
                Connections::COUNT
            );
            return Err(Error::key("database.max_connections", message));
        }
        if !(TOKEN_TTL_MIN..=TOKEN_TTL_MAX).contains(&self.auth.token_ttl) {
            return Err(Error::key("auth.token_ttl", "must be between 10s and 24h"));
        }
        if !(1..=64 << 20).contains(&self.limits.message_bytes) {
            return Err(Error::key(
                "limits.message_bytes",
                "must be between 1 and 67108864 (64 MiB)",
            ));
        }
        if !(self.limits.message_bytes..=256 << 20).contains(&self.limits.body_bytes) {
            let message = "must be at least limits.message_bytes and at most 268435456 (256 MiB)";
            return Err(Error::key("limits.body_bytes", message));
        }
        // One tenant has half, and what is read exists three times at most.
        let memory_bytes_min = 2 * COPIES * self.limits.body_bytes;
        if self.limits.memory_bytes < memory_bytes_min {
            let message = format!("must be six times limits.body_bytes at least, {memory_bytes_min}");
            return Err(Error::key("limits.memory_bytes", message));
        }
        for (key, value) in [
            ("limits.calls", self.limits.calls),
            ("limits.streams", self.limits.streams),
        ] {
            if !(1..=UNDER_WAY_MAX).contains(&value) {
                return Err(Error::key(
                    key,
                    format!("must be between 1 and {UNDER_WAY_MAX}, got {value}"),
                ));
            }
        }
        Origins::new(&self.http.cors_origins).map_err(|error| Error::key("http.cors_origins", error))?;
        if self.depth_interval < Duration::from_millis(100) {
            return Err(Error::key("depth_interval", "must be 100ms at least"));
        }
        if !(Duration::from_secs(1)..=AUDIT_AGE_MAX).contains(&self.audit.max_age) {
            return Err(Error::key(
                "audit.max_age",
                "must be between 1s and 36525d (a century)",
            ));
        }
        self.shutdown.validate()
    }
}

impl Config {
    /// What `serve` needs, beside the keys.
    pub(crate) fn check_serve(&self) -> Result<(), Error> {
        self.check_database()?;
        broker::check(&self.rabbitmq, self.insecure)?;
        management::check(&self.rabbitmq, self.insecure)?;
        plugin::check(&self.rabbitmq, self.insecure)?;
        let host = self.listen.rsplit_once(':').map_or("", |(host, _)| host);
        if tls::Server::new("tls", &self.tls)?.is_none() && !self.insecure {
            check_clear("listen", host, "set tls.cert_file and tls.key_file")?;
        }
        Ok(())
    }

    /// What `migrate` needs.
    pub(crate) fn check_database(&self) -> Result<(), Error> {
        database::check(&self.database, self.insecure)
    }
}
