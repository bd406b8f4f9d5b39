//! Values that are used but never shown.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A secret. It prints, and is written by `config show`, as asterisks; a URL keeps everything but its password,
/// since that is what an operator needs to see.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing was configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(secret: T) -> Self {
        Self(secret.into())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MASK: &str = "********";
        let url = self.0.split_once("://").map(|(scheme, rest)| {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
            let user = login.split_once(':').map(|(user, _)| user);
            // A query may hold anything, passwords too.
            let path = path.split_once('?').map_or(path, |(path, _)| path);
            match (user, login) {
                (Some(user), _) => format!("{scheme}://{user}:{MASK}@{host}{path}"),
                (None, "") => format!("{scheme}://{host}{path}"),
                (None, user) => format!("{scheme}://{user}@{host}{path}"),
            }
        });
        match url {
            Some(url) => f.write_str(&url),
            None if self.0.is_empty() => Ok(()),
            None => f.write_str(MASK),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_all_but_its_password() {
        assert_eq!(
            Secret::from("amqp://jalur:p@ss@host:5672/v").to_string(),
            "amqp://jalur:********@host:5672/v"
        );
        assert_eq!(
            Secret::from("postgres://host/db?password=x").to_string(),
            "postgres://host/db"
        );
        assert_eq!(
            Secret::from("postgres://jalur@host/db").to_string(),
            "postgres://jalur@host/db"
        );
    }

    #[test]
    fn anything_else_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "********");
        assert_eq!(Secret::default().to_string(), "");
    }
}
