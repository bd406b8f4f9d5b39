//! Examples of what is sent and answered. Tests hold them against the protos.

use prost_reflect::{FieldDescriptor, Kind};
use serde_json::{Value, json};

const TENANT: &str = "0198c0de-0000-7000-8000-000000000001";
const MESSAGE: &str = "0198c0de-7a69-7c1b-9a3e-2f5d8c6b4a01";
const DAEMON: &str = "ingest-daemon-1";
const CLIENT: &str = "5f0c2b7e-3d4a-4c9e-9a51-0d8a6f1e2b3c";
const SECRET: &str = "pZ0l1f0vX3n7Qm9y2cR8sT4uW6xA5bD-EeFfGgHh_Ii";
const TIME: &str = "2026-01-31T12:00:00.25Z";

fn limits() -> Value {
    json!({
        "publish_per_second": 200, "store_per_second": 100, "backlog_messages": 100_000,
        "backlog_bytes": "104857600",
    })
}

fn retention() -> Value {
    json!({ "max_age_seconds": 2_592_000, "max_messages": 1_000_000 })
}

/// A body for the method.
pub(super) fn request(method: &str) -> Option<Value> {
    Some(match method {
        "CreateTenant" => json!({ "name": "acme", "description": "Orders of ACME" }),
        "UpdateTenant" => json!({ "status": "paused" }),
        "SetConcurrency" => json!({ "workers": 5 }),
        "SetLimits" => limits(),
        "SetRetention" => retention(),
        "PublishMessages" => json!({ "messages": [
            { "id": MESSAGE, "payload": { "order": 1, "amount": 12.50 } },
            { "payload": "any JSON value" },
        ] }),
        "ReplayDeadLetters" => json!({ "ids": [MESSAGE] }),
        "CreateCredential" => json!({ "role": "tenant", "label": "order service, production", "amqp": true }),
        "IssueToken" => json!({ "client_id": CLIENT, "client_secret": SECRET }),
        _ => return None,
    })
}

/// An answer of the method.
pub(super) fn answer(method: &str) -> Option<Value> {
    let tenant = json!({
        "id": TENANT, "name": "acme", "description": "Orders of ACME", "status": "active", "workers": 3,
        "created_at": TIME, "updated_at": TIME, "limits": {}, "retention": {},
    });
    let message = json!({
        "id": MESSAGE, "tenant_id": TENANT, "position": "456",
        "payload": { "order": 1, "amount": 12.50 }, "created_at": TIME,
    });
    let daemon = json!({
        "id": DAEMON, "state": "ready", "capacity": 100_000, "lanes": 12, "workers": 40, "joined_at": TIME,
    });
    let mut letter = json!({
        "id": MESSAGE, "reason": "not_json", "detail": "the body is not JSON: expected value at line 1 column 1",
        "attempts": 1, "first_failed_at": TIME, "failed_at": TIME, "payload": "not json", "bytes": 8,
    });
    let running = || {
        let mut tenant = tenant.clone();
        tenant["runtime"] = json!({
            "consumers": [{ "daemon": DAEMON, "workers": 3, "busy": 1 }],
            "queue_depth": 12, "dead_letters": 0, "retrying": 0, "stored_per_second": 41.8,
        });
        tenant
    };
    Some(match method {
        "CreateTenant" | "GetTenant" | "UpdateTenant" => running(),
        "ListTenants" => json!({ "tenants": [running()], "next_page_token": "" }),
        "DeleteTenant" => json!({}),
        "SetConcurrency" => json!({ "tenant_id": TENANT, "workers": 5, "applied": true }),
        "SetLimits" => limits(),
        "SetRetention" => retention(),
        "PublishMessages" => json!({ "ids": [MESSAGE, "0198c0de-7a69-7c1b-9a3e-2f5d8c6b4a02"] }),
        "ListMessages" => json!({ "data": [message], "next_cursor": "456", "at_end": true }),
        "GetMessage" | "StreamMessages" => message,
        "ListDeadLetters" => json!({ "dead_letters": [letter] }),
        "GetDeadLetter" => {
            letter["headers"] = json!({
                "x-jalur-id": MESSAGE, "x-jalur-reason": "not_json", "x-jalur-attempts": 1, "source": "orders",
            });
            letter
        }
        "ReplayDeadLetters" => json!({ "replayed": 1, "remaining": 0 }),
        "ListDaemons" => json!({ "daemons": [daemon], "next_page_token": "" }),
        "DrainDaemon" => json!({
            "id": DAEMON, "state": "draining", "capacity": 100_000, "lanes": 0, "workers": 0, "joined_at": TIME,
        }),
        "UndrainDaemon" => json!({
            "id": DAEMON, "state": "ready", "capacity": 100_000, "lanes": 0, "workers": 0, "joined_at": TIME,
        }),
        "PurgeDeadLetters" | "DeleteDeadLetter" => json!({ "purged": 1 }),
        "ListEvents" => json!({
            "data": [{
                "position": "123", "at": TIME, "request_id": "0198c0de-7a69-7c1b-9a3e-2f5d8c6b4a03",
                "sub": "alice@example.com", "role": "admin", "address": "192.0.2.7",
                "method": "jalur.v1.TenantService/UpdateTenant", "tenant_id": TENANT,
                "summary": "status=\"paused\"", "code": "OK", "left_out": "0",
            }],
            "next_cursor": "123",
        }),
        "CreateCredential" => json!({
            "client_id": CLIENT, "client_secret": SECRET,
            "amqp": {
                "url": format!("amqp://{CLIENT}:{SECRET}@localhost:5672/%2F"),
                "exchange": format!("tenant_{TENANT}"),
            },
        }),
        "ListCredentials" => json!({ "credentials": [{
            "client_id": CLIENT, "role": "tenant", "label": "order service, production", "amqp": true,
            "created_at": TIME, "last_used_at": TIME,
        }] }),
        "RevokeCredential" => json!({}),
        "IssueToken" => json!({
            "access_token": "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.…", "token_type": "Bearer", "expires_in": 3_600,
        }),
        _ => return None,
    })
}

/// A value for a field whose name says enough.
pub(super) fn parameter(field: &FieldDescriptor) -> Option<Value> {
    if field.kind() != Kind::String || field.is_list() {
        return None;
    }
    match (field.parent_message().name(), field.name()) {
        (_, "tenant_id")
        | ("Tenant" | "GetTenantRequest" | "UpdateTenantRequest" | "DeleteTenantRequest", "id") => {
            Some(TENANT.into())
        }
        ("Daemon" | "DrainDaemonRequest" | "UndrainDaemonRequest", "id") => Some(DAEMON.into()),
        ("Message" | "NewMessage" | "DeadLetter", "id") => Some(MESSAGE.into()),
        (_, "letter_id") => Some(MESSAGE.into()),
        (_, "client_id") => Some(CLIENT.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::MessageDescriptor;

    use super::{
        super::super::{
            json,
            routes::{self, Body},
        },
        *,
    };

    fn check(message: &MessageDescriptor, example: &Value) {
        let read = json::read(message, example.to_string().as_bytes());
        if let Err(error) = read {
            panic!("{}: {error}", message.full_name());
        }
    }

    #[test]
    fn every_method_has_examples_that_its_messages_hold() {
        for binding in routes::bindings() {
            let method = &binding.method.descriptor;
            let answer = answer(method.name()).unwrap_or_else(|| panic!("{}: no answer", method.name()));
            match &binding.answer {
                Some(field) => check(field.kind().as_message().unwrap(), &answer),
                None => check(&method.output(), &answer),
            }
            if binding.body != Body::Ignored {
                let request = request(method.name()).unwrap_or_else(|| panic!("{}: no body", method.name()));
                check(&method.input(), &request);
            }
        }
    }
}
