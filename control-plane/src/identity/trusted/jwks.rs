//! An issuer's keys, as a JWK set has them (RFC 7517). Pure.

use std::ops::RangeInclusive;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{excerpt::excerpt, identity::keys::Error};

/// The most keys of a set that are looked at: issuers have a handful.
const KEYS_MAX: usize = 100;
/// What RSA keys may have: fewer can be broken, and of more none can be checked here.
const RSA_BITS: RangeInclusive<usize> = 2_048..=4_096;

/// The keys of one issuer that can check something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Jwks(Vec<Key>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    kid: Option<String>,
    /// The one it is for, if it says so.
    algorithm: Option<KeyAlgorithm>,
    kind: Kind,
    jwk: Jwk,
}

/// What a key is, and so what it can check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Jwks {
    /// Reads a set. What is for something else, or of a kind that is not known, is passed over, as the standard has it.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(text).map_err(|error| format!("is no JWK set: {error}"))?;
        Ok(Self(
            set.keys.into_iter().take(KEYS_MAX).filter_map(key).collect(),
        ))
    }

    /// Whether any key can check one of these.
    pub(super) fn is_for(&self, algorithms: &[Algorithm]) -> bool {
        let mut all = algorithms.iter();
        all.any(|algorithm| self.0.iter().any(|key| key.checks(*algorithm)))
    }

    /// What its keys are called, for people.
    pub(super) fn kids(&self) -> Vec<&str> {
        let kids = self.0.iter().map(|key| key.kid.as_deref());
        kids.map(|kid| kid.unwrap_or("(no kid)")).collect()
    }

    /// The key that a token is to be checked with: the one that it names, or else the only one that it can be.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Error> {
        let mut fitting = self.0.iter().filter(|key| key.checks(algorithm));
        let key = match kid {
            Some(kid) => fitting
                .find(|key| key.kid.as_deref() == Some(kid))
                .ok_or_else(|| Error::NotIssuers(excerpt(kid).into_owned(), algorithm))?,
            None => match (fitting.next(), fitting.next()) {
                (Some(only), None) => only,
                _ => return Err(Error::Ambiguous),
            },
        };
        DecodingKey::from_jwk(&key.jwk).map_err(|_| Error::Signature)
    }
}

impl Key {
    fn checks(&self, algorithm: Algorithm) -> bool {
        let kind = match algorithm {
            Algorithm::ES256 => self.kind == Kind::P256,
            Algorithm::ES384 => self.kind == Kind::P384,
            Algorithm::EdDSA => self.kind == Kind::Ed25519,
            other => other.family() == AlgorithmFamily::Rsa && self.kind == Kind::Rsa,
        };
        kind && self.algorithm.is_none_or(|own| own == algorithm.into())
    }
}

/// The key, if it can check signatures.
fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let common = &jwk.common;
    let is_for_signatures = common
        .public_key_use
        .as_ref()
        .is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
        && common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !is_for_signatures {
        return None;
    }
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let are = |texts: &[&String], length: usize| {
        let mut lengths = texts.iter().map(|text| bytes(text).map(|bytes| bytes.len()));
        lengths.all(|found| found == Some(length))
    };
    // Lengths first: not every library looks before it reads.
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) => {
            let modulus = bytes(&key.n)?;
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            RSA_BITS
                .contains(&((modulus.len() - zeros) * 8))
                .then_some(Kind::Rsa)?
        }
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 if are(&[&key.x, &key.y], 32) => Kind::P256,
            EllipticCurve::P384 if are(&[&key.x, &key.y], 48) => Kind::P384,
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            are(&[&key.x], 32).then_some(Kind::Ed25519)?
        }
        // A secret that everybody can read is none.
        _ => return None,
    };
    DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key {
        kid: common.key_id.clone(),
        algorithm: common.key_algorithm,
        kind,
        jwk,
    })
}
