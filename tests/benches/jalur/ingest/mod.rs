//! What becomes of messages.

pub(crate) mod beside;
pub(crate) mod latency;
pub(crate) mod noise;
pub(crate) mod one;
pub(crate) mod pages;
pub(crate) mod retention;
pub(crate) mod spread;
pub(crate) mod traces;
pub(crate) mod workers;
