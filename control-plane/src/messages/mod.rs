//! Messages: publishing them to a tenant's queue, reading back what was stored.

mod publish;
mod read;

pub(crate) use self::{
    publish::{MESSAGES_MAX, NewMessage, Publishing},
    read::{Message, Reading},
};
