//! From an outside issuer's claims to our role and tenant. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use crate::{
    excerpt::excerpt,
    identity::{Caller, Role, keys::Error},
};

/// How many words of a token that says nothing to us are said back.
const WORDS_SHOWN: usize = 5;

/// How an issuer's claims are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// The claim that says what the bearer is.
    pub(super) role: String,
    /// The claim that names the tenant.
    pub(super) tenant: String,
    /// The issuer's words for our roles.
    pub(super) roles: BTreeMap<String, Role>,
}

impl Mapping {
    /// Who bears a token with these claims, whom `subject` names. Of several roles the strongest counts: lists of groups have no order that
    /// anybody chose.
    pub(super) fn caller(&self, subject: &str, claims: &Value) -> Result<Caller, Error> {
        let role = self.role(claims)?;
        let tenant = self.tenant(claims)?;
        Caller::new(subject, role, tenant).map_err(|error| match error {
            Error::TenantMissing(role) => Error::Claims(format!(
                "role {} needs a tenant: {} is missing, a tenant's UUID",
                role.word(),
                self.tenant
            )),
            Error::TenantNotAllowed(role) => Error::Claims(format!(
                "role {} belongs to no tenant, and {} names one",
                role.word(),
                self.tenant
            )),
            error => error,
        })
    }

    fn role(&self, claims: &Value) -> Result<Role, Error> {
        let wrong = |problem: String| Error::Claims(format!("{} {problem}", self.role));
        let words = match at(claims, &self.role) {
            None | Some(Value::Null) => return Err(wrong("is missing".into())),
            Some(Value::String(word)) => vec![word.as_str()],
            Some(Value::Array(words)) => words
                .iter()
                .map(Value::as_str)
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("must be a word or a list of words".into()))?,
            Some(_) => return Err(wrong("must be a word or a list of words".into())),
        };
        let roles = words.iter().filter_map(|word| self.known(word));
        roles.min_by_key(|role| rank(*role)).ok_or_else(|| {
            let shown: Vec<_> = words.iter().take(WORDS_SHOWN).map(|word| excerpt(word)).collect();
            wrong(format!("names no role that is known here: {shown:?}"))
        })
    }

    /// Without a map an issuer's words are ours, but it runs no daemons unless somebody has said so.
    fn known(&self, word: &str) -> Option<Role> {
        if !self.roles.is_empty() {
            return self.roles.get(word).copied();
        }
        [Role::Admin, Role::TenantAdmin, Role::Tenant]
            .into_iter()
            .find(|role| role.word() == word)
    }

    fn tenant(&self, claims: &Value) -> Result<Option<Uuid>, Error> {
        let wrong = || Error::Claims(format!("{} must be a tenant's UUID, and one alone", self.tenant));
        let text = match at(claims, &self.tenant) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(Value::Array(list)) => match list.as_slice() {
                [] => return Ok(None),
                [Value::String(text)] => text,
                _ => return Err(wrong()),
            },
            Some(_) => return Err(wrong()),
        };
        text.parse().map(Some).map_err(|_| wrong())
    }
}

/// The strongest first.
fn rank(role: Role) -> u8 {
    match role {
        Role::Admin => 0,
        Role::TenantAdmin => 1,
        Role::Tenant => 2,
        Role::Daemon => 3,
    }
}

/// The claim of this name, or the one that its dots lead to: names that are URLs have dots of their own.
fn at<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    claims
        .get(name)
        .or_else(|| name.split('.').try_fold(claims, |value, part| value.get(part)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TENANT: Uuid = Uuid::from_u128(7);

    fn mapping(role: &str, roles: &[(&str, Role)]) -> Mapping {
        Mapping {
            role: role.into(),
            tenant: "tenant_id".into(),
            roles: roles
                .iter()
                .map(|(word, role)| ((*word).to_owned(), *role))
                .collect(),
        }
    }

    fn role(mapping: &Mapping, claims: &Value) -> Result<Role, String> {
        let caller = mapping.caller("ann", claims).map_err(|error| error.to_string())?;
        Ok(caller.role())
    }

    #[test]
    fn without_a_map_an_issuers_words_are_ours_but_for_daemon() {
        let ours = mapping("role", &[]);
        let tenant = json!({ "role": "tenant_admin", "tenant_id": TENANT });
        assert_eq!(role(&ours, &json!({ "role": "admin" })), Ok(Role::Admin));
        assert_eq!(role(&ours, &tenant), Ok(Role::TenantAdmin));
        for word in ["daemon", "root", "Admin", ""] {
            let error = role(&ours, &json!({ "role": word })).unwrap_err();
            assert!(
                error.contains("role names no role") && error.contains(word),
                "{error}"
            );
        }
    }

    #[test]
    fn with_a_map_its_words_count_and_no_others() {
        let mapped = mapping("groups", &[("ops", Role::Admin), ("ingest", Role::Daemon)]);
        assert_eq!(role(&mapped, &json!({ "groups": "ops" })), Ok(Role::Admin));
        assert_eq!(
            role(&mapped, &json!({ "groups": ["ingest"] })),
            Ok(Role::Daemon),
            "somebody has said so"
        );
        assert!(role(&mapped, &json!({ "groups": ["admin", "daemon"] })).is_err());
    }

    #[test]
    fn of_several_roles_the_strongest_counts_in_whatever_order() {
        let mapped = mapping("groups", &[("ops", Role::Admin), ("ingest", Role::Daemon)]);
        for groups in [
            json!(["x", "ingest", "ops"]),
            json!(["ops", "x", "ingest", "ingest"]),
        ] {
            assert_eq!(role(&mapped, &json!({ "groups": groups })), Ok(Role::Admin));
        }
    }

    #[test]
    fn a_claim_may_lie_deeper_or_have_dots_in_its_name() {
        let nested = mapping("realm_access.roles", &[]);
        assert_eq!(
            role(
                &nested,
                &json!({ "realm_access": { "roles": ["offline", "admin"] } })
            ),
            Ok(Role::Admin)
        );
        let named = mapping("https://example.com/role", &[]);
        assert_eq!(
            role(&named, &json!({ "https://example.com/role": "admin" })),
            Ok(Role::Admin)
        );
        for claims in [
            json!({}),
            json!({ "realm_access": "roles" }),
            json!({ "realm_access": { "roles": null } }),
        ] {
            let error = role(&nested, &claims).unwrap_err();
            assert!(error.contains("realm_access.roles is missing"), "{error}");
        }
    }

    #[test]
    fn what_is_no_word_is_refused() {
        let ours = mapping("role", &[]);
        for claim in [
            json!(1),
            json!({ "admin": true }),
            json!(["admin", 1]),
            json!([["admin"]]),
        ] {
            let error = role(&ours, &json!({ "role": claim })).unwrap_err();
            assert!(
                error.contains("role must be a word or a list of words"),
                "{error}"
            );
        }
        let many: Vec<_> = (0..1_000).map(|_| "x".repeat(1_000)).collect();
        assert!(role(&ours, &json!({ "role": many })).unwrap_err().len() < 1_000);
    }

    #[test]
    fn a_tenants_role_needs_one_tenant_and_no_other_role_has_one() {
        let ours = mapping("role", &[]);
        let tenant = |tenant: Value| json!({ "role": "tenant", "tenant_id": tenant });
        for good in [json!(TENANT), json!([TENANT])] {
            let caller = ours.caller("ann", &tenant(good)).unwrap();
            assert_eq!(caller.tenant().map(|tenant| tenant.0), Some(TENANT));
        }
        for (claims, says) in [
            (
                json!({ "role": "tenant" }),
                "needs a tenant: tenant_id is missing",
            ),
            (tenant(json!([])), "needs a tenant: tenant_id is missing"),
            (tenant(json!("acme")), "tenant_id must be a tenant's UUID"),
            (
                tenant(json!([TENANT, TENANT])),
                "tenant_id must be a tenant's UUID",
            ),
            (tenant(json!(7)), "tenant_id must be a tenant's UUID"),
            (
                json!({ "role": "admin", "tenant_id": TENANT }),
                "belongs to no tenant",
            ),
        ] {
            let error = role(&ours, &claims).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
