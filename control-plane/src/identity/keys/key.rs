//! One key.

use std::fs;

use common::config::Error;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, errors, jwk::Jwk};

use crate::config::{Key as Configured, KeyAlgorithm};

/// Shorter ones can be found by trying.
pub(super) const SECRET_BYTES_MIN: usize = 32;

/// A key for one algorithm.
#[derive(Clone)]
pub(super) struct Key {
    /// What tokens name it by.
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    /// Where it can sign.
    pub(super) signing: Option<EncodingKey>,
    pub(super) checking: DecodingKey,
    /// What it was made from.
    bytes: Vec<u8>,
}

impl Key {
    pub(super) fn is(&self, other: &Self) -> bool {
        let of = |key: &Self| (key.kid.clone(), key.algorithm);
        of(self) == of(other) && self.bytes == other.bytes
    }

    pub(super) fn of_secret(kid: Option<String>, secret: &[u8]) -> Self {
        Self {
            kid,
            algorithm: Algorithm::HS256,
            signing: Some(EncodingKey::from_secret(secret)),
            checking: DecodingKey::from_secret(secret),
            bytes: secret.to_owned(),
        }
    }

    /// Reads the files of `auth.keys[n]`. A short secret will do where that was said.
    pub(super) fn read(n: usize, configured: &Configured, insecure: bool) -> Result<Self, Error> {
        let error = |key: &str, message: String| Error::key(format!("auth.keys[{n}].{key}"), message);
        let Configured {
            kid,
            algorithm,
            secret_file,
            private_key_file,
            public_key_file,
        } = configured;
        if kid.is_empty() {
            return Err(error("kid", "is missing: tokens name their key by it".into()));
        }
        let (key, path) = match (
            secret_file.as_str(),
            private_key_file.as_str(),
            public_key_file.as_str(),
        ) {
            (path, "", "") if !path.is_empty() => ("secret_file", path),
            ("", path, "") if !path.is_empty() => ("private_key_file", path),
            ("", "", path) if !path.is_empty() => ("public_key_file", path),
            _ => {
                let files = match algorithm {
                    KeyAlgorithm::HS256 => "secret_file must be given, and no other file",
                    _ => "private_key_file or public_key_file must be given, and one of them alone",
                };
                return Err(error("algorithm", format!("{}: {files}", algorithm.word())));
            }
        };
        let is_secret = key == "secret_file";
        if is_secret != (*algorithm == KeyAlgorithm::HS256) {
            let message = format!("is no file for {}", algorithm.word());
            return Err(error(key, message));
        }
        let bytes =
            fs::read(path).map_err(|problem| error(key, format!("{path} cannot be read: {problem}")))?;
        if is_secret {
            let secret = bytes.trim_ascii_end();
            if secret.is_empty() || secret.len() < SECRET_BYTES_MIN && !insecure {
                let message = format!(
                    "{path} must hold {SECRET_BYTES_MIN} bytes at least, got {}",
                    secret.len()
                );
                return Err(error(key, message));
            }
            return Ok(Self::of_secret(Some(kid.clone()), secret));
        }
        let unread = |problem: errors::Error| {
            error(
                key,
                format!(
                    "{path} holds no PEM of such a key for {}: {problem}",
                    algorithm.word()
                ),
            )
        };
        let (signing, checking) = if key == "private_key_file" {
            let signing = match algorithm {
                KeyAlgorithm::RS256 => EncodingKey::from_rsa_pem(&bytes),
                KeyAlgorithm::ES256 => EncodingKey::from_ec_pem(&bytes),
                KeyAlgorithm::EdDSA | KeyAlgorithm::HS256 => EncodingKey::from_ed_pem(&bytes),
            };
            let signing = signing.map_err(unread)?;
            let public = Jwk::from_encoding_key(&signing, (*algorithm).into()).map_err(unread)?;
            (Some(signing), DecodingKey::from_jwk(&public).map_err(unread)?)
        } else {
            let checking = match algorithm {
                KeyAlgorithm::RS256 => DecodingKey::from_rsa_pem(&bytes),
                KeyAlgorithm::ES256 => DecodingKey::from_ec_pem(&bytes),
                KeyAlgorithm::EdDSA | KeyAlgorithm::HS256 => DecodingKey::from_ed_pem(&bytes),
            };
            (None, checking.map_err(unread)?)
        };
        Ok(Self {
            kid: Some(kid.clone()),
            algorithm: (*algorithm).into(),
            signing,
            checking,
            bytes,
        })
    }
}
