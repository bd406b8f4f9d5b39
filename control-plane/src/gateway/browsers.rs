//! What browsers need around both faces: CORS, gRPC-Web, and answers that are compressed when asked.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body, response::Response};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer, Predicate as _,
        predicate::{NotForContentType, SizeAbove},
    },
    cors::{AllowHeaders, AllowOrigin, CorsLayer},
};

use super::feed;

/// For how long a browser need not ask again whether it may call.
const ALLOWED: Duration = Duration::from_secs(3_600);
/// Less than this is sent as it is: it fits into a packet.
const COMPRESSED_BYTES_MIN: u16 = 1_024;
/// What scripts may read of an answer, beside what they always may.
const EXPOSED: [HeaderName; 7] = [
    ALLOW,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
];

/// Whose pages may call.
#[derive(Clone, Debug, Default)]
pub struct Origins(Option<AllowOrigin>);

impl Origins {
    /// Those named, such as `https://console.example.com`, or any with `*`. The error says what one is to be.
    pub fn new(origins: &[String]) -> Result<Self, String> {
        let values = origins.iter().map(|origin| parse(origin));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        Ok(Self(match values {
            none if none.is_empty() => None,
            any if any.iter().any(|origin| origin == "*") => Some(AllowOrigin::any()),
            these => Some(AllowOrigin::list(these)),
        }))
    }
}

/// An origin as browsers send it: they compare it as text.
fn parse(origin: &str) -> Result<HeaderValue, String> {
    let is = origin == "*"
        || url::Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == origin);
    let value = HeaderValue::from_str(origin).ok().filter(|_| is);
    value.ok_or_else(|| {
        format!("must hold origins, such as https://console.example.com, or *, got {origin:?}")
    })
}

/// The same answers, for browsers too.
pub(super) fn around(router: Router, origins: Origins) -> Router {
    let large = SizeAbove::new(COMPRESSED_BYTES_MIN)
        // Its messages have a compression of their own, and a stream of events shall not wait for a block to fill.
        .and(NotForContentType::GRPC)
        .and(NotForContentType::SSE)
        .and(NotForContentType::const_new(feed::LINES))
        .and(NotForContentType::IMAGES);
    let compression = CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(large);
    let router = router.layer(compression);
    match origins.0 {
        None => router,
        Some(origins) => router.layer(
            CorsLayer::new()
                .allow_origin(origins)
                .allow_methods([
                    Method::GET,
                    Method::POST,
                    Method::PUT,
                    Method::PATCH,
                    Method::DELETE,
                ])
                // Tokens are sent by scripts, never by the browser itself: any header may come.
                .allow_headers(AllowHeaders::mirror_request())
                .expose_headers(EXPOSED)
                .max_age(ALLOWED),
        ),
    }
}

/// Whether the call is gRPC as browsers can speak it.
pub(super) fn is_grpc_web(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc-web"))
}

/// Answers such a call by what answers gRPC.
pub(super) async fn grpc_web<F>(request: Request<Body>, grpc: impl Fn(Request<Body>) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let inner = service_fn(|request: Request<tonic::body::Body>| {
        let answer = grpc(request.map(Body::new));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let Ok(response) = GrpcWebLayer::new().layer(inner).oneshot(request).await;
    response.map(Body::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for origin in ["*", "https://x.example", "http://127.0.0.1:3000"] {
            assert!(Origins::new(&[origin.into()]).is_ok(), "{origin}");
        }
        for no in [
            "",
            "x.example",
            "https://x.example/",
            "https://x.example:443",
            "https://X.example",
            "null",
        ] {
            let error = Origins::new(&[no.into()]).unwrap_err();
            assert!(error.contains("https://console.example.com"), "{error}");
        }
    }
}
