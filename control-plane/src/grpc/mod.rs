//! The handlers: from protos to what the services take, and back. No decisions here.

mod audit;
mod auth;
mod credential;
mod dead_letter;
mod fleet;
mod message;
mod tenant;

pub(crate) use self::{
    audit::AuditApi, auth::AuthApi, credential::CredentialApi, dead_letter::DeadLetterApi, fleet::FleetApi,
    message::MessageApi, tenant::TenantApi,
};

use common::id::TenantId;
use prost_types::Timestamp;
use time::OffsetDateTime;
use tonic::{Request, Status};

use crate::{error::Error, identity::Caller};

/// The largest page of any list.
const PAGE_MAX: i32 = 1_000;
/// The size of a page when the caller does not say.
const PAGE_DEFAULT: i32 = 100;

/// The tenant that a call is about, if the caller may act on it.
fn scope<T>(request: &Request<T>, field: &'static str, tenant_id: &str) -> Result<TenantId, Status> {
    Caller::of(request)?.scope(field, tenant_id)
}

/// How many rows a page is to have.
fn page_size(field: &str, size: Option<i32>) -> Result<usize, Error> {
    match size.unwrap_or(PAGE_DEFAULT) {
        size if (1..=PAGE_MAX).contains(&size) => Ok(size.unsigned_abs() as usize),
        size => Err(Error::invalid(
            field,
            format!("must be between 1 and {PAGE_MAX}, got {size}"),
        )),
    }
}

/// A time that a caller gives, in the years that RFC 3339 has.
fn time(field: &str, timestamp: Option<Timestamp>) -> Result<Option<OffsetDateTime>, Error> {
    let Some(Timestamp { seconds, nanos }) = timestamp else {
        return Ok(None);
    };
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let time = time.filter(|time| (0..=9_999).contains(&time.year()));
    let time = time
        .zip(u32::try_from(nanos).ok())
        .and_then(|(time, nanos)| time.replace_nanosecond(nanos).ok());
    let message = "must be a time in the years 0 to 9999, with 0 to 999,999,999 nanoseconds";
    time.map(Some).ok_or_else(|| Error::invalid(field, message))
}

fn timestamp(time: OffsetDateTime) -> Timestamp {
    // Nanoseconds of a second are below a billion.
    Timestamp {
        seconds: time.unix_timestamp(),
        nanos: time.nanosecond() as i32,
    }
}
