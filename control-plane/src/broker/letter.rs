//! A dead letter: what its headers say, and the message that it was.
//!
//! Headers are outside input: somebody else may have put the message there. What is missing or unreadable is absent.

use std::{borrow::Cow, collections::BTreeMap};

use common::{
    broker::{Held, headers},
    id::TenantId,
    reason::Reason,
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{Outgoing, Tag};

/// The id that stays with a message.
const ID: &str = "x-jalur-id";
/// What starts the names of our headers.
const OURS: &str = "x-jalur-";
/// Of our headers, those that are the message's and not its failures': they stay in a replay. All but the first two are
/// what had to be put aside when it became a dead letter.
const KEPT: [&str; 7] = [
    ID,
    "x-jalur-published-at",
    "x-jalur-cc",
    "x-jalur-bcc",
    "x-jalur-user-id",
    "x-jalur-expiration",
    "x-jalur-reply-to",
];
/// How often a quorum queue has given a message out before; it says so when that is not never.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// What a quorum queue adds to each delivery: it is the delivery's and not the message's, and another the next time.
const DELIVERIES: [&str; 2] = [DELIVERY_COUNT, "x-acquired-count"];
/// What starts the names of the broker's headers about a message's way over delay queues.
const WAYS: [&str; 3] = ["x-death", "x-first-death-", "x-last-death-"];

/// A dead letter, as it lies in its queue.
#[derive(Debug)]
pub(crate) struct Letter {
    /// Which one it is, for whoever is done with it.
    pub(crate) tag: Tag,
    /// The message's body.
    pub(crate) body: Vec<u8>,
    properties: BasicProperties,
    /// The memory that is counted for it.
    pub(super) held: Held,
}

impl Letter {
    pub(super) fn new(tag: Tag, body: Vec<u8>, properties: BasicProperties, held: Held) -> Self {
        Self {
            tag,
            body,
            properties,
            held,
        }
    }

    /// The message's id: the one it carries, or else the one that its `message_id` gives it; an empty one says nothing.
    /// The daemons read it in the same way.
    pub(crate) fn id(&self, tenant: TenantId) -> Option<Uuid> {
        let carried = self.text(ID).and_then(|id| Uuid::try_parse(&id).ok());
        carried.or_else(|| {
            let message_id = self.properties.message_id().as_ref()?.as_str();
            (!message_id.is_empty()).then(|| tenant.message_id(message_id))
        })
    }

    /// Why it failed, in a word.
    pub(crate) fn reason(&self) -> Reason {
        let said = self.text("x-jalur-reason");
        said.and_then(|word| Reason::named(&word))
            .unwrap_or(Reason::Unknown)
    }

    /// What tells it from others, whenever it is read.
    pub(crate) fn mark(&self, tenant: TenantId) -> u64 {
        let id = self.id(tenant);
        let id = id.unwrap_or_else(|| Uuid::new_v5(&tenant.0, &self.body));
        let time = |name: &str| self.text(name).unwrap_or_default();
        let said = format!("{id} {} {}", self.reason().as_str(), time("x-jalur-failed-at"));
        Uuid::new_v5(&tenant.0, said.as_bytes()).as_u64_pair().0
    }

    /// The message's headers as they lie here; reading them does not change them.
    pub(crate) fn headers(&self) -> BTreeMap<ShortString, AMQPValue> {
        let headers = self.properties.headers().as_ref();
        let mut headers = headers.map(|headers| headers.inner().clone()).unwrap_or_default();
        headers.retain(|name, _| !DELIVERIES.contains(&name.as_str()));
        headers
    }

    /// Why it failed, for a person.
    pub(crate) fn detail(&self) -> Option<String> {
        self.text("x-jalur-detail").map(Cow::into_owned)
    }

    /// How often it was tried.
    pub(crate) fn attempts(&self) -> Option<u32> {
        match *self.header("x-jalur-attempts")? {
            AMQPValue::LongLongInt(attempts) => u32::try_from(attempts).ok(),
            AMQPValue::LongInt(attempts) => u32::try_from(attempts).ok(),
            AMQPValue::LongUInt(attempts) => Some(attempts),
            AMQPValue::ShortInt(attempts) => u32::try_from(attempts).ok(),
            AMQPValue::ShortShortInt(attempts) => u32::try_from(attempts).ok(),
            _ => None,
        }
    }

    /// When it failed first.
    pub(crate) fn first_failed_at(&self) -> Option<OffsetDateTime> {
        self.time("x-jalur-first-failed-at")
    }

    /// When it failed for good.
    pub(crate) fn failed_at(&self) -> Option<OffsetDateTime> {
        self.time("x-jalur-failed-at")
    }

    /// Whether it says of itself that a quorum queue has given it out before.
    pub(super) fn is_of_a_quorum_queue(&self) -> bool {
        self.header(DELIVERY_COUNT).is_some()
    }

    /// The message that it was, with `id` to stay with it and none of its failures.
    pub(crate) fn replay(self, id: Uuid) -> Outgoing {
        let mut headers = self.headers();
        headers.retain(|name, _| {
            let name = name.as_str();
            // Sender-selected distribution would route a copy to each of these.
            let multiplies = matches!(name, "CC" | "BCC");
            let of_failures = name.starts_with(OURS) && !KEPT.contains(&name);
            !multiplies && !of_failures && !WAYS.iter().any(|way| name.starts_with(way))
        });
        // Somebody else may have put it here, with more than goes into a frame beside the id.
        headers::fit(&mut headers);
        headers.insert(ID.into(), AMQPValue::LongString(id.to_string().into()));

        let came = &self.properties;
        let mut properties = headers::lasting(came).with_headers(FieldTable::from(headers));
        if let Some(reply_to) = came.reply_to() {
            properties = properties.with_reply_to(reply_to.clone());
        }
        Outgoing {
            held: self.held,
            ..Outgoing::with_properties(self.body, properties)
        }
    }

    fn time(&self, name: &str) -> Option<OffsetDateTime> {
        let time = OffsetDateTime::parse(&self.text(name)?, &Rfc3339).ok()?;
        // The years that a protobuf's time has.
        (1..=9999).contains(&time.to_utc().year()).then_some(time)
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.header(name)? {
            AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes())),
            AMQPValue::ShortString(text) => Some(text.as_str().into()),
            _ => None,
        }
    }

    fn header(&self, name: &str) -> Option<&AMQPValue> {
        let headers = self.properties.headers().as_ref()?;
        headers.inner().get(&ShortString::from(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId(Uuid::from_u128(1));
    const CARRIED: Uuid = Uuid::from_u128(2);

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn letter(headers: &[(&str, AMQPValue)], properties: BasicProperties) -> Letter {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), value.clone());
        }
        Letter::new(
            Tag::any(),
            b"body".to_vec(),
            properties.with_headers(table),
            Held::default(),
        )
    }

    #[test]
    fn what_the_headers_say_is_read() {
        let letter = letter(
            &[
                (ID, text(&CARRIED.to_string())),
                ("x-jalur-reason", text("not_json")),
                ("x-jalur-attempts", AMQPValue::LongLongInt(5)),
                ("x-jalur-failed-at", text("2026-01-31T12:00:00.250Z")),
            ],
            BasicProperties::default().with_message_id("other".into()),
        );
        assert_eq!(letter.id(TENANT), Some(CARRIED));
        assert_eq!(letter.reason(), Reason::NotJson);
        assert_eq!((letter.detail(), letter.attempts()), (None, Some(5)));
        assert_eq!(letter.failed_at().unwrap().unix_timestamp(), 1_769_860_800);
    }

    #[test]
    fn what_is_no_header_of_ours_is_absent() {
        let unreadable = letter(
            &[
                (ID, text("no uuid")),
                ("x-jalur-reason", AMQPValue::Boolean(true)),
                ("x-jalur-attempts", AMQPValue::LongLongInt(-1)),
                ("x-jalur-first-failed-at", text("yesterday")),
                ("x-jalur-failed-at", text("0000-01-01T00:00:00Z")),
            ],
            BasicProperties::default(),
        );
        let bare = Letter::new(
            Tag::any(),
            Vec::new(),
            BasicProperties::default().with_message_id("".into()),
            Held::default(),
        );
        for letter in [unreadable, bare] {
            assert_eq!(letter.id(TENANT), None);
            assert_eq!((letter.reason(), letter.attempts()), (Reason::Unknown, None));
            assert_eq!((letter.first_failed_at(), letter.failed_at()), (None, None));
        }
    }

    #[test]
    fn a_mark_tells_letters_apart_and_not_their_deliveries() {
        let with = |id: u128, failed_at: &str, redelivered: i64| {
            let headers = [
                (ID, text(&Uuid::from_u128(id).to_string())),
                ("x-jalur-failed-at", text(failed_at)),
                (DELIVERY_COUNT, AMQPValue::LongLongInt(redelivered)),
            ];
            letter(&headers, BasicProperties::default()).mark(TENANT)
        };
        assert_eq!(with(1, "now", 0), with(1, "now", 7));
        assert_ne!(with(1, "now", 0), with(2, "now", 0));
        assert_ne!(with(1, "now", 0), with(1, "later", 0), "it failed again");
        let bare = |body: &[u8]| {
            let letter = Letter::new(
                Tag::any(),
                body.to_vec(),
                BasicProperties::default(),
                Held::default(),
            );
            letter.mark(TENANT)
        };
        assert_ne!(bare(b"a"), bare(b"b"));
    }

    #[test]
    fn an_id_is_derived_from_another_message_id() {
        let properties = BasicProperties::default().with_message_id("order-1".into());
        let letter = letter(&[(ID, text("no uuid"))], properties);
        assert_eq!(letter.id(TENANT), Some(TENANT.message_id("order-1")));
    }

    #[test]
    fn a_replay_is_the_message_without_its_failures() {
        let letter = letter(
            &[
                ("x-jalur-reason", text("refused")),
                ("x-jalur-attempts", AMQPValue::LongLongInt(5)),
                ("x-jalur-user-id", text("alice")),
                ("x-death", AMQPValue::Void),
                ("x-delivery-count", AMQPValue::LongLongInt(2)),
                ("CC", AMQPValue::Void),
                ("mine", AMQPValue::Boolean(true)),
            ],
            BasicProperties::default()
                .with_message_id("order-1".into())
                .with_user_id("bob".into())
                .with_expiration("1".into())
                .with_type("t".into()),
        );
        let shown: Vec<_> = letter.headers().into_keys().collect();
        assert!(
            !shown.iter().any(|name| name.as_str() == DELIVERY_COUNT),
            "{shown:?}"
        );
        assert_eq!(shown.len(), 6, "all others: {shown:?}");
        let sent = letter.replay(CARRIED);
        assert_eq!(sent.body, b"body");
        let properties = sent.properties;
        let headers = properties.headers().clone().unwrap();
        let names: Vec<_> = headers.inner().keys().map(ShortString::as_str).collect();
        assert_eq!(names, ["mine", ID, "x-jalur-user-id"]);
        assert_eq!(headers.inner().get(ID), Some(&text(&CARRIED.to_string())));
        assert!(properties.user_id().is_none() && properties.expiration().is_none());
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "order-1");
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "t");
        assert_eq!(*properties.delivery_mode(), Some(2));
    }
}
