//! How fast a fleet follows what is asked of it, and what happens to it.

pub(crate) mod crowd;
pub(crate) mod failover;
pub(crate) mod growth;
pub(crate) mod moves;
pub(crate) mod propagation;
pub(crate) mod reconnect;
