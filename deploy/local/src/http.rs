//! HTTP to what runs on this machine.

/// A client that speaks in clear alone: making one reads none of the system's authorities, which takes its time and fails
/// where there are none.
pub fn client() -> reqwest::Client {
    // It fails for settings that are no good, of which there are none.
    common::tls::trusting_nobody()
        .ok()
        .and_then(|tls| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls)
                .build()
                .ok()
        })
        .unwrap_or_default()
}
