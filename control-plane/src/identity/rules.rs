//! Which roles may call which method: the whole table.

use super::Role::{self, Admin, Daemon, Tenant, TenantAdmin};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Anybody, without a token.
    Public,
    /// Callers with one of these roles.
    Roles(&'static [Role]),
}

const ADMIN: Rule = Rule::Roles(&[Admin]);
const TENANT_ADMIN: Rule = Rule::Roles(&[Admin, TenantAdmin]);
const TENANT: Rule = Rule::Roles(&[Admin, TenantAdmin, Tenant]);
const DAEMON: Rule = Rule::Roles(&[Daemon]);

/// Every method's rule, by its path in gRPC.
const METHODS: &[(&str, Rule)] = &[
    ("/jalur.v1.TenantService/CreateTenant", ADMIN),
    ("/jalur.v1.TenantService/ListTenants", ADMIN),
    ("/jalur.v1.TenantService/GetTenant", TENANT),
    ("/jalur.v1.TenantService/UpdateTenant", ADMIN),
    ("/jalur.v1.TenantService/DeleteTenant", ADMIN),
    ("/jalur.v1.TenantService/SetConcurrency", TENANT_ADMIN),
    ("/jalur.v1.TenantService/SetLimits", ADMIN),
    ("/jalur.v1.TenantService/SetRetention", ADMIN),
    ("/jalur.v1.MessageService/PublishMessages", TENANT),
    ("/jalur.v1.MessageService/ListMessages", TENANT),
    ("/jalur.v1.MessageService/GetMessage", TENANT),
    ("/jalur.v1.MessageService/StreamMessages", TENANT),
    ("/jalur.v1.DeadLetterService/ListDeadLetters", TENANT_ADMIN),
    ("/jalur.v1.DeadLetterService/GetDeadLetter", TENANT_ADMIN),
    ("/jalur.v1.DeadLetterService/ReplayDeadLetters", TENANT_ADMIN),
    ("/jalur.v1.DeadLetterService/PurgeDeadLetters", TENANT_ADMIN),
    ("/jalur.v1.DeadLetterService/DeleteDeadLetter", TENANT_ADMIN),
    ("/jalur.v1.CredentialService/CreateCredential", TENANT_ADMIN),
    ("/jalur.v1.CredentialService/ListCredentials", TENANT_ADMIN),
    ("/jalur.v1.CredentialService/RevokeCredential", TENANT_ADMIN),
    // Whoever has no token yet gets one there.
    ("/jalur.v1.AuthService/IssueToken", Rule::Public),
    ("/jalur.v1.FleetService/Watch", DAEMON),
    ("/jalur.v1.FleetService/ListDaemons", ADMIN),
    ("/jalur.v1.FleetService/DrainDaemon", ADMIN),
    ("/jalur.v1.FleetService/UndrainDaemon", ADMIN),
    ("/jalur.v1.AuditService/ListEvents", ADMIN),
];

/// Services that anybody may call: what tools and load balancers ask before they have a token.
const PUBLIC_SERVICES: &[&str] = &[
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "grpc.health.v1.Health",
];

/// The rule of the method with this path, such as `/jalur.v1.TenantService/GetTenant`. Without one it cannot be
/// called.
pub fn of(path: &str) -> Option<Rule> {
    METHODS
        .iter()
        .find(|(method, _)| *method == path)
        .map(|(_, rule)| *rule)
        .or_else(|| public_service(path).map(|_| Rule::Public))
}

/// The public service that a method's path belongs to.
pub fn public_service(path: &str) -> Option<&'static str> {
    let (service, _) = path.strip_prefix('/')?.split_once('/')?;
    PUBLIC_SERVICES.iter().find(|name| **name == service).copied()
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    fn methods() -> Vec<String> {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
        let methods = pool.services().flat_map(|service| {
            let name = service.full_name().to_owned();
            let methods: Vec<_> = service.methods().map(|method| method.name().to_owned()).collect();
            methods.into_iter().map(move |method| format!("/{name}/{method}"))
        });
        methods.collect()
    }

    #[test]
    fn every_method_has_a_rule_and_every_rule_a_method() {
        let methods = methods();
        for method in &methods {
            assert!(of(method).is_some(), "{method} has no rule");
        }
        for (method, _) in METHODS {
            assert!(
                methods.iter().any(|known| known == method),
                "{method} does not exist"
            );
        }
    }

    #[test]
    fn nothing_of_ours_is_public_but_where_tokens_come_from() {
        let public = methods()
            .into_iter()
            .filter(|method| of(method) == Some(Rule::Public));
        assert_eq!(public.collect::<Vec<_>>(), ["/jalur.v1.AuthService/IssueToken"]);
    }

    #[test]
    fn only_whole_names_match() {
        for path in [
            "",
            "/",
            "/jalur.v1.TenantService",
            "/jalur.v1.TenantService/",
            "/jalur.v1.TenantService/GetTenant/",
            "jalur.v1.TenantService/GetTenant",
            "/jalur.v1.TenantService/gettenant",
            "/grpc.health.v1.Healthy/Check",
            "/x/grpc.health.v1.Health/Check",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
        assert_eq!(of("/grpc.health.v1.Health/Check"), Some(Rule::Public));
    }
}
