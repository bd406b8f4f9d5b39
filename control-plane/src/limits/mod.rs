//! What a tenant may use: how fast it may publish and be stored, and how much of it may wait.
//!
//! [`model`] checks, [`store`] is the SQL, [`Limiting`] is what callers ask. The limits are columns of the tenant's row,
//! which publishing reads anyhow: what [`publishing`] is told with every call is what holds then. What may wait is the
//! broker's to refuse, which [`backlog`] tells it. What one caller may do, whosever it is, is [`callers`]'.

mod backlog;
mod callers;
mod model;
mod publishing;
mod service;
mod store;

pub(crate) use self::{
    backlog::Backlogs,
    callers::{Callers, Kind},
    model::Limits,
    publishing::{PublishRates, TooFast},
    service::Limiting,
};
