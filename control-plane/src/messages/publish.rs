//! Publishing: the same checks as for what comes over AMQP, made while the caller can still be told.

use common::{
    id::TenantId,
    payload,
    telemetry::{Traces, traces},
};
use opentelemetry::{
    Context, KeyValue,
    metrics::Counter,
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt as _},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    broker::{Outgoing, Publisher},
    error::Error,
    excerpt::excerpt,
    limits::{PublishRates, TooFast},
    offload::Offload,
    tenants::Tenants,
};

/// The most messages of one call.
pub(crate) const MESSAGES_MAX: usize = 1_000;

/// A message as it was sent.
#[derive(Debug)]
pub(crate) struct NewMessage {
    pub(crate) id: Option<String>,
    /// `None` when the field was left out.
    pub(crate) payload: Option<String>,
}

impl NewMessage {
    fn bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, String::len)
    }
}

/// Publishing.
#[derive(Clone, Debug)]
pub(crate) struct Publishing {
    pub(crate) tenants: Tenants,
    pub(crate) publisher: Publisher,
    pub(crate) rates: PublishRates,
    pub(crate) message_bytes_max: usize,
    pub(crate) offload: Offload,
    /// `jalur_messages`, by outcome.
    pub(crate) messages: Counter<u64>,
    pub(crate) traces: Traces,
}

impl Publishing {
    /// Publishes to a tenant's queue and answers the messages' ids.
    pub(crate) async fn publish(
        &self,
        tenant: TenantId,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Uuid>, Error> {
        if !(1..=MESSAGES_MAX).contains(&messages.len()) {
            let message = format!(
                "must hold between 1 and {MESSAGES_MAX} messages, got {}",
                messages.len()
            );
            return Err(Error::invalid("messages", message));
        }
        let bytes_max = self.message_bytes_max;
        let bytes = messages.iter().map(NewMessage::bytes).sum();
        let checked = self.offload.run(bytes, move || {
            let checked = messages
                .into_iter()
                .enumerate()
                .map(|(index, message)| check(index, message, bytes_max));
            checked.collect::<Result<Vec<_>, _>>()
        });
        let checked = checked.await?;
        // A tenant that is not there is an answer; its missing queue would only be a failure.
        let found = match self.tenants.get(tenant).await {
            Err(Error::NoTenant(tenant)) => {
                self.rates.forget(tenant);
                return Err(Error::NoTenant(tenant));
            }
            found => found?,
        };
        fit(&checked, found.limits.backlog_bytes)?;
        let per_second = found.limits.publish_per_second.map(i32::unsigned_abs);
        self.rates
            .take(tenant, per_second, checked.len())
            .map_err(|too_fast| slower(tenant, too_fast))?;
        let now_ms = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let ids: Vec<_> = checked.iter().map(|(id, _)| *id).collect();
        let sending = Context::map_current(|context| self.traces.within(sending(tenant, ids.len()), context));
        let trace = traces::headers_of(&sending);
        let outgoing = checked
            .into_iter()
            .map(|(id, body)| Outgoing::new(id, body, now_ms, &trace));
        let limited = found.limits.has_backlog();
        let published = self.publisher.publish(tenant, limited, outgoing.collect()).await;
        if let Err(error) = &published
            && self.traces.are_on()
        {
            sending.span().set_status(Status::error(error.to_string()));
        }
        self.tenants.noticing(&found, published).await?;
        self.messages
            .add(ids.len() as u64, &[KeyValue::new("outcome", "published")]);
        Ok(ids)
    }
}

/// From the first message sent to the broker's word for all of them.
fn sending(tenant: TenantId, messages: usize) -> SpanBuilder {
    SpanBuilder::from_name("publish")
        .with_kind(SpanKind::Producer)
        .with_attributes([
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", tenant.queue()),
            KeyValue::new("messaging.batch.message_count", messages as i64),
        ])
}

/// Nobody is sent away to try again with a message that its queue will never hold.
fn fit(messages: &[(Uuid, String)], backlog_bytes: Option<i64>) -> Result<(), Error> {
    let Some(most) = backlog_bytes.and_then(|bytes| usize::try_from(bytes).ok()) else {
        return Ok(());
    };
    let too_large = |(_, (_, body)): &(usize, &(Uuid, String))| body.len() > most;
    match messages.iter().enumerate().find(too_large) {
        None => Ok(()),
        Some((index, (_, body))) => Err(Error::TooLarge {
            field: format!("messages[{index}].payload"),
            message: format!(
                "is {} bytes, and the tenant's limit backlog_bytes lets at most {most} wait: send less in one message, or \
                 have the limit raised",
                body.len()
            ),
        }),
    }
}

fn slower(tenant: TenantId, too_fast: TooFast) -> Error {
    let TooFast {
        per_second,
        retry_after,
    } = too_fast;
    Error::TooFast {
        message: format!(
            "tenant {tenant} publishes more than the {per_second} messages a second that its limit publish_per_second allows"
        ),
        retry_after,
    }
}

fn check(index: usize, message: NewMessage, bytes_max: usize) -> Result<(Uuid, String), Error> {
    let id = match message.id {
        Some(text) => Uuid::try_parse(&text).map_err(|_| {
            let problem = format!("{:?} is not a UUID", excerpt(&text));
            Error::invalid(format!("messages[{index}].id"), problem)
        })?,
        None => Uuid::now_v7(),
    };
    let field = format!("messages[{index}].payload");
    let Some(body) = message.payload else {
        return Err(Error::invalid(field, "is missing: send any JSON value"));
    };
    match payload::check(body.as_bytes(), bytes_max) {
        Ok(_) => Ok((id, body)),
        Err(error @ payload::Error::TooLarge { .. }) => Err(Error::TooLarge {
            field,
            message: error.to_string(),
        }),
        Err(error) => Err(Error::invalid(field, error.to_string())),
    }
}
