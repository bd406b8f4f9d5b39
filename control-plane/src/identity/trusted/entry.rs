//! One entry of `auth.trusted`, checked.

use std::{collections::BTreeMap, fs};

use common::config::{Error, check_clear};
use jsonwebtoken::Algorithm;
use reqwest::Url;

use super::{claims::Mapping, jwks::Jwks};
use crate::{
    config::{Auth, Trusted},
    identity::Role,
};

/// What may be configured. Secrets are not among them: whoever checks with one could sign with it.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// An issuer as it is configured, with the keys that its file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) issuer: String,
    pub(super) audience: String,
    /// Never empty.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) mapping: Mapping,
    pub(super) source: Source,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// They are fetched, and fetched again.
    Url(Url),
    /// They stood in a file.
    File(Jwks),
}

/// Reads `auth.trusted`, and the files that it names.
pub(super) fn read(auth: &Auth, insecure: bool) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<Entry> = Vec::new();
    for (n, configured) in auth.trusted.iter().enumerate() {
        let entry = entry(n, configured, auth, insecure)?;
        let other = match entry.issuer == auth.issuer {
            true => Some("auth.issuer".to_owned()),
            false => entries
                .iter()
                .position(|known| known.issuer == entry.issuer)
                .map(|n| format!("auth.trusted[{n}]")),
        };
        if let Some(other) = other {
            let message = format!(
                "{:?} is {other}, too: each issuer has keys of its own",
                entry.issuer
            );
            return Err(Error::key(format!("auth.trusted[{n}].issuer"), message));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(n: usize, configured: &Trusted, auth: &Auth, insecure: bool) -> Result<Entry, Error> {
    let place = |key: &str| format!("auth.trusted[{n}].{key}");
    for (key, value) in [
        ("issuer", &configured.issuer),
        ("role_claim", &configured.role_claim),
        ("tenant_claim", &configured.tenant_claim),
    ] {
        if value.is_empty() {
            return Err(Error::key(place(key), "is not to be empty"));
        }
    }
    let algorithms = configured.algorithms.iter().enumerate();
    let algorithms = algorithms.map(|(at, text)| algorithm(&place(&format!("algorithms[{at}]")), text));
    let algorithms: Vec<_> = algorithms.collect::<Result<_, _>>()?;
    if algorithms.is_empty() {
        return Err(Error::key(
            place("algorithms"),
            "must name one at least, such as RS256",
        ));
    }
    let mut roles = BTreeMap::new();
    for (word, text) in &configured.roles {
        let role: Role = serde_json::from_value(text.as_str().into()).map_err(|_| {
            let message = format!("{text:?} must be admin, tenant_admin, tenant or daemon");
            Error::key(place(&format!("roles.{word}")), message)
        })?;
        roles.insert(word.clone(), role);
    }
    let source = match (configured.jwks_url.as_str(), configured.jwks_file.as_str()) {
        (url, "") if !url.is_empty() => Source::Url(address(&place("jwks_url"), url, insecure)?),
        ("", path) if !path.is_empty() => Source::File(file(&place("jwks_file"), path, &algorithms)?),
        _ => {
            let message = "or jwks_file must be given, and one of them alone: where its keys are";
            return Err(Error::key(place("jwks_url"), message));
        }
    };
    Ok(Entry {
        issuer: configured.issuer.clone(),
        audience: match configured.audience.as_str() {
            "" => auth.audience.clone(),
            audience => audience.to_owned(),
        },
        algorithms,
        mapping: Mapping {
            role: configured.role_claim.clone(),
            tenant: configured.tenant_claim.clone(),
            roles,
        },
        source,
    })
}

fn algorithm(key: &str, text: &str) -> Result<Algorithm, Error> {
    let known = ALGORITHMS.iter().find(|known| format!("{known:?}") == text);
    known.copied().ok_or_else(|| {
        let all: Vec<_> = ALGORITHMS.iter().map(|known| format!("{known:?}")).collect();
        Error::key(key, format!("{text:?} must be one of {}", all.join(", ")))
    })
}

/// What comes from there is believed, so it has to come from there.
fn address(key: &str, text: &str, insecure: bool) -> Result<Url, Error> {
    let wrong = || Error::key(key, format!("{text:?} must be https://host/…"));
    let url: Url = text.parse().map_err(|_| wrong())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::key(
            key,
            "must hold no login: an issuer's keys are for everybody",
        ));
    }
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => {}
        ("http", Some(_)) if insecure => {}
        ("http", Some(host)) => check_clear(key, host, "use https://")?,
        _ => return Err(wrong()),
    }
    Ok(url)
}

fn file(key: &str, path: &str, algorithms: &[Algorithm]) -> Result<Jwks, Error> {
    let text = fs::read(path).map_err(|error| Error::key(key, format!("{path} cannot be read: {error}")))?;
    let keys = Jwks::parse(&text).map_err(|problem| Error::key(key, format!("{path} {problem}")))?;
    match keys.is_for(algorithms) {
        true => Ok(keys),
        false => Err(Error::key(key, format!("{path} holds no key for {algorithms:?}"))),
    }
}
