//! Single values: as JSON writes them in a body, and as text in a path or a query.

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, MessageDescriptor, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    super::rules::{self, Kind},
    Error, Integer, Shape, sent, word, words,
};

/// Reads a field from a path or a query, where everything is text.
pub(in super::super) fn from_text(field: &FieldDescriptor, text: &str) -> Result<Value, Error> {
    let read = match Shape::of(field) {
        Shape::Bool => boolean(text),
        Shape::Integer(width) => integer(field, width, text),
        Shape::Fraction => fraction(text),
        Shape::Text => Ok(Value::String(text.to_owned())),
        Shape::Enum(descriptor) => enumeration(field, &descriptor, text),
        Shape::Time(descriptor) => timestamp(&descriptor, text),
        Shape::Json(_) | Shape::Message(_) | Shape::Unsupported => Err("given in a body only".to_owned()),
    };
    read.map_err(|wanted| Error::unexpected(field, &wanted, &format!("{text:?}")).within(field.name()))
}

/// What reading a value answers: it, or what it may be.
pub(super) type Read = Result<Value, String>;

pub(super) fn boolean(text: &str) -> Read {
    text.parse()
        .map(Value::Bool)
        .map_err(|_| "true or false".to_owned())
}

/// Digits, with a minus at most: `1e3` and `1.0` are no integers, as a person who sends them may expect otherwise.
pub(super) fn integer(field: &FieldDescriptor, width: Integer, text: &str) -> Read {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("an integer".to_owned());
    }
    let (value, least, most) = match width {
        Integer::I32 => (
            text.parse().map(Value::I32).ok(),
            i32::MIN.into(),
            i32::MAX.into(),
        ),
        Integer::U32 => (text.parse().map(Value::U32).ok(), 0, u32::MAX.into()),
        Integer::I64 => (
            text.parse().map(Value::I64).ok(),
            i64::MIN.into(),
            i64::MAX.into(),
        ),
        Integer::U64 => (text.parse().map(Value::U64).ok(), 0, u64::MAX.into()),
    };
    // What does not fit the type is told what the field may be.
    value.ok_or_else(|| {
        let (least, most): (i128, i128) = match rules::of(field).kind {
            Kind::Integer {
                least: low,
                most: high,
            } => (low.map_or(least, i128::from), high.map_or(most, i128::from)),
            _ => (least, most),
        };
        format!("an integer from {least} to {most}")
    })
}

/// What JSON calls a number.
pub(super) fn fraction(text: &str) -> Read {
    serde_json::from_str(text)
        .map(Value::F64)
        .map_err(|_| "a number".to_owned())
}

pub(super) fn enumeration(field: &FieldDescriptor, descriptor: &EnumDescriptor, text: &str) -> Read {
    sent(field, descriptor)
        .find(|value| word(value) == text)
        .map(|value| Value::EnumNumber(value.number()))
        .ok_or_else(|| format!("one of \"{}\"", words(field, descriptor).join("\", \"")))
}

pub(super) fn timestamp(descriptor: &MessageDescriptor, text: &str) -> Read {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "a time in RFC 3339, such as \"2026-01-31T12:00:00Z\"".to_owned())?;
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_name("seconds", Value::I64(time.unix_timestamp()));
    message.set_field_by_name("nanos", Value::I32(time.nanosecond().cast_signed()));
    Ok(Value::Message(message))
}
