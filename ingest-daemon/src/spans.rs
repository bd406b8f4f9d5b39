//! Spans of what is stored or fails: for messages alone whose publisher is in a trace that is sampled.
//!
//! Nothing is done for others but to look for a header, and that only where spans are made at all. A message's span goes
//! from its delivery to its end; the commit's is the first one's child, and the others are linked to it.

use std::time::{Duration, SystemTime};

use common::{
    id::TenantId,
    telemetry::{Traces, traces},
};
use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _},
};

use crate::{
    broker::Envelope,
    delivery::{Destination, Letter, Message},
};

/// The daemon's spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    traces: Traces,
}

impl Spans {
    pub(crate) fn new(traces: Traces) -> Self {
        Self { traces }
    }

    /// A transaction was committed just now, with these rows of these tenants, and took so long.
    pub(crate) fn committed<'a>(
        &self,
        rows: impl Iterator<Item = &'a (TenantId, &'a [Message])>,
        took: Duration,
    ) {
        if !self.traces.are_on() {
            return;
        }
        let ended = SystemTime::now();
        let mut count = 0;
        let mut open = Vec::new();
        for (tenant, messages) in rows {
            count += messages.len();
            for message in *messages {
                if let Some(parent) = sampled(&message.envelope) {
                    let span = processing(*tenant, message.id, message.taken);
                    open.extend(self.traces.span(span, &parent));
                }
            }
        }
        let mut open = open.into_iter();
        let Some(first) = open.next() else {
            return;
        };
        let mut others: Vec<_> = open.collect();
        let first = Context::new().with_span(first);
        let commit = SpanBuilder::from_name("commit")
            .with_kind(SpanKind::Client)
            .with_start_time(ended - took)
            .with_attributes([
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.operation.batch.size", count as i64),
            ]);
        if let Some(mut commit) = self.traces.span(commit, &first) {
            for span in &mut others {
                commit.add_link(traces::link(span), Vec::new());
                span.add_link(traces::link(&commit), Vec::new());
            }
            commit.end_with_timestamp(ended);
        }
        first.span().end_with_timestamp(ended);
        for mut span in others {
            span.end_with_timestamp(ended);
        }
    }

    /// A message failed, and is in its dead-letter queue by now, or waits to be tried again.
    pub(crate) fn failed(&self, tenant: TenantId, letter: &Letter) {
        if !self.traces.are_on() {
            return;
        }
        let Some(parent) = sampled(&letter.envelope) else {
            return;
        };
        let outcome = match letter.to {
            Destination::DeadLetters => "dead_lettered",
            Destination::Delay(_) => "retried",
        };
        if let Some(mut span) = self
            .traces
            .span(processing(tenant, letter.id, letter.failed), &parent)
        {
            span.set_attribute(KeyValue::new("jalur.outcome", outcome));
            span.set_attribute(KeyValue::new("jalur.reason", letter.reason.as_str()));
            span.set_attribute(KeyValue::new("jalur.attempts", i64::from(letter.attempts)));
            span.set_status(Status::error(letter.detail.clone()));
            span.end();
        }
    }
}

/// The publisher's context, if it is to be told.
fn sampled(envelope: &Envelope) -> Option<Context> {
    traces::sampled(|name| envelope.said(name))
}

fn processing(tenant: TenantId, id: uuid::Uuid, from: SystemTime) -> SpanBuilder {
    SpanBuilder::from_name("process")
        .with_kind(SpanKind::Consumer)
        .with_start_time(from)
        .with_attributes([
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", tenant.queue()),
            KeyValue::new("messaging.message.id", id.to_string()),
        ])
}
