//! The details of an error: completed for both faces, and as JSON for REST.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    failure::{DOMAIN, Reason},
    request_id::RequestId,
};

/// The status with what every failed call says: its reason, where one of our libraries made it without, and which
/// request it was.
pub(super) fn complete(status: &Status, request: &RequestId) -> Status {
    let mut details = status.get_error_details();
    if details.error_info().is_none() {
        let reason = Reason::of(status);
        details.set_error_info(reason.word(), DOMAIN, HashMap::new());
        if let Some(after) = reason.retry_after() {
            details.set_retry_info(Some(after));
        }
    }
    details.set_request_info(request.as_str(), "");
    let metadata = status.metadata().clone();
    Status::with_error_details_and_metadata(status.code(), status.message(), details, metadata)
}

/// The whole seconds after which to try again, if the status says so.
pub(super) fn retry_after_seconds(details: &ErrorDetails) -> Option<u64> {
    let delay = details.retry_info()?.retry_delay?;
    Some(delay.as_secs() + u64::from(delay.subsec_nanos() > 0))
}

/// The details as proto JSON, with the protos' own names as everywhere in REST.
pub(super) fn json(details: &ErrorDetails) -> Value {
    let mut list = Vec::new();
    if let Some(info) = details.error_info() {
        let mut said = json!({ "@type": of("ErrorInfo"), "reason": info.reason, "domain": info.domain });
        if !info.metadata.is_empty() {
            said["metadata"] = json!(info.metadata);
        }
        list.push(said);
    }
    if let Some(request) = details.bad_request() {
        let violations = request.field_violations.iter();
        let violations = violations
            .map(|violation| json!({ "field": violation.field, "description": violation.description }));
        let violations: Vec<_> = violations.collect();
        list.push(json!({ "@type": of("BadRequest"), "field_violations": violations }));
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        list.push(json!({ "@type": of("RetryInfo"), "retry_delay": seconds(delay) }));
    }
    if let Some(info) = details.request_info() {
        list.push(json!({ "@type": of("RequestInfo"), "request_id": info.request_id }));
    }
    list.into()
}

fn of(message: &str) -> String {
    format!("type.googleapis.com/google.rpc.{message}")
}

/// A duration as proto JSON writes it.
fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use http::Extensions;

    use super::*;

    #[test]
    fn a_failure_says_everything_in_json() {
        let status: Status = Reason::TenantFull
            .failure("full")
            .about("tenant_id", 1)
            .blames("messages[0].id", "is not a UUID")
            .into();
        let request = RequestId::of(&Extensions::new());
        let told = complete(&status, &request);
        assert_eq!((told.code(), told.message()), (status.code(), "full"));
        assert_eq!(
            json(&told.get_error_details()),
            json!([
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "TENANT_FULL", "domain": "jalur", "metadata": { "tenant_id": "1" },
                },
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "field_violations": [{ "field": "messages[0].id", "description": "is not a UUID" }],
                },
                { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "1s" },
                { "@type": "type.googleapis.com/google.rpc.RequestInfo", "request_id": request.as_str() },
            ])
        );
    }

    #[test]
    fn a_status_without_a_reason_gets_its_codes() {
        let request = RequestId::of(&Extensions::new());
        let told = complete(&Status::unavailable("away"), &request).get_error_details();
        assert_eq!(told.error_info().unwrap().reason, "UNAVAILABLE");
        assert_eq!(retry_after_seconds(&told), Some(1));
        let told = complete(&Status::not_found("gone"), &request).get_error_details();
        assert_eq!(
            (
                told.error_info().unwrap().reason.as_str(),
                retry_after_seconds(&told)
            ),
            ("NOT_FOUND", None)
        );
    }

    #[test]
    fn who_is_told_to_wait_waits_long_enough() {
        for (millis, wanted) in [(1, 1), (1_000, 1), (1_001, 2)] {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(millis)));
            assert_eq!(retry_after_seconds(&details), Some(wanted), "{millis}");
        }
        assert_eq!(seconds(Duration::from_millis(1_500)), "1.5s");
    }
}
