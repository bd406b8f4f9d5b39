//! What a lane's consumer brings. Pure.

use std::time::Duration;

use common::{broker::Verdict, id::TenantId};

use super::{Lane, Trouble, trouble::Kind};
use crate::{clock::Now, delivery::Delivery};

/// A message waits until there is room for it: the one before is stored, or a letter.
const ROOM_MIN: Duration = Duration::from_millis(100);
const ROOM_MAX: Duration = Duration::from_secs(2);

/// There is no room for what comes; not at first.
pub(super) const fn room() -> Trouble {
    Trouble::none(Kind::Delivery, ROOM_MIN, ROOM_MAX)
}

impl Lane {
    /// Deliveries came: messages to be stored, letters of those that never can be. Answers whether there was room for
    /// all of them. What there was none for came without its body: it goes back once nothing comes any more, and comes
    /// again later.
    pub(crate) fn take_in(
        &mut self,
        tenant: TenantId,
        deliveries: Vec<Delivery>,
        message_bytes_max: usize,
        now: Now,
    ) -> bool {
        self.silence.broken(now.instant);
        let mut no_room = None;
        for delivery in deliveries {
            if let Some(Verdict::Deferred { bytes }) = delivery.verdict {
                no_room = Some(bytes);
                self.buffer.came_bodiless(delivery.tag, bytes, now.instant);
                continue;
            }
            self.buffer.came(delivery.bytes(), now.instant);
            match delivery.decode(tenant, message_bytes_max, now.time) {
                Ok(message) => self.buffer.push(message),
                Err(letter) => self.outbox.push(letter),
            }
        }
        let Some(bytes) = no_room else {
            self.room.end();
            return true;
        };
        if !self.room.holds(now.instant) {
            let why = format!(
                "a message of {bytes} bytes waits until there is room for it within ingest.prefetch_bytes; those that \
                 are larger than that are taken one after the other"
            );
            self.room.fail(&why, now);
        }
        false
    }
}
