//! Outside issuers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An outside issuer whose tokens are believed. What is wrong with one is said where it becomes one that checks tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trusted {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// What their `aud` has to name. Empty: `auth.audience`.
    #[serde(default)]
    pub audience: String,
    /// Where its keys are fetched, a JWK set; `https://`, or `http://` from this machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jwks_url: String,
    /// Or the file that they stand in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jwks_file: String,
    /// What its tokens may be signed with; nothing else is taken, whatever a token or a key says.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<String>,
    /// The claim that says what the bearer is: a word or a list of words. Dots lead inwards: `realm_access.roles`.
    #[serde(default = "role_claim")]
    pub role_claim: String,
    /// The claim that names a tenant's UUID.
    #[serde(default = "tenant_claim")]
    pub tenant_claim: String,
    /// Its words for our roles. Empty: its words are ours, but for `daemon`.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
}

fn algorithms() -> Vec<String> {
    vec!["RS256".into()]
}

fn role_claim() -> String {
    "role".into()
}

fn tenant_claim() -> String {
    "tenant_id".into()
}
