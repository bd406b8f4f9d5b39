//! From JSON to a message.
//!
//! The text is split into members and elements level by level, each a slice of the text, and a slice is only read
//! once its field says what it may be. So errors can name the field, an embedded value stays the text it is, and the
//! nesting that is followed is the message's, never the sender's.

use std::{borrow::Cow, fmt};

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, Value};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Error, Shape,
    scalar::{boolean, enumeration, integer, timestamp},
};

/// Reads a message from a body. An empty body is an empty message.
pub(in super::super) fn read(descriptor: &MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, Error> {
    if body.trim_ascii().is_empty() {
        return Ok(DynamicMessage::new(descriptor.clone()));
    }
    let json = parse(body)?;
    if !json.starts_with('{') {
        return Err(Error::new(format!(
            "may be a JSON object, not {}",
            super::shown(json)
        )));
    }
    object(descriptor, json)
}

/// Reads one field, which is the whole body.
pub(in super::super) fn read_field(field: &FieldDescriptor, body: &[u8]) -> Result<Value, Error> {
    value(field, parse(body)?)
}

/// Checks the syntax of the whole body, so that errors in it have a line and a column.
fn parse(body: &[u8]) -> Result<&str, Error> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Error::new(format!(
            "is no UTF-8: byte {} cannot stand there",
            error.valid_up_to()
        ))
    })?;
    serde_json::from_str::<&RawValue>(text)
        .map(RawValue::get)
        .map_err(malformed)
}

fn malformed(error: serde_json::Error) -> Error {
    Error::new(format!("is no JSON: {error}"))
}

fn object(descriptor: &MessageDescriptor, json: &str) -> Result<DynamicMessage, Error> {
    let mut message = DynamicMessage::new(descriptor.clone());
    // As many as the message has fields, at most.
    let mut seen: Vec<u32> = Vec::new();
    let Members(members) = serde_json::from_str(json).map_err(malformed)?;
    for (name, json) in members {
        let Some(field) = descriptor.get_field_by_name(&name) else {
            return Err(Error::field(
                &super::cut(&name),
                format!("is unknown; {}", known(descriptor)),
            ));
        };
        if seen.contains(&field.number()) {
            return Err(Error::field(&name, "stands there twice"));
        }
        seen.push(field.number());
        let json = json.get();
        if json == "null" && (field.is_list() || !matches!(Shape::of(&field), Shape::Json(_))) {
            continue;
        }
        let value = if field.is_list() {
            list(&field, json)
        } else {
            value(&field, json)
        };
        message.set_field(&field, value.map_err(|error| error.within(&name))?);
    }
    Ok(message)
}

fn known(descriptor: &MessageDescriptor) -> String {
    let names: Vec<_> = descriptor.fields().map(|field| field.name().to_owned()).collect();
    match names.as_slice() {
        [] => "no field is known here".to_owned(),
        names => format!("known here: {}", names.join(", ")),
    }
}

fn list(field: &FieldDescriptor, json: &str) -> Result<Value, Error> {
    if !json.starts_with('[') {
        return Err(Error::unexpected(field, "an array", json));
    }
    let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(malformed)?;
    let values = elements.iter().enumerate();
    values
        .map(|(at, json)| value(field, json.get()).map_err(|error| error.within(&format!("[{at}]"))))
        .collect::<Result<_, _>>()
        .map(Value::List)
}

/// Reads one value of the field: an element, where the field is repeated.
fn value(field: &FieldDescriptor, json: &str) -> Result<Value, Error> {
    let shape = Shape::of(field);
    let string = || string(json);
    let read = match &shape {
        Shape::Message(descriptor) if json.starts_with('{') => {
            return object(descriptor, json).map(Value::Message);
        }
        Shape::Json(descriptor) => {
            let mut message = DynamicMessage::new(descriptor.clone());
            message.set_field_by_number(JSON_TEXT, Value::String(json.to_owned()));
            Ok(Value::Message(message))
        }
        Shape::Bool => boolean(json),
        Shape::Integer(width) if width.is_wide() => match string() {
            Some(text) => integer(*width, &text),
            None => integer(*width, json),
        },
        Shape::Integer(width) => integer(*width, json),
        Shape::Text => string()
            .map(|text| Value::String(text.into_owned()))
            .ok_or_else(|| "a string of Unicode characters".to_owned()),
        Shape::Enum(descriptor) => enumeration(descriptor, string().as_deref().unwrap_or_default()),
        Shape::Time(descriptor) => timestamp(descriptor, string().as_deref().unwrap_or_default()),
        Shape::Message(_) => Err("an object".to_owned()),
        Shape::Unsupported => Err("given over gRPC only".to_owned()),
    };
    read.map_err(|wanted| Error::unexpected(field, &wanted, json))
}

/// The number of `jalur.v1.Json.text`.
const JSON_TEXT: u32 = 1;

/// What a string says. None for another value, and for half of a surrogate pair, which is JSON and no text.
fn string(json: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(json).ok().map(|Text(text)| text)
}

/// A string, as a slice of the JSON where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object's members in the order they stand there, repeated names included.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests;
