//! A message's AMQP properties, kept as they came.

use std::time::SystemTime;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

/// The id that stays with a message.
pub(super) const ID: &str = "x-jalur-id";
/// How often PostgreSQL has refused the message.
pub(super) const ATTEMPTS: &str = "x-jalur-attempts";
/// When it failed first.
pub(super) const FIRST_FAILED_AT: &str = "x-jalur-first-failed-at";
/// When it is tried again.
pub(super) const DUE_AT: &str = "x-jalur-due-at";
/// Since when there was no queue for it, when it was to be tried again.
pub(super) const HOMELESS_SINCE: &str = "x-jalur-homeless-since";
/// Milliseconds since 1970.
const PUBLISHED_AT: &str = "x-jalur-published-at";

/// A message's properties. Boxed: they are large, and moved around with every message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Envelope(Box<BasicProperties>);

impl From<BasicProperties> for Envelope {
    fn from(properties: BasicProperties) -> Self {
        Self(Box::new(properties))
    }
}

impl Envelope {
    /// As they came.
    pub(super) fn properties(&self) -> &BasicProperties {
        &self.0
    }

    /// The `message_id` property.
    pub(crate) fn message_id(&self) -> Option<&str> {
        self.0.message_id().as_ref().map(ShortString::as_str)
    }

    /// The id that the message carries from an earlier time.
    pub(crate) fn id(&self) -> Option<&str> {
        self.text(ID)
    }

    /// How often PostgreSQL has refused the message: what a delay queue brings back says so. Nonsense is none.
    pub(crate) fn attempts(&self) -> u32 {
        let attempts = match *self.header(ATTEMPTS).unwrap_or(&AMQPValue::Void) {
            AMQPValue::ShortShortInt(attempts) => attempts.into(),
            AMQPValue::ShortShortUInt(attempts) => attempts.into(),
            AMQPValue::ShortInt(attempts) => attempts.into(),
            AMQPValue::ShortUInt(attempts) => attempts.into(),
            AMQPValue::LongInt(attempts) => attempts.into(),
            AMQPValue::LongUInt(attempts) => attempts.into(),
            AMQPValue::LongLongInt(attempts) => attempts,
            _ => self
                .text(ATTEMPTS)
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
        };
        u32::try_from(attempts).unwrap_or_default()
    }

    /// When it failed first.
    pub(crate) fn first_failed_at(&self) -> Option<SystemTime> {
        self.time(FIRST_FAILED_AT)
    }

    /// Since when there was no queue for it, when it was to be tried again.
    pub(super) fn homeless_since(&self) -> Option<SystemTime> {
        self.time(HOMELESS_SINCE)
    }

    /// When what waits in a delay queue is to be tried again.
    pub(super) fn due_at(properties: &BasicProperties) -> Option<SystemTime> {
        time(properties.headers().as_ref()?.inner().get(DUE_AT)?)
    }

    /// The properties of a retry that comes to its tenant's queue again.
    pub(super) fn homeward(&self) -> BasicProperties {
        self.waiting_until(None, None)
    }

    /// The properties of a retry that waits once more.
    pub(super) fn again(&self, due_at: SystemTime, homeless_since: Option<SystemTime>) -> BasicProperties {
        self.waiting_until(Some(due_at), homeless_since)
    }

    fn waiting_until(
        &self,
        due_at: Option<SystemTime>,
        homeless_since: Option<SystemTime>,
    ) -> BasicProperties {
        let headers = self.0.headers().as_ref().map(FieldTable::inner);
        let mut headers = headers.cloned().unwrap_or_default();
        for (name, time) in [(DUE_AT, due_at), (HOMELESS_SINCE, homeless_since)] {
            match time {
                Some(time) => headers.insert(name.into(), AMQPValue::LongString(rfc3339(time).into())),
                None => headers.remove(name),
            };
        }
        (*self.0).clone().with_headers(FieldTable::from(headers))
    }

    /// When the message was published, in milliseconds since 1970. Clients choose the integer's width themselves.
    pub(crate) fn published_at_ms(&self) -> Option<u64> {
        match *self.header(PUBLISHED_AT)? {
            AMQPValue::LongLongInt(ms) => u64::try_from(ms).ok(),
            AMQPValue::Timestamp(ms) => Some(ms),
            AMQPValue::Double(ms) if ms >= 0.0 => Some(ms as u64),
            AMQPValue::LongString(ref text) => std::str::from_utf8(text.as_bytes()).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// What a header says that is to be text.
    pub(crate) fn said(&self, name: &str) -> Option<&str> {
        self.text(name)
    }

    fn time(&self, name: &str) -> Option<SystemTime> {
        time(self.header(name)?)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        text(self.header(name)?)
    }

    pub(super) fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.0.headers().as_ref()?.inner().get(name)
    }
}

fn text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn time(value: &AMQPValue) -> Option<SystemTime> {
    humantime::parse_rfc3339(text(value)?).ok()
}

pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_read_whatever_their_type_and_nonsense_is_none() {
        for (value, attempts) in [
            (AMQPValue::ShortShortUInt(2), 2),
            (AMQPValue::LongInt(2), 2),
            (AMQPValue::LongLongInt(2), 2),
            (AMQPValue::LongString("2".into()), 2),
            (AMQPValue::LongString("two".into()), 0),
            (AMQPValue::LongLongInt(-1), 0),
            (AMQPValue::LongLongInt(i64::MAX), 0),
            (AMQPValue::Boolean(true), 0),
        ] {
            let mut headers = FieldTable::default();
            headers.insert(ATTEMPTS.into(), value.clone());
            headers.insert(FIRST_FAILED_AT.into(), value.clone());
            let envelope = Envelope::from(BasicProperties::default().with_headers(headers));
            assert_eq!(
                (envelope.attempts(), envelope.first_failed_at()),
                (attempts, None),
                "{value:?}"
            );
        }
        assert_eq!(Envelope::default().attempts(), 0);
    }
}
