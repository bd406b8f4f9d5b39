//! Tenants: their life from `creating` to `gone`, their partition and their queues.
//!
//! [`model`] decides, [`store`] and [`partition`] are the SQL, [`Tenants`] is what callers ask. What a tenant is to
//! have is made in one place, [`desired`], and the [`reconciler`] sees to it that it stays there.

mod desired;
mod filter;
mod missed;
pub(crate) mod model;
pub(crate) mod partition;
pub(crate) mod reconciler;
pub(crate) mod retrying;
mod service;
mod store;

pub(crate) use self::{
    filter::Filter,
    missed::Missed,
    model::{NewTenant, Status, Tenant, Update},
    service::{Runtime, Tenants},
};
