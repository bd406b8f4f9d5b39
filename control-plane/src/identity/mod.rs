//! Who is calling, and what they may call.
//!
//! A JWT names a [`Role`] and, for a tenant's roles, the tenant. [`Keys`] checks it, or has the outside issuer check it
//! that it is from (`trusted`); [`rules`] says which roles may call which method; [`authorize`] does both and is called
//! once, by the gateway, in front of gRPC and REST alike. It needs headers only, so nothing of a body is read for a
//! caller who may not send it. What remains for a handler is whose data it touches: [`Caller::scope`].
//!
//! Everything is denied by default: a method without a rule cannot be called.

mod caller;
mod codes;
mod keys;
mod lifetime;
mod revoked;
pub mod rules;
mod trusted;

use common::id::TenantId;
use http::{HeaderMap, header::AUTHORIZATION};
use tonic::Status;

pub use self::{
    caller::{Caller, Role},
    codes::Codes,
    keys::{Claims, Error, Keys},
    lifetime::Lifetime,
    revoked::Revoked,
    rules::Rule,
};
use crate::failure::Reason;

/// What the bearer of a tenant's token is told when there is no such tenant, or not any more.
pub fn gone(tenant: TenantId) -> Status {
    let message = format!("the token is not accepted: its tenant {tenant} does not exist, or not any more");
    let gone = Reason::TenantGone.failure(message);
    gone.about("tenant_id", tenant).into()
}

/// What whoever sent a token is told of it.
pub fn refusal(error: &Error) -> Status {
    let message = format!("the token is not accepted: {error}");
    let reason = match error {
        // It may be good: nothing is known of it, and whoever has it is not to throw it away.
        Error::IssuerAway(_) => Reason::IssuerUnavailable,
        Error::Expired => Reason::TokenExpired,
        _ => Reason::TokenInvalid,
    };
    reason.status(message)
}

/// Checks that the call's headers satisfy the rule, and answers who calls: nobody in particular where the method is
/// public. `method` is named in the message. `known` is told who it is before it is looked at what that caller may do.
pub async fn authorize(
    keys: &Keys,
    rule: Option<Rule>,
    method: &str,
    headers: &HeaderMap,
    known: impl FnOnce(&Caller),
) -> Result<Option<Caller>, Status> {
    let roles = match rule {
        Some(Rule::Public) => return Ok(None),
        Some(Rule::Roles(roles)) => roles,
        // Even the existence of a caller does not matter: this is a fault of ours, and closed.
        None => &[],
    };
    let token = bearer(headers)?;
    let caller = keys.caller(token).await.map_err(|error| refusal(&error))?;
    known(&caller);
    if roles.contains(&caller.role()) {
        return Ok(Some(caller));
    }
    let allowed = match roles {
        [] => "nobody may".to_owned(),
        roles => format!(
            "allowed: {}",
            roles.iter().map(Role::word).collect::<Vec<_>>().join(", ")
        ),
    };
    Err(Reason::RoleDenied.status(format!(
        "role {} may not call {method}; {allowed}",
        caller.role().word()
    )))
}

/// The token of `authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<&str, Status> {
    const WANTED: &str = "send `Authorization: Bearer <token>`";
    let value = headers
        .get(AUTHORIZATION)
        .ok_or_else(|| Reason::TokenMissing.status(format!("a token is missing; {WANTED}")))?;
    value
        .to_str()
        .ok()
        .and_then(|value| value.trim().split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim_start())
        .ok_or_else(|| Reason::TokenInvalid.status(format!("the authorization is of another kind; {WANTED}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;
    use uuid::Uuid;

    use super::*;

    const METHOD: &str = "jalur.v1.TenantService/ListTenants";

    fn keys() -> Keys {
        Keys::new("a secret of thirty-two bytes, or more", "jalur", "jalur")
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    fn token(role: Role) -> String {
        let tenant = role.is_of_a_tenant().then(|| Uuid::from_u128(1));
        keys()
            .mint(role, tenant, "test", Duration::from_secs(60))
            .unwrap()
    }

    #[tokio::test]
    async fn a_call_without_a_bearer_token_is_unauthenticated() {
        let rule = Some(Rule::Roles(&[Role::Admin]));
        for headers in [
            HeaderMap::new(),
            headers("Basic YTpi"),
            headers("Bearer"),
            headers("Bearer x"),
        ] {
            let refused = authorize(&keys(), rule, METHOD, &headers, |_| ())
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        }
    }

    #[tokio::test]
    async fn the_scheme_may_be_written_in_any_case() {
        let rule = Some(Rule::Roles(&[Role::Admin]));
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let headers = headers(&format!("{scheme} {}", token(Role::Admin)));
            assert!(authorize(&keys(), rule, METHOD, &headers, |_| ()).await.is_ok());
        }
    }

    #[tokio::test]
    async fn another_role_is_denied_and_told_which_are_allowed() {
        let headers = headers(&format!("Bearer {}", token(Role::Tenant)));
        let rule = Some(Rule::Roles(&[Role::Admin, Role::TenantAdmin]));
        let refused = authorize(&keys(), rule, METHOD, &headers, |_| ())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(
            refused.message(),
            "role tenant may not call jalur.v1.TenantService/ListTenants; allowed: admin, tenant_admin"
        );
    }

    #[tokio::test]
    async fn a_method_without_a_rule_is_denied_even_to_an_admin() {
        let headers = headers(&format!("Bearer {}", token(Role::Admin)));
        let refused = authorize(&keys(), None, METHOD, &headers, |_| ())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }

    #[tokio::test]
    async fn a_public_method_needs_no_token() {
        assert_eq!(
            authorize(&keys(), Some(Rule::Public), METHOD, &HeaderMap::new(), |_| ())
                .await
                .unwrap(),
            None
        );
    }
}
