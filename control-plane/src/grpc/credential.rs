//! CredentialService.

use proto::v1::{self, credential_service_server::CredentialService};
use tonic::{Request, Response, Status};

use super::{scope, timestamp};
use crate::{
    credentials::{Created, Credential, Credentials, Login, NewCredential, Role},
    error::Error,
};

/// CredentialService on [`Credentials`].
#[derive(Clone, Debug)]
pub(crate) struct CredentialApi {
    pub(crate) credentials: Credentials,
}

#[tonic::async_trait]
impl CredentialService for CredentialApi {
    async fn create_credential(
        &self,
        request: Request<v1::CreateCredentialRequest>,
    ) -> Result<Response<v1::CreateCredentialResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let request = request.into_inner();
        let new = NewCredential::new(wanted(request.role)?, request.label, request.amqp)?;
        let Created {
            client_id,
            secret,
            login,
        } = self.credentials.create(tenant, &new).await?;
        let amqp = |login: Login| v1::AmqpLogin {
            url: login.url.expose().to_owned(),
            exchange: login.exchange,
        };
        Ok(Response::new(v1::CreateCredentialResponse {
            client_id: client_id.to_string(),
            client_secret: secret.expose().to_owned(),
            amqp: login.map(amqp),
        }))
    }

    async fn list_credentials(
        &self,
        request: Request<v1::ListCredentialsRequest>,
    ) -> Result<Response<v1::ListCredentialsResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let credentials = self.credentials.list(tenant).await?;
        Ok(Response::new(v1::ListCredentialsResponse {
            credentials: credentials.into_iter().map(credential).collect(),
        }))
    }

    async fn revoke_credential(
        &self,
        request: Request<v1::RevokeCredentialRequest>,
    ) -> Result<Response<v1::RevokeCredentialResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        self.credentials
            .revoke(tenant, &request.get_ref().client_id)
            .await?;
        Ok(Response::new(v1::RevokeCredentialResponse {}))
    }
}

fn credential(credential: Credential) -> v1::Credential {
    let role = match credential.role {
        Role::Tenant => v1::CredentialRole::Tenant,
        Role::TenantAdmin => v1::CredentialRole::TenantAdmin,
    };
    v1::Credential {
        client_id: credential.client_id.to_string(),
        role: role.into(),
        label: credential.label,
        amqp: credential.amqp,
        created_at: Some(timestamp(credential.created_at)),
        last_used_at: credential.last_used_at.map(timestamp),
    }
}

/// The role that a caller asks for, which need not be said.
fn wanted(role: i32) -> Result<Role, Error> {
    match v1::CredentialRole::try_from(role) {
        Ok(v1::CredentialRole::Unspecified | v1::CredentialRole::Tenant) => Ok(Role::Tenant),
        Ok(v1::CredentialRole::TenantAdmin) => Ok(Role::TenantAdmin),
        Err(_) => Err(Error::invalid(
            "role",
            format!("must be tenant or tenant_admin, got {role}"),
        )),
    }
}
