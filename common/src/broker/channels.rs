//! Channels, a call each: what the broker objects to closes the channel, and then it was the call's own.
//!
//! Channels are opened when they are needed and kept for the next call. None is shared: a channel's errors, and the
//! confirms and returns of what is published on it, say nothing about whose they are.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lapin::{
    BasicProperties, Channel,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Broker, Error, Link, within};

/// A routing key that no queue has: what is published with it to the default exchange is dropped.
const NOWHERE: &str = "jalur.nowhere";

/// What a pool's channels are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Declaring, deleting, counting.
    Asking,
    /// Publishing with confirms.
    Publishing,
}

/// Up to a number of channels of one connection.
#[derive(Clone, Debug)]
pub struct Channels {
    broker: Broker,
    purpose: Purpose,
    idle: Arc<Mutex<Vec<Open>>>,
    free: Arc<Semaphore>,
}

/// A channel, and the connection that it is of.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) link: Arc<Link>,
    pub(super) channel: Channel,
}

impl Channels {
    /// No more than `channels_max` at once.
    pub fn new(broker: Broker, purpose: Purpose, channels_max: usize) -> Self {
        Self {
            broker,
            purpose,
            idle: Arc::default(),
            free: Arc::new(Semaphore::new(channels_max)),
        }
    }

    /// Whether a call could be made now: the connection, or why there is no use in waiting.
    pub(super) fn ready(&self) -> Result<Arc<Link>, Error> {
        let link = self.broker.current()?;
        if self.purpose == Purpose::Publishing && link.blocked() {
            return Err(Error::Blocked);
        }
        Ok(link)
    }

    /// A channel for one call. Without a connection the answer is an error at once, and so it is for what publishes
    /// while the broker takes no messages; a call waits only for other calls, and not when one of those comes true.
    pub async fn take(&self) -> Result<Lease, Error> {
        let link = self.ready()?;
        let free = Arc::clone(&self.free).acquire_owned();
        let permit = tokio::select! {
            biased;
            away = link.gone() => return Err(away.into()),
            () = link.blocks(), if self.purpose == Purpose::Publishing => return Err(Error::Blocked),
            permit = free => permit.map_err(|_| Error::Down)?,
        };
        let open = match self.idle(&link) {
            Some(open) => open,
            None => self.open(link).await?,
        };
        Ok(Lease {
            open,
            idle: Arc::clone(&self.idle),
            _permit: permit,
        })
    }

    /// A channel that waits for its next call. Those of a connection that is gone are forgotten.
    fn idle(&self, link: &Arc<Link>) -> Option<Open> {
        let mut idle = lock(&self.idle);
        idle.retain(|open| Arc::ptr_eq(&open.link, link) && open.channel.status().connected());
        idle.pop()
    }

    async fn open(&self, link: Arc<Link>) -> Result<Open, Error> {
        let channel = tokio::select! {
            biased;
            away = link.gone() => return Err(away.into()),
            channel = link.channel() => channel?,
        };
        if self.purpose == Purpose::Publishing {
            // Only who publishes is told of an alarm, and from then on nothing more of his is read: so the first
            // thing to be published is nobody's, and it is read if what follows is answered.
            let probe = async {
                publish_nowhere(&channel).await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await
            };
            tokio::select! {
                biased;
                () = link.blocks() => return Err(Error::Blocked),
                away = link.gone() => return Err(away.into()),
                ready = within(probe) => ready?,
            }
        }
        Ok(Open { link, channel })
    }
}

/// A channel for one call. It goes back with [`done`](Self::done), once everything that was asked is answered; when it
/// is dropped without, it is closed.
#[derive(Debug)]
pub struct Lease {
    pub(super) open: Open,
    idle: Arc<Mutex<Vec<Open>>>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// The next call may have it.
    pub fn done(self) {
        lock(&self.idle).push(self.open.clone());
    }
}

impl Deref for Lease {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.open.channel
    }
}

/// Publishes nobody's message, and returns when it is sent.
pub(super) async fn publish_nowhere(channel: &Channel) -> lapin::Result<()> {
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    let sent = channel.basic_publish("".into(), NOWHERE.into(), options, &[], properties);
    sent.await.map(drop)
}

/// Held for a moment at a time, and never while anything is awaited.
fn lock(idle: &Mutex<Vec<Open>>) -> MutexGuard<'_, Vec<Open>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
