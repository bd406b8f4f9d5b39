//! RabbitMQ, as the control plane uses it: tenants' queues and publishing to them.

mod publisher;
mod queues;

pub(crate) use self::{
    publisher::{Outgoing, Publisher},
    queues::{Depth, Queues},
};
