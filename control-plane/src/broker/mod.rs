//! RabbitMQ, as the control plane uses it: tenants' queues, publishing to them, and their dead letters; and its management
//! API and Prometheus plugin, for what AMQP has no words for.

mod dead_letters;
mod endpoint;
mod exposition;
mod holding;
mod in_hand;
mod letter;
pub(crate) mod management;
pub(crate) mod plugin;
mod publisher;
mod queues;
mod reader;
mod refusal;
mod span;
mod table;
mod told;

pub(crate) use self::{
    dead_letters::DeadLetterQueues,
    letter::Letter,
    publisher::{Outgoing, Publisher},
    queues::{Depth, Error as QueueError, Queues},
    reader::{Reader, Tag},
    told::Told,
};
