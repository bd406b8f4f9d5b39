//! Traces: OpenTelemetry spans, of whatever a caller or a publisher has sampled.
//!
//! A trace goes on from program to program by the W3C header `traceparent`, in HTTP and in AMQP. Where traces are sent
//! nowhere the header is passed on all the same, and nothing else is done.

use std::time::Duration;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{Span as _, SpanBuilder, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider, Span},
};

/// What carries the context.
pub const TRACEPARENT: &str = "traceparent";
/// Where the last of its flags stand, in hexadecimal; the lowest says that it is sampled.
const LAST_OF_FLAGS: usize = PARENT_LENGTH - 1;
const PARENT_LENGTH: usize = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".len();
/// And what others add to it.
pub const TRACESTATE: &str = "tracestate";

/// As much of that as the specification asks to be passed on: each message of a call has it. What is longer is left out.
const STATE_BYTES_MAX: usize = 512;

/// Where spans are made: a value and no global. By default they are not.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<(SdkTracerProvider, SdkTracer)>);

impl Traces {
    pub(super) fn new(exporter: Option<SpanExporter>, resource: Resource) -> Self {
        Self(exporter.map(|exporter| {
            // How many are sampled, and how many wait at most, is the environment's: OTEL_TRACES_SAMPLER, OTEL_BSP_….
            let provider = SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(resource)
                .build();
            let tracer = provider.tracer("jalur");
            (provider, tracer)
        }))
    }

    /// For tests: spans are handed to `exporter` as they end.
    pub fn to(exporter: impl opentelemetry_sdk::trace::SpanExporter + 'static) -> Self {
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter)
            .build();
        let tracer = provider.tracer("jalur");
        Self(Some((provider, tracer)))
    }

    /// Whether spans go anywhere.
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Starts a span within `parent`. None where spans are not made.
    pub fn span(&self, span: SpanBuilder, parent: &Context) -> Option<Span> {
        let (_, tracer) = self.0.as_ref()?;
        Some(tracer.build_with_context(span, parent))
    }

    /// `parent` with a span of its own, which ends with the last copy of the context; or `parent` as it is where spans are
    /// not made: its header goes on.
    pub fn within(&self, span: SpanBuilder, parent: &Context) -> Context {
        match self.span(span, parent) {
            Some(span) => parent.with_span(span),
            None => parent.clone(),
        }
    }

    /// Sends what has ended, if it can be within `patience`. Blocks.
    pub(super) fn close(&self, patience: Duration) {
        if let Some((provider, _)) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(patience)
        {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// The context that headers carry; an empty one where they carry none, or nonsense.
pub fn context_of<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Context {
    let Some(parent) = header(TRACEPARENT) else {
        return Context::new();
    };
    let headers = Headers {
        parent,
        state: header(TRACESTATE).filter(|state| state.len() <= STATE_BYTES_MAX),
    };
    TraceContextPropagator::new().extract_with_context(&Context::new(), &headers)
}

/// The headers that carry `context`, by name; none where it is in no trace.
pub fn headers_of(context: &Context) -> Vec<(String, String)> {
    let mut headers = Named(Vec::new());
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(context, &mut headers);
    }
    headers.0.retain(|(_, value)| !value.is_empty());
    headers.0
}

/// The id of the trace that a context is in, for a line in the log.
pub fn trace_id(context: &Context) -> Option<String> {
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| context.trace_id().to_string())
}

/// The context that headers carry, if whoever made it has its spans sent. Most have not, and are not read any further.
pub fn sampled<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Context> {
    let flags = *header(TRACEPARENT)?.as_bytes().get(LAST_OF_FLAGS)?;
    char::from(flags).to_digit(16).filter(|flags| flags & 1 == 1)?;
    let context = context_of(header);
    context.span().span_context().is_sampled().then_some(context)
}

/// The context of a span, for a link to it.
pub fn link(span: &Span) -> opentelemetry::trace::SpanContext {
    span.span_context().clone()
}

struct Headers<'a> {
    parent: &'a str,
    state: Option<&'a str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(self.parent),
            TRACESTATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

struct Named(Vec<(String, String)>);

impl Injector for Named {
    fn set(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_passes_through_as_it_came() {
        let header = |name: &str| match name {
            TRACEPARENT => Some(PARENT),
            TRACESTATE => Some("vendor=1"),
            _ => None,
        };
        let context = sampled(header).unwrap();
        assert_eq!(
            trace_id(&context).as_deref(),
            Some("0af7651916cd43dd8448eb211c80319c")
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            headers_of(&Traces::default().within(SpanBuilder::from_name("off"), &context)),
            [pair(TRACEPARENT, PARENT), pair(TRACESTATE, "vendor=1")]
        );
    }

    #[test]
    fn nonsense_is_no_context() {
        for header in ["", "00", "00-0-0-01", "zz"] {
            let context = context_of(|name| (name == TRACEPARENT).then_some(header));
            assert_eq!(
                (trace_id(&context), headers_of(&context)),
                (None, Vec::new()),
                "{header:?}"
            );
        }
    }

    #[test]
    fn what_is_not_sampled_is_not_read() {
        let of = |parent: String| sampled(|name| (name == TRACEPARENT).then_some(parent.as_str())).is_some();
        for (flags, wanted) in [
            ("00", false),
            ("01", true),
            ("02", false),
            ("03", true),
            ("0x", false),
            ("", false),
        ] {
            assert_eq!(of(format!("{}{flags}", &PARENT[..53])), wanted, "{flags:?}");
        }
        assert!(!of("1".repeat(55)));
    }
}
