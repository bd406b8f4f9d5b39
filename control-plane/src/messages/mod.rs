//! Messages: publishing them to a tenant's queue, reading back what was stored, following what is.

mod follow;
mod publish;
mod read;

pub(crate) use self::{
    follow::{Feed, Tails},
    publish::{MESSAGES_MAX, NewMessage, Publishing},
    read::{Ask, Filter, Message, Order, PAGE_BYTES_MAX, Reading},
};
