//! TenantService.

use proto::v1::{self, tenant_service_server::TenantService};
use tonic::{Request, Response, Status};

use super::{page_size, scope, timestamp};
use crate::{
    audit::Target,
    error::Error,
    limits::{Limiting, Limits},
    problems::{Kind, Problem},
    retention::{self, Retention},
    tenants::{self, Filter, NewTenant, Runtime, Tenants, Update, model::Phase},
};

/// TenantService on [`Tenants`].
#[derive(Clone, Debug)]
pub(crate) struct TenantApi {
    pub(crate) tenants: Tenants,
    pub(crate) limiting: Limiting,
    /// How many workers a new tenant has.
    pub(crate) workers: i32,
}

#[tonic::async_trait]
impl TenantService for TenantApi {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::CreateTenantResponse>, Status> {
        let target = Target::of(&request);
        let request = request.into_inner();
        let status = match request.status() {
            v1::TenantStatus::Unspecified => known(request.status)?.unwrap_or(tenants::Status::Active),
            status => wanted(status)?,
        };
        let new = NewTenant::new(
            request.id.as_deref(),
            request.name,
            request.description,
            status,
            self.workers,
        )?;
        target.is(new.id);
        let tenant = self.tenants.create(&new).await?;
        Ok(Response::new(v1::CreateTenantResponse {
            tenant: Some(self.with_runtime(tenant).await?),
        }))
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let request = request.into_inner();
        let size = page_size("page_size", request.page_size)?;
        let after = if request.page_token.is_empty() {
            None
        } else {
            Some(request.page_token.parse()?)
        };
        let status = match request.status() {
            v1::TenantStatus::Unspecified => known(request.status)?,
            status => Some(wanted(status)?),
        };
        let filter = Filter::new(&request.name, status)?;
        let (tenants, next) = self.tenants.list(&filter, after, size).await?;
        Ok(Response::new(v1::ListTenantsResponse {
            tenants: tenants
                .into_iter()
                .map(|(tenant, runtime)| running(tenant, runtime))
                .collect(),
            next_page_token: next.map(|token| token.to_string()).unwrap_or_default(),
        }))
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Result<Response<v1::GetTenantResponse>, Status> {
        let id = scope(&request, "id", &request.get_ref().id)?;
        let tenant = self.tenants.get(id).await?;
        Ok(Response::new(v1::GetTenantResponse {
            tenant: Some(self.with_runtime(tenant).await?),
        }))
    }

    async fn update_tenant(
        &self,
        request: Request<v1::UpdateTenantRequest>,
    ) -> Result<Response<v1::UpdateTenantResponse>, Status> {
        let id = scope(&request, "id", &request.get_ref().id)?;
        let request = request.into_inner();
        let status = match request.status {
            Some(number) => match v1::TenantStatus::try_from(number) {
                Ok(status) => Some(wanted(status)?),
                Err(_) => known(number)?,
            },
            None => None,
        };
        let update = Update::new(request.name, request.description, status)?;
        let tenant = self.tenants.update(id, &update).await?;
        Ok(Response::new(v1::UpdateTenantResponse {
            tenant: Some(self.with_runtime(tenant).await?),
        }))
    }

    async fn delete_tenant(
        &self,
        request: Request<v1::DeleteTenantRequest>,
    ) -> Result<Response<v1::DeleteTenantResponse>, Status> {
        let id = scope(&request, "id", &request.get_ref().id)?;
        self.tenants.delete(id).await?;
        Ok(Response::new(v1::DeleteTenantResponse {}))
    }

    async fn set_concurrency(
        &self,
        request: Request<v1::SetConcurrencyRequest>,
    ) -> Result<Response<v1::SetConcurrencyResponse>, Status> {
        let id = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let workers = request.get_ref().workers;
        let applied = self.tenants.set_concurrency(id, workers).await?;
        let workers = workers.unsigned_abs();
        Ok(Response::new(v1::SetConcurrencyResponse {
            tenant_id: id.to_string(),
            workers,
            applied,
        }))
    }

    async fn set_limits(
        &self,
        request: Request<v1::SetLimitsRequest>,
    ) -> Result<Response<v1::SetLimitsResponse>, Status> {
        let id = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let request = request.into_inner();
        let wanted = Limits {
            publish_per_second: request.publish_per_second,
            store_per_second: request.store_per_second,
            backlog_messages: request.backlog_messages,
            backlog_bytes: request.backlog_bytes,
        };
        let now = self.limiting.set(id, wanted).await?;
        Ok(Response::new(v1::SetLimitsResponse {
            limits: Some(limits(now)),
        }))
    }

    async fn set_retention(
        &self,
        request: Request<v1::SetRetentionRequest>,
    ) -> Result<Response<v1::SetRetentionResponse>, Status> {
        let id = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let request = request.into_inner();
        let wanted = Retention {
            max_age_seconds: request.max_age_seconds,
            max_messages: request.max_messages,
        };
        let now = retention::set(&self.tenants.pool, id, wanted).await?;
        Ok(Response::new(v1::SetRetentionResponse {
            retention: Some(kept(now)),
        }))
    }
}

impl TenantApi {
    async fn with_runtime(&self, of: tenants::Tenant) -> Result<v1::Tenant, Status> {
        let runtime = self.tenants.runtime(&of).await?;
        Ok(running(of, runtime))
    }
}

fn running(of: tenants::Tenant, runtime: Runtime) -> v1::Tenant {
    let consumer = |consumer: crate::fleet::Consumer| v1::Consumer {
        daemon: consumer.daemon,
        workers: consumer.workers,
        busy: consumer.busy,
    };
    let runtime = v1::TenantRuntime {
        consumers: runtime.consumers.into_iter().map(consumer).collect(),
        queue_depth: runtime.depth.and_then(|depth| depth.queue),
        dead_letters: runtime.depth.and_then(|depth| depth.dead_letters),
        retrying: runtime.retrying,
        stored_per_second: runtime.stored_per_second,
        problem: runtime.problem.map(problem),
    };
    v1::Tenant {
        runtime: Some(runtime),
        ..tenant(of)
    }
}

fn problem(problem: Problem) -> v1::Problem {
    let kind = match problem.kind {
        Kind::Queue => v1::ProblemKind::Queue,
        Kind::Table => v1::ProblemKind::Table,
        Kind::Delivery => v1::ProblemKind::Delivery,
        Kind::Letters => v1::ProblemKind::Letters,
    };
    v1::Problem {
        kind: kind.into(),
        detail: problem.detail,
        since: Some(timestamp(problem.since)),
    }
}

fn tenant(tenant: tenants::Tenant) -> v1::Tenant {
    let status = match (tenant.phase, tenant.status) {
        (Phase::Creating, _) => v1::TenantStatus::Creating,
        (_, tenants::Status::Active) => v1::TenantStatus::Active,
        (_, tenants::Status::Paused) => v1::TenantStatus::Paused,
    };
    v1::Tenant {
        id: tenant.id.to_string(),
        name: tenant.name,
        description: tenant.description,
        status: status.into(),
        workers: tenant.workers.unsigned_abs(),
        created_at: Some(timestamp(tenant.created_at)),
        updated_at: Some(timestamp(tenant.updated_at)),
        runtime: None,
        limits: Some(limits(tenant.limits)),
        retention: Some(kept(tenant.retention)),
    }
}

fn limits(limits: Limits) -> v1::TenantLimits {
    v1::TenantLimits {
        publish_per_second: limits.publish_per_second,
        store_per_second: limits.store_per_second,
        backlog_messages: limits.backlog_messages,
        backlog_bytes: limits.backlog_bytes,
    }
}

fn kept(retention: Retention) -> v1::TenantRetention {
    v1::TenantRetention {
        max_age_seconds: retention.max_age_seconds,
        max_messages: retention.max_messages,
    }
}

/// A status that a caller may ask for.
fn wanted(status: v1::TenantStatus) -> Result<tenants::Status, Error> {
    match status {
        v1::TenantStatus::Active => Ok(tenants::Status::Active),
        v1::TenantStatus::Paused => Ok(tenants::Status::Paused),
        v1::TenantStatus::Creating | v1::TenantStatus::Unspecified => {
            Err(Error::invalid("status", "must be active or paused"))
        }
    }
}

/// A number that reads as no status: absent, if it is zero, or one that is not known.
fn known(number: i32) -> Result<Option<tenants::Status>, Error> {
    if number == 0 {
        Ok(None)
    } else {
        Err(Error::invalid(
            "status",
            format!("must be active or paused, got {number}"),
        ))
    }
}
