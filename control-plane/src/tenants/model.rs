//! What a tenant is, and which values will do.

use std::{fmt, str::FromStr};

use common::id::TenantId;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{error::Error, excerpt::excerpt, limits::Limits, retention::Retention};

/// The most characters in a name.
pub(super) const NAME_CHARACTERS_MAX: usize = 200;
/// The most characters in a description.
const DESCRIPTION_CHARACTERS_MAX: usize = 2_000;
/// The most workers of one tenant.
const WORKERS_MAX: i32 = 256;

/// What its owner wants of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Its queue is consumed.
    Active,
    /// Its queue only takes messages.
    Paused,
}

/// Where a tenant's life stands. Only `Creating` and `Ready` tenants are seen by callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Its partition or queues may not be there yet.
    Creating,
    /// Everything is there.
    Ready,
    /// It is being taken apart.
    Deleting,
    /// Only its id is left, so that nobody gets it again.
    Gone,
}

/// A tenant.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Tenant {
    #[sqlx(try_from = "Uuid")]
    pub(crate) id: TenantId,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) status: Status,
    pub(crate) phase: Phase,
    pub(crate) workers: i32,
    #[sqlx(flatten)]
    pub(crate) limits: Limits,
    #[sqlx(flatten)]
    pub(crate) retention: Retention,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
}

/// A tenant that is to be: checked.
#[derive(Clone, Debug)]
pub(crate) struct NewTenant {
    pub(crate) id: TenantId,
    pub(crate) workers: i32,
    pub(crate) content: Content,
}

/// What CreateTenant says of a tenant, and what a retry with the same id has to repeat.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Content {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) status: Status,
}

impl NewTenant {
    /// Checks what a caller sent; `workers` is the configured default.
    pub(crate) fn new(
        id: Option<&str>,
        name: String,
        description: String,
        status: Status,
        workers: i32,
    ) -> Result<Self, Error> {
        let id = match id {
            Some(id) => parse_id("id", id)?,
            None => TenantId(Uuid::now_v7()),
        };
        check_name(&name)?;
        check_description(&description)?;
        Ok(Self {
            id,
            workers,
            content: Content {
                name,
                description,
                status,
            },
        })
    }
}

/// A change to a tenant: checked. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Update {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) status: Option<Status>,
}

impl Update {
    /// Checks what a caller sent.
    pub(crate) fn new(
        name: Option<String>,
        description: Option<String>,
        status: Option<Status>,
    ) -> Result<Self, Error> {
        name.as_deref().map(check_name).transpose()?;
        description.as_deref().map(check_description).transpose()?;
        Ok(Self {
            name,
            description,
            status,
        })
    }
}

/// Reads a tenant's id.
pub(crate) fn parse_id(field: &str, text: &str) -> Result<TenantId, Error> {
    text.parse().map_err(|_| {
        Error::invalid(
            field,
            format!(
                "{:?} is not a UUID such as 01910000-0000-7000-8000-000000000001",
                excerpt(text)
            ),
        )
    })
}

/// Checks a number of workers.
pub(crate) fn check_workers(workers: i32) -> Result<i32, Error> {
    if (1..=WORKERS_MAX).contains(&workers) {
        Ok(workers)
    } else {
        Err(Error::invalid(
            "workers",
            format!("must be between 1 and {WORKERS_MAX}, got {workers}"),
        ))
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let characters = name.chars().count();
    if name.trim().is_empty() {
        return Err(Error::invalid(
            "name",
            format!("must have between 1 and {NAME_CHARACTERS_MAX} characters, it is empty"),
        ));
    }
    if characters > NAME_CHARACTERS_MAX {
        let message =
            format!("must have between 1 and {NAME_CHARACTERS_MAX} characters, it has {characters}");
        return Err(Error::invalid("name", message));
    }
    // It stands in lists, logs and metrics, where one name is not to look like another, or like two lines.
    if name.trim().len() != name.len() {
        let message = "must begin and end with something other than white space";
        return Err(Error::invalid("name", message));
    }
    if let Some(at) = name.chars().position(is_unseen) {
        let message = format!(
            "must have no line breaks, control characters or marks that change the direction of writing; character {} is one",
            at + 1
        );
        return Err(Error::invalid("name", message));
    }
    check_text("name", name)
}

/// What moves what is shown instead of being shown.
pub(crate) fn is_unseen(character: char) -> bool {
    let turns_text = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    // U+2028 and U+2029 separate lines and paragraphs.
    turns_text || character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

fn check_description(description: &str) -> Result<(), Error> {
    let characters = description.chars().count();
    if characters > DESCRIPTION_CHARACTERS_MAX {
        let message =
            format!("must have at most {DESCRIPTION_CHARACTERS_MAX} characters, it has {characters}");
        return Err(Error::invalid("description", message));
    }
    check_text("description", description)
}

pub(super) fn check_text(field: &str, text: &str) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(Error::invalid(
            field,
            "has a null character, which PostgreSQL cannot hold",
        ));
    }
    Ok(())
}

/// Where a page of tenants starts: after this one, in order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageToken {
    pub(crate) created_at: OffsetDateTime,
    pub(crate) id: Uuid,
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.created_at.unix_timestamp_nanos() / 1_000;
        write!(f, "{micros:x}-{}", self.id.simple())
    }
}

impl FromStr for PageToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (micros, id) = text.split_once('-')?;
            let micros = i64::from_str_radix(micros, 16).ok()?;
            let created_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()?;
            Some(Self {
                created_at,
                id: Uuid::try_parse(id).ok()?,
            })
        };
        parse().ok_or_else(|| {
            Error::invalid(
                "page_token",
                "must be the next_page_token of another page, or empty",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, description: &str) -> Result<NewTenant, Error> {
        NewTenant::new(None, name.into(), description.into(), Status::Active, 3)
    }

    #[test]
    fn a_name_has_1_to_200_characters() {
        assert!(new("a", "").is_ok());
        assert!(new(&"ä".repeat(200), "").is_ok());
        for bad in [String::new(), "  ".into(), "ä".repeat(201), "a\0".into()] {
            let error = new(&bad, "").unwrap_err().to_string();
            assert!(error.starts_with("name "), "{error}");
        }
    }

    #[test]
    fn a_name_is_one_line_that_reads_as_it_is_written() {
        for good in ["Straße 9", "名前", "👩‍💻", "a  b"] {
            assert!(new(good, "").is_ok(), "{good}");
        }
        for bad in [
            " a",
            "a ",
            "a\nb",
            "a\tb",
            "a\u{7f}",
            "a\u{202e}b",
            "a\u{2028}b",
            "\u{2066}a",
        ] {
            let error = new(bad, "").unwrap_err().to_string();
            assert!(error.starts_with("name "), "{bad:?}: {error}");
        }
        assert!(new("a", "several\nlines").is_ok());
    }

    #[test]
    fn what_is_no_id_is_named_and_cut_short() {
        let error = parse_id("id", &"\u{1}".repeat(1 << 20)).unwrap_err().to_string();
        assert!(
            error.starts_with("id: ") && error.len() < 1_000,
            "{}",
            error.len()
        );
    }

    #[test]
    fn a_description_has_2000_characters_at_most() {
        assert!(new("a", &"d".repeat(2_000)).is_ok());
        assert!(
            new("a", &"d".repeat(2_001))
                .unwrap_err()
                .to_string()
                .starts_with("description ")
        );
    }

    #[test]
    fn workers_are_1_to_256() {
        assert!(check_workers(1).is_ok() && check_workers(256).is_ok());
        for bad in [0, 257, -1, i32::MIN] {
            let error = check_workers(bad).unwrap_err().to_string();
            assert!(
                error.contains("workers") && error.contains("1 and 256"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_page_token_comes_back_as_it_went() {
        let created_at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_000).unwrap();
        let token = PageToken {
            created_at,
            id: Uuid::now_v7(),
        };
        assert_eq!(token.to_string().parse::<PageToken>().unwrap(), token);
        for bad in [
            "x",
            "-",
            "12-zz",
            "ffffffffffffffffffff-00000000000000000000000000000000",
        ] {
            assert!(bad.parse::<PageToken>().is_err());
        }
    }
}
