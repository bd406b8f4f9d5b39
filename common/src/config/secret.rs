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

/// What stands for what is not shown.
const MASK: &str = "********";

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.is_empty(), shown(&self.0)) {
            (true, _) => Ok(()),
            (false, Some(url)) => f.write_str(&url),
            (false, None) => f.write_str(MASK),
        }
    }
}

/// What may be seen of a URL, if it is one beyond doubt. A password that is not percent-encoded may hold any character
/// that divides a URL, and then its parts are not what they seem: so every part has to look like itself.
fn shown(secret: &str) -> Option<String> {
    let (scheme, rest) = secret.split_once("://")?;
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) => (rest, format!("?{MASK}")),
        None => (rest, String::new()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (login, host) = match authority.split_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    let is = |text: &str, more: &[u8]| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte) || more.contains(&byte))
    };
    let at_signs = usize::from(login.is_some());
    if !is(scheme, b"+") || !is(path, b"/") || secret.matches('@').count() != at_signs {
        return None;
    }
    // What is no port may be the beginning of a password whose end is taken for the path.
    let is_host = |host: &str| {
        let (name, port) = match host.strip_prefix('[') {
            Some(literal) => literal.split_once(']').unwrap_or((literal, "x")),
            None => host.split_at(host.find(':').unwrap_or(host.len())),
        };
        let port = port.strip_prefix(':').unwrap_or(port);
        is(name, b":") && port.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !host.split(',').all(is_host) {
        return None;
    }
    Some(match login {
        None => format!("{scheme}://{host}{path}{query}"),
        Some(login) => match login.split_once(':') {
            Some((user, _)) if is(user, b"") => format!("{scheme}://{user}:{MASK}@{host}{path}{query}"),
            None if is(login, b"") => format!("{scheme}://{login}@{host}{path}{query}"),
            _ => format!("{scheme}://{MASK}@{host}{path}{query}"),
        },
    })
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
        for (url, seen) in [
            (
                "amqp://jalur:p!ss@host:5672/v",
                "amqp://jalur:********@host:5672/v",
            ),
            (
                "amqp://jalur:p%40ss@host:5672/%2f",
                "amqp://jalur:********@host:5672/%2f",
            ),
            (
                "postgres://u:p@[::1]:5432/d",
                "postgres://u:********@[::1]:5432/d",
            ),
            ("postgres://jalur@host/db", "postgres://jalur@host/db"),
            ("postgres://host/db?password=x", "postgres://host/db?********"),
            (
                "postgresql:///db?host=/run&sslpassword=x",
                "postgresql:///db?********",
            ),
        ] {
            assert_eq!(Secret::from(url).to_string(), seen);
        }
    }

    #[test]
    fn a_url_that_may_be_cut_otherwise_than_meant_shows_nothing() {
        for url in [
            "postgres://u:hunter/2@h/v",
            "postgres://u:hunt@er2@h/v",
            "postgres://u:hunter?2@h/v",
            "postgres://u:hunter#2@h/v",
            "postgres://u:hunter2/@h/v",
            "postgres://hunter2/x@h/v",
            "amqp://u:hunter\\2@h/v",
            "amqp://u:hunter2@h/v@w",
            "postgres://u:hunter2",
            "postgres://u:/hunter2@h",
            "postgres:///u:hunter2@h",
            "host=h user=u password=hunter2",
            "postgres:u:hunter2@h",
        ] {
            let seen = Secret::from(url).to_string();
            assert!(
                !seen.contains("hunt") && !seen.contains("er2"),
                "{url} is shown as {seen}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_part_of_a_password_is_ever_shown(password in "[A-Z/?#@:%\\[\\]&= ]{1,12}", at in 0_usize..3) {
            let url = [
                format!("postgres://u:{password}@h:5432/v"),
                format!("amqp://u:{password}@h"),
                format!("postgres://h/v?password={password}"),
            ][at].clone();
            let seen = Secret::from(url.as_str()).to_string();
            proptest::prop_assert!(!seen.bytes().any(|byte| byte.is_ascii_uppercase()), "{url} is shown as {seen}");
        }
    }

    #[test]
    fn anything_else_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "********");
        assert_eq!(Secret::default().to_string(), "");
    }
}
