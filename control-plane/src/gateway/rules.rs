//! What a request's fields may hold, as the protos say it: `buf.validate` and `google.api.field_behavior`. Pure.
//!
//! OpenAPI takes its bounds from here, and the reader of JSON its words. Who checks them is the handlers, whose messages
//! know more; a test sends what is just beyond each rule, and holds the two together.

use prost_reflect::{DynamicMessage, ExtensionDescriptor, FieldDescriptor, ReflectMessage as _, Value};

use super::api;

const FIELD: &str = "buf.validate.field";
const BEHAVIOR: &str = "google.api.field_behavior";
/// `FieldBehavior.REQUIRED`.
const REQUIRED: i32 = 2;
/// `Ignore.IGNORE_IF_ZERO_VALUE`.
const IF_ZERO: i32 = 1;

/// The rules of a field, or of a list's elements.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rules {
    /// Whether it has to be sent.
    pub(super) is_required: bool,
    /// Whether what is empty counts as not sent.
    pub(super) may_be_empty: bool,
    pub(super) kind: Kind,
}

/// The rules of its type. What is absent has no bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Kind {
    #[default]
    Any,
    Integer {
        least: Option<i64>,
        most: Option<i64>,
    },
    Text {
        is_uuid: bool,
        characters_min: Option<u64>,
        characters_max: Option<u64>,
        pattern: Option<String>,
    },
    /// The numbers that are not to be sent.
    Enum {
        not: Vec<i32>,
    },
    List {
        least: Option<u64>,
        most: Option<u64>,
        items: Box<Rules>,
    },
}

/// What the proto says of the field.
pub(super) fn of(field: &FieldDescriptor) -> Rules {
    let options = field.options();
    let mut rules = match extension(FIELD).filter(|extension| options.has_extension(extension)) {
        Some(extension) => match options.get_extension(&extension).as_message() {
            Some(message) => read(message),
            None => Rules::default(),
        },
        None => Rules::default(),
    };
    if let Some(extension) = extension(BEHAVIOR)
        && let Some(behaviors) = options.get_extension(&extension).as_list()
    {
        rules.is_required |= behaviors.contains(&Value::EnumNumber(REQUIRED));
    }
    rules
}

fn extension(name: &str) -> Option<ExtensionDescriptor> {
    api::pool().get_extension_by_name(name)
}

fn read(rules: &DynamicMessage) -> Rules {
    let message = |name: &str| get(rules, name).and_then(|value| value.as_message().cloned());
    let integer = |rules: &DynamicMessage| {
        let bound = |name: &str| {
            let value = get(rules, name)?;
            value.as_i64().or(value.as_i32().map(i64::from))
        };
        Kind::Integer {
            least: bound("gte"),
            most: bound("lte"),
        }
    };
    let count = |rules: &DynamicMessage, name: &str| get(rules, name).and_then(|value| value.as_u64());
    let kind = if let Some(rules) = message("int32").or(message("int64")) {
        integer(&rules)
    } else if let Some(rules) = message("string") {
        Kind::Text {
            is_uuid: get(&rules, "uuid").and_then(|value| value.as_bool()) == Some(true),
            characters_min: count(&rules, "min_len"),
            characters_max: count(&rules, "max_len"),
            pattern: get(&rules, "pattern").and_then(|value| value.as_str().map(str::to_owned)),
        }
    } else if let Some(rules) = message("enum") {
        let not = get(&rules, "not_in").and_then(|value| value.as_list().map(<[_]>::to_vec));
        let not = not.unwrap_or_default();
        Kind::Enum {
            not: not.iter().filter_map(Value::as_i32).collect(),
        }
    } else if let Some(rules) = message("repeated") {
        let items = get(&rules, "items").and_then(|value| value.as_message().map(read));
        Kind::List {
            least: count(&rules, "min_items"),
            most: count(&rules, "max_items"),
            items: Box::new(items.unwrap_or_default()),
        }
    } else {
        Kind::Any
    };
    Rules {
        is_required: get(rules, "required").and_then(|value| value.as_bool()) == Some(true),
        may_be_empty: get(rules, "ignore").and_then(|value| value.as_enum_number()) == Some(IF_ZERO),
        kind,
    }
}

fn get(message: &DynamicMessage, name: &str) -> Option<Value> {
    let field = message.descriptor().get_field_by_name(name)?;
    message
        .has_field(&field)
        .then(|| message.get_field(&field).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(message: &str, field: &str) -> Rules {
        let message = api::pool()
            .get_message_by_name(&format!("jalur.v1.{message}"))
            .unwrap();
        of(&message.get_field_by_name(field).unwrap())
    }

    #[test]
    fn what_the_protos_say_is_read() {
        let workers = rules("SetConcurrencyRequest", "workers");
        assert!(workers.is_required);
        assert_eq!(
            workers.kind,
            Kind::Integer {
                least: Some(1),
                most: Some(256)
            }
        );
        let backlog = rules("SetLimitsRequest", "backlog_bytes");
        assert!(!backlog.is_required);
        assert_eq!(
            backlog.kind,
            Kind::Integer {
                least: Some(1),
                most: Some(999_999_999_999)
            }
        );
        let tenant = rules("ListMessagesRequest", "tenant_id");
        assert!(tenant.may_be_empty && matches!(tenant.kind, Kind::Text { is_uuid: true, .. }));
        assert_eq!(
            rules("CreateTenantRequest", "status").kind,
            Kind::Enum { not: vec![3] }
        );
        let Kind::List { most, items, .. } = rules("ReplayDeadLettersRequest", "ids").kind else {
            panic!("a list has a list's rules");
        };
        assert!(most == Some(1_000) && matches!(items.kind, Kind::Text { is_uuid: true, .. }));
        assert_eq!(rules("Tenant", "workers"), Rules::default());
    }
}
