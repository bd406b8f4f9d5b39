//! The gateway's router: the API, its OpenAPI document and the page to read it with.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::Path,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb, header::CONTENT_TYPE};
use utoipa_swagger_ui::Config;

use super::{Front, error::Error, openapi};

const OPENAPI: &str = "/openapi.json";

/// Everything on the API's port: `/openapi.json`, `/docs`, and the rest is `front`'s.
pub fn router(front: Front) -> Router {
    let document = Bytes::from(openapi().to_string());
    let config = Arc::new(
        Config::new([OPENAPI])
            .persist_authorization(true)
            .try_it_out_enabled(true)
            // The page would otherwise send the document to validator.swagger.io.
            .validator_url("none"),
    );
    let page = move |file: &str| page(file, Arc::clone(&config));
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
        .route("/docs/", get(async move || index("")))
        .route(
            "/docs/{*file}",
            get(async move |Path(file): Path<String>| page(&file)),
        )
        .method_not_allowed_fallback(async |verb: Verb| {
            Error::no_verb(&verb, "GET, HEAD".to_owned()).into_response()
        })
        .fallback_service(front)
}

/// A file of Swagger UI, which is part of the program.
fn page(file: &str, config: Arc<Config<'static>>) -> Response {
    match utoipa_swagger_ui::serve(file, config) {
        Ok(Some(file)) => {
            let mut headers = HeaderMap::new();
            if let Ok(value) = file.content_type.try_into() {
                headers.insert(CONTENT_TYPE, value);
            }
            (headers, Body::from(Bytes::from(file.bytes.into_owned()))).into_response()
        }
        Ok(None) => Error::no_path(&format!("/docs/{file}")).into_response(),
        Err(error) => {
            let status = tonic::Status::internal(format!("Swagger UI: {error}"));
            Error::of(&status, "docs").into_response()
        }
    }
}
