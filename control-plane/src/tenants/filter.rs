//! Which tenants a list is of.

use super::model::{NAME_CHARACTERS_MAX, Status, check_text};
use crate::error::Error;

/// What the tenants of a list have to be; nothing of what is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// A pattern of `like` for the name as it is looked for.
    pub(super) name: Option<String>,
    pub(super) status: Option<Status>,
}

impl Filter {
    /// Checks what a caller sent: a part of the name, in any case, and a status.
    pub(crate) fn new(name: &str, status: Option<Status>) -> Result<Self, Error> {
        let characters = name.chars().count();
        if characters > NAME_CHARACTERS_MAX {
            let message = format!("must have at most {NAME_CHARACTERS_MAX} characters, it has {characters}");
            return Err(Error::invalid("name", message));
        }
        check_text("name", name)?;
        let name = (!name.is_empty()).then(|| format!("%{}%", escaped(&sought(name))));
        Ok(Self { name, status })
    }
}

/// A name, or a part of one, as it is looked for: without case.
pub(super) fn sought(name: &str) -> String {
    name.to_lowercase()
}

/// As a pattern that matches nothing else.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(part: &str) -> Option<String> {
        Filter::new(part, None).unwrap().name
    }

    #[test]
    fn a_part_of_a_name_is_a_pattern_for_nothing_else() {
        assert_eq!(name(""), None);
        assert_eq!(name("Ärger AG").unwrap(), "%ärger ag%");
        assert_eq!(name(r"100%_\").unwrap(), r"%100\%\_\\%");
    }

    #[test]
    fn a_part_of_a_name_has_200_characters_at_most() {
        assert!(Filter::new(&"ä".repeat(200), None).is_ok());
        for bad in ["ä".repeat(201), "a\0".into()] {
            let error = Filter::new(&bad, None).unwrap_err().to_string();
            assert!(error.starts_with("name "), "{error}");
        }
    }
}
