//! Dead letters: read, sent again, deleted.
//!
//! Whoever reads a dead-letter queue holds what it has read until it gives it back, and nobody else sees that
//! meanwhile. So the calls on one tenant's queue take turns ([`turn`]), on all control planes.

mod pace;
mod paging;
mod place;
mod selection;
mod service;
mod taking;
mod turn;

pub(crate) use self::{
    pace::PerSecond,
    paging::Token,
    selection::{Selection, reason},
    service::{DeadLetters, Taken},
};
