//! RabbitMQ, as the daemon uses it: the only module that knows lapin.
//!
//! A [`Wire`] is one shard's channel with its consumers; a [`Publisher`] puts what failed into dead-letter and
//! delay queues, and [`Returns`] brings it back from these, each on a connection of its own; an [`Envelope`] is a
//! message's properties.

mod delays;
mod envelope;
mod letter;
mod publisher;
mod registration;
mod returns;
mod wire;

pub(crate) use common::broker::publisher::Error as PublishError;

pub(crate) use self::{
    delays::Delays,
    envelope::Envelope,
    publisher::Publisher,
    registration::Trial,
    returns::Returns,
    wire::{Event, Loss, Wire},
};
