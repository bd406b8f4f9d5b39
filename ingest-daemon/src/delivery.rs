//! From a delivery to a message that can be stored, or to a letter that says what failed. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{
    broker::{Held, Verdict},
    id::TenantId,
    payload,
    reason::Reason,
};
use uuid::Uuid;

use crate::{broker::Envelope, retry::Policy};

/// A letter's headers travel in one frame, and what is longer helps nobody.
const DETAIL_BYTES_MAX: usize = 1_000;

/// A delivery as the broker made it.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Its tag on the shard's channel.
    pub(crate) tag: u64,
    /// Its body.
    pub(crate) body: Vec<u8>,
    /// Its properties.
    pub(crate) envelope: Envelope,
    /// Its share of the memory.
    pub(crate) held: Held,
    /// What is wrong with it.
    pub(crate) verdict: Option<Verdict>,
}

/// A message that is to be stored.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its delivery tag.
    pub(crate) tag: u64,
    /// Its id, which stays with it.
    pub(crate) id: Uuid,
    /// Its body: JSON that PostgreSQL can hold.
    pub(crate) payload: String,
    /// When it was published, or else delivered: what its latency counts from.
    pub(crate) since: SystemTime,
    /// When it was delivered.
    pub(crate) taken: SystemTime,
    /// How often PostgreSQL has refused it.
    pub(crate) attempts: u32,
    /// When that was first.
    pub(crate) first_failed: Option<SystemTime>,
    /// Its properties, for the letter that it may become.
    pub(crate) envelope: Envelope,
    /// Its share of the memory.
    pub(crate) held: Held,
}

/// Where a message that failed goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// It failed for good: its tenant's dead-letter queue.
    DeadLetters,
    /// It is tried again: the queue of this delay.
    Delay(Duration),
}

/// A message that failed, to be published before its delivery is acknowledged.
#[derive(Debug)]
pub(crate) struct Letter {
    /// Its delivery tag.
    pub(crate) tag: u64,
    /// Its id.
    pub(crate) id: Uuid,
    /// Its body as it came.
    pub(crate) body: Vec<u8>,
    /// Its properties as they came.
    pub(crate) envelope: Envelope,
    /// Where it goes.
    pub(crate) to: Destination,
    /// Why, in a word that programs can match on.
    pub(crate) reason: Reason,
    /// Why, for a person.
    pub(crate) detail: String,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// When it failed first.
    pub(crate) first_failed: SystemTime,
    /// When it failed last.
    pub(crate) failed: SystemTime,
    /// Its share of the memory.
    pub(crate) held: Held,
}

impl Delivery {
    /// How much it takes, beside what every delivery does: headers can be heavier than any body.
    pub(crate) fn bytes(&self) -> usize {
        let held = usize::try_from(self.held.bytes()).unwrap_or(usize::MAX);
        self.body.len().max(held)
    }

    /// Reads the delivery, which came at `now`. A body that can never be stored makes a dead letter of it; the box
    /// keeps the good case small.
    pub(crate) fn decode(
        self,
        tenant: TenantId,
        bytes_max: usize,
        now: SystemTime,
    ) -> Result<Message, Box<Letter>> {
        let attempts = self.envelope.attempts();
        let first_failed = match attempts {
            0 => None,
            _ => self.envelope.first_failed_at(),
        };
        let dead = |id, body, envelope, held, reason, detail| {
            Box::new(Letter {
                tag: self.tag,
                id,
                body,
                envelope,
                to: Destination::DeadLetters,
                reason,
                detail,
                attempts: attempts.saturating_add(1),
                first_failed: first_failed.unwrap_or(now),
                failed: now,
                held,
            })
        };
        if let Some(Verdict::Unreadable(detail)) = self.verdict {
            // What stands there is the same whenever it comes again.
            let id = tenant.message_id(&detail);
            let reason = Reason::Unreadable;
            return Err(dead(id, self.body, self.envelope, self.held, reason, detail));
        }
        let id = identify(tenant, self.envelope.id(), self.envelope.message_id());
        let (error, body) = match payload::check(&self.body, bytes_max) {
            Ok(_) => match String::from_utf8(self.body) {
                Ok(payload) => {
                    return Ok(Message {
                        tag: self.tag,
                        id,
                        payload,
                        since: self.envelope.published_at_ms().and_then(at_ms).unwrap_or(now),
                        taken: now,
                        attempts,
                        first_failed,
                        envelope: self.envelope,
                        held: self.held,
                    });
                }
                // The check has looked at that already; it is answered all the same.
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    (payload::Error::NotUtf8 { at }, error.into_bytes())
                }
            },
            Err(error) => (error, self.body),
        };
        let (reason, detail) = (Reason::from(&error), error.to_string());
        Err(dead(id, body, self.envelope, self.held, reason, detail))
    }
}

impl Message {
    /// PostgreSQL refused the message, once more: the letter that is tried again later, or is dead.
    pub(crate) fn refused(self, detail: String, retry: &Policy, now: SystemTime) -> Letter {
        let attempts = self.attempts.saturating_add(1);
        Letter {
            tag: self.tag,
            id: self.id,
            body: self.payload.into_bytes(),
            envelope: self.envelope,
            to: retry.after(attempts),
            reason: Reason::Refused,
            detail: brief(detail),
            attempts,
            first_failed: self.first_failed.unwrap_or(now),
            failed: now,
            held: self.held,
        }
    }
}

/// What a letter and the log say of a failure: a trigger's words may be of any length.
fn brief(mut detail: String) -> String {
    if detail.len() > DETAIL_BYTES_MAX {
        detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
        detail.push('…');
    }
    detail
}

/// The message's id: the one that it carries from an earlier time, else what its `message_id` says, else a new one.
/// An empty `message_id` says nothing: clients send it for want of one.
fn identify(tenant: TenantId, carried: Option<&str>, message_id: Option<&str>) -> Uuid {
    carried
        .and_then(|id| Uuid::try_parse(id).ok())
        .or_else(|| {
            message_id
                .filter(|id| !id.is_empty())
                .map(|id| tenant.message_id(id))
        })
        // In order of time: such keys are cheaper to index.
        .unwrap_or_else(Uuid::now_v7)
}

fn at_ms(ms: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId(Uuid::from_u128(1));

    fn decode(body: &[u8]) -> Result<Message, Box<Letter>> {
        let delivery = Delivery {
            tag: 7,
            body: body.to_vec(),
            envelope: Envelope::default(),
            held: Held::default(),
            verdict: None,
        };
        delivery.decode(TENANT, 100, UNIX_EPOCH)
    }

    #[test]
    fn the_id_a_message_carries_wins_over_its_message_id() {
        let id = Uuid::from_u128(9).to_string();
        assert_eq!(identify(TENANT, Some(&id), Some("order-1")), Uuid::from_u128(9));
        assert_eq!(
            identify(TENANT, Some("x"), Some("order-1")),
            TENANT.message_id("order-1")
        );
        assert_eq!(identify(TENANT, None, Some(&id)), Uuid::from_u128(9));
        assert_ne!(identify(TENANT, None, None), identify(TENANT, None, None));
        assert_ne!(identify(TENANT, None, Some("")), identify(TENANT, None, Some("")));
    }

    #[test]
    fn a_good_body_stays_as_it_is() {
        let message = decode(b" {\"a\": 1.50}").unwrap();
        assert_eq!((message.tag, message.payload.as_str()), (7, " {\"a\": 1.50}"));
        assert_eq!(message.since, UNIX_EPOCH);
    }

    #[test]
    fn a_message_that_cannot_be_told_from_others_is_a_dead_letter_under_one_id() {
        let decode = || {
            let delivery = Delivery {
                tag: 7,
                body: b"1".to_vec(),
                envelope: Envelope::default(),
                held: Held::default(),
                verdict: Some(Verdict::Unreadable("message_id cannot be read: ff".into())),
            };
            delivery.decode(TENANT, 100, UNIX_EPOCH).unwrap_err()
        };
        let letter = decode();
        assert_eq!(
            (letter.reason, letter.body.as_slice()),
            (Reason::Unreadable, &b"1"[..])
        );
        assert!(letter.detail.contains("message_id"));
        assert_eq!(letter.id, decode().id);
    }

    #[test]
    fn what_is_said_of_a_failure_is_short() {
        let letter = decode(b"1")
            .unwrap()
            .refused("ä".repeat(100_000), &Policy::new(&[]), UNIX_EPOCH);
        assert_eq!(letter.detail, format!("{}…", "ä".repeat(500)));
    }

    #[test]
    fn a_bad_body_is_a_dead_letter_with_its_bytes_and_a_reason() {
        for (body, reason) in [
            (&b"{"[..], Reason::NotJson),
            (b"\xff", Reason::NotJson),
            (b"", Reason::NotJson),
            (br#""\u0000""#, Reason::NotStorable),
            (&[b'1'; 101], Reason::TooLarge),
        ] {
            let letter = decode(body).unwrap_err();
            assert_eq!((letter.reason, letter.body.as_slice()), (reason, body));
            assert_eq!((letter.attempts, letter.tag), (1, 7));
        }
    }
}
