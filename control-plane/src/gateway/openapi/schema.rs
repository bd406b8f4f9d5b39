//! Schemas of messages and fields.

use prost_reflect::{FieldDescriptor, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{
    super::{
        api,
        json::{Integer, Shape, words},
    },
    examples, reference,
};

/// Which way a message goes. An answer always has the fields that have no presence; of a request all may be left
/// out as far as the proto says.
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
            _ if field.is_list() => bare(field),
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
        if let Some(comment) = comment {
            bound(&mut list, &comment, "minItems", "maxItems");
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
            if direction == Direction::Answer && (field.is_list() || !is_left_out) {
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
    if let Some(comment) = comment(field) {
        match schema["type"].as_str() {
            Some("integer") => bound(&mut schema, &comment, "minimum", "maximum"),
            Some("string") if comment.contains(" characters") => {
                bound(&mut schema, &comment, "minLength", "maxLength");
            }
            _ => {}
        }
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
            json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]+$" })
        }
        Shape::Integer(Integer::U64) => {
            json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]+$" })
        }
        Shape::Text => json!({ "type": "string" }),
        Shape::Enum(descriptor) => json!({ "type": "string", "enum": words(&descriptor) }),
        Shape::Time(_) => json!({ "type": "string", "format": "date-time" }),
        // Any value.
        Shape::Json(_) | Shape::Message(_) | Shape::Unsupported => json!({}),
    }
}

/// What the proto says of a field.
pub(super) fn comment(field: &FieldDescriptor) -> Option<String> {
    api::comment(&field.parent_message().parent_file(), field.path())
}

/// Takes the limits that a comment states: `1 to 1,000` or `at most 1,000`.
fn bound(schema: &mut Value, comment: &str, least: &str, most: &str) {
    let words: Vec<_> = comment.split(' ').collect();
    for triple in words.windows(3) {
        if let (Some(from), "to", Some(to)) = (number(triple[0]), triple[1], number(triple[2])) {
            schema[least] = from.into();
            schema[most] = to.into();
            return;
        }
        if let ("at", "most", Some(to)) = (triple[0], triple[1], number(triple[2])) {
            schema[most] = to.into();
            return;
        }
    }
}

fn number(word: &str) -> Option<u64> {
    word.trim_end_matches([',', ';', '.', ':'])
        .replace(',', "")
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(comment: &str) -> Value {
        let mut schema = json!({});
        bound(&mut schema, comment, "min", "max");
        schema
    }

    #[test]
    fn limits_are_read_from_comments() {
        assert_eq!(
            bounds("At most how many, 1 to 1,000; 100 when absent."),
            json!({"min": 1, "max": 1000})
        );
        assert_eq!(
            bounds("Free text, at most 2,000 characters."),
            json!({"max": 2000})
        );
        assert_eq!(bounds("How many workers it has."), json!({}));
    }
}
