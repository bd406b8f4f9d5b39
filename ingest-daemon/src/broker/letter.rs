//! The properties of a letter: those of the message that failed, and what became of it.

use std::collections::BTreeMap;

use common::broker::headers;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::envelope::{ATTEMPTS, DUE_AT, FIRST_FAILED_AT, HOMELESS_SINCE, ID, rfc3339};
use crate::delivery::{Destination, Letter};

/// Kept by the broker, and survives a restart of it.
const PERSISTENT: u8 = 2;

/// Sender-selected distribution: the broker would route a copy to each queue that these name.
const OBEYED: [&str; 2] = ["CC", "BCC"];
/// A queue that is named here counts as one where the message has been, and the broker drops what would come to it
/// again when its delay expires.
const DEATHS: [&str; 7] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];
/// The broker closes the channel of a publisher that has no consumer of direct replies.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";

/// The properties of a letter: as they came, but for what would make the broker drop, refuse or multiply it
/// on its second way. Times are RFC 3339 text, as everywhere else that people read them.
pub(super) fn properties(letter: &Letter) -> BasicProperties {
    let came = letter.envelope.properties();
    let mut headers: BTreeMap<ShortString, AMQPValue> = came
        .headers()
        .as_ref()
        .map(|headers| headers.inner().clone())
        .unwrap_or_default();
    for name in OBEYED {
        if let Some(value) = headers.remove(name) {
            headers.insert(aside(name), value);
        }
    }
    for name in DEATHS {
        match headers.remove(name) {
            // After a retry it is the broker's word about our own delay queues.
            Some(value) if letter.envelope.attempts() == 0 => {
                headers.insert(aside(name), value);
            }
            _ => {}
        }
    }
    headers.remove(DUE_AT);
    headers.remove(HOMELESS_SINCE);
    headers::fit(&mut headers);
    let mut text = |name: &str, value: String| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    text(ID, letter.id.to_string());
    text(FIRST_FAILED_AT, rfc3339(letter.first_failed));
    match letter.to {
        Destination::DeadLetters => {
            text("x-jalur-reason", letter.reason.as_str().into());
            text("x-jalur-detail", letter.detail.clone());
            text("x-jalur-failed-at", rfc3339(letter.failed));
        }
        Destination::Delay(delay) => text(DUE_AT, rfc3339(letter.failed + delay)),
    }
    // The broker closes the channel on a user other than the connection's, and what failed is never dropped for
    // its age.
    for (name, value) in [("user-id", came.user_id()), ("expiration", came.expiration())] {
        if let Some(value) = value {
            text(&format!("x-jalur-{name}"), value.to_string());
        }
    }
    let replies_directly = |reply_to: &&ShortString| reply_to.as_str() == DIRECT_REPLY;
    if let Some(reply_to) = came.reply_to().as_ref().filter(replies_directly) {
        text("x-jalur-reply-to", reply_to.to_string());
    }
    headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(letter.attempts.into()));

    let mut properties = headers::lasting(came)
        .with_delivery_mode(PERSISTENT)
        .with_headers(FieldTable::from(headers));
    if let Some(reply_to) = came.reply_to().as_ref().filter(|to| !replies_directly(to)) {
        properties = properties.with_reply_to(reply_to.clone());
    }
    properties
}

/// The name under which a header is kept that the broker would obey.
fn aside(name: &str) -> ShortString {
    format!("x-jalur-{}", name.to_lowercase()).into()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use common::{broker::Held, reason::Reason};
    use uuid::Uuid;

    use super::*;
    use crate::broker::Envelope;

    fn letter(properties: BasicProperties) -> Letter {
        Letter {
            tag: 1,
            id: Uuid::from_u128(1),
            body: Vec::new(),
            envelope: properties.into(),
            to: Destination::DeadLetters,
            reason: Reason::NotJson,
            detail: "no JSON".into(),
            attempts: 1,
            first_failed: UNIX_EPOCH,
            failed: UNIX_EPOCH,
            held: Held::default(),
        }
    }

    #[test]
    fn a_dead_letter_keeps_its_properties_and_says_why() {
        let mut headers = FieldTable::default();
        headers.insert("mine".into(), AMQPValue::Boolean(true));
        let came = BasicProperties::default()
            .with_message_id("m".into())
            .with_type("t".into())
            .with_headers(headers);
        let envelope = Envelope::from(properties(&letter(came)));
        assert_eq!(envelope.message_id(), Some("m"));
        assert_eq!(envelope.properties().kind().as_ref().unwrap().as_str(), "t");
        assert_eq!(envelope.header("mine"), Some(&AMQPValue::Boolean(true)));
        assert_eq!(envelope.id(), Some("00000000-0000-0000-0000-000000000001"));
        let text = |text: &str| AMQPValue::LongString(text.into());
        assert_eq!(envelope.header("x-jalur-reason"), Some(&text("not_json")));
        assert_eq!(
            envelope.header("x-jalur-failed-at"),
            Some(&text("1970-01-01T00:00:00.000Z"))
        );
    }

    #[test]
    fn what_would_upset_its_second_way_is_put_aside() {
        let mut headers = FieldTable::default();
        headers.insert("CC".into(), AMQPValue::Void);
        let came = BasicProperties::default()
            .with_user_id("alice".into())
            .with_expiration("1000".into())
            .with_headers(headers);
        let envelope = Envelope::from(properties(&letter(came)));
        assert!(envelope.properties().user_id().is_none() && envelope.properties().expiration().is_none());
        assert!(envelope.header("CC").is_none() && envelope.header("x-jalur-cc").is_some());
        assert!(envelope.header("x-jalur-user-id").is_some());
    }

    #[test]
    fn what_the_broker_would_drop_it_for_is_put_aside() {
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), AMQPValue::Boolean(true));
        let came = BasicProperties::default()
            .with_reply_to("amq.rabbitmq.reply-to".into())
            .with_headers(headers);
        let sent = Envelope::from(properties(&letter(came)));
        assert!(sent.properties().reply_to().is_none());
        assert!(sent.header("x-death").is_none() && sent.header("x-jalur-x-death").is_some());
        assert!(sent.header("x-jalur-reply-to").is_some());
        // Once it was in a delay queue, the header is the broker's and of no interest.
        let mut headers = sent.properties().headers().clone().unwrap();
        headers.insert("x-death".into(), AMQPValue::Boolean(false));
        let came = sent
            .properties()
            .clone()
            .with_headers(headers)
            .with_reply_to("replies".into());
        let sent = Envelope::from(properties(&letter(came)));
        assert_eq!(sent.header("x-jalur-x-death"), Some(&AMQPValue::Boolean(true)));
        assert_eq!(sent.properties().reply_to().as_ref().unwrap().as_str(), "replies");
    }

    #[test]
    fn a_letters_properties_fit_half_a_frame_and_say_what_did_not() {
        let mut headers = FieldTable::default();
        headers.insert("large".into(), AMQPValue::LongString("x".repeat(130_000).into()));
        headers.insert("small".into(), AMQPValue::LongString("x".into()));
        for at in 0..100 {
            headers.insert(format!("h{at}").into(), AMQPValue::ByteArray(vec![0; 500].into()));
        }
        let came = BasicProperties::default().with_headers(headers);
        let envelope = Envelope::from(properties(&letter(came)));
        let table = envelope.properties().headers().as_ref().unwrap();
        let bytes = table.inner().values().map(|value| match value {
            AMQPValue::ByteArray(bytes) => bytes.as_slice().len(),
            _ => 0,
        });
        assert!(bytes.sum::<usize>() < 60 << 10);
        assert!(envelope.header("large").is_none() && envelope.header("small").is_some());
        assert_eq!(envelope.text(headers::CUT), Some("large (130011 bytes)"));
        assert_eq!(envelope.id(), Some("00000000-0000-0000-0000-000000000001"));
    }

    #[test]
    fn a_retry_says_its_attempts_and_no_reason() {
        let retry = Letter {
            to: Destination::Delay(std::time::Duration::from_secs(1)),
            attempts: 3,
            ..letter(BasicProperties::default())
        };
        let envelope = Envelope::from(properties(&retry));
        assert_eq!(
            (envelope.attempts(), envelope.first_failed_at()),
            (3, Some(UNIX_EPOCH))
        );
        assert_eq!(envelope.id(), Some("00000000-0000-0000-0000-000000000001"));
        for name in ["x-jalur-reason", "x-jalur-detail", "x-jalur-failed-at"] {
            assert!(envelope.header(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_retry_says_when_it_is_due_and_nothing_of_that_when_it_comes_again() {
        let second = std::time::Duration::from_secs(1);
        let retry = Letter {
            to: Destination::Delay(second),
            ..letter(BasicProperties::default())
        };
        let waits = properties(&retry);
        assert_eq!(Envelope::due_at(&waits), Some(UNIX_EPOCH + second));
        let again = Envelope::from(waits).again(UNIX_EPOCH + 2 * second, Some(UNIX_EPOCH));
        assert_eq!(Envelope::due_at(&again), Some(UNIX_EPOCH + 2 * second));
        let again = Envelope::from(again);
        assert_eq!(again.homeless_since(), Some(UNIX_EPOCH));
        let home = Envelope::from(again.homeward());
        assert_eq!(
            (Envelope::due_at(home.properties()), home.homeless_since()),
            (None, None)
        );
        assert_eq!((home.attempts(), home.id()), (1, again.id()));
    }
}
