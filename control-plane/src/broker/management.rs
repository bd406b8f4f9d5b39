//! RabbitMQ's management API: for what AMQP has no words for.

use std::{collections::BTreeMap, mem, time::Duration};

use common::{
    broker::{self, REQUEST_TIMEOUT},
    config::{self, Rabbitmq, Secret},
};
use lapin::uri::{AMQPUri, AMQPUserInfo};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::endpoint::{self, Endpoint};
use crate::outbound;

/// The key that says where it is.
pub(crate) const KEY: &str = "rabbitmq.management_url";
/// How many connections and channels a login may have open, over all nodes. A program has a few, and a tenant may have a
/// hundred logins.
const CONNECTIONS_MAX: u32 = 20;
const CHANNELS_MAX: u32 = 200;
/// How long after a try to close connections it is tried again.
const CLOSING: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];
/// What matches no name.
const NOTHING: &str = "^$";
/// The most characters of what it says that are passed on.
const REASON_CHARACTERS: usize = 300;
/// The largest answer. The largest of ours are a policy of 400 bytes for each of 20,000 tenants.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Why it could not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be reached, or does not answer.
    #[error("RabbitMQ's management API ({KEY}) cannot be asked: {0}")]
    Away(String),
    /// It does not do what it is asked.
    #[error("RabbitMQ's management API ({KEY}) answers {status}: {reason}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it says.
        reason: String,
    },
}

/// The management API of one vhost; a handle.
#[derive(Clone, Debug)]
pub(crate) struct Management {
    endpoint: Endpoint,
    /// Where AMQP is spoken, and in which vhost; of nobody.
    amqp: AMQPUri,
}

/// A rule for queues: what they are to be like beside what they were declared with. Of several only one holds, that of
/// the highest priority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// Which queues, as a regular expression.
    pub(crate) pattern: String,
    /// What of them.
    pub(crate) definition: BTreeMap<String, Value>,
    pub(crate) priority: i32,
    #[serde(rename = "apply-to")]
    pub(crate) apply_to: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    policy: Policy,
}

impl Error {
    /// Whether trying again may do it.
    pub(crate) fn is_for_now(&self) -> bool {
        match self {
            Self::Away(_) => true,
            Self::Refused { status, .. } => status.is_server_error(),
        }
    }
}

impl Management {
    /// None where no URL is configured. The login is the URL's own, or that of `rabbitmq.url`.
    pub(crate) fn new(config: &Rabbitmq) -> Result<Option<Self>, config::Error> {
        if config.management_url.is_empty() {
            return Ok(None);
        }
        let mut endpoint = Endpoint::new(KEY, &config.management_url, &config.tls)?;
        let mut amqp = broker::parse(&config.url)?;
        let nobody = AMQPUserInfo {
            username: String::new(),
            password: String::new(),
        };
        let own = mem::replace(&mut amqp.authority.userinfo, nobody);
        endpoint
            .login
            .get_or_insert_with(|| (own.username, own.password.into()));
        Ok(Some(Self { endpoint, amqp }))
    }

    /// All policies of the vhost, by name.
    pub(crate) async fn policies(&self) -> Result<BTreeMap<String, Policy>, Error> {
        let path = ["policies", &self.amqp.vhost];
        let answer = self.ask(Method::GET, &path, None::<&()>).await?;
        let policies: Vec<Named> =
            serde_json::from_slice(&answer).map_err(|error| Error::Away(error.to_string()))?;
        Ok(policies
            .into_iter()
            .map(|named| (named.name, named.policy))
            .collect())
    }

    /// Sets a policy, or sets it otherwise.
    pub(crate) async fn set_policy(&self, name: &str, policy: &Policy) -> Result<(), Error> {
        let path = ["policies", &self.amqp.vhost, name];
        self.ask(Method::PUT, &path, Some(policy)).await.map(drop)
    }

    /// Deletes a policy; one that is gone already is no error.
    pub(crate) async fn delete_policy(&self, name: &str) -> Result<(), Error> {
        let path = ["policies", &self.amqp.vhost, name];
        self.delete(&path).await
    }

    /// Makes the user `login`, who may publish to `exchange` and nothing else.
    pub(crate) async fn make_login(&self, login: Uuid, secret: &Secret, exchange: &str) -> Result<(), Error> {
        let login = login.to_string();
        let user = json!({ "password": secret.expose(), "tags": "" });
        self.ask(Method::PUT, &["users", &login], Some(&user)).await?;
        // Before there is anything that it may do.
        for (limit, value) in [
            ("max-connections", CONNECTIONS_MAX),
            ("max-channels", CHANNELS_MAX),
        ] {
            let path = ["user-limits", &login, limit];
            self.ask(Method::PUT, &path, Some(&json!({ "value": value })))
                .await?;
        }
        // The name is letters, digits, `-` and `_`, none of which means anything else in a pattern.
        let permissions = json!({ "configure": NOTHING, "write": format!("^{exchange}$"), "read": NOTHING });
        let path = ["permissions", &self.amqp.vhost, &login];
        self.ask(Method::PUT, &path, Some(&permissions)).await.map(drop)
    }

    /// Removes the user `login` and closes its connections; one that is gone already is no error.
    pub(crate) async fn remove_login(&self, login: Uuid) -> Result<(), Error> {
        let login = login.to_string();
        // In this order, so that it cannot come again. What is open would go on publishing: a channel remembers what
        // its user might do.
        self.delete(&["users", &login]).await?;
        // RabbitMQ closes a deleted user's connections by itself, too, in its own time, and may fail to close one that is
        // being closed already.
        let path = ["connections", "username", &login];
        for pause in CLOSING {
            match self.delete(&path).await {
                Err(error) if error.is_for_now() => sleep(pause).await,
                closed => return closed,
            }
        }
        self.delete(&path).await
    }

    /// The URL that `login` connects by. Both are written with nothing that means something else in one.
    pub(crate) fn login_url(&self, login: Uuid, secret: &Secret) -> Secret {
        let AMQPUri {
            scheme,
            authority,
            vhost,
            ..
        } = &self.amqp;
        let vhost = utf8_percent_encode(vhost, NON_ALPHANUMERIC);
        let (host, port) = (&authority.host, authority.port);
        format!("{scheme}://{login}:{}@{host}:{port}/{vhost}", secret.expose()).into()
    }

    /// What is gone already is no error.
    async fn delete(&self, path: &[&str]) -> Result<(), Error> {
        match self.ask(Method::DELETE, path, None::<&()>).await {
            Err(Error::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&impl Serialize>,
    ) -> Result<Vec<u8>, Error> {
        let client = outbound::client(self.endpoint.tls.clone(), REQUEST_TIMEOUT).await;
        let client = client.map_err(Error::Away)?.no_proxy().build().map_err(away)?;
        let path: Vec<_> = ["api"].iter().chain(path).copied().collect();
        let mut request = self
            .endpoint
            .authorized(client.request(method, self.endpoint.at(&path)));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let answer = outbound::body(answer, ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(Error::Away)?;
        if status.is_success() {
            return Ok(answer);
        }
        let text = String::from_utf8_lossy(&answer);
        let said = serde_json::from_str::<Value>(&text).ok();
        let reason = said.as_ref().and_then(|said| said["reason"].as_str());
        let reason = reason.unwrap_or(&text).chars().take(REASON_CHARACTERS).collect();
        Err(Error::Refused { status, reason })
    }
}

/// Checks what a configuration says of it.
pub(crate) fn check(config: &Rabbitmq, insecure: bool) -> Result<(), config::Error> {
    if config.management_url.is_empty() {
        return Ok(());
    }
    Management::new(config)?;
    endpoint::check(KEY, &config.management_url, insecure)
}

fn away(error: reqwest::Error) -> Error {
    Error::Away(outbound::failure(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(management_url: &str) -> Rabbitmq {
        Rabbitmq {
            url: "amqp://jalur:p%40ss@localhost:5672/a%2Fb".into(),
            management_url: management_url.into(),
            ..Rabbitmq::default()
        }
    }

    #[test]
    fn its_login_is_its_own_or_the_brokers_and_is_in_no_url() {
        assert!(Management::new(&config("")).unwrap().is_none());
        let of = |url| Management::new(&config(url)).unwrap().unwrap();
        let login = |of: &Management| {
            let (user, password) = of.endpoint.login.clone().unwrap();
            (user, password.expose().to_owned())
        };
        let own = of("http://admin:s%2Fecret@localhost:15672");
        assert_eq!(login(&own), ("admin".into(), "s/ecret".into()));
        let brokers = of("http://localhost:15672/");
        assert_eq!(login(&brokers), ("jalur".into(), "p@ss".into()));
        for management in [own, brokers, of("http://u:p@localhost:15672/behind/")] {
            let url = management
                .endpoint
                .at(&["api", "policies", &management.amqp.vhost]);
            let url = url.to_string();
            assert!(url.starts_with("http://localhost:15672/"), "{url}");
            assert!(url.ends_with("/api/policies/a%2Fb"), "{url}");
            assert!(!format!("{management:?}").contains("ecret"));
        }
    }

    #[test]
    fn other_machines_are_asked_in_clear_only_where_that_is_said() {
        let check = |url, insecure| check(&config(url), insecure).map_err(|error| error.to_string());
        for url in ["", "http://localhost:15672", "https://rabbit:15671"] {
            check(url, false).unwrap();
        }
        let error = check("http://rabbit:15672", false).unwrap_err();
        assert!(error.contains(KEY) && error.contains("https://"), "{error}");
        check("http://rabbit:15672", true).unwrap();
        for bad in ["rabbit:15672", "amqp://rabbit", "http://"] {
            assert!(check(bad, true).unwrap_err().contains(KEY), "{bad}");
        }
    }

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        let json = r#"[{"vhost":"v","name":"n","pattern":"^q$","apply-to":"queues","definition":{"max-length":1},"priority":7}]"#;
        let named: Vec<Named> = serde_json::from_str(json).unwrap();
        assert_eq!((named[0].name.as_str(), named[0].policy.priority), ("n", 7));
        let written = serde_json::to_value(&named[0].policy).unwrap();
        assert_eq!(written["apply-to"], "queues");
    }
}
