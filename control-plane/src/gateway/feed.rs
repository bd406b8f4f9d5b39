//! An answer that goes on, as REST has it: a message a line, or server-sent events.
//!
//! An event's id is its message's position, which is also what a call's cursor is: so a browser's `Last-Event-ID` is one.

use std::{io, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
};
use prost_reflect::{DynamicMessage, ReflectMessage as _};
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};
use tonic::{Status, Streaming};

use super::{error::Error, json, routes::Binding, transcode};
use crate::{excerpt::excerpt, request_id::RequestId};

/// The media types of both forms.
pub(super) const LINES: &str = "application/x-ndjson";
pub(super) const EVENTS: &str = "text/event-stream";
/// The header that a browser resumes with.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

/// The field that says behind which message to begin, and the one that says where a message is.
const CURSOR: &str = "cursor";
const POSITION: &str = "position";
/// How long nothing may be said, so that whoever is in between does not think the stream dead.
const SILENCE: Duration = Duration::from_secs(15);
/// How much is sent together of what is there.
const PIECE_BYTES: usize = 32 << 10;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Events,
}

impl Form {
    /// The one that is asked for.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).into_iter();
        let mut accepted = accepted.filter_map(|value| value.to_str().ok());
        let is_events = |types: &str| {
            let mut essences = types
                .split(',')
                .map(|one| one.split(';').next().unwrap_or_default());
            essences.any(|essence| essence.trim().eq_ignore_ascii_case(EVENTS))
        };
        match accepted.any(is_events) {
            true => Self::Events,
            false => Self::Lines,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Lines => LINES,
            Self::Events => EVENTS,
        }
    }

    /// Writes what one message of the stream says.
    fn write(self, out: &mut Vec<u8>, binding: &Binding, message: &DynamicMessage) {
        if self == Self::Events {
            let position = binding.answer.as_ref().map(|field| message.get_field(field));
            let position = position
                .as_ref()
                .and_then(|value| value.as_message())
                .and_then(|message| message.get_field_by_name(POSITION))
                .and_then(|value| value.as_i64());
            if let Some(position) = position {
                out.extend_from_slice(format!("id: {position}\n").as_bytes());
            }
            out.extend_from_slice(b"data: ");
        }
        // One line: JSON as it is written here and by PostgreSQL has no line breaks.
        transcode::write(out, binding, message);
        out.extend_from_slice(if self == Self::Events { b"\n\n" } else { b"\n" });
    }

    /// Writes why it ends before its end.
    fn write_error(self, out: &mut Vec<u8>, error: &str) {
        let text = match self {
            Self::Lines => format!("{{\"error\":{error}}}\n"),
            Self::Events => format!("event: error\ndata: {error}\n\n"),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// Takes the place to resume from, where a browser names one.
pub(super) fn resume(headers: &HeaderMap, message: &mut DynamicMessage) -> Result<(), Error> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(());
    };
    let Some(field) = message.descriptor().get_field_by_name(CURSOR) else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    // What a browser sends that has seen no event with an id.
    if text.is_empty() {
        return Ok(());
    }
    let cursor = json::from_text(&field, &text).map_err(|_| {
        let problem = format!(
            "must be the id of an event, which is a position, got {:?}",
            excerpt(&text)
        );
        json::Error::field("Last-Event-ID", problem)
    })?;
    message.set_field(&field, cursor);
    Ok(())
}

/// What is sent, and when it ends.
struct Feed {
    messages: Streaming<DynamicMessage>,
    end: BoxFuture<'static, Status>,
    binding: &'static Binding,
    form: Form,
    request: RequestId,
    /// When something has to be said.
    silent_until: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// It ended well.
    Done,
    /// It did not, and has said so.
    Failed,
}

/// What comes next.
enum Next {
    Message(DynamicMessage),
    Silence,
    End,
    Error(Status),
}

/// The answer: everything of `messages`, until `end` says otherwise.
pub(super) fn response(
    form: Form,
    binding: &'static Binding,
    messages: Streaming<DynamicMessage>,
    end: impl Future<Output = Status> + Send + 'static,
    request: &RequestId,
) -> Response {
    let feed = Feed {
        messages,
        end: end.boxed(),
        binding,
        form,
        request: request.clone(),
        silent_until: Instant::now() + SILENCE,
        state: State::Open,
    };
    let pieces = stream::unfold(feed, |mut feed| async move {
        let piece = feed.piece().await?;
        Some((piece, feed))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that gathers answers would keep events to itself.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Feed {
    /// What to send next.
    async fn piece(&mut self) -> Option<io::Result<Bytes>> {
        match self.state {
            State::Open => {}
            State::Done => return None,
            State::Failed => {
                self.state = State::Done;
                // What was said is sent first: an answer that breaks off takes with it what is not.
                yield_now().await;
                return Some(Err(io::Error::other("the stream ended before its end")));
            }
        }
        let mut out = Vec::with_capacity(1024);
        let mut next = self.next().await;
        loop {
            match next {
                Next::Message(message) => self.form.write(&mut out, self.binding, &message),
                Next::Silence => out.extend_from_slice(b": nothing yet\n\n"),
                Next::End => {
                    self.state = State::Done;
                    break;
                }
                Next::Error(status) => {
                    let error = Error::of(status, self.binding.method.name());
                    self.form.write_error(&mut out, &error.into_json(&self.request));
                    // An event says it; of lines only their end can, to a program that does not look for it.
                    self.state = match self.form {
                        Form::Lines => State::Failed,
                        Form::Events => State::Done,
                    };
                    break;
                }
            }
            if out.len() >= PIECE_BYTES {
                break;
            }
            match self.next().now_or_never() {
                Some(more) => next = more,
                None => break,
            }
        }
        self.silent_until = Instant::now() + SILENCE;
        (!out.is_empty()).then_some(Ok(out.into()))
    }

    async fn next(&mut self) -> Next {
        let speaks = self.form == Form::Events;
        tokio::select! {
            biased;
            status = &mut self.end => Next::Error(status),
            message = self.messages.next() => match message {
                Some(Ok(message)) => Next::Message(message),
                Some(Err(status)) => Next::Error(status),
                None => Next::End,
            },
            () = sleep_until(self.silent_until), if speaks => Next::Silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_for_those_who_ask_for_them() {
        for (accept, wanted) in [
            ("text/event-stream", Form::Events),
            ("application/json;q=0.5, Text/Event-Stream;q=1", Form::Events),
            ("*/*", Form::Lines),
            ("application/x-ndjson", Form::Lines),
            ("text/event-stream-2", Form::Lines),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(Form::of(&headers), wanted, "{accept}");
        }
        assert_eq!(Form::of(&HeaderMap::new()), Form::Lines);
    }
}
