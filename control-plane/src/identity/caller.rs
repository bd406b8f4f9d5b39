//! The verified caller of a method.

use std::{sync::Arc, time::SystemTime};

use common::id::TenantId;
use serde::{Deserialize, Serialize};
use tonic::Status;
use uuid::Uuid;

use super::Error;
use crate::{excerpt::excerpt, failure::Reason};

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the system: everything but a daemon's stream.
    Admin,
    /// Runs one tenant.
    TenantAdmin,
    /// Uses one tenant: publishes and reads.
    Tenant,
    /// An ingest daemon.
    Daemon,
}

impl Role {
    /// Whether the role is one tenant's, so that a token has to name the tenant.
    pub fn is_of_a_tenant(self) -> bool {
        matches!(self, Self::TenantAdmin | Self::Tenant)
    }

    /// The role as tokens write it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::TenantAdmin => "tenant_admin",
            Self::Tenant => "tenant",
            Self::Daemon => "daemon",
        }
    }
}

/// Who calls, as a verified token says. The gateway puts it in the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    subject: Arc<str>,
    role: Role,
    /// Present exactly when the role is one tenant's.
    tenant: Option<TenantId>,
    /// The credential that bought the token.
    credential: Option<Uuid>,
    expires: SystemTime,
}

impl Caller {
    /// A caller whom `subject` names, and whose token is over. Fails where a tenant's role lacks the tenant, or another
    /// role has one.
    pub fn new(subject: &str, role: Role, tenant: Option<Uuid>) -> Result<Self, Error> {
        match (role.is_of_a_tenant(), tenant) {
            (true, None) => Err(Error::TenantMissing(role)),
            (false, Some(_)) => Err(Error::TenantNotAllowed(role)),
            _ => Ok(Self {
                subject: subject.into(),
                role,
                tenant: tenant.map(TenantId),
                credential: None,
                expires: SystemTime::UNIX_EPOCH,
            }),
        }
    }

    /// The same caller, by a token that a credential bought.
    pub(super) fn by_credential(self, credential: Option<Uuid>) -> Self {
        Self { credential, ..self }
    }

    /// The same caller, by a token that is accepted until then.
    pub(super) fn until(self, expires: SystemTime) -> Self {
        Self { expires, ..self }
    }

    /// The caller of a request that came through the gateway. One that did not has no caller, and is refused.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Reason::TokenMissing.status("nobody is known to have made this call"))
    }

    /// Whom the token stands for (`sub`), as whoever issued it wrote it.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What the caller is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The one tenant that the caller belongs to; none for the roles that are no tenant's.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// The `client_id` of the credential that bought the token; none for tokens from elsewhere.
    pub fn credential(&self) -> Option<Uuid> {
        self.credential
    }

    /// Until when the token is accepted.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// The tenant that a request means by `tenant_id`, its field `field`, if the caller may touch that tenant. For a
    /// tenant's roles an empty id is their own, and any other tenant is denied without looking whether it exists.
    pub fn scope(&self, field: &'static str, tenant_id: &str) -> Result<TenantId, Status> {
        let asked = match tenant_id {
            "" => None,
            text => Some(text.parse::<TenantId>().map_err(|_| {
                let wanted = "must be a UUID, such as 0198c0de-0000-7000-8000-000000000001";
                invalid(field, &format!("{wanted}, not {:?}", excerpt(text)))
            })?),
        };
        match (self.role, self.tenant, asked) {
            (Role::Admin, _, Some(asked)) => Ok(asked),
            (Role::Admin, _, None) => Err(invalid(field, "is missing: an admin has to name the tenant")),
            (_, Some(own), None) => Ok(own),
            (_, Some(own), Some(asked)) if own == asked => Ok(own),
            (_, Some(own), Some(_)) => {
                let message = format!("this token is for tenant {own} and no other");
                let denied = Reason::TenantDenied.failure(message);
                Err(denied.about("tenant_id", own).into())
            }
            (role, None, _) => {
                Err(Reason::TenantDenied.status(format!("role {} has no tenant", role.word())))
            }
        }
    }
}

fn invalid(field: &str, problem: &str) -> Status {
    let failure = Reason::InvalidField.failure(format!("{field} {problem}"));
    failure.blames(field, problem).into()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const OWN: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn scope(role: Role, tenant_id: &str) -> Result<TenantId, Code> {
        let tenant = role.is_of_a_tenant().then_some(OWN);
        let caller = Caller::new("test", role, tenant).unwrap();
        caller.scope("id", tenant_id).map_err(|status| {
            assert!(!status.message().is_empty());
            status.code()
        })
    }

    #[test]
    fn an_admin_names_any_tenant_and_has_to() {
        assert_eq!(scope(Role::Admin, &OTHER.to_string()), Ok(TenantId(OTHER)));
        assert_eq!(scope(Role::Admin, ""), Err(Code::InvalidArgument));
        assert_eq!(scope(Role::Admin, "x"), Err(Code::InvalidArgument));
    }

    #[test]
    fn a_tenants_token_reaches_its_own_tenant_only() {
        for role in [Role::Tenant, Role::TenantAdmin] {
            assert_eq!(scope(role, ""), Ok(TenantId(OWN)));
            assert_eq!(scope(role, &OWN.to_string()), Ok(TenantId(OWN)));
            assert_eq!(scope(role, &OTHER.to_string()), Err(Code::PermissionDenied));
            assert_eq!(scope(role, "x"), Err(Code::InvalidArgument));
        }
    }

    #[test]
    fn a_daemon_reaches_no_tenant() {
        assert_eq!(scope(Role::Daemon, &OWN.to_string()), Err(Code::PermissionDenied));
        assert_eq!(scope(Role::Daemon, ""), Err(Code::PermissionDenied));
    }

    #[test]
    fn a_bad_id_is_named_with_its_field_and_cut_short() {
        let caller = Caller::new("test", Role::Admin, None).unwrap();
        let refused = caller.scope("tenant_id", &"é".repeat(10_000)).unwrap_err();
        assert!(refused.message().starts_with("tenant_id must be a UUID"));
        assert!(refused.message().len() < 300);
    }

    #[test]
    fn a_request_that_came_another_way_has_no_caller() {
        let refused = Caller::of(&tonic::Request::new(())).unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }

    #[test]
    fn a_role_is_written_as_it_is_serialized() {
        for role in [Role::Admin, Role::TenantAdmin, Role::Tenant, Role::Daemon] {
            assert_eq!(serde_json::to_value(role).unwrap(), role.word());
        }
    }
}
