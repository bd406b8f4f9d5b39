//! Storing runs of many tenants in one transaction.
//!
//! A shard hands its [`Committer`] one [`Commit`] at a time and gets an [`Outcome`] back: what is stored, what
//! PostgreSQL refused, and what is to be tried again. [`pass`] decides how a commit that failed is taken apart so
//! that only what is to blame is left out, [`blame`] what is to blame, [`patience`] how long that may take; what goes
//! into a commit is [`flow`](crate::flow)'s. Whoever fails in a commit that others share is under suspicion, and is
//! tried alone by a committer that only suspects use, behind the [`gate`]. [`store`] keeps a [`session`], which says the
//! [`statements`].

mod blame;
mod committer;
mod failure;
mod gate;
mod pass;
mod patience;
mod session;
mod statements;
mod store;

use std::time::Duration;

use common::id::TenantId;

pub(crate) use self::{
    committer::{Committer, Handle},
    gate::Gate,
};
use crate::delivery::Message;

/// What is to be stored in one transaction.
#[derive(Debug)]
pub(crate) struct Commit {
    /// The life of the shard's channel that the delivery tags belong to.
    pub(crate) generation: u64,
    /// What is to be stored, by tenant.
    pub(crate) portions: Vec<Portion>,
}

/// One tenant's messages in a commit, in the order in which they get their positions.
#[derive(Debug)]
pub(crate) struct Portion {
    /// The tenant.
    pub(crate) tenant: TenantId,
    /// The messages.
    pub(crate) messages: Vec<Message>,
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// As in the commit.
    pub(crate) generation: u64,
    /// What became of each portion.
    pub(crate) settled: Vec<Settled>,
    /// Why nothing could be stored any more, if so.
    pub(crate) outage: Option<String>,
    /// How long it took, without any wait at the gate: what is merely slow is no company for others either.
    pub(crate) took: Duration,
}

/// What became of one tenant's messages.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The tenant.
    pub(crate) tenant: TenantId,
    /// Stored now, or before: to be acknowledged.
    pub(crate) stored: Vec<Message>,
    /// How many of them had been stored before.
    pub(crate) duplicates: usize,
    /// Refused alone, and why.
    pub(crate) refused: Vec<(Message, String)>,
    /// To be tried again, in order; no attempt is counted.
    pub(crate) back: Vec<Message>,
    /// Why the tenant is to be left alone for a moment.
    pub(crate) hold: Option<Hold>,
}

/// Why a tenant is left alone for a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Its position counter is locked by another daemon's commit.
    Busy,
    /// It was alone in what failed or was slow, in a commit of several or a shared one: the suspects' committer is to
    /// try it alone. Nothing is known against it before.
    Suspected,
    /// Its table cannot be written.
    Unwritable(String),
    /// Its run was taken apart for long enough; the rest comes later.
    Unfinished,
}
