//! One call's way into the audit trail.

use std::{
    io,
    time::{Duration, Instant},
};

use common::id::TenantId;
use tonic::{Code, Status};
use tracing::{debug, error, info, warn};

use super::{Audit, Call, Event, Outcome, Target, rules, rules::Rule};
use crate::{error::outage, failure::Reason, identity::Caller};

/// How long writing a row may take: a database that does not answer in that time answers nothing else either.
const WRITE: Duration = Duration::from_secs(5);
/// The same for a refused call, whose caller does not wait for a change.
const WRITE_REFUSED: Duration = Duration::from_secs(1);

/// The recording of one call. Dropped before its end, the call was broken off.
#[derive(Debug)]
pub(crate) struct Recording {
    audit: Audit,
    call: Call,
    rule: Rule,
    /// The tenant that it is about, as its request says.
    tenant: Option<TenantId>,
    target: Target,
    summary: String,
    /// The row of a call that has begun, until its end is written down.
    row: Option<i64>,
    /// How it ended, once it has.
    outcome: Option<Outcome>,
}

impl Recording {
    pub(super) fn new(audit: Audit, call: Call) -> Self {
        Self {
            rule: rules::of(call.method),
            audit,
            call,
            tenant: None,
            target: Target::default(),
            summary: String::new(),
            row: None,
            outcome: None,
        }
    }

    /// What is recorded of it.
    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    /// The slot for its handler.
    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }

    /// Who calls is known.
    pub(crate) fn is_from(&mut self, caller: &Caller) {
        if self.rule != Rule::Nothing {
            self.call.caller = Some(caller.clone());
            self.tenant = self.tenant.or(caller.tenant());
        }
    }

    /// It is about the tenant of that id, as it was sent. Answers whether it is one.
    pub(crate) fn is_about(&mut self, tenant_id: &str) -> bool {
        let tenant = tenant_id.parse().ok();
        self.tenant = tenant.or(self.tenant);
        tenant.is_some()
    }

    /// It is about to run. If it is to change something, that is written down first: where it cannot, it must not run.
    pub(crate) async fn begins(&mut self, summary: String) -> Result<(), Status> {
        if !matches!(self.rule, Rule::All { .. }) {
            return Ok(());
        }
        self.summary = summary;
        let event = event(&self.call, self.tenant, &self.summary);
        match timeout(WRITE, self.audit.journal.begin(&event)).await {
            Ok(row) => {
                self.row = Some(row);
                Ok(())
            }
            Err(cause) => {
                warn!(method = self.call.method, %cause, "cannot write the audit trail");
                let why = outage(&cause).unwrap_or("the log of the control plane says why");
                let message = format!(
                    "nothing was changed, since that cannot be written down in the audit trail: {why}"
                );
                log(&event, &Outcome::new(Code::Unavailable, &message));
                // Its end could not be written down either.
                self.rule = Rule::Nothing;
                Err(Reason::AuditUnavailable.status(message))
            }
        }
    }

    /// It has ended like this; the message is what its caller is told.
    pub(crate) async fn ends(mut self, code: Code, message: &str) {
        let is_denied = matches!(code, Code::Unauthenticated | Code::PermissionDenied);
        let outcome = match self.rule {
            Rule::Nothing => return,
            Rule::Denied { .. } if !is_denied => return,
            _ => Outcome::new(code, message),
        };
        let Some(row) = self.row else {
            return self.refused(&outcome).await;
        };
        let outcome = self.outcome.insert(outcome);
        let event = event(&self.call, self.tenant, &self.summary);
        ended(&self.audit, event, &self.target, row, outcome).await;
        self.row = None;
    }

    /// It was refused before it began.
    async fn refused(&self, outcome: &Outcome) {
        let is_known = self.call.caller.is_some();
        let Some(left_out) = self.audit.spend(is_known, Instant::now()) else {
            debug!(
                method = self.call.method,
                "a refused call is left out of the audit trail"
            );
            return;
        };
        let event = event(&self.call, self.tenant, &self.summary);
        log(&event, outcome);
        let writing = self.audit.journal.refused(&event, outcome, left_out);
        if let Err(cause) = timeout(WRITE_REFUSED, writing).await {
            // It changed nothing, and its line is in the log.
            warn!(
                method = self.call.method,
                %cause, "cannot write a refused call into the audit trail"
            );
        }
    }
}

impl Drop for Recording {
    /// The caller went away, maybe while it was written down how the call ended. Otherwise what came of it is not
    /// known, and that is written down.
    fn drop(&mut self) {
        let (Some(row), Ok(runtime)) = (self.row.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (audit, target, tenant) = (self.audit.clone(), self.target.clone(), self.tenant);
        let (call, summary) = (self.call.clone(), std::mem::take(&mut self.summary));
        let gone = || {
            let message = "the caller went away before the end; it may have been done";
            Outcome::new(Code::Cancelled, message)
        };
        let outcome = self.outcome.take().unwrap_or_else(gone);
        runtime.spawn(async move {
            ended(&audit, event(&call, tenant, &summary), &target, row, &outcome).await;
        });
    }
}

fn event<'a>(call: &'a Call, tenant: Option<TenantId>, summary: &'a str) -> Event<'a> {
    Event {
        call,
        tenant,
        summary,
    }
}

async fn ended(audit: &Audit, mut event: Event<'_>, target: &Target, row: i64, outcome: &Outcome) {
    event.tenant = target.tenant().or(event.tenant);
    log(&event, outcome);
    if let Err(cause) = timeout(WRITE, audit.journal.end(row, target, outcome)).await {
        // What was done is done, and that it was begun is written down.
        error!(row, %cause, "cannot write into the audit trail how a call ended");
    }
}

/// The one line of a call.
fn log(event: &Event<'_>, outcome: &Outcome) {
    let call = event.call;
    let caller = call.caller.as_ref();
    info!(
        target: "audit",
        method = call.method,
        code = outcome.word(),
        request_id = call.request.as_str(),
        sub = caller.map(Caller::subject),
        role = caller.map(|caller| caller.role().word()),
        address = call.address.map(display),
        tenant = event.tenant.map(display),
        summary = event.summary,
        told = outcome.message,
        "audit"
    );
}

async fn timeout<T>(
    limit: Duration,
    writing: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
    tokio::time::timeout(limit, writing).await.map_err(late)?
}
