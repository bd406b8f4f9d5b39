//! What a token says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{
    dangerous,
    errors::{self, ErrorKind},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Error, LEEWAY_SECONDS};
use crate::identity::{Caller, Role};

/// The claims of a token.
#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// What it is for.
    pub aud: String,
    /// Whom it stands for, for people who read it.
    pub sub: String,
    /// When it was issued, in seconds since 1970.
    pub iat: u64,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// What its bearer is.
    pub role: Role,
    /// The tenant, for a tenant's roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Uuid>,
    /// The credential that bought it, by the name that RFC 9068 has for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Uuid>,
}

/// What is read from a token here; the registered claims are checked before, and may have the other forms that the
/// standard knows (a list of audiences, say).
#[derive(Deserialize)]
pub(super) struct Verified {
    sub: Option<Value>,
    exp: Option<Value>,
    iat: Option<Value>,
    role: Option<Value>,
    tenant_id: Option<Value>,
    client_id: Option<Value>,
}

impl Verified {
    pub(super) fn caller(self) -> Result<Caller, Error> {
        let missing = |claim: &str| Error::Claims(format!("{claim} is missing"));
        self.iat.ok_or_else(|| missing("iat"))?;
        let role = self.role.ok_or_else(|| missing("role"))?;
        let role = serde_json::from_value(role)
            .map_err(|_| Error::Claims("role must be admin, tenant_admin, tenant or daemon".to_owned()))?;
        let tenant = self.tenant_id.map(serde_json::from_value).transpose();
        let tenant = tenant.map_err(|_| Error::Claims("tenant_id must be a tenant's UUID".to_owned()))?;
        let sub = self.sub.as_ref().and_then(Value::as_str);
        // A token from elsewhere may have another client's, which is none of our credentials.
        let credential = self.client_id.and_then(|id| serde_json::from_value(id).ok());
        let caller = Caller::new(sub.ok_or_else(|| missing("sub"))?, role, tenant)?;
        Ok(caller.by_credential(credential).until(expires(self.exp.as_ref())))
    }
}

/// Until when a token is accepted that ends at `exp`: the checks go by whole seconds, and the last of them counts. One that
/// ends after every date there is has a year.
pub(in crate::identity) fn expires(exp: Option<&Value>) -> SystemTime {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
    let exp = exp.and_then(|exp| {
        exp.as_u64()
            .or_else(|| exp.as_f64().map(|exp| exp.round() as u64))
    });
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(
        exp.unwrap_or(0).saturating_add(LEEWAY_SECONDS + 1),
    ));
    end.unwrap_or_else(|| SystemTime::now() + YEAR)
}

/// What is wrong with a token in words of ours, where that depends on nothing but the token.
pub(in crate::identity) fn explain(error: &errors::Error, token: &str) -> Error {
    match error.kind() {
        ErrorKind::ExpiredSignature => Error::Expired,
        ErrorKind::ImmatureSignature => Error::NotYet,
        ErrorKind::InvalidSignature => Error::Signature,
        // One of another type counts as missing, too. The signature was good.
        ErrorKind::MissingRequiredClaim(claim) => match dangerous::insecure_decode::<Value>(token) {
            Ok(token) if !token.claims[claim.as_str()].is_null() => {
                Error::Claims(format!("{claim} is of another type; {} is wanted", wanted(claim)))
            }
            _ => Error::Claims(format!("{claim} is missing")),
        },
        ErrorKind::InvalidClaimFormat(claim) => Error::Claims(format!("{claim} cannot be read")),
        ErrorKind::Json(error) if error.is_data() => Error::Claims(error.to_string()),
        _ => Error::Malformed,
    }
}

/// What a registered claim may be.
fn wanted(claim: &str) -> &'static str {
    match claim {
        "exp" | "nbf" | "iat" => "a number of seconds since 1970",
        _ => "a string",
    }
}
