//! What of which method is recorded: the whole table.
//!
//! Fields are named one by one, so that nothing gets into the trail because somebody forgot that it is a secret.

/// What is recorded of a method's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nothing: it changes nothing.
    Nothing,
    /// Those that are refused to their caller (401, 403). What it does is no change of the system: publishing is data,
    /// and a row for each call would cost as much as the messages; a daemon's stream is told by the log.
    Denied {
        /// The field that names the tenant; none if empty.
        tenant: &'static str,
    },
    /// Every call: it changes something.
    All {
        /// The field that names the tenant; none if empty.
        tenant: &'static str,
        /// What of the request is told. Of a list the length, of a text its beginning.
        fields: &'static [&'static str],
    },
}

const fn all(tenant: &'static str, fields: &'static [&'static str]) -> Rule {
    Rule::All { tenant, fields }
}

const METHODS: &[(&str, Rule)] = &[
    (
        "jalur.v1.TenantService/CreateTenant",
        all("id", &["name", "description", "status"]),
    ),
    ("jalur.v1.TenantService/ListTenants", Rule::Nothing),
    ("jalur.v1.TenantService/GetTenant", Rule::Nothing),
    (
        "jalur.v1.TenantService/UpdateTenant",
        all("id", &["name", "description", "status"]),
    ),
    ("jalur.v1.TenantService/DeleteTenant", all("id", &[])),
    (
        "jalur.v1.TenantService/SetConcurrency",
        all("tenant_id", &["workers"]),
    ),
    (
        "jalur.v1.TenantService/SetLimits",
        all(
            "tenant_id",
            &[
                "publish_per_second",
                "store_per_second",
                "backlog_messages",
                "backlog_bytes",
            ],
        ),
    ),
    (
        "jalur.v1.TenantService/SetRetention",
        all("tenant_id", &["max_age_seconds", "max_messages"]),
    ),
    (
        "jalur.v1.MessageService/PublishMessages",
        Rule::Denied { tenant: "tenant_id" },
    ),
    ("jalur.v1.MessageService/ListMessages", Rule::Nothing),
    ("jalur.v1.MessageService/GetMessage", Rule::Nothing),
    ("jalur.v1.MessageService/StreamMessages", Rule::Nothing),
    ("jalur.v1.DeadLetterService/ListDeadLetters", Rule::Nothing),
    ("jalur.v1.DeadLetterService/GetDeadLetter", Rule::Nothing),
    (
        "jalur.v1.DeadLetterService/ReplayDeadLetters",
        all("tenant_id", &["ids", "all", "reason", "per_second"]),
    ),
    (
        "jalur.v1.DeadLetterService/PurgeDeadLetters",
        all("tenant_id", &["reason"]),
    ),
    (
        "jalur.v1.DeadLetterService/DeleteDeadLetter",
        all("tenant_id", &["letter_id"]),
    ),
    (
        "jalur.v1.CredentialService/CreateCredential",
        all("tenant_id", &["role", "label", "amqp"]),
    ),
    ("jalur.v1.CredentialService/ListCredentials", Rule::Nothing),
    (
        "jalur.v1.CredentialService/RevokeCredential",
        all("tenant_id", &["client_id"]),
    ),
    // A use, which the credential itself remembers. Who is refused may be trying secrets.
    ("jalur.v1.AuthService/IssueToken", Rule::Denied { tenant: "" }),
    ("jalur.v1.FleetService/Watch", Rule::Denied { tenant: "" }),
    ("jalur.v1.FleetService/ListDaemons", Rule::Nothing),
    ("jalur.v1.FleetService/DrainDaemon", all("", &["id"])),
    ("jalur.v1.FleetService/UndrainDaemon", all("", &["id"])),
    ("jalur.v1.AuditService/ListEvents", Rule::Nothing),
];

/// The rule of a method. Health and reflection change nothing.
pub(crate) fn of(method: &str) -> Rule {
    let known = METHODS.iter().find(|(name, _)| *name == method);
    known.map_or(Rule::Nothing, |(_, rule)| *rule)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::{DescriptorPool, Kind, MethodDescriptor};

    use super::*;

    fn methods() -> Vec<(String, MethodDescriptor)> {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
        let methods = pool.services().flat_map(|service| {
            let methods: Vec<_> = service.methods().collect();
            methods
        });
        let name =
            |method: &MethodDescriptor| format!("{}/{}", method.parent_service().full_name(), method.name());
        methods.map(|method| (name(&method), method)).collect()
    }

    #[test]
    fn every_method_has_a_rule_and_every_rule_a_method() {
        let ruled: BTreeSet<_> = METHODS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(ruled.len(), METHODS.len(), "one stands there twice");
        let there: BTreeSet<_> = methods().into_iter().map(|(name, _)| name).collect();
        assert_eq!(ruled, there);
    }

    #[test]
    fn what_is_told_are_fields_that_the_requests_have_and_no_payloads() {
        for (name, method) in methods() {
            let (tenant, fields) = match of(&name) {
                Rule::Nothing => continue,
                Rule::Denied { tenant } => (tenant, &[][..]),
                Rule::All { tenant, fields } => (tenant, fields),
            };
            let field = |field: &str| method.input().get_field_by_name(field);
            if !tenant.is_empty() {
                assert_eq!(field(tenant).unwrap().kind(), Kind::String, "{name}");
            }
            for told in fields {
                let field = field(told).unwrap_or_else(|| panic!("{name} has no {told}"));
                let is_plain = field.is_list() || !matches!(field.kind(), Kind::Message(_) | Kind::Bytes);
                assert!(is_plain, "{name}: {told}");
                assert!(
                    !told.contains("secret") && !told.contains("payload"),
                    "{name}: {told}"
                );
            }
        }
    }

    #[test]
    fn what_only_reads_is_not_recorded_and_everything_else_is() {
        for (name, method) in methods() {
            let reads = ["List", "Get", "Stream"]
                .iter()
                .any(|verb| method.name().starts_with(verb));
            assert_eq!(of(&name) == Rule::Nothing, reads, "{name}");
        }
    }
}
