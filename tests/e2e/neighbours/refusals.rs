//! What the broker refuses closes a channel, and a connection has two thousand of these: whoever asks for what is not
//! there, as often as he likes, takes none from the others.

use std::{sync::Arc, time::Duration};

use common::{
    broker::{self, Broker, Channels, Purpose},
    config::Rabbitmq,
};
use futures::{StreamExt as _, future::join_all};
use lapin::{
    BasicProperties, Channel, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::{Options, Stack, eventually};

/// More than all the channels that a connection can have, twice.
const REFUSALS: usize = 5_000;
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(15);

async fn consumed(broker: &Broker) -> (Channel, Consumer) {
    let channel = broker.link().await.unwrap().channel().await.unwrap();
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare("there".into(), options, FieldTable::default())
        .await
        .unwrap();
    let consumer = channel
        .basic_consume(
            "there".into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    (channel, consumer)
}

async fn is_refused(channels: &Channels) {
    let channel = channels.take().await.unwrap();
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let asked = channel.queue_declare("not there".into(), options, FieldTable::default());
    let error = broker::Error::from(timeout(PATIENCE, asked).await.unwrap().unwrap_err());
    assert_eq!(error.reply_code(), Some(404), "{error}");
}

#[tokio::test]
async fn whoever_is_refused_thousands_of_times_takes_no_channels_from_the_others() {
    let options = Options {
        daemons: 0,
        ..Options::default()
    };
    let stack = Stack::start(options).await;
    let config = Rabbitmq {
        url: stack.amqp_url().into(),
        ..Rabbitmq::default()
    };
    let (broker, supervisor) = broker::connect(&config, "refusals").unwrap();
    let stop = CancellationToken::new();
    let supervisor = tokio::spawn(supervisor.run(stop.clone()));
    let (channel, mut consumer) = consumed(&broker).await;
    let first = broker.current().unwrap();

    let channels = Channels::new(broker.clone(), Purpose::Asking, AT_ONCE);
    let asking = (0..AT_ONCE).map(async |_| {
        for _ in 0..REFUSALS / AT_ONCE {
            is_refused(&channels).await;
            // Others open and close theirs meanwhile, so that their numbers come again.
            let other = channels.take().await.unwrap();
            other
                .basic_publish(
                    "".into(),
                    "nowhere".into(),
                    BasicPublishOptions::default(),
                    b"",
                    BasicProperties::default(),
                )
                .await
                .unwrap();
        }
    });
    join_all(asking).await;

    // Whoever was on the connection that has had its share of them has not noticed.
    channel
        .basic_publish(
            "".into(),
            "there".into(),
            BasicPublishOptions::default(),
            b"still here",
            BasicProperties::default(),
        )
        .await
        .unwrap();
    let delivery = timeout(PATIENCE, consumer.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(delivery.data, b"still here");
    let now = broker.current().unwrap();
    assert!(!Arc::ptr_eq(&first, &now), "another connection is used by now");

    // What nobody uses any more is closed.
    drop((channel, consumer, first, now, delivery));
    eventually("one connection is left", async || {
        let all = format!("{}/connections", stack.management("vhosts"));
        let answer = local::http::client().get(all).send().await.unwrap();
        let all: Value = answer.error_for_status().unwrap().json().await.unwrap();
        let named = |connection: &&Value| connection["client_properties"]["connection_name"] == "refusals";
        all.as_array().unwrap().iter().filter(named).count() == 1
    })
    .await;
    stop.cancel();
    supervisor.await.unwrap();
}
