//! What is counted of calls: `jalur_http_requests_total` for REST, `jalur_rpc_duration_seconds` for both faces.
//!
//! Labels are names from the protos, never what a caller sent, so there is a bounded number of series.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Method as Verb, StatusCode};
use http_body::{Frame, SizeHint};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter},
};
use tonic::Code;
use tracing::Span;

use super::error::{amend, code_in};
use crate::{failure::code_word, request_id::RequestId};

/// Upper bounds in seconds: from a read of one row to REST's timeout.
const BOUNDARIES: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// What stands for a method or a path that does not exist.
pub(super) const UNKNOWN: &str = "unknown";

/// The gateway's instruments.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    http_requests: Counter<u64>,
    rpc_duration: Histogram<f64>,
}

impl Metrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            http_requests: meter
                .u64_counter("jalur_http_requests")
                .with_description("REST requests, by verb, path template and HTTP status")
                .build(),
            rpc_duration: meter
                .f64_histogram("jalur_rpc_duration_seconds")
                .with_description("Time to answer a call over gRPC or REST; of a stream, to its start")
                .with_boundaries(BOUNDARIES.to_vec())
                .build(),
        }
    }

    /// Counts a REST request.
    pub(super) fn http(&self, verb: &Verb, route: &'static str, status: StatusCode) {
        let verb = match *verb {
            Verb::GET => "GET",
            Verb::HEAD => "HEAD",
            Verb::POST => "POST",
            Verb::PUT => "PUT",
            Verb::PATCH => "PATCH",
            Verb::DELETE => "DELETE",
            Verb::OPTIONS => "OPTIONS",
            // A verb is any word.
            _ => "other",
        };
        let labels = [
            KeyValue::new("method", verb),
            KeyValue::new("route", route),
            KeyValue::new("code", i64::from(status.as_u16())),
        ];
        self.http_requests.add(1, &labels);
    }

    /// Starts to time a call.
    pub(super) fn rpc(&self, method: &'static str) -> Timer {
        Timer {
            rpc_duration: self.rpc_duration.clone(),
            method,
            started: Instant::now(),
            is_running: true,
        }
    }
}

/// A call under way. Dropped before it is stopped, the call was cancelled.
#[derive(Debug)]
pub(super) struct Timer {
    rpc_duration: Histogram<f64>,
    method: &'static str,
    started: Instant,
    is_running: bool,
}

impl Timer {
    /// The call has ended.
    pub(super) fn stop(&mut self, code: Code) {
        if std::mem::take(&mut self.is_running) {
            let labels = [
                KeyValue::new("method", self.method),
                KeyValue::new("code", code_word(code)),
            ];
            self.rpc_duration
                .record(self.started.elapsed().as_secs_f64(), &labels);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop(Code::Cancelled);
    }
}

/// A gRPC answer's body on its way out. Its trailers end the timer, and are amended as headers are.
#[derive(Debug)]
pub(super) struct Watched {
    body: Body,
    timer: Timer,
    request: RequestId,
    /// The request's, which what is logged now belongs to as well.
    span: Span,
}

impl Watched {
    pub(super) fn new(body: Body, timer: Timer, request: RequestId) -> Self {
        Self {
            body,
            timer,
            request,
            span: Span::current(),
        }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self {
            body,
            timer,
            request,
            span,
        } = &mut *self;
        let _entered = span.enter();
        let mut frame = std::task::ready!(Pin::new(body).poll_frame(context));
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    timer.stop(code_in(trailers).unwrap_or(Code::Unknown));
                    amend(trailers, timer.method, request);
                }
            }
            Some(Err(_)) => timer.stop(Code::Unknown),
            None => timer.stop(Code::Ok),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
