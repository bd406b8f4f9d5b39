//! How much flows: how many messages a lane may hold, whether to commit now or to gather, how many rows of whom. Pure.
//!
//! [`Policy`] answers these from what is [`known`] of a lane's messages and of a shard's; every number that it goes by
//! stands in one place, since they bind each other. The simulation in the shard's tests shows where it settles.

mod known;
mod policy;
mod throttle;

pub(crate) use self::{known::Traffic, policy::*, throttle::Throttle};
