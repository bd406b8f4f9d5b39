//! Tenants: their life from `creating` to `gone`, their partition and their queues.
//!
//! [`model`] decides, [`store`] and [`partition`] are the SQL, [`Tenants`] is what callers ask, and the
//! [`reconciler`] finishes what a crash left half done.

pub(crate) mod model;
mod partition;
pub(crate) mod reconciler;
mod service;
mod store;

pub(crate) use self::{
    model::{NewTenant, Status, Tenant, Update},
    service::Tenants,
};
