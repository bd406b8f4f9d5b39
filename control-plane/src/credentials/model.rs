//! What a credential is, and which values will do.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::config::Secret;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{error::Error, identity, tenants::model::is_unseen};

/// The most characters of a label.
const LABEL_CHARACTERS_MAX: usize = 100;
/// How much of chance is in a secret: nobody finds it by trying.
pub(super) const SECRET_BYTES: usize = 32;

/// What a credential's tokens may do: what its tenant's roles may, and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub(crate) enum Role {
    /// Use the tenant.
    Tenant,
    /// Run it.
    TenantAdmin,
}

impl From<Role> for identity::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Tenant => Self::Tenant,
            Role::TenantAdmin => Self::TenantAdmin,
        }
    }
}

/// A credential, without what its secret is checked with.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Credential {
    pub(crate) client_id: Uuid,
    pub(crate) role: Role,
    pub(crate) label: String,
    pub(crate) amqp: bool,
    pub(crate) created_at: OffsetDateTime,
    /// To a minute.
    pub(crate) last_used_at: Option<OffsetDateTime>,
}

/// A credential that is to be: checked.
#[derive(Clone, Debug)]
pub(crate) struct NewCredential {
    pub(crate) role: Role,
    pub(crate) label: String,
    pub(crate) amqp: bool,
}

impl NewCredential {
    /// Checks what a caller sent.
    pub(crate) fn new(role: Role, label: String, amqp: bool) -> Result<Self, Error> {
        let characters = label.chars().count();
        if characters > LABEL_CHARACTERS_MAX {
            let message = format!("must have at most {LABEL_CHARACTERS_MAX} characters, it has {characters}");
            return Err(Error::invalid("label", message));
        }
        // It stands in lists and logs, where one label is not to look like another, or like two lines.
        if let Some(at) = label.chars().position(is_unseen) {
            let message = format!(
                "must have no line breaks, control characters or marks that change the direction of writing; character {} is one",
                at + 1
            );
            return Err(Error::invalid("label", message));
        }
        Ok(Self { role, label, amqp })
    }
}

/// The secret that is written with these bytes: letters, digits, `-` and `_`, so that it stands in a URL as it is.
pub(super) fn secret(bytes: [u8; SECRET_BYTES]) -> Secret {
    URL_SAFE_NO_PAD.encode(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(label: &str) -> Result<NewCredential, Error> {
        NewCredential::new(Role::Tenant, label.into(), false)
    }

    #[test]
    fn a_label_is_one_line_of_100_characters_at_most() {
        for good in [String::new(), "orders, production".into(), "ä".repeat(100)] {
            assert!(new(&good).is_ok(), "{good}");
        }
        for bad in ["ä".repeat(101), "a\nb".into(), "a\0".into(), "a\u{202e}b".into()] {
            let error = new(&bad).unwrap_err().to_string();
            assert!(error.starts_with("label "), "{error}");
        }
    }

    #[test]
    fn a_secret_needs_no_escapes_anywhere_and_is_not_shown() {
        for byte in [0, 0x5a, 0xff] {
            let secret = secret([byte; SECRET_BYTES]);
            assert_eq!(secret.expose().len(), 43);
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            assert!(secret.expose().chars().all(plain));
            assert!(!format!("{secret:?}{secret}").contains(secret.expose()));
        }
    }
}
