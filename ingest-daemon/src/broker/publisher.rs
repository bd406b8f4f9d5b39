//! Publishing what failed, on a connection of its own: what blocks or closes it never touches the consumers.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use common::{
    broker::{
        Broker, Link,
        publisher::{self, Error, Message, Route},
    },
    config::QueueType,
    id::TenantId,
};
use tokio::sync::Semaphore;

use super::{delays, letter};
use crate::{
    delivery::{Destination, Letter},
    retry::Policy,
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
    retry: Policy,
    /// What delay queues are.
    queue_type: QueueType,
    kilobytes: Semaphore,
    /// The connection on which the delay queues were declared.
    declared: Mutex<Weak<Link>>,
}

impl Publisher {
    pub(crate) fn new(broker: Broker, retry: Policy, queue_type: QueueType) -> Self {
        Self {
            publisher: publisher::Publisher::new(broker.clone(), LETTERS_MAX, None),
            broker,
            retry,
            queue_type,
            kilobytes: Semaphore::new(KILOBYTES_MAX as usize),
            declared: Mutex::default(),
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
                self.declare().await?;
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
        if let (Err(Error::Unroutable(_)), Destination::Delay(_)) = (&published, letter.to) {
            // Somebody deleted the delay's queue: the next letter declares it again.
            *self.declared() = Weak::new();
        }
        published
    }

    /// Declares the delay queues, once a connection.
    async fn declare(&self) -> Result<(), Error> {
        let link = self.broker.current()?;
        if !std::ptr::eq(self.declared().as_ptr(), Arc::as_ptr(&link)) {
            // Several letters may do so at once; the second finds them there.
            delays::declare(&link, self.retry.delays(), self.queue_type).await?;
            *self.declared() = Arc::downgrade(&link);
        }
        Ok(())
    }

    /// Locked for a moment at a time, and never while anything is awaited.
    fn declared(&self) -> std::sync::MutexGuard<'_, Weak<Link>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
