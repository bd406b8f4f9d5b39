//! Services that somebody else runs.

use url::Url;

use super::{Backend, Say, Services, wait};

/// Where the plugins listen unless somebody moved them.
const MANAGEMENT_PORT: u16 = 15_672;
const PROMETHEUS_PORT: u16 = 15_692;
/// The control plane's own variable for the second.
const PROMETHEUS_URL: &str = "JALUR_RABBITMQ__PROMETHEUS_URL";

/// Waits until both answer.
pub(super) async fn connect(database_url: String, amqp_url: String, say: &Say) -> anyhow::Result<Services> {
    say.say("services: yours, as JALUR_DATABASE__URL and JALUR_RABBITMQ__URL name them");
    wait::until("PostgreSQL", None, || wait::postgres(&database_url)).await?;
    wait::until("RabbitMQ", None, || wait::rabbitmq(&amqp_url)).await?;
    let (management_url, prometheus_url) = tokio::join!(management(&amqp_url), prometheus(&amqp_url));
    Ok(Services {
        database_url,
        amqp_url,
        management_url,
        prometheus_url,
        backend: Backend::External,
    })
}

/// The management plugin: where `JALUR_RABBITMQ_MANAGEMENT_URL` says, or on its usual port with the broker's own
/// login, if something answers there.
async fn management(amqp_url: &str) -> Option<String> {
    if let Some(url) = std::env::var("JALUR_RABBITMQ_MANAGEMENT_URL")
        .ok()
        .filter(|url| !url.is_empty())
    {
        return Some(url);
    }
    let url = beside(amqp_url)?;
    wait::management(&crate::http::client(), &url)
        .await
        .is_ok()
        .then_some(url)
}

/// The Prometheus plugin: where the control plane is told that it is, or on its usual port, if something answers there.
async fn prometheus(amqp_url: &str) -> Option<String> {
    if let Some(url) = std::env::var(PROMETHEUS_URL).ok().filter(|url| !url.is_empty()) {
        return Some(url);
    }
    let amqp = Url::parse(amqp_url).ok()?;
    let url = format!("http://{}:{PROMETHEUS_PORT}", amqp.host_str()?);
    wait::prometheus(&crate::http::client(), &url)
        .await
        .is_ok()
        .then_some(url)
}

fn beside(amqp_url: &str) -> Option<String> {
    let amqp = Url::parse(amqp_url).ok()?;
    let login = match (amqp.username(), amqp.password()) {
        ("", _) => "guest:guest".to_owned(),
        (user, password) => format!("{user}:{}", password.unwrap_or_default()),
    };
    Some(format!("http://{login}@{}:{MANAGEMENT_PORT}", amqp.host_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn management_is_looked_for_beside_the_broker() {
        let beside = |url| beside(url).unwrap();
        assert_eq!(
            beside("amqp://u:p@mq.example:5672/v"),
            "http://u:p@mq.example:15672"
        );
        assert_eq!(beside("amqp://localhost"), "http://guest:guest@localhost:15672");
    }
}
