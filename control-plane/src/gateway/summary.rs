//! What a request asks for, in a line for the audit trail.

use std::fmt::Write as _;

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage as _, Value};

use super::{json, wire};
use crate::excerpt::excerpt;

/// What these fields of a request hold: `name="acme" status="active" ids: 3`. What was not sent is not told.
pub(super) fn of(message: &DynamicMessage, fields: &[&str]) -> String {
    let mut summary = String::new();
    let descriptor = message.descriptor();
    let sent = fields
        .iter()
        .filter_map(|name| descriptor.get_field_by_name(name));
    for field in sent.filter(|field| message.has_field(field)) {
        if !summary.is_empty() {
            summary.push(' ');
        }
        // Writing to a string does not fail.
        let _ = match &*message.get_field(&field) {
            Value::List(list) => write!(summary, "{}: {}", field.name(), list.len()),
            value => write!(summary, "{}={}", field.name(), shown(&field, value)),
        };
    }
    summary
}

fn shown(field: &FieldDescriptor, value: &Value) -> String {
    let mut json = Vec::new();
    match value {
        Value::String(text) => {
            let text = Value::String(excerpt(text).into_owned());
            json::write_field(&mut json, field, &text);
        }
        value => json::write_field(&mut json, field, value),
    }
    String::from_utf8_lossy(&json).into_owned()
}

/// What a request's text field of that name holds, as it came over the wire; nothing where it is absent.
pub(super) fn text_of<'a>(message: &MessageDescriptor, name: &str, bytes: &'a [u8]) -> Option<&'a str> {
    wire::text(message.get_field_by_name(name)?.number(), bytes)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use proto::v1;

    use super::{super::api, *};

    fn dynamic(name: &str, message: &impl prost::Message) -> DynamicMessage {
        let descriptor = api::pool()
            .get_message_by_name(&format!("jalur.v1.{name}"))
            .unwrap();
        DynamicMessage::decode(descriptor, &message.encode_to_vec()[..]).unwrap()
    }

    #[test]
    fn fields_that_were_sent_are_told_as_rest_writes_them() {
        let message = v1::UpdateTenantRequest {
            id: "i".into(),
            name: Some("a\"b\n".into()),
            status: Some(v1::TenantStatus::Paused.into()),
            ..Default::default()
        };
        let message = dynamic("UpdateTenantRequest", &message);
        assert_eq!(
            of(&message, &["name", "description", "status"]),
            r#"name="a\"b\n" status="paused""#
        );
        assert_eq!(of(&message, &[]), "");
    }

    #[test]
    fn of_a_list_the_length_is_told_and_of_a_text_the_beginning() {
        let ids = vec!["x".to_owned(); 3];
        let message = v1::ReplayDeadLettersRequest {
            ids,
            all: true,
            ..Default::default()
        };
        let message = dynamic("ReplayDeadLettersRequest", &message);
        assert_eq!(of(&message, &["ids", "all"]), "ids: 3 all=true");
        let message = v1::CreateTenantRequest {
            name: "é".repeat(100_000),
            ..Default::default()
        };
        let message = dynamic("CreateTenantRequest", &message);
        assert!(of(&message, &["name"]).chars().count() < 100);
    }

    #[test]
    fn a_text_is_found_before_anything_is_decoded() {
        let message = v1::PublishMessagesRequest {
            tenant_id: "t".into(),
            messages: vec![v1::NewMessage::default(); 3],
        };
        let bytes = message.encode_to_vec();
        let descriptor = api::pool()
            .get_message_by_name("jalur.v1.PublishMessagesRequest")
            .unwrap();
        assert_eq!(text_of(&descriptor, "tenant_id", &bytes), Some("t"));
        assert_eq!(text_of(&descriptor, "tenant_id", &[]), None);
        assert_eq!(text_of(&descriptor, "nothing", &bytes), None);
    }
}
