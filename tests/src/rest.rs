//! A REST client that says no more than what came back: tests judge it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;

/// Longer than any request may take: creating a tenant may wait 5 s for its consumer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one control plane, with one token or none.
#[derive(Clone, Debug)]
pub struct Rest {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
    /// The body as JSON; null if it is none. Numbers beyond 64 bits are rounded: see `text` for them.
    pub json: Value,
}

impl Answer {
    /// The body, if the status is the wanted one. The error says what came instead.
    pub fn expect(self, status: u16) -> anyhow::Result<Value> {
        let (came, text) = (self.status, &self.text);
        ensure!(came == status, "{status} was expected, not {came}: {text}");
        Ok(self.json)
    }
}

impl Rest {
    /// A client of the control plane at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str, token: Option<String>) -> Self {
        Self {
            client: local::http::client(),
            base: base.trim_end_matches('/').to_owned(),
            token,
        }
    }

    /// The same with another token.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self {
            token: Some(token.into()),
            ..self.clone()
        }
    }

    /// The same with no token.
    pub fn anonymous(&self) -> Self {
        Self {
            token: None,
            ..self.clone()
        }
    }

    /// GET
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.raw(Method::GET, path, None).await
    }

    /// POST with a JSON body
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.json(Method::POST, path, body).await
    }

    /// PUT with a JSON body
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.json(Method::PUT, path, body).await
    }

    /// PATCH with a JSON body
    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.json(Method::PATCH, path, body).await
    }

    /// DELETE
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.raw(Method::DELETE, path, None).await
    }

    async fn json(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.raw(
            method,
            path,
            Some(("application/json", body.to_string().into_bytes())),
        )
        .await
    }

    /// Any method with any body: its content type and bytes.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> anyhow::Result<Answer> {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(method.clone(), url).timeout(TIMEOUT);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some((content_type, body)) = body {
            request = request.header(CONTENT_TYPE, content_type).body(body);
        }
        let failed = || format!("{method} {path} got no answer");
        let answer = request.send().await.with_context(failed)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.with_context(failed)?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer {
            status,
            headers,
            text,
            json,
        })
    }
}
