//! From a message to JSON.
//!
//! Zeros and empty lists are written, so that an answer always has the same members; a message or an `optional`
//! field that is not set is left out.

use std::io::Write as _;

use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage as _, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Shape, word};

/// Writes a message as an object.
pub(in super::super) fn write(out: &mut Vec<u8>, message: &DynamicMessage) {
    out.push(b'{');
    let mut first = true;
    for field in message.descriptor().fields() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        let value = message.get_field(&field);
        if matches!(&*value, Value::EnumNumber(0)) {
            // "Not said" has no word.
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        text(out, field.name());
        out.push(b':');
        write_field(out, &field, &value);
    }
    out.push(b'}');
}

/// Writes a field's value, with all its elements where the field is repeated.
pub(in super::super) fn write_field(out: &mut Vec<u8>, field: &FieldDescriptor, value: &Value) {
    let shape = Shape::of(field);
    let Value::List(values) = value else {
        return element(out, &shape, value);
    };
    out.push(b'[');
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        element(out, &shape, value);
    }
    out.push(b']');
}

fn element(out: &mut Vec<u8>, shape: &Shape, value: &Value) {
    // Writing to memory does not fail.
    let _ = match (shape, value) {
        (Shape::Message(_), Value::Message(message)) => return write(out, message),
        (Shape::Json(_), Value::Message(message)) => return json(out, message),
        (Shape::Time(_), Value::Message(message)) => return text(out, &timestamp(message)),
        (Shape::Enum(descriptor), Value::EnumNumber(number)) => {
            let name = descriptor.get_value(*number).map(|value| word(&value));
            return text(out, &name.unwrap_or_else(|| number.to_string()));
        }
        (_, Value::String(value)) => return text(out, value),
        (_, Value::Bool(value)) => write!(out, "{value}"),
        (_, Value::I32(value)) => write!(out, "{value}"),
        (_, Value::U32(value)) => write!(out, "{value}"),
        (_, Value::I64(value)) => write!(out, "\"{value}\""),
        (_, Value::U64(value)) => write!(out, "\"{value}\""),
        // What is no number JSON has none for.
        (_, Value::F64(value)) if value.is_finite() => write!(out, "{value}"),
        _ => write!(out, "null"),
    };
}

fn text(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// The value itself, as the text it is.
fn json(out: &mut Vec<u8>, message: &DynamicMessage) {
    match message.get_field_by_name("text") {
        Some(text) if text.as_str().is_some_and(|text| !text.is_empty()) => {
            out.extend_from_slice(text.as_str().unwrap_or_default().as_bytes());
        }
        _ => out.extend_from_slice(b"null"),
    }
}

/// A time in UTC. One that no calendar has is 1970, and there is none such in the database.
fn timestamp(message: &DynamicMessage) -> String {
    let part = |name| message.get_field_by_name(name);
    let seconds = part("seconds")
        .and_then(|value| value.as_i64())
        .unwrap_or_default();
    let nanos = part("nanos").and_then(|value| value.as_i32()).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(&Rfc3339)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::v1;

    use super::{super::super::api, *};

    fn json<M: Message>(name: &str, message: &M) -> String {
        let descriptor = api::pool()
            .get_message_by_name(&format!("jalur.v1.{name}"))
            .unwrap();
        let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).unwrap();
        let mut out = Vec::new();
        write(&mut out, &message);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_page_of_messages_is_as_users_expect() {
        let page = v1::ListMessagesResponse {
            data: vec![v1::Message {
                id: "a\"b".to_owned(),
                tenant_id: "t".to_owned(),
                position: 9_007_199_254_740_993,
                payload: Some(v1::Json {
                    text: r#"{"n": 12345678901234567890.10}"#.to_owned(),
                }),
                created_at: Some(prost_types::Timestamp {
                    seconds: 1_769_860_800,
                    nanos: 120_000_000,
                }),
            }],
            next_cursor: 9_007_199_254_740_993,
            at_end: false,
        };
        assert_eq!(
            json("ListMessagesResponse", &page),
            r#"{"data":[{"id":"a\"b","tenant_id":"t","position":"9007199254740993","payload":{"n": 12345678901234567890.10},"created_at":"2026-01-31T12:00:00.12Z"}],"next_cursor":"9007199254740993","at_end":false}"#
        );
    }

    #[test]
    fn zeros_and_empty_lists_are_there_and_what_is_unset_is_not() {
        assert_eq!(
            json("ListMessagesResponse", &()),
            r#"{"data":[],"next_cursor":"0","at_end":false}"#
        );
        assert_eq!(
            json("SetConcurrencyResponse", &()),
            r#"{"tenant_id":"","workers":0,"applied":false}"#
        );
        assert_eq!(json("TenantRuntime", &()), r#"{"consumers":[]}"#);
        let runtime = v1::TenantRuntime {
            queue_depth: Some(0),
            stored_per_second: Some(0.0),
            ..Default::default()
        };
        assert_eq!(
            json("TenantRuntime", &runtime),
            r#"{"consumers":[],"queue_depth":0,"stored_per_second":0}"#
        );
    }

    #[test]
    fn a_fraction_is_a_number() {
        let rate = |rate| v1::TenantRuntime {
            stored_per_second: Some(rate),
            ..Default::default()
        };
        for (value, written) in [
            (41.8, "41.8"),
            (1e21, "1000000000000000000000"),
            (f64::NAN, "null"),
        ] {
            let wanted = format!(r#"{{"consumers":[],"stored_per_second":{written}}}"#);
            assert_eq!(json("TenantRuntime", &rate(value)), wanted);
        }
    }

    #[test]
    fn an_enum_is_its_word() {
        let tenant = v1::Tenant {
            status: v1::TenantStatus::Paused.into(),
            ..Default::default()
        };
        assert_eq!(
            json("Tenant", &tenant),
            r#"{"id":"","name":"","description":"","status":"paused","workers":0}"#
        );
        assert_eq!(
            json("Tenant", &()),
            r#"{"id":"","name":"","description":"","workers":0}"#
        );
    }
}
