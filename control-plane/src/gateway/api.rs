//! The methods there are, as the protos say: everything else of the gateway starts from here.

use std::{collections::BTreeMap, sync::LazyLock};

use prost_reflect::{DescriptorPool, FileDescriptor, MethodDescriptor};

use crate::identity::{Rule, rules};

/// The method that sells tokens.
const ISSUE_TOKEN: &str = "/jalur.v1.AuthService/IssueToken";
/// And the one that tells a secret.
const CREATE_CREDENTIAL: &str = "/jalur.v1.CredentialService/CreateCredential";

/// The protos. They are part of the program, so what is made from them is made once.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(proto::DESCRIPTORS).expect("the descriptors were compiled with this program")
});

static METHODS: LazyLock<BTreeMap<String, Method>> = LazyLock::new(|| {
    let methods = pool().services().flat_map(|service| {
        let methods: Vec<_> = service.methods().collect();
        methods
    });
    methods
        .map(|descriptor| {
            let path = format!(
                "/{}/{}",
                descriptor.parent_service().full_name(),
                descriptor.name()
            );
            (path.clone(), Method { path, descriptor })
        })
        .collect()
});

/// A method of a service.
#[derive(Debug)]
pub(super) struct Method {
    /// Its path in gRPC, such as `/jalur.v1.TenantService/GetTenant`.
    pub(super) path: String,
    /// What the proto says of it.
    pub(super) descriptor: MethodDescriptor,
}

impl Method {
    /// Its full name, such as `jalur.v1.TenantService/GetTenant`.
    pub(super) fn name(&self) -> &str {
        &self.path[1..]
    }

    /// Who may call it. Without a rule nobody may.
    pub(super) fn rule(&self) -> Option<Rule> {
        rules::of(&self.path)
    }

    /// Whether it makes something new, so that REST answers 201.
    pub(super) fn creates(&self) -> bool {
        self.descriptor.name().starts_with("Create")
    }

    /// Whether it is OAuth's token endpoint.
    pub(super) fn issues_tokens(&self) -> bool {
        self.path == ISSUE_TOKEN
    }

    /// Whether its answer has a secret in it.
    pub(super) fn tells_secrets(&self) -> bool {
        self.path == CREATE_CREDENTIAL
    }

    /// Whether both sides go on, so that the handler has to end it.
    pub(super) fn is_dialogue(&self) -> bool {
        self.descriptor.is_client_streaming()
    }

    /// Whether its answer goes on for as long as the caller likes.
    pub(super) fn is_streaming(&self) -> bool {
        self.descriptor.is_server_streaming()
    }
}

/// All descriptors.
pub(super) fn pool() -> &'static DescriptorPool {
    &POOL
}

/// All methods, by their path.
pub(super) fn methods() -> impl Iterator<Item = &'static Method> {
    METHODS.values()
}

/// The method with this path in gRPC.
pub(super) fn method(path: &str) -> Option<&'static Method> {
    METHODS.get(path)
}

/// The comment above a definition, its lines joined to paragraphs.
pub(super) fn comment(file: &FileDescriptor, path: &[i32]) -> Option<String> {
    let info = file.file_descriptor_proto().source_code_info.as_ref()?;
    let location = info.location.iter().find(|location| location.path == path)?;
    let paragraphs = location.leading_comments().split("\n\n");
    let text = paragraphs
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|paragraph| !paragraph.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_found() {
        let message = pool()
            .get_message_by_name("jalur.v1.SetConcurrencyRequest")
            .unwrap();
        let field = message.get_field_by_name("workers").unwrap();
        assert_eq!(
            comment(&message.parent_file(), field.path()).unwrap(),
            "How many workers the tenant has in all, 1 to 256."
        );
    }

    #[test]
    fn a_method_is_known_by_its_path_only() {
        assert_eq!(
            method("/jalur.v1.TenantService/GetTenant").unwrap().name(),
            "jalur.v1.TenantService/GetTenant"
        );
        for path in [ISSUE_TOKEN, CREATE_CREDENTIAL] {
            assert_eq!(method(path).unwrap().path, path);
        }
        assert!(method("/jalur.v1.TenantService/Get").is_none());
        assert!(method("/jalur.v1.FleetService/Watch").unwrap().is_streaming());
    }
}
