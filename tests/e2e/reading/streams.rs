//! What comes of a stream, piece by piece.

use std::time::Duration;

use reqwest::{
    Response,
    header::{ACCEPT, AUTHORIZATION},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::support::Stack;

/// What does not come within that is not coming.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server-sent event, or a line.
#[derive(Clone, Debug, Default)]
pub(super) struct Event {
    pub(super) id: String,
    /// Its kind; empty for a message.
    pub(super) event: String,
    pub(super) data: Value,
}

/// A stream that is read.
pub(super) struct Stream {
    response: Response,
    buffer: Vec<u8>,
    separator: &'static [u8],
}

impl Stream {
    /// Opens one of server-sent events.
    pub(super) async fn events(stack: &Stack, path: &str, token: &str, last: Option<&str>) -> Self {
        let mut request = get(stack, path, token).header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self::of(response, b"\n\n")
    }

    /// Opens one of lines.
    pub(super) async fn lines(stack: &Stack, path: &str, token: &str) -> Self {
        let response = get(stack, path, token).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        Self::of(response, b"\n")
    }

    fn of(response: Response, separator: &'static [u8]) -> Self {
        Self {
            response,
            buffer: Vec::new(),
            separator,
        }
    }

    /// What comes next; none at the end. The error is that of a stream that broke off.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, reqwest::Error> {
        let separator = self.separator;
        loop {
            let end = self
                .buffer
                .windows(separator.len())
                .position(|window| window == separator);
            if let Some(end) = end {
                let piece: Vec<u8> = self.buffer.drain(..end + separator.len()).collect();
                let piece = String::from_utf8(piece).unwrap();
                if piece.starts_with(':') {
                    continue;
                }
                return Ok(Some(read(piece.trim_end())));
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await;
            match chunk.expect("something comes")? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// The positions of the next messages.
    pub(super) async fn take(&mut self, count: usize) -> Vec<i64> {
        let mut positions = Vec::new();
        while positions.len() < count {
            let event = self.next().await.unwrap().expect("the stream goes on");
            assert_eq!(event.event, "", "{event:?}");
            let position = event.data["position"].as_str().unwrap();
            assert!(event.id.is_empty() || event.id == position, "{event:?}");
            positions.push(position.parse().unwrap());
        }
        positions
    }

    /// The message of the error that it ends with.
    pub(super) async fn error(&mut self) -> String {
        loop {
            let event = self.next().await.unwrap().expect("an error comes before the end");
            let told = match event.event.as_str() {
                "error" => &event.data,
                _ => &event.data["error"],
            };
            if let Some(message) = told["message"].as_str() {
                return message.to_owned();
            }
        }
    }
}

fn get(stack: &Stack, path: &str, token: &str) -> reqwest::RequestBuilder {
    let client = local::http::client();
    client
        .get(format!("{}{path}", stack.url()))
        .header(AUTHORIZATION, format!("Bearer {token}"))
}

fn read(piece: &str) -> Event {
    if piece.starts_with('{') {
        let data = serde_json::from_str(piece).unwrap();
        return Event {
            data,
            ..Event::default()
        };
    }
    let mut event = Event::default();
    for line in piece.lines() {
        match line.split_once(": ").unwrap() {
            ("id", id) => event.id = id.to_owned(),
            ("event", kind) => event.event = kind.to_owned(),
            ("data", data) => event.data = serde_json::from_str(data).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    event
}
