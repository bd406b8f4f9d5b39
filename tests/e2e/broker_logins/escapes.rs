//! Every way out of a login's exchange is tried.

use super::*;

#[tokio::test]
async fn a_login_can_get_out_of_its_exchange_in_no_way() {
    let stack = stack().await;
    let [own, other] = [stack.tenant("own").await, stack.tenant("other").await];
    let login = Login::of(&stack, own).await;
    let connection = login.connect().await.unwrap();
    let (queue, others) = (own.queue(), other.queue());
    let (exchange, others_exchange) = (login.exchange.as_str(), format!("tenant_{other}"));
    let plain = BasicProperties::default;
    let table = FieldTable::default;
    // The broker closes a channel over what it refuses.
    let fresh = async || connection.create_channel().await.unwrap();

    let mut tries: Vec<(&str, Option<u16>)> = Vec::new();
    for (what, exchange, key) in [
        ("the default exchange, to its own queue", "", queue.as_str()),
        ("the default exchange, to another's queue", "", &others),
        (
            "the default exchange, as a direct reply",
            "",
            "amq.rabbitmq.reply-to.x",
        ),
        ("another's exchange", &others_exchange, ""),
        ("the broker's own exchanges", "amq.topic", &others),
        ("the delay queues' exchange", "jalur.retry.1000ms", &others),
    ] {
        tries.push((what, code(publish(&fresh().await, exchange, key, plain()).await)));
    }
    for queue in [queue.as_str(), &others, &own.dead_letter_queue()] {
        let name = || queue.into();
        tries.push((
            "consume",
            code(
                fresh()
                    .await
                    .basic_consume(name(), "".into(), BasicConsumeOptions::default(), table())
                    .await,
            ),
        ));
        tries.push((
            "get",
            code(fresh().await.basic_get(name(), BasicGetOptions::default()).await),
        ));
        tries.push((
            "purge",
            code(
                fresh()
                    .await
                    .queue_purge(name(), QueuePurgeOptions::default())
                    .await,
            ),
        ));
        tries.push((
            "delete",
            code(
                fresh()
                    .await
                    .queue_delete(name(), QueueDeleteOptions::default())
                    .await,
            ),
        ));
        tries.push((
            "bind a queue",
            code(
                fresh()
                    .await
                    .queue_bind(
                        name(),
                        exchange.into(),
                        "".into(),
                        QueueBindOptions::default(),
                        table(),
                    )
                    .await,
            ),
        ));
        tries.push((
            "unbind a queue",
            code(
                fresh()
                    .await
                    .queue_unbind(name(), exchange.into(), "".into(), table())
                    .await,
            ),
        ));
        tries.push((
            "declare a queue that is there",
            code(
                fresh()
                    .await
                    .queue_declare(
                        name(),
                        QueueDeclareOptions {
                            durable: true,
                            ..QueueDeclareOptions::default()
                        },
                        table(),
                    )
                    .await,
            ),
        ));
    }
    for name in ["mine", ""] {
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        tries.push((
            "declare a queue",
            code(fresh().await.queue_declare(name.into(), options, table()).await),
        ));
    }
    for name in ["mine", exchange, others_exchange.as_str()] {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        tries.push((
            "declare an exchange",
            code(
                fresh()
                    .await
                    .exchange_declare(name.into(), ExchangeKind::Fanout, options, table())
                    .await,
            ),
        ));
        tries.push((
            "delete an exchange",
            code(
                fresh()
                    .await
                    .exchange_delete(name.into(), ExchangeDeleteOptions::default())
                    .await,
            ),
        ));
    }
    for (what, to, from) in [
        (
            "send its exchange's on to another's",
            others_exchange.as_str(),
            exchange,
        ),
        ("get another's exchange's", exchange, &others_exchange),
        ("send its exchange's on to the broker's", "amq.fanout", exchange),
        ("get the broker's exchange's", exchange, "amq.fanout"),
    ] {
        tries.push((
            what,
            code(
                fresh()
                    .await
                    .exchange_bind(
                        to.into(),
                        from.into(),
                        "".into(),
                        ExchangeBindOptions::default(),
                        table(),
                    )
                    .await,
            ),
        ));
    }
    for (what, code) in &tries {
        assert_eq!(*code, Some(REFUSED), "{what}; all: {tries:?}");
    }

    for (what, properties) in [
        (
            "a reply that nobody waits for",
            plain().with_reply_to("amq.rabbitmq.reply-to".into()),
        ),
        ("another's name", plain().with_user_id("guest".into())),
    ] {
        let published = publish(&fresh().await, exchange, "", properties).await;
        assert_eq!(code(published), Some(IMPOSSIBLE), "{what}");
    }
    assert_eq!(stack.queue(&queue).await.unwrap().0, 0);

    for header in ["CC", "BCC"] {
        let copies = [
            others.as_str(),
            &own.dead_letter_queue(),
            &other.dead_letter_queue(),
        ];
        let copies: Vec<_> = copies
            .iter()
            .map(|name| AMQPValue::LongString((*name).into()))
            .collect();
        let mut headers = table();
        headers.insert(header.into(), AMQPValue::FieldArray(FieldArray::from(copies)));
        publish(&fresh().await, exchange, &others, plain().with_headers(headers))
            .await
            .unwrap();
    }
    // It may wait for replies, which its tenant's daemons do not send; what it publishes then goes where all goes.
    let channel = fresh().await;
    let replies = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let reply_to = || "amq.rabbitmq.reply-to".into();
    // It is cancelled when it is dropped.
    let _replies = channel
        .basic_consume(reply_to(), "".into(), replies, table())
        .await
        .unwrap();
    publish(&channel, exchange, "", plain().with_reply_to(reply_to()))
        .await
        .unwrap();
    for (name, wanted) in [
        (queue, 3),
        (own.dead_letter_queue(), 0),
        (others, 0),
        (other.dead_letter_queue(), 0),
    ] {
        assert_eq!(stack.queue(&name).await.unwrap().0, wanted, "{name}");
    }
    let elsewhere = format!("{}/%2F", login.url.rsplit_once('/').unwrap().0);
    assert!(connect(&elsewhere).await.is_err(), "another vhost");
}
