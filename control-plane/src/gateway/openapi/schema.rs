//! Schemas of messages and fields.

use std::fmt::Write as _;

use prost_reflect::{FieldDescriptor, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{
    super::{
        api,
        json::{Integer, Shape, words},
        rules::{self, Kind, Rules},
    },
    examples, reference,
};
use crate::tenants::model::is_unseen;

/// Messages that have another name here: in Go `NewMessage` is what makes a `Message`.
const NAMES: &[(&str, &str)] = &[("NewMessage", "MessageToPublish")];
/// How a UUID is written.
const UUID: &str = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";

/// Which way a message goes. An answer always has the fields that have no presence; of a request those have to be there
/// that the proto requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Answer,
}

/// The schemas that the document names. Requests and answers share no message but scalars, so a name is enough.
#[derive(Debug, Default)]
pub(super) struct Schemas(Map<String, Value>);

impl Schemas {
    /// All of them.
    pub(super) fn into_inner(self) -> Map<String, Value> {
        self.0
    }

    /// The message's schema, by reference, without the fields that come another way.
    pub(super) fn of_message(
        &mut self,
        message: &MessageDescriptor,
        direction: Direction,
        elsewhere: &[FieldDescriptor],
    ) -> Value {
        let name = message.name();
        let name = NAMES
            .iter()
            .find(|(own, _)| *own == name)
            .map_or(name, |(_, name)| name);
        if !self.0.contains_key(name) {
            // First, so that a message within itself ends.
            self.0.insert(name.to_owned(), Value::Null);
            let schema = self.object(message, direction, elsewhere);
            self.0.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// The field's schema, of all its elements where it is repeated.
    pub(super) fn of_field(&mut self, field: &FieldDescriptor, direction: Direction) -> Value {
        let element = match Shape::of(field) {
            Shape::Message(message) => self.of_message(&message, direction, &[]),
            _ if field.is_list() => {
                let mut element = bare(field);
                if let Kind::List { items, .. } = rules::of(field).kind {
                    bound(&mut element, &items);
                }
                element
            }
            _ => return scalar(field),
        };
        let comment = comment(field);
        if !field.is_list() {
            return match comment {
                // A reference takes nothing beside itself in 3.0.
                Some(comment) => json!({ "allOf": [element], "description": comment }),
                None => element,
            };
        }
        let mut list = json!({ "type": "array", "items": element });
        bound(&mut list, &rules::of(field));
        if let Some(comment) = comment {
            list["description"] = comment.into();
        }
        list
    }

    fn object(
        &mut self,
        message: &MessageDescriptor,
        direction: Direction,
        elsewhere: &[FieldDescriptor],
    ) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in message.fields().filter(|field| !elsewhere.contains(field)) {
            properties.insert(field.name().to_owned(), self.of_field(&field, direction));
            let is_left_out = field.supports_presence() || matches!(Shape::of(&field), Shape::Enum(_));
            let is_there = match direction {
                Direction::Answer => field.is_list() || !is_left_out,
                Direction::Request => rules::of(&field).is_required,
            };
            if is_there {
                required.push(field.name().to_owned());
            }
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        if direction == Direction::Request {
            schema["additionalProperties"] = false.into();
        }
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        let comment = api::comment(&message.parent_file(), message.path());
        // "See …" sends readers of the proto to the method, which is what they read here.
        if let Some(comment) = comment.filter(|comment| !comment.starts_with("See ")) {
            schema["description"] = comment.into();
        }
        schema
    }
}

/// The schema of a field that is no message, with what the proto says of it.
pub(super) fn scalar(field: &FieldDescriptor) -> Value {
    let mut schema = bare(field);
    bound(&mut schema, &rules::of(field));
    if let Some(comment) = comment(field) {
        schema["description"] = comment.into();
    }
    if let Some(example) = examples::parameter(field) {
        schema["example"] = example;
    }
    schema
}

fn bare(field: &FieldDescriptor) -> Value {
    match Shape::of(field) {
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Integer(Integer::I32) => json!({ "type": "integer", "format": "int32" }),
        Shape::Integer(Integer::U32) => json!({ "type": "integer", "format": "int64", "minimum": 0 }),
        Shape::Integer(Integer::I64) => {
            let pattern = digits(&rules::of(field).kind);
            json!({ "type": "string", "format": "int64", "pattern": pattern })
        }
        Shape::Integer(Integer::U64) => {
            json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]+$" })
        }
        Shape::Fraction => json!({ "type": "number", "format": "double" }),
        Shape::Text => json!({ "type": "string" }),
        Shape::Enum(descriptor) => json!({ "type": "string", "enum": words(field, &descriptor) }),
        Shape::Time(_) => json!({ "type": "string", "format": "date-time" }),
        // Any value.
        Shape::Json(_) | Shape::Message(_) | Shape::Unsupported => json!({}),
    }
}

/// A pattern without characters that nobody sees, which generators write into source text as they are.
fn escaped(pattern: &str) -> String {
    let escape = |text: &mut String, character: char| match is_unseen(character) {
        true => {
            // All of them are within the first plane.
            let _ = write!(text, "\\u{:04x}", u32::from(character));
        }
        false => text.push(character),
    };
    pattern.chars().fold(String::new(), |mut text, character| {
        escape(&mut text, character);
        text
    })
}

/// What a 64-bit integer looks like that is a string in JSON. The largest there is is cut to one whose digits say it.
fn digits(kind: &Kind) -> String {
    match kind {
        // Empty in a query it is as good as absent.
        Kind::Integer {
            least: Some(0),
            most: None,
        } => "^([0-9]{0,18}|[0-8][0-9]{18})$".to_owned(),
        Kind::Integer {
            least: Some(1..),
            most: Some(most),
        } => format!("^[1-9][0-9]{{0,{}}}$", most.to_string().len() - 1),
        _ => "^-?[0-9]+$".to_owned(),
    }
}

/// What the proto says of a field.
pub(super) fn comment(field: &FieldDescriptor) -> Option<String> {
    api::comment(&field.parent_message().parent_file(), field.path())
}

/// Takes the bounds that the field's rules state.
fn bound(schema: &mut Value, rules: &Rules) {
    let is_text = schema["type"] == "string";
    let mut set = |name: &str, bound: Option<Value>| {
        if let Some(bound) = bound {
            schema[name] = bound;
        }
    };
    match &rules.kind {
        Kind::Any => {}
        // What JSON has as a string has no bounds there but its form.
        Kind::Integer { .. } if is_text => {}
        Kind::Integer { least, most } => {
            set("minimum", least.map(Value::from));
            set("maximum", most.map(Value::from));
        }
        Kind::Text {
            is_uuid,
            characters_min,
            characters_max,
            pattern,
        } => {
            set("minLength", characters_min.map(Value::from));
            set("maxLength", characters_max.map(Value::from));
            let pattern = pattern.as_deref().or(is_uuid.then_some(UUID));
            // Empty is as good as absent there.
            let pattern = pattern.map(escaped).map(|pattern| match rules.may_be_empty {
                true => format!("^$|{pattern}"),
                false => pattern,
            });
            match *is_uuid && !rules.may_be_empty {
                true => set("format", Some("uuid".into())),
                false => set("pattern", pattern.map(Value::from)),
            }
        }
        Kind::Enum { .. } => {}
        Kind::List { least, most, .. } => {
            set("minItems", least.map(Value::from));
            set("maxItems", most.map(Value::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str, field: &str) -> Value {
        let message = api::pool()
            .get_message_by_name(&format!("jalur.v1.{message}"))
            .unwrap();
        Schemas::default().of_field(&message.get_field_by_name(field).unwrap(), Direction::Request)
    }

    #[test]
    fn bounds_are_the_rules() {
        let workers = of("SetConcurrencyRequest", "workers");
        assert_eq!(
            (&workers["minimum"], &workers["maximum"]),
            (&json!(1), &json!(256))
        );
        let name = of("CreateTenantRequest", "name");
        assert_eq!((&name["minLength"], &name["maxLength"]), (&json!(1), &json!(200)));
        let status = of("CreateTenantRequest", "status");
        assert_eq!(status["enum"], json!(["active", "paused"]));
        let ids = of("ReplayDeadLettersRequest", "ids");
        assert_eq!(
            (&ids["maxItems"], &ids["items"]["format"]),
            (&json!(1_000), &json!("uuid"))
        );
        assert_eq!(of("GetTenantRequest", "id")["format"], "uuid");
        let tenant = of("ListMessagesRequest", "tenant_id");
        assert!(tenant["pattern"].as_str().unwrap().starts_with("^$|"), "{tenant}");
    }
}
