//! The gateway's router: the API, its OpenAPI document and the page to read it with.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::Path,
    middleware,
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use common::telemetry::Traces;
use http::{HeaderMap, HeaderValue, Method as Verb, header::CONTENT_TYPE};
use utoipa_swagger_ui::Config;

use super::{
    Front,
    browsers::{self, Origins},
    console::Console,
    error::Error,
    openapi,
};
use crate::request_id::{self, RequestId};

const OPENAPI: &str = "/openapi.json";
/// Swagger UI's own page has no viewport, and another's name.
const PAGE: &str = include_str!("docs.html");
const ICON: &[u8] = include_bytes!("../../console/favicon.svg");

/// What is to be seen in a browser, as far as it is wanted.
pub struct Pages {
    /// `/openapi.json` and `/docs`.
    pub docs: bool,
    /// `/`.
    pub console: Option<Console>,
}

/// Everything on the API's port: these pages, and the rest is `front`'s. Pages of these origins may call. Each request is a
/// span of `traces`.
pub fn router(front: Front, origins: Origins, pages: Pages, traces: Traces) -> Router {
    let mut router = Router::new();
    if pages.docs {
        router = router.merge(documents());
    }
    if let Some(console) = pages.console {
        router = router.merge(console.routes());
    }
    let router = router.fallback_service(front);
    // In front of everything: no answer is without an id.
    browsers::around(router, origins).layer(middleware::from_fn_with_state(traces, request_id::assign))
}

fn documents() -> Router {
    let document = Bytes::from(openapi().to_string());
    let config = Arc::new(
        Config::new([OPENAPI])
            .persist_authorization(true)
            .try_it_out_enabled(true)
            // One click is too easy for what deletes.
            .supported_submit_methods(["get", "post", "put", "patch"])
            // The page would otherwise send the document to validator.swagger.io.
            .validator_url("none"),
    );
    let page = move |file: &str, request: &RequestId| page(file, request, Arc::clone(&config));
    let index = page.clone();
    Router::new()
        .route(
            OPENAPI,
            get(async move || {
                (
                    [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
                    document,
                )
            }),
        )
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route(
            "/docs/",
            get(async move |Extension(request): Extension<RequestId>| index("", &request)),
        )
        .route(
            "/docs/{*file}",
            get(
                async move |Path(file): Path<String>, Extension(request): Extension<RequestId>| {
                    page(&file, &request)
                },
            ),
        )
        .method_not_allowed_fallback(async |verb: Verb, Extension(request): Extension<RequestId>| {
            Error::no_verb(&verb, "GET, HEAD".to_owned()).into_response(&request)
        })
}

/// The page, or a file of Swagger UI, which is part of the program.
fn page(file: &str, request: &RequestId, config: Arc<Config<'static>>) -> Response {
    match file {
        "" | "index.html" => return Html(PAGE).into_response(),
        "favicon.svg" => {
            let kind = HeaderValue::from_static("image/svg+xml");
            return ([(CONTENT_TYPE, kind)], ICON).into_response();
        }
        _ => {}
    }
    match utoipa_swagger_ui::serve(file, config) {
        Ok(Some(file)) => {
            let mut headers = HeaderMap::new();
            if let Ok(value) = file.content_type.try_into() {
                headers.insert(CONTENT_TYPE, value);
            }
            (headers, Body::from(Bytes::from(file.bytes.into_owned()))).into_response()
        }
        Ok(None) => Error::no_path(&format!("/docs/{file}")).into_response(request),
        Err(error) => {
            let status = tonic::Status::internal(format!("Swagger UI: {error}"));
            Error::of(status, "docs").into_response(request)
        }
    }
}
