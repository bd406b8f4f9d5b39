//! AuthService.

use proto::v1::{self, auth_service_server::AuthService};
use tonic::{Request, Response, Status};

use crate::credentials::{Credentials, Token};

/// How a token is borne.
const TOKEN_TYPE: &str = "Bearer";

/// AuthService on [`Credentials`].
#[derive(Clone, Debug)]
pub(crate) struct AuthApi {
    pub(crate) credentials: Credentials,
}

#[tonic::async_trait]
impl AuthService for AuthApi {
    async fn issue_token(
        &self,
        request: Request<v1::IssueTokenRequest>,
    ) -> Result<Response<v1::IssueTokenResponse>, Status> {
        let v1::IssueTokenRequest {
            client_id,
            client_secret,
        } = request.into_inner();
        let Token { access_token, ttl } = self.credentials.token(&client_id, client_secret.into()).await?;
        Ok(Response::new(v1::IssueTokenResponse {
            access_token,
            token_type: TOKEN_TYPE.into(),
            // A day at most.
            expires_in: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
        }))
    }
}
