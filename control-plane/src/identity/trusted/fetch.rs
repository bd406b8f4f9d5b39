//! An issuer's keys over HTTP.

use std::time::Duration;

use common::tls;
use reqwest::{StatusCode, Url, header::ACCEPT};

use super::jwks::Jwks;
use crate::outbound;

/// How long it may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer. A set of ten keys with their certificates has 30 kB.
const BODY_BYTES_MAX: usize = 512 << 10;

/// The keys that are there now.
pub(super) async fn fetch(url: Url) -> Result<Jwks, String> {
    let tls = (url.scheme() == "https").then(tls::Client::of_system);
    let client = outbound::client(tls, TIMEOUT).await?;
    let client = client.build().map_err(outbound::failure)?;
    let asked = client.get(url).header(ACCEPT, "application/json").send().await;
    let answer = asked.map_err(outbound::failure)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the answer is {}", answer.status()));
    }
    let body = outbound::body(answer, BODY_BYTES_MAX).await?;
    Jwks::parse(&body).map_err(|problem| format!("the answer {problem}"))
}

#[cfg(test)]
mod tests {
    use axum::{Router, response::Redirect, routing::get};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_a_set_of_keys_of_a_reasonable_size_is_taken_and_only_from_there() {
        let router = Router::new()
            .route("/keys", get(async || r#"{"keys":[]}"#))
            .route("/page", get(async || "<html>"))
            .route("/large", get(async || " ".repeat(BODY_BYTES_MAX + 1)))
            .route("/moved", get(async || Redirect::temporary("/keys")));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let at = async |path: &str| fetch(format!("http://{address}{path}").parse().unwrap()).await;
        assert_eq!(at("/keys").await, Ok(Jwks::default()));
        for (path, says) in [
            ("/page", "no JWK set"),
            ("/large", "larger than"),
            ("/moved", "307"),
            ("/nothing", "404"),
        ] {
            let error = at(path).await.unwrap_err();
            assert!(error.contains(says), "{path}: {error}");
        }
    }
}
