//! Credentials: a tenant's programs have an id and a secret each, and buy tokens with them.
//!
//! [`model`] says what will do, `store` is the SQL, [`Credentials`] is what callers ask. What a secret's hash costs is
//! bounded by `hashing`, `logins` are their users at RabbitMQ, and [`revocations`] keeps in mind whose tokens are not good any more.

mod hashing;
mod logins;
pub(crate) mod model;
pub(crate) mod revocations;
mod service;
mod store;
mod turns;

pub(crate) use self::{
    hashing::Hashing,
    logins::{Login, Logins},
    model::{Credential, NewCredential, Role},
    service::{Created, Credentials, Token},
};
