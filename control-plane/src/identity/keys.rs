//! Minting and checking tokens.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use uuid::Uuid;

use super::{Caller, Role};

/// How far two machines' clocks may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 5;

/// Why a token is not accepted, or cannot be minted. The text is for the person who sent it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tenant's role came without the tenant.
    #[error("role {} needs a tenant_id, the tenant's UUID", .0.word())]
    TenantMissing(Role),
    /// Another role came with a tenant.
    #[error("role {} takes no tenant_id", .0.word())]
    TenantNotAllowed(Role),
    /// It is over.
    #[error("it has expired; get a new one")]
    Expired,
    /// Its `nbf` is in the future.
    #[error("it is not valid yet")]
    NotYet,
    /// It was signed with another key or changed afterwards.
    #[error("its signature is not from this system's key")]
    Signature,
    /// It is signed in another way, or not at all.
    #[error("it has to be signed with HS256")]
    Algorithm,
    /// It was issued by somebody else.
    #[error("its iss has to be {0:?}")]
    Issuer(String),
    /// It was issued for something else.
    #[error("its aud has to be {0:?}")]
    Audience(String),
    /// A claim is missing or cannot be read.
    #[error("its claims are wrong: {0}")]
    Claims(String),
    /// It is no JWT.
    #[error("it is no JWT")]
    Malformed,
    /// The lifetime that was asked for ends after every date there is.
    #[error("its lifetime is too long")]
    Lifetime,
    /// Signing failed.
    #[error("it could not be signed: {0}")]
    Signing(jsonwebtoken::errors::Error),
}

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
}

/// What is read from a token here; the registered claims are checked before, and may have the other forms that the
/// standard knows (a list of audiences, say).
#[derive(Deserialize)]
struct Verified {
    #[serde(rename = "iat")]
    _iat: IgnoredAny,
    role: Role,
    tenant_id: Option<Uuid>,
}

/// The key that tokens are signed with, and what they have to say.
#[derive(Clone)]
pub struct Keys {
    issuer: String,
    audience: String,
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
}

impl Keys {
    /// Keys for one shared `secret`.
    pub fn new(secret: &str, issuer: &str, audience: &str) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            signing: EncodingKey::from_secret(secret.as_bytes()),
            checking: DecodingKey::from_secret(secret.as_bytes()),
            validation,
        }
    }

    /// A token for `role` that ends after `ttl`. A tenant's roles need the tenant, the others have none. `sub` is
    /// for people who read the token.
    pub fn mint(&self, role: Role, tenant: Option<Uuid>, sub: &str, ttl: Duration) -> Result<String, Error> {
        Caller::new(role, tenant)?;
        // A clock before 1970 makes tokens that have expired: closed, and no panic.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        self.sign(&Claims {
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
        })
    }

    /// Who bears `token`. Only HS256 under this key, with this issuer and audience, and not expired.
    pub fn verify(&self, token: &str) -> Result<Caller, Error> {
        let claims = jsonwebtoken::decode::<Verified>(token, &self.checking, &self.validation)
            .map_err(|error| self.explain(&error))?
            .claims;
        Caller::new(claims.role, claims.tenant_id)
    }

    fn sign(&self, claims: &Claims) -> Result<String, Error> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.signing).map_err(Error::Signing)
    }

    fn explain(&self, error: &jsonwebtoken::errors::Error) -> Error {
        match error.kind() {
            ErrorKind::ExpiredSignature => Error::Expired,
            ErrorKind::ImmatureSignature => Error::NotYet,
            ErrorKind::InvalidSignature => Error::Signature,
            ErrorKind::InvalidAlgorithm
            | ErrorKind::InvalidAlgorithmName
            | ErrorKind::UnsupportedAlgorithm
            | ErrorKind::MissingAlgorithm => Error::Algorithm,
            ErrorKind::InvalidIssuer => Error::Issuer(self.issuer.clone()),
            ErrorKind::InvalidAudience => Error::Audience(self.audience.clone()),
            ErrorKind::MissingRequiredClaim(claim) => Error::Claims(format!("{claim} is missing")),
            ErrorKind::InvalidClaimFormat(claim) => Error::Claims(format!("{claim} cannot be read")),
            ErrorKind::Json(error) if error.is_data() => Error::Claims(error.to_string()),
            _ => Error::Malformed,
        }
    }
}

/// Without the secret.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "a secret of thirty-two bytes, or more";
    const TENANT: Uuid = Uuid::from_u128(7);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn keys() -> Keys {
        Keys::new(SECRET, "jalur", "jalur-api")
    }

    fn claims() -> Value {
        let now = jsonwebtoken::get_current_timestamp();
        json!({
            "iss": "jalur", "aud": "jalur-api", "sub": "s", "iat": now, "exp": now + 60,
            "role": "tenant", "tenant_id": TENANT,
        })
    }

    fn signed(algorithm: Algorithm, claims: &Value) -> String {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    fn with(name: &str, value: Value) -> Result<Caller, Error> {
        let mut claims = claims();
        claims[name] = value;
        keys().verify(&signed(Algorithm::HS256, &claims))
    }

    #[test]
    fn what_is_minted_is_accepted() {
        let keys = keys();
        for (role, tenant) in [
            (Role::Admin, None),
            (Role::Daemon, None),
            (Role::Tenant, Some(TENANT)),
            (Role::TenantAdmin, Some(TENANT)),
        ] {
            let token = keys.mint(role, tenant, "somebody", HOUR).unwrap();
            assert_eq!(keys.verify(&token).unwrap(), Caller::new(role, tenant).unwrap());
        }
    }

    #[test]
    fn a_tenants_role_needs_its_tenant_and_no_other_role_has_one() {
        assert!(matches!(
            keys().mint(Role::Tenant, None, "s", HOUR),
            Err(Error::TenantMissing(_))
        ));
        assert!(matches!(
            keys().mint(Role::Admin, Some(TENANT), "s", HOUR),
            Err(Error::TenantNotAllowed(_))
        ));
        assert!(matches!(
            with("tenant_id", Value::Null),
            Err(Error::TenantMissing(_))
        ));
        assert!(matches!(
            with("role", json!("daemon")),
            Err(Error::TenantNotAllowed(_))
        ));
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        for algorithm in ["none", "None", "NONE"] {
            let header = json!({ "alg": algorithm, "typ": "JWT" }).to_string();
            let parts = [header, claims().to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
            for signature in ["", "AAAA"] {
                assert!(
                    keys()
                        .verify(&format!("{}.{signature}", parts.join(".")))
                        .is_err()
                );
            }
        }
    }

    #[test]
    fn another_key_or_algorithm_is_refused() {
        let token = Keys::new("another secret", "jalur", "jalur-api")
            .mint(Role::Admin, None, "s", HOUR)
            .unwrap();
        assert!(matches!(keys().verify(&token), Err(Error::Signature)));
        let token = signed(Algorithm::HS512, &claims());
        assert!(matches!(keys().verify(&token), Err(Error::Algorithm)));
    }

    #[test]
    fn another_issuer_or_audience_is_refused() {
        assert!(matches!(with("iss", json!("other")), Err(Error::Issuer(_))));
        assert!(matches!(with("aud", json!("other")), Err(Error::Audience(_))));
        assert!(with("aud", json!(["other", "jalur-api"])).is_ok());
    }

    #[test]
    fn time_is_checked_with_a_small_leeway() {
        let now = jsonwebtoken::get_current_timestamp();
        assert!(with("exp", json!(now - 2)).is_ok());
        assert!(matches!(with("exp", json!(now - 30)), Err(Error::Expired)));
        assert!(matches!(with("nbf", json!(now + 30)), Err(Error::NotYet)));
    }

    #[test]
    fn every_claim_has_to_be_there() {
        for claim in ["iss", "aud", "sub", "iat", "exp", "role", "tenant_id"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(claim);
            let error = keys().verify(&signed(Algorithm::HS256, &claims)).unwrap_err();
            assert!(error.to_string().contains(claim), "{claim}: {error}");
        }
        assert!(matches!(with("role", json!("root")), Err(Error::Claims(_))));
        assert!(matches!(with("tenant_id", json!("x")), Err(Error::Claims(_))));
        assert!(matches!(with("exp", json!("soon")), Err(Error::Claims(_))));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", ".", "..", "a.b.c", "é", "a.b.c.d"] {
            assert!(matches!(keys().verify(text), Err(Error::Malformed)), "{text}");
        }
    }

    #[test]
    fn a_lifetime_beyond_all_dates_is_refused() {
        let minted = keys().mint(Role::Admin, None, "s", Duration::MAX);
        assert!(matches!(minted, Err(Error::Lifetime)));
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert!(!format!("{:?}", keys()).contains(SECRET));
    }
}
