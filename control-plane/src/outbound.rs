//! HTTP to others: RabbitMQ's management and outside issuers.

use std::{panic, time::Duration};

use common::{causes::with_causes, tls};
use reqwest::{Client, ClientBuilder, Response, redirect};
use tokio::task::spawn_blocking;

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(2);

/// A client whose requests may take `timeout`. It follows nobody elsewhere: whom to ask is configured, and nobody else's
/// to say. Made anew for each time, which are few, with the files of `tls` as they are then; without, it speaks in clear.
pub(crate) async fn client(tls: Option<tls::Client>, timeout: Duration) -> Result<ClientBuilder, String> {
    // The system's authorities are some hundred files.
    match spawn_blocking(move || make(tls.as_ref(), timeout)).await {
        Ok(client) => client,
        // A panic there is one here; it is cancelled only when the runtime ends, and this with it.
        Err(error) => panic::resume_unwind(error.into_panic()),
    }
}

fn make(tls: Option<&tls::Client>, timeout: Duration) -> Result<ClientBuilder, String> {
    let (secure, config) = match tls {
        Some(tls) => (true, tls.configured().map_err(|error| error.to_string())?),
        None => (false, tls::trusting_nobody().map_err(|error| error.to_string())?),
    };
    Ok(Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(secure)
        .connect_timeout(CONNECT)
        .timeout(timeout)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("jalur/", env!("CARGO_PKG_VERSION"))))
}

/// An answer's body, if it has no more than `bytes_max`.
pub(crate) async fn body(mut answer: Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failure)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(format!("the answer is larger than {bytes_max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes: the client's own text says only that it failed. Without the address, which may hold a login.
pub(crate) fn failure(error: reqwest::Error) -> String {
    with_causes(&error.without_url())
}
