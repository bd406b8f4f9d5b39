//! From JSON to a message.
//!
//! The text is split into members and elements level by level, each a slice of the text, and a slice is only read
//! once its field says what it may be. So errors can name the field, an embedded value stays the text it is, and the
//! nesting that is followed is the message's, never the sender's.

use std::{borrow::Cow, fmt};

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, Value};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Error, Shape,
    scalar::{boolean, enumeration, fraction, integer, timestamp},
};
use crate::excerpt::excerpt;

/// Reads a message from a body. An empty body is an empty message.
pub(in super::super) fn read(descriptor: &MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, Error> {
    if body.trim_ascii().is_empty() {
        return Ok(DynamicMessage::new(descriptor.clone()));
    }
    let json = parse(body)?;
    if !json.starts_with('{') {
        return Err(Error::new(format!(
            "must be a JSON object, got {}",
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
    let text = std::str::from_utf8(body)
        .map_err(|error| Error::new(format!("has invalid UTF-8 at byte {}", error.valid_up_to())))?;
    serde_json::from_str::<&RawValue>(text)
        .map(RawValue::get)
        .map_err(malformed)
}

fn malformed(error: serde_json::Error) -> Error {
    Error::new(format!("is not JSON: {error}"))
}

fn object(descriptor: &MessageDescriptor, json: &str) -> Result<DynamicMessage, Error> {
    let mut message = DynamicMessage::new(descriptor.clone());
    // As many as the message has fields, at most.
    let mut seen: Vec<u32> = Vec::new();
    // One more than it has fields: then one is unknown or stands there twice, and what follows does not matter.
    for (name, json) in members(json, descriptor.fields().len() + 1)? {
        let Some(field) = descriptor.get_field_by_name(&name) else {
            return Err(Error::field(
                &excerpt(&name),
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
    let elements = elements(json, super::LIST_MAX + 1)?;
    if elements.len() > super::LIST_MAX {
        return Err(Error::new(format!(
            "must hold {} elements at most, got more",
            super::LIST_MAX
        )));
    }
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
            Some(text) => integer(field, *width, &text),
            None => integer(field, *width, json),
        },
        Shape::Integer(width) => integer(field, *width, json),
        Shape::Fraction => fraction(json),
        Shape::Text => string()
            .map(|text| Value::String(text.into_owned()))
            .ok_or_else(|| "a string of Unicode characters".to_owned()),
        Shape::Enum(descriptor) => enumeration(field, descriptor, string().as_deref().unwrap_or_default()),
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

/// A member of an object: its name and its value.
type Member<'a> = (Cow<'a, str>, &'a RawValue);

/// An object's first members in the order they stand there, repeated names included.
fn members(json: &str, count_max: usize) -> Result<Vec<Member<'_>>, Error> {
    let mut first = First::new(count_max);
    first.read(json)?;
    Ok(first.items)
}

/// An array's first elements.
fn elements(json: &str, count_max: usize) -> Result<Vec<&RawValue>, Error> {
    let mut first = First::new(count_max);
    first.read(json)?;
    Ok(first.items)
}

/// Takes so many items from the text, and does not go on: a reference to a value is larger than the value may be, and
/// there may be millions.
struct First<T> {
    items: Vec<T>,
    count_max: usize,
}

impl<T> First<T> {
    fn new(count_max: usize) -> Self {
        let items = Vec::new();
        Self { items, count_max }
    }

    fn read<'de>(&mut self, json: &'de str) -> Result<(), Error>
    where
        for<'a> &'a mut Self: Visitor<'de, Value = ()>,
    {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        match deserializer.deserialize_any(&mut *self) {
            // Where it stopped, its syntax is not at its end.
            Err(_) if self.items.len() == self.count_max => Ok(()),
            Err(error) => Err(malformed(error)),
            Ok(_) => Ok(()),
        }
    }
}

impl<'de> Visitor<'de> for &mut First<Member<'de>> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while self.items.len() < self.count_max
            && let Some((Text(name), value)) = map.next_entry()?
        {
            self.items.push((name, value));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for &mut First<&'de RawValue> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while self.items.len() < self.count_max
            && let Some(value) = seq.next_element()?
        {
            self.items.push(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
