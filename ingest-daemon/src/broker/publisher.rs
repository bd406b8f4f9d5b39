//! Publishing what failed, on a connection of its own: what blocks or closes it never touches the consumers.

use std::sync::Arc;

use common::{
    broker::{
        Broker,
        publisher::{self, Error, Message, Route},
    },
    id::TenantId,
};
use tokio::sync::Semaphore;

use super::{
    delays::{self, Delays},
    letter,
};
use crate::{
    delivery::{Destination, Letter},
    retry::Waiting,
};

/// How many letters are under way at once. Each waits for the broker's disk, some milliseconds.
const LETTERS_MAX: usize = 64;
/// What of their bodies is: the client and the socket hold a copy each. A larger one goes alone.
const KILOBYTES_MAX: u32 = 16 << 10;

/// Publishes to dead-letter and delay queues; shared by the shards.
///
/// A letter is waited for until the broker confirms it or the connection ends: sent again after a time, it would be
/// there twice.
#[derive(Debug)]
pub(crate) struct Publisher {
    broker: Broker,
    publisher: publisher::Publisher,
    delays: Arc<Delays>,
    waiting: Arc<Waiting>,
    kilobytes: Semaphore,
}

impl Publisher {
    pub(crate) fn new(broker: Broker, delays: Arc<Delays>, waiting: Arc<Waiting>) -> Self {
        Self {
            publisher: publisher::Publisher::new(broker.clone(), LETTERS_MAX, None),
            broker,
            delays,
            waiting,
            kilobytes: Semaphore::new(KILOBYTES_MAX as usize),
        }
    }

    /// Publishes a letter to where it is to go. `Ok` once the broker has it safe.
    pub(crate) async fn publish(&self, tenant: TenantId, letter: &Letter) -> Result<(), Error> {
        let kilobytes = u32::try_from(letter.body.len() >> 10).unwrap_or(u32::MAX);
        // It is never closed.
        let _room = self
            .kilobytes
            .acquire_many(kilobytes.clamp(1, KILOBYTES_MAX))
            .await;
        let route = match letter.to {
            Destination::DeadLetters => Route::queue(tenant.dead_letter_queue()),
            Destination::Delay(delay) => {
                self.delays.declare(&self.broker.current()?).await?;
                Route {
                    exchange: delays::name(delay),
                    key: tenant.queue(),
                }
            }
        };
        let message = Message {
            body: letter.body.as_slice().into(),
            properties: letter::properties(letter),
        };
        let published = self.publisher.publish(&route, vec![message]).await;
        match (&published, letter.to) {
            // Before its delivery is acknowledged.
            (Ok(()), Destination::Delay(delay)) => {
                self.waiting.add(tenant, delay, letter.failed + delay).await;
            }
            // Somebody deleted the delay's queue: the next letter declares it again.
            (Err(Error::Unroutable(_)), Destination::Delay(_)) => self.delays.missing().await,
            _ => {}
        }
        published
    }
}
