//! The protos' messages as JSON, both ways.
//!
//! Names are the proto's. An enum is its value's word without the prefix: `TENANT_STATUS_ACTIVE` is `"active"`. A
//! time is RFC 3339 in UTC. A 64-bit integer is written as a string and read as either. A field of
//! `jalur.v1.Json` is whatever JSON value stands there, and its text is passed on unread, so that no number loses a
//! digit.

mod read;
mod scalar;
mod write;

use std::{borrow::Cow, fmt};

use prost_reflect::{EnumDescriptor, EnumValueDescriptor, FieldDescriptor, Kind, MessageDescriptor};

pub(super) use self::{
    read::{read, read_field},
    scalar::from_text,
    write::{write, write_field},
};
use super::{api, rules};
use crate::excerpt::excerpt;

/// The most elements of a list. No list of a request may hold more.
pub(super) const LIST_MAX: usize = 1_000;

/// Why JSON cannot be the message. The text is for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error {
    /// The field, such as `messages[3].id`; empty for the whole body.
    path: String,
    problem: String,
}

impl Error {
    fn new(problem: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            problem: problem.into(),
        }
    }

    /// What is wrong with one field.
    pub(super) fn field(name: &str, problem: impl Into<String>) -> Self {
        Self::new(problem).within(name)
    }

    /// The field that is to blame, if it is one, and what is wrong with it.
    pub(super) fn blame(&self) -> Option<(&str, &str)> {
        (!self.path.is_empty()).then_some((&self.path, &self.problem))
    }

    /// The field may be something else than what was sent.
    fn unexpected(field: &FieldDescriptor, wanted: &str, sent: &str) -> Self {
        let comment = api::comment(&field.parent_message().parent_file(), field.path());
        let comment = comment.map(|comment| format!(". {comment}")).unwrap_or_default();
        Self::new(format!("must be {wanted}, got {}{comment}", shown(sent)))
    }

    /// The same, seen from the message around it.
    fn within(mut self, parent: &str) -> Self {
        if !self.path.is_empty() && !self.path.starts_with('[') {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, parent);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "the body {}", self.problem),
            path => write!(f, "{path} {}", self.problem),
        }
    }
}

/// What was sent, in a few words.
fn shown(json: &str) -> Cow<'_, str> {
    match json.as_bytes().first() {
        Some(b'{') => "an object".into(),
        Some(b'[') => "an array".into(),
        _ => excerpt(json),
    }
}

/// How values of a kind look in JSON.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// `true` or `false`.
    Bool,
    /// A number, or for 64 bits a string of one.
    Integer(Integer),
    /// A number that may have a fraction.
    Fraction,
    /// A string.
    Text,
    /// One of some words.
    Enum(EnumDescriptor),
    /// A string in RFC 3339.
    Time(MessageDescriptor),
    /// Any value.
    Json(MessageDescriptor),
    /// An object.
    Message(MessageDescriptor),
    /// Something that no message of REST has: bytes and floats of half the precision. A test says when one gets it.
    Unsupported,
}

/// The widths of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    /// 32 bits.
    I32,
    /// 32 bits without a sign.
    U32,
    /// 64 bits.
    I64,
    /// 64 bits without a sign.
    U64,
}

impl Shape {
    /// The shape of a field's values: of each, where the field is repeated.
    pub(super) fn of(field: &FieldDescriptor) -> Self {
        match field.kind() {
            _ if field.is_map() => Self::Unsupported,
            Kind::Bool => Self::Bool,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Self::Integer(Integer::I32),
            Kind::Uint32 | Kind::Fixed32 => Self::Integer(Integer::U32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Self::Integer(Integer::I64),
            Kind::Uint64 | Kind::Fixed64 => Self::Integer(Integer::U64),
            Kind::String => Self::Text,
            Kind::Enum(descriptor) => Self::Enum(descriptor),
            Kind::Message(descriptor) => match descriptor.full_name() {
                "jalur.v1.Json" => Self::Json(descriptor),
                "google.protobuf.Timestamp" => Self::Time(descriptor),
                _ => Self::Message(descriptor),
            },
            Kind::Double => Self::Fraction,
            Kind::Float | Kind::Bytes => Self::Unsupported,
        }
    }

    /// Whether a query parameter can give such a value.
    pub(super) fn is_scalar(&self) -> bool {
        !matches!(self, Self::Json(_) | Self::Message(_) | Self::Unsupported)
    }
}

impl Integer {
    /// Whether JSON's readers may lose digits of it, so that it is written as a string.
    pub(super) fn is_wide(self) -> bool {
        matches!(self, Self::I64 | Self::U64)
    }
}

/// The word for an enum's value: its name in lower case, without the enum's.
pub(super) fn word(value: &EnumValueDescriptor) -> String {
    let parent = value.parent_enum();
    let mut name = value.name();
    // `TenantStatus` is `TENANT_STATUS`, so the prefix is as long as the name and an underscore for each word.
    let words = parent.name().chars().filter(char::is_ascii_uppercase).count();
    let prefix = parent.name().len() + words;
    if let (Some(head), Some(tail)) = (name.get(..prefix), name.get(prefix..))
        && head.replace('_', "").eq_ignore_ascii_case(parent.name())
    {
        name = tail;
    }
    name.to_ascii_lowercase()
}

/// The words that the field may hold, of an enum.
pub(super) fn words(field: &FieldDescriptor, descriptor: &EnumDescriptor) -> Vec<String> {
    sent(field, descriptor).map(|value| word(&value)).collect()
}

/// The values that the field may hold, of an enum: all but the one for "not said", and those that its rules take out.
fn sent(field: &FieldDescriptor, descriptor: &EnumDescriptor) -> impl Iterator<Item = EnumValueDescriptor> {
    let not = match rules::of(field).kind {
        rules::Kind::Enum { not } => not,
        _ => Vec::new(),
    };
    let values = descriptor.values();
    values.filter(move |value| value.number() != 0 && !not.contains(&value.number()))
}

#[cfg(test)]
mod tests {
    use super::{super::routes, *};

    /// Walks over everything that REST reads or writes.
    fn visit(message: &MessageDescriptor, depth: usize, seen: &mut Vec<String>) {
        assert!(depth < 8, "{}: reading would not be bounded", message.full_name());
        seen.push(message.full_name().to_owned());
        for field in message.fields() {
            match Shape::of(&field) {
                Shape::Unsupported => panic!("{}: REST does not know this kind", field.full_name()),
                Shape::Message(message) => visit(&message, depth + 1, seen),
                Shape::Enum(descriptor) => {
                    assert_eq!(word(&descriptor.default_value()), "unspecified");
                    assert!(!words(&field, &descriptor).is_empty());
                }
                _ => {}
            }
        }
    }

    #[test]
    fn rest_knows_every_kind_that_its_messages_have() {
        let mut seen = Vec::new();
        for binding in routes::bindings() {
            visit(&binding.method.descriptor.input(), 0, &mut seen);
            visit(&binding.method.descriptor.output(), 0, &mut seen);
        }
        assert!(seen.iter().any(|name| name == "jalur.v1.Consumer"));
    }

    #[test]
    fn an_enums_words_have_no_prefix() {
        let words = |message: &str| {
            let message = api::pool().get_message_by_name(message).unwrap();
            let field = message.get_field_by_name("status").unwrap();
            words(&field, field.kind().as_enum().unwrap())
        };
        assert_eq!(words("jalur.v1.Tenant"), ["active", "paused", "creating"]);
        // What cannot be sent is not offered.
        assert_eq!(words("jalur.v1.UpdateTenantRequest"), ["active", "paused"]);
    }

    #[test]
    fn what_was_sent_is_said_in_a_few_words() {
        assert!(shown(&"é".repeat(100_000)).len() < 200);
        assert_eq!(shown("{\"a\":1}"), "an object");
    }
}
