//! The sections that both programs have.

use serde::{Deserialize, Serialize};

use super::{Error, Secret, duration};

/// How PostgreSQL is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `postgres://user:pass@host:5432/name`
    pub url: Secret,
    /// The same database as the role that owns the tables, for a control plane: it migrates, and makes and drops
    /// partitions. Empty where `url` names that role.
    pub schema_url: Secret,
    /// The most connections this program opens.
    pub max_connections: u32,
}

impl Database {
    /// As the role that owns the tables.
    pub fn of_schema(&self) -> Self {
        let url = match self.schema_url.is_empty() {
            true => &self.url,
            false => &self.schema_url,
        };
        Self {
            url: url.clone(),
            ..self.clone()
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            schema_url: Secret::default(),
            max_connections: 10,
        }
    }
}

/// How RabbitMQ is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rabbitmq {
    /// `amqp://user:pass@host:5672/vhost`, or `amqps://`
    pub url: Secret,
    /// `http://user:pass@host:15672` of the management API, or `https://`; with the login of `url` where it has none of its
    /// own. Empty: what takes it is not possible.
    pub management_url: Secret,
    /// `http://host:15692` of the Prometheus plugin, or `https://`; of a cluster each node's, with commas between them.
    /// Empty: queues are counted one by one.
    pub prometheus_url: Secret,
    /// How `amqps://` is spoken.
    pub tls: ClientTls,
    /// What new queues are.
    pub queue_type: QueueType,
}

impl Default for Rabbitmq {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            management_url: Secret::default(),
            prometheus_url: Secret::default(),
            tls: ClientTls::default(),
            queue_type: QueueType::Classic,
        }
    }
}

/// Whom to trust, and who to be, where a URL says TLS. Files of PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTls {
    /// The authorities that the server's certificate has to come from. Empty: the system's.
    pub ca_file: String,
    /// The certificate of this program, for a server that asks for one.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
}

/// Who a listener is. Files of PEM; without a certificate it speaks in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTls {
    /// The certificate, followed by those that it comes from.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
    /// The authorities that a client's certificate has to come from. Empty: clients need none.
    pub client_ca_file: String,
}

/// What kind of queue RabbitMQ keeps messages in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueType {
    /// On one node.
    Classic,
    /// Replicated over a cluster's nodes.
    Quorum,
}

/// How the program logs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A `tracing` filter, such as `info` or `info,ingest_daemon=debug`.
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            // lapin calls a queue that is not there an error; what is one is reported by whoever asked.
            filter: "info,lapin=off".into(),
            format: LogFormat::Text,
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How the program stops.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// How long a stop may take at most.
    #[serde(with = "duration")]
    pub grace: std::time::Duration,
    /// How long a control plane goes on taking requests after it said that it stops: as long as a load balancer takes
    /// to notice. A part of the grace.
    #[serde(with = "duration")]
    pub delay: std::time::Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            grace: std::time::Duration::from_secs(30),
            delay: std::time::Duration::ZERO,
        }
    }
}

impl Shutdown {
    /// Checks what the types cannot say.
    pub fn validate(&self) -> Result<(), Error> {
        if self.delay > self.grace / 2 {
            let message = "must be half of shutdown.grace at most, of which it is a part";
            return Err(Error::key("shutdown.delay", message));
        }
        Ok(())
    }
}

/// What is measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Whether there are series per tenant. Turn it off for many thousands of tenants.
    pub per_tenant: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { per_tenant: true }
    }
}
