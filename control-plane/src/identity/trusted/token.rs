//! A token of an outside issuer, checked (RFC 8725). Pure but for the clock.
//!
//! What a token says of itself chooses among what is configured and adds nothing to it: a key that it carries (`jwk`,
//! `x5c`) or that it points to (`jku`, `x5u`) is not looked at.

use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, dangerous,
    errors::{Error as JwtError, ErrorKind},
};
use serde::Deserialize;
use serde_json::Value;

use super::entry::Entry;
use crate::{
    excerpt::excerpt,
    identity::{
        Caller,
        keys::{Error, LEEWAY_SECONDS, expires, explain},
    },
};

/// What kinds of token are for calling: a plain JWT, and an access token (RFC 9068). Others come from the same keys.
const TYPES: &[&str] = &["jwt", "at+jwt"];

/// Who says to have issued a token.
pub(super) fn issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issued {
        iss: Option<Value>,
    }
    match dangerous::insecure_decode_claims::<Issued>(token).ok()?.iss? {
        Value::String(issuer) => Some(issuer),
        _ => None,
    }
}

/// The header, if it asks for nothing that is not done here.
pub(super) fn header(token: &str, entry: &Entry) -> Result<Header, Error> {
    let algorithms = || {
        let words: Vec<_> = entry
            .algorithms
            .iter()
            .map(|known| format!("{known:?}"))
            .collect();
        Error::Algorithms(words.join(" or "))
    };
    let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
        // An algorithm that nobody knows, `none` among them.
        ErrorKind::Json(cause) if cause.is_data() => algorithms(),
        _ => Error::Malformed,
    })?;
    if !entry.algorithms.contains(&header.alg) {
        return Err(algorithms());
    }
    if let Some(kind) = &header.typ {
        let lower = kind.to_ascii_lowercase();
        if !TYPES.contains(&lower.strip_prefix("application/").unwrap_or(&lower)) {
            let message = format!("the type {:?}, which is for something else", excerpt(kind));
            return Err(Error::Header(message));
        }
    }
    if header.crit.is_some() {
        let message = "crit: what has to be understood there is not known here";
        return Err(Error::Header(message.into()));
    }
    Ok(header)
}

/// Who bears a token that is signed with `key`.
pub(super) fn caller(
    token: &str,
    algorithm: Algorithm,
    key: &DecodingKey,
    entry: &Entry,
) -> Result<Caller, Error> {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.set_issuer(&[&entry.issuer]);
    validation.set_audience(&[&entry.audience]);
    validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    let claims = jsonwebtoken::decode::<Value>(token, key, &validation)
        .map_err(|error| refusal(&error, token, entry))?
        .claims;
    // It is there, and a string: that is checked by now.
    let subject = claims["sub"].as_str().unwrap_or_default();
    let caller = entry.mapping.caller(subject, &claims)?;
    Ok(caller.until(expires(claims.get("exp"))))
}

fn refusal(error: &JwtError, token: &str, entry: &Entry) -> Error {
    match error.kind() {
        ErrorKind::InvalidIssuer => Error::Issuer(entry.issuer.clone()),
        ErrorKind::InvalidAudience => Error::Audience(entry.audience.clone()),
        // A key that is none after all.
        ErrorKind::InvalidKeyFormat
        | ErrorKind::InvalidEcdsaKey
        | ErrorKind::InvalidEddsaKey
        | ErrorKind::InvalidRsaKey(_) => Error::Signature,
        _ => explain(error, token),
    }
}
