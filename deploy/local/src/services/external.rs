//! Services that somebody else runs.

use url::Url;

use super::{Backend, Say, Services, wait};

/// Where the management plugin listens unless somebody moved it.
const MANAGEMENT_PORT: u16 = 15_672;

/// Waits until both answer.
pub(super) async fn connect(database_url: String, amqp_url: String, say: &Say) -> anyhow::Result<Services> {
    say.say("services: yours, as JALUR_DATABASE__URL and JALUR_RABBITMQ__URL name them");
    wait::until("PostgreSQL", None, || wait::postgres(&database_url)).await?;
    wait::until("RabbitMQ", None, || wait::rabbitmq(&amqp_url)).await?;
    let management_url = management(&amqp_url).await;
    Ok(Services {
        database_url,
        amqp_url,
        management_url,
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
