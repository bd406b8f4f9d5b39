//! What a URL of PostgreSQL may say, checked before anything is connected to. Its values are in no error and no log.

use std::fs;

use tracing::warn;
use url::Url;

use crate::config::Error;

/// The parameters that name a file, or hold what would be in it.
const FILES: [&str; 7] = [
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
];
/// The others that are used. Of any more, libpq's for instance, only the name is said.
const PLAIN: [&str; 11] = [
    "sslmode",
    "ssl-mode",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];
const PEM: &str = "-----BEGIN";

/// The URL that the key holds, without what is not known of it.
pub(super) fn checked(key: &str, text: &str) -> Result<Url, Error> {
    let error = |message: String| Error::key(key, message);
    let mut url = Url::parse(text).map_err(|problem| {
        error(format!(
            "is not a URL ({problem}); a user or password with / ? # @ : or % in it must be percent-encoded"
        ))
    })?;
    let is_known =
        |name: &str| FILES.contains(&name) || PLAIN.contains(&name) || name.starts_with("options[");
    let (known, others): (Vec<_>, Vec<_>) = url
        .query_pairs()
        .into_owned()
        .partition(|(name, _)| is_known(name));
    for (name, value) in &known {
        if FILES.contains(&name.as_str()) && !value.trim_start().starts_with(PEM) {
            let text = fs::read_to_string(value);
            let text = text.map_err(|problem| error(format!("{name}: {value} cannot be read: {problem}")))?;
            if !text.contains(PEM) {
                return Err(error(format!("{name}: {value} holds no PEM")));
            }
        }
    }
    if !others.is_empty() {
        for (name, _) in &others {
            warn!(parameter = name, "{key}: the parameter is not known and not used");
        }
        url.set_query(None);
        if !known.is_empty() {
            url.query_pairs_mut().extend_pairs(&known);
        }
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn checked(text: &str) -> Result<Url, Error> {
        super::checked("database.url", text)
    }

    #[test]
    fn a_file_that_is_named_has_to_be_there() {
        let refused = |url: &str| checked(url).unwrap_err().to_string();
        for name in ["sslrootcert", "sslcert", "sslkey"] {
            let error = refused(&format!("postgres://u:p@h/d?{name}=/nope"));
            assert!(error.contains(name) && error.contains("/nope"), "{error}");
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let url = format!(
            "postgres://h/d?sslmode=verify-full&sslrootcert={}",
            file.path().display()
        );
        assert!(refused(&url).contains("no PEM"));
        file.write_all(b"-----BEGIN CERTIFICATE-----\n").unwrap();
        assert_eq!(checked(&url).unwrap().as_str(), url);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let url = checked("postgres://u:p@h/d?sslpassword=x&sslmode=require&connect_timeout=3").unwrap();
        assert_eq!(url.as_str(), "postgres://u:p@h/d?sslmode=require");
        let url = checked("postgres://u:p@h/d?channel_binding=require").unwrap();
        assert_eq!(url.as_str(), "postgres://u:p@h/d");
    }

    #[test]
    fn a_password_that_breaks_the_url_is_not_said() {
        let error = checked("postgres://u:pa/ss@h/v").unwrap_err().to_string();
        assert!(
            error.contains("percent-encoded") && !error.contains("pa/"),
            "{error}"
        );
    }
}
