//! Answers that end when somebody says so.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::Status;

/// A gRPC answer's body that ends with a status of ours as soon as there is one and nothing of the answer waits: its
/// last words are still said.
pub(super) struct Until {
    body: Body,
    /// None once it has ended so.
    end: Option<BoxFuture<'static, Status>>,
}

impl Until {
    pub(super) fn new(body: Body, end: impl Future<Output = Status> + Send + 'static) -> Self {
        Self {
            body,
            end: Some(end.boxed()),
        }
    }
}

impl http_body::Body for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let Some(end) = &mut self.end else {
            return Poll::Ready(None);
        };
        let status = ready!(end.poll_unpin(context));
        self.end = None;
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        // It fails for text that is no header's, which ours is.
        let _ = status.add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.end {
            Some(_) => SizeHint::new(),
            None => self.body.size_hint(),
        }
    }
}
