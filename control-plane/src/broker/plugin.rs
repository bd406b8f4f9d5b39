//! RabbitMQ's Prometheus plugin: what waits in all queues of a vhost, in one answer.
//!
//! Its numbers are those that queues last wrote down, five seconds ago at most. A node of a cluster answers for the queues
//! that it leads alone.

use std::{collections::HashMap, time::Duration};

use common::{
    broker,
    config::{self, Rabbitmq, Secret},
    id::TenantId,
};
use futures::future::join_all;

use super::{
    Depth,
    endpoint::{self, Endpoint},
    exposition::{self, Whose},
};
use crate::outbound;

/// The key that says where it is.
const KEY: &str = "rabbitmq.prometheus_url";
/// The path, and the smallest of the plugin's families that holds what waits.
const PATH: [&str; 2] = ["metrics", "detailed"];
const FAMILY: (&str, &str) = ("family", "queue_coarse_metrics");
/// How long it may take: milliseconds for thousands of queues.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer, read line by line. 20,000 tenants' queues have five lines of 110 bytes each.
const BODY_BYTES_MAX: usize = 64 << 20;
/// The longest line: a vhost's and a queue's name have 255 bytes each, six times that where all is escaped.
const LINE_BYTES_MAX: usize = 8 << 10;

/// The plugins of a broker's nodes.
#[derive(Debug)]
pub(crate) struct Plugin {
    nodes: Vec<Endpoint>,
    vhost: String,
}

/// What the nodes that answered say, and why the others did not.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) depths: HashMap<TenantId, Depth>,
    pub(crate) problem: Option<String>,
}

impl Plugin {
    /// None where no URL is configured.
    pub(crate) fn new(config: &Rabbitmq) -> Result<Option<Self>, config::Error> {
        if config.prometheus_url.is_empty() {
            return Ok(None);
        }
        let nodes = urls(config).map(|url| Endpoint::new(KEY, &url, &config.tls));
        Ok(Some(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            vhost: broker::parse(&config.url)?.vhost,
        }))
    }

    /// Asks all nodes.
    pub(crate) async fn read(&self) -> Answer {
        let mut all = Answer::default();
        for answer in join_all(self.nodes.iter().map(|node| self.ask(node))).await {
            match answer {
                Ok(lines) => lines.into_iter().for_each(|line| all.add(line)),
                Err(problem) => {
                    all.problem = Some(format!("RabbitMQ's Prometheus plugin ({KEY}): {problem}"))
                }
            }
        }
        all
    }

    async fn ask(&self, node: &Endpoint) -> Result<Vec<(TenantId, Whose, u32)>, String> {
        let client = outbound::client(node.tls.clone(), TIMEOUT).await?;
        let client = client.no_proxy().build().map_err(outbound::failure)?;
        let mut url = node.at(&PATH);
        url.query_pairs_mut()
            .append_pair(FAMILY.0, FAMILY.1)
            .append_pair("vhost", &self.vhost);
        let asked = node.authorized(client.get(url)).send().await;
        let mut answer = asked.map_err(outbound::failure)?;
        if !answer.status().is_success() {
            return Err(format!("the answer is {}", answer.status()));
        }
        let mut lines = Lines::default();
        let mut counts = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(outbound::failure)? {
            lines.take(&chunk, |line| counts.extend(exposition::count(line, &self.vhost)))?;
        }
        Ok(counts)
    }
}

impl Answer {
    /// A queue that has just got another leader may be two nodes': the larger number is not the one that was forgotten.
    fn add(&mut self, (tenant, whose, count): (TenantId, Whose, u32)) {
        let depth = self.depths.entry(tenant).or_default();
        let slot = match whose {
            Whose::Messages => &mut depth.queue,
            Whose::DeadLetters => &mut depth.dead_letters,
        };
        *slot = Some(slot.map_or(count, |known| known.max(count)));
    }
}

/// A body cut into lines as it comes.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    bytes: usize,
}

impl Lines {
    fn take(&mut self, chunk: &[u8], mut line: impl FnMut(&str)) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(chunk.len());
        if self.bytes > BODY_BYTES_MAX {
            return Err(format!("the answer is larger than {BODY_BYTES_MAX} bytes"));
        }
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if self.begun.len() > LINE_BYTES_MAX {
                return Err(format!("a line is longer than {LINE_BYTES_MAX} bytes"));
            }
            if self.begun.ends_with(b"\n") {
                // What is no UTF-8 is no name of ours.
                if let Ok(text) = std::str::from_utf8(&self.begun) {
                    line(text.trim_end());
                }
                self.begun.clear();
            }
        }
        Ok(())
    }
}

/// Checks what a configuration says of it.
pub(crate) fn check(config: &Rabbitmq, insecure: bool) -> Result<(), config::Error> {
    if config.prometheus_url.is_empty() {
        return Ok(());
    }
    for url in urls(config) {
        endpoint::check(KEY, &url, insecure)?;
    }
    Plugin::new(config).map(drop)
}

fn urls(config: &Rabbitmq) -> impl Iterator<Item = Secret> {
    let urls = config.prometheus_url.expose().split(',');
    urls.map(|url| Secret::from(url.trim()))
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        extract::RawQuery,
        http::{HeaderMap, StatusCode},
        routing::get,
    };
    use tokio::net::TcpListener;
    use uuid::Uuid;

    use super::*;

    const TENANT: TenantId = TenantId(Uuid::from_u128(7));

    fn config(prometheus_url: &str) -> Rabbitmq {
        Rabbitmq {
            url: "amqp://localhost/a%2Fb".into(),
            prometheus_url: prometheus_url.into(),
            ..Rabbitmq::default()
        }
    }

    #[test]
    fn a_body_is_lines_however_it_comes() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for chunk in ["a b", "\n\ncd", "", "e\nrest"] {
            lines
                .take(chunk.as_bytes(), |line| seen.push(line.to_owned()))
                .unwrap();
        }
        assert_eq!(seen, ["a b", "", "cde"]);
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(lines.take(&long, |_| {}).unwrap_err().contains("line"));
    }

    #[test]
    fn each_url_is_checked_and_is_in_clear_on_this_machine_alone() {
        for good in ["", "http://localhost:15692", "https://a:15691, https://b:15691"] {
            check(&config(good), false).unwrap();
        }
        for bad in [
            "localhost:15692",
            "http://localhost,",
            "http://localhost,http://rabbit",
        ] {
            let error = check(&config(bad), false).unwrap_err().to_string();
            assert!(error.contains(KEY), "{bad}: {error}");
        }
        check(&config("http://localhost,http://rabbit"), true).unwrap();
    }

    #[tokio::test]
    async fn nodes_are_asked_for_the_vhost_and_those_that_do_not_answer_are_told() {
        let text = |vhost: &str| {
            format!(
                "rabbitmq_detailed_queue_messages{{vhost=\"{vhost}\",queue=\"{}\"}} 5\n",
                TENANT.queue()
            )
        };
        let router = Router::new()
            .route(
                "/one/metrics/detailed",
                get(async move |RawQuery(query): RawQuery, headers: HeaderMap| {
                    assert_eq!(query.unwrap(), "family=queue_coarse_metrics&vhost=a%2Fb");
                    assert!(headers.contains_key("authorization"));
                    text("a/b") + &text("other")
                }),
            )
            .route(
                "/two/metrics/detailed",
                get(async || StatusCode::INTERNAL_SERVER_ERROR),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let of = |urls: String| Plugin::new(&config(&urls)).unwrap().unwrap();
        let answer = of(format!("http://u:p@{address}/one")).read().await;
        let five = Depth {
            queue: Some(5),
            dead_letters: None,
        };
        assert_eq!(answer.depths, HashMap::from([(TENANT, five)]));
        assert_eq!(answer.problem, None);
        let answer = of(format!("http://u:p@{address}/one,http://{address}/two"))
            .read()
            .await;
        assert_eq!(answer.depths.len(), 1);
        let problem = answer.problem.unwrap();
        assert!(problem.contains(KEY) && problem.contains("500"), "{problem}");
    }
}
