//! One call's channel, and its end.
//!
//! What was handed to the client cannot be taken back, and closing its channel is no way either: the client sends
//! what closes a channel before messages that still wait to be sent, and the broker then closes the connection for
//! those. So a call that gives up sends one thing more, nobody's message, behind its own: when that is sent all of
//! them are, and the channel can be closed. When the broker has said that it is, it has read everything and nothing
//! more comes of it. A broker that does not say so, or that has stopped reading, loses the connection, and with that
//! it drops what it has not read. (Tried, with a memory alarm on RabbitMQ 3.10: of what was sent on a connection that
//! was then cut nothing was published after the alarm, be it that the cut was 200 ms before its end.)

use std::time::Duration;

use lapin::Channel;
use tokio::{runtime::Handle, time::timeout};

use crate::broker::{
    Lease, Link,
    channels::{Open, publish_nowhere},
};

/// How long the broker may take to have read what a call has sent.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A call under way. Whatever becomes of it, nothing of it is published once it has ended.
#[derive(Debug)]
pub(super) struct Call {
    open: Open,
    /// Until the call has ended.
    lease: Option<Lease>,
}

impl Call {
    pub(super) fn of(lease: Lease) -> Self {
        Self {
            open: lease.open.clone(),
            lease: Some(lease),
        }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.open.channel
    }

    pub(super) fn link(&self) -> &Link {
        &self.open.link
    }

    /// Everything is answered: the next call may have the channel.
    pub(super) fn done(mut self) {
        if let Some(lease) = self.lease.take() {
            lease.done();
        }
    }

    /// Returns when nothing more comes of it.
    pub(super) async fn give_up(mut self) {
        if let Some(lease) = self.lease.take() {
            // A task of its own: it ends in good order even if the caller goes away meanwhile.
            let _ = tokio::spawn(end(lease)).await;
        }
    }
}

impl Drop for Call {
    /// Its caller is gone, and nobody waits.
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(end(lease))),
            Err(_) => lease.open.link.give_up(),
        }
    }
}

async fn end(lease: Lease) {
    let Open { link, channel } = &lease.open;
    if !channel.status().connected() {
        return;
    }
    let closed = async {
        publish_nowhere(channel).await?;
        channel.close(200, "given up".into()).await
    };
    // An error is the channel's end, too.
    let closed = !link.blocked() && timeout(CLOSE_MAX, closed).await.is_ok();
    if !closed {
        link.give_up();
    }
}
