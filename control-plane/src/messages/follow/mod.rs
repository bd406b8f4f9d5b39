//! Following: everything behind a cursor, and then what is stored, as it is stored.
//!
//! ```text
//! positions ─ counters ─► tail of a tenant ─ what is new, read once ─► its followers
//! messages ──────────────── pages of their own ──────────────────────► whoever is behind
//! ```
//!
//! One task a process looks at the counters of the tenants that are followed. Where one moved, the tenant's tail reads
//! what is new and shows it to all its followers; a follower that has seen everything before it takes that, and any other
//! reads pages of its own until it has. So nothing is queued for anybody: a follower that does not read costs what it
//! holds, and holds no connection.

mod counters;
mod feed;
mod tails;

pub(crate) use self::{feed::Feed, tails::Tails};
