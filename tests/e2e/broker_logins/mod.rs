//! Credentials as logins at RabbitMQ: each publishes to its tenant's exchange, and every way further is closed.

mod escapes;

use std::time::Duration;

use common::id::TenantId;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeBindOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldArray, FieldTable},
};
use serde_json::{Value, json};

use crate::support::{Options, Stack, eventually};

/// What the broker answers when something may not be done, and when what was sent is not possible.
const REFUSED: u16 = 403;
const IMPOSSIBLE: u16 = 406;

struct Login {
    id: String,
    url: String,
    exchange: String,
}

impl Login {
    async fn of(stack: &Stack, tenant: TenantId) -> Self {
        let (status, answer) = create(stack, tenant).await;
        assert_eq!(status, 201, "{answer}");
        let amqp = |name: &str| answer["amqp"][name].as_str().unwrap().to_owned();
        let id = answer["client_id"].as_str().unwrap().to_owned();
        let url = amqp("url");
        let secret = answer["client_secret"].as_str().unwrap();
        assert!(url.contains(&format!("//{id}:{secret}@")), "{url}");
        assert_eq!(amqp("exchange"), format!("tenant_{tenant}"));
        Self {
            id,
            url,
            exchange: amqp("exchange"),
        }
    }

    async fn connect(&self) -> lapin::Result<Connection> {
        connect(&self.url).await
    }
}

async fn create(stack: &Stack, tenant: TenantId) -> (u16, Value) {
    stack
        .post(
            &format!("/api/tenants/{tenant}/credentials"),
            &stack.admin(),
            &json!({ "amqp": true }),
        )
        .await
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    let connecting = Connection::connect(url, ConnectionProperties::default());
    tokio::time::timeout(Duration::from_secs(20), connecting)
        .await
        .unwrap()
}

/// Publishes and waits until the broker has confirmed it.
async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    properties: BasicProperties,
) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel
        .basic_publish(
            exchange.into(),
            key.into(),
            BasicPublishOptions::default(),
            b"{}",
            properties,
        )
        .await?
        .await?;
    Ok(())
}

fn code<T>(result: lapin::Result<T>) -> Option<u16> {
    match result {
        Ok(_) => None,
        Err(error) => match error.kind() {
            lapin::ErrorKind::ProtocolError(error) => Some(error.get_id()),
            other => panic!("{other:?}"),
        },
    }
}

/// Without a daemon, so that what gets to a queue stays there.
async fn stack() -> Stack {
    Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn a_login_publishes_to_its_tenant_by_any_routing_key_and_lasts_until_it_is_revoked() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("shop").await;
    let login = Login::of(&stack, tenant).await;
    let connection = login.connect().await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    for key in ["", "orders.new", &tenant.queue()] {
        publish(&channel, &login.exchange, key, BasicProperties::default())
            .await
            .unwrap();
    }
    stack.stored(tenant, 3).await;
    let list = format!("/api/tenants/{tenant}/credentials");
    let (_, listed) = stack.get(&list, &stack.admin()).await;
    assert_eq!(listed["credentials"][0]["amqp"], json!(true), "{listed}");

    let revoked = stack
        .delete(&format!("{list}/{}", login.id), &stack.admin())
        .await;
    assert_eq!(revoked.0, 200, "{}", revoked.1);
    eventually("its connection is closed", async || {
        !connection.status().connected()
    })
    .await;
    assert!(login.connect().await.is_err());
}

#[tokio::test]
async fn a_login_has_so_many_connections_and_channels() {
    let stack = stack().await;
    let tenant = stack.tenant("shop").await;
    let login = Login::of(&stack, tenant).await;
    let mut connections = Vec::new();
    while let Ok(connection) = login.connect().await {
        connections.push(connection);
        assert!(connections.len() <= 20);
    }
    assert_eq!(connections.len(), 20);
    // One that is dropped is closed.
    let mut channels = Vec::new();
    'all: for connection in &connections {
        for _ in 0..20 {
            match connection.create_channel().await {
                Ok(channel) => channels.push(channel),
                Err(_) => break 'all,
            }
        }
    }
    assert_eq!(channels.len(), 200);
}

#[tokio::test]
async fn a_login_goes_with_its_tenant_and_what_a_crash_left_half_done_goes_too() {
    let stack = stack().await;
    let [gone, crashed] = [stack.tenant("gone").await, stack.tenant("crashed").await];
    let login = Login::of(&stack, gone).await;
    let connection = login.connect().await.unwrap();
    assert_eq!(
        stack
            .delete(&format!("/api/tenants/{gone}"), &stack.admin())
            .await
            .0,
        200
    );
    eventually("its connection is closed", async || {
        !connection.status().connected()
    })
    .await;
    assert!(login.connect().await.is_err());

    let half = Login::of(&stack, crashed).await;
    sqlx::query("update credentials set login = 'making', created_at = now() - interval '2 minutes'")
        .execute(stack.pool())
        .await
        .unwrap();
    let list = format!("/api/tenants/{crashed}/credentials");
    let (_, listed) = stack.get(&list, &stack.admin()).await;
    assert_eq!(listed["credentials"], json!([]), "nobody knows its secret");
    eventually("the login is removed", async || half.connect().await.is_err()).await;
    // A second time, later: what was under way when it was removed first is gone then, too.
    sqlx::query("update credentials set revoked_at = now() - interval '2 minutes'")
        .execute(stack.pool())
        .await
        .unwrap();
    eventually("nothing is left of either", async || {
        let left: i64 = sqlx::query_scalar("select count(*) from credentials where login is not null")
            .fetch_one(stack.pool())
            .await
            .unwrap();
        left == 0
    })
    .await;
}

#[tokio::test]
async fn an_exchange_that_is_lost_comes_back_and_one_of_another_kind_gets_no_login() {
    let stack = stack().await;
    let tenant = stack.tenant("shop").await;
    let login = Login::of(&stack, tenant).await;
    let (_connection, channel) = stack.amqp().await;
    let delete = || channel.exchange_delete(login.exchange.as_str().into(), ExchangeDeleteOptions::default());
    delete().await.unwrap();
    let connection = login.connect().await.unwrap();
    eventually("it is there again", async || {
        let channel = connection.create_channel().await.unwrap();
        let published = publish(&channel, &login.exchange, "", BasicProperties::default()).await;
        published.is_ok() && stack.queue(&tenant.queue()).await.unwrap().0 > 0
    })
    .await;

    let other = async || {
        delete().await.unwrap();
        let (_connection, channel) = stack.amqp().await;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let name = login.exchange.as_str().into();
        channel
            .exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default())
            .await
            .is_ok()
    };
    eventually("somebody makes another one faster", other).await;
    let (status, refused) = create(&stack, tenant).await;
    assert_eq!(status, 409, "{refused}");
    assert!(
        refused["message"].as_str().unwrap().contains("type is topic"),
        "{refused}"
    );
}

#[tokio::test]
async fn without_the_management_api_it_is_said_what_to_set() {
    let stack = Stack::start(Options {
        daemons: 0,
        env: vec![("JALUR_RABBITMQ__MANAGEMENT_URL", String::new())],
        ..Options::default()
    })
    .await;
    let tenant = stack.tenant("shop").await;
    let (status, refused) = create(&stack, tenant).await;
    assert_eq!(status, 409, "{refused}");
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("rabbitmq.management_url"),
        "{refused}"
    );
    let left: i64 = sqlx::query_scalar("select count(*) from credentials")
        .fetch_one(stack.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}
