//! All keys together.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::config;
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, errors::ErrorKind};
use uuid::Uuid;

use super::{
    Claims, Error, LEEWAY_SECONDS,
    claims::{Verified, explain},
    key::{Key, SECRET_BYTES_MIN},
};
use crate::{
    config::{Auth, KeyAlgorithm},
    excerpt::excerpt,
    identity::{Caller, Role},
};

/// The keys, and what their tokens have to say.
#[derive(Clone)]
pub(super) struct Ring {
    issuer: String,
    audience: String,
    /// Never empty.
    keys: Vec<Key>,
}

impl Ring {
    pub(super) fn of_secret(secret: &str, issuer: &str, audience: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            keys: vec![Key::of_secret(None, secret.as_bytes())],
        }
    }

    /// Reads the keys' files. The one that has no name comes last.
    pub(super) fn read(auth: &Auth, insecure: bool) -> Result<Self, config::Error> {
        let mut keys: Vec<Key> = Vec::new();
        for (n, configured) in auth.keys.iter().enumerate() {
            let key = Key::read(n, configured, insecure)?;
            if keys.iter().any(|known| known.kid == key.kid) {
                let message = format!("{:?} is another key's, too", configured.kid);
                return Err(config::Error::key(format!("auth.keys[{n}].kid"), message));
            }
            keys.push(key);
        }
        let secret = auth.secret.expose().as_bytes();
        if !secret.is_empty() {
            if secret.len() < SECRET_BYTES_MIN && !insecure {
                let message = format!(
                    "must be {SECRET_BYTES_MIN} bytes at least, got {}; `openssl rand -hex 32` makes one",
                    secret.len()
                );
                return Err(config::Error::key("auth.secret", message));
            }
            keys.push(Key::of_secret(None, secret));
        }
        for (key, value) in [("auth.issuer", &auth.issuer), ("auth.audience", &auth.audience)] {
            if value.is_empty() {
                return Err(config::Error::key(key, "is not to be empty"));
            }
        }
        match keys.first() {
            Some(Key { signing: Some(_), .. }) => Ok(Self {
                issuer: auth.issuer.clone(),
                audience: auth.audience.clone(),
                keys,
            }),
            Some(_) => Err(config::Error::key(
                "auth.keys[0]",
                "the first key signs: it must have a private_key_file or a secret_file",
            )),
            None => Err(config::Error::key(
                "auth.secret",
                "is missing, and auth.keys is empty; `openssl rand -hex 32` makes one; set it in the file, as \
                 JALUR_AUTH__SECRET or as JALUR_AUTH__SECRET_FILE",
            )),
        }
    }

    /// Whether `other` is the same in every respect.
    pub(super) fn is(&self, other: &Self) -> bool {
        let of = |ring: &Self| (ring.issuer.clone(), ring.audience.clone(), ring.keys.len());
        of(self) == of(other) && self.keys.iter().zip(&other.keys).all(|(one, two)| one.is(two))
    }

    pub(super) fn mint(
        &self,
        role: Role,
        tenant: Option<Uuid>,
        sub: &str,
        credential: Option<Uuid>,
        ttl: Duration,
    ) -> Result<String, Error> {
        // A clock before 1970 makes tokens that have expired: closed, and no panic.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: sub.to_owned(),
            iat: now,
            // Within what JSON readers keep exact.
            exp: now
                .checked_add(ttl.as_secs())
                .filter(|exp| *exp < 1 << 53)
                .ok_or(Error::Lifetime)?,
            role,
            tenant_id: tenant,
            client_id: credential,
        };
        let signer = self
            .keys
            .iter()
            .find_map(|key| Some((key, key.signing.as_ref()?)));
        let (key, signing): (&Key, &EncodingKey) = signer.ok_or(Error::NoKey)?;
        let mut header = Header::new(key.algorithm);
        header.kid.clone_from(&key.kid);
        jsonwebtoken::encode(&header, &claims, signing).map_err(Error::Signing)
    }

    pub(super) fn verify(&self, token: &str) -> Result<Caller, Error> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
            // An algorithm that nobody knows, `none` among them.
            ErrorKind::Json(cause) if cause.is_data() => Error::Algorithm(self.algorithms()),
            _ => Error::Malformed,
        })?;
        let key = self.key(header.kid.as_deref())?;
        if header.alg != key.algorithm {
            return Err(Error::Algorithm(word(key.algorithm)));
        }
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        jsonwebtoken::decode::<Verified>(token, &key.checking, &validation)
            .map_err(|error| self.explain(&error, token, key))?
            .claims
            .caller()
    }

    /// The key that a token names. Where there is one alone that has no name itself, a name does not matter.
    fn key(&self, kid: Option<&str>) -> Result<&Key, Error> {
        if let [only] = self.keys.as_slice()
            && only.kid.is_none()
        {
            return Ok(only);
        }
        let known = self.keys.iter().find(|key| key.kid.as_deref() == kid);
        known.ok_or_else(|| match kid {
            Some(kid) => Error::UnknownKey(excerpt(kid).into_owned()),
            None => Error::NoKey,
        })
    }

    fn algorithms(&self) -> &'static str {
        self.keys.first().map_or("a key", |key| word(key.algorithm))
    }

    fn explain(&self, error: &jsonwebtoken::errors::Error, token: &str, key: &Key) -> Error {
        match error.kind() {
            ErrorKind::InvalidAlgorithm
            | ErrorKind::InvalidAlgorithmName
            | ErrorKind::UnsupportedAlgorithm
            | ErrorKind::MissingAlgorithm => Error::Algorithm(word(key.algorithm)),
            ErrorKind::InvalidIssuer => Error::Issuer(self.issuer.clone()),
            ErrorKind::InvalidAudience => Error::Audience(self.audience.clone()),
            _ => explain(error, token),
        }
    }
}

fn word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RS256 => KeyAlgorithm::RS256.word(),
        Algorithm::ES256 => KeyAlgorithm::ES256.word(),
        Algorithm::EdDSA => KeyAlgorithm::EdDSA.word(),
        _ => KeyAlgorithm::HS256.word(),
    }
}

/// Without the secrets.
impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids: Vec<_> = self.keys.iter().map(|key| key.kid.as_deref()).collect();
        f.debug_struct("Ring")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("kids", &kids)
            .finish_non_exhaustive()
    }
}
