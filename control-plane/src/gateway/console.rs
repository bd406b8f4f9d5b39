//! The console at `/`: one page and its files, which are part of the program. It calls the public API, as anybody may.
//!
//! What is not public is how `cargo run` signs somebody in by a link: the page exchanges the link's code for a token here.
//! Where no folder of codes is configured there is no such path.

use std::{path::Path, time::Duration};

use axum::{
    Extension, Json, Router,
    body::{Body, to_bytes},
    extract,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method as Verb, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use super::{error::Error, oauth};
use crate::{
    failure::Reason,
    identity::{Codes, Keys, Role},
    request_id::RequestId,
};

const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/console.rs"));

/// A code and what is around it.
const BODY_BYTES_MAX: usize = 1_024;
/// How long its body may take to come.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long the token of a link is good: a working day. Then there is another link.
const TOKEN_TTL: Duration = Duration::from_secs(12 * 3_600);

/// What holds for every file: nothing from outside, nothing inline, in nobody's frame.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        HeaderName::from_static("content-security-policy"),
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    ),
    (
        HeaderName::from_static("referrer-policy"),
        HeaderValue::from_static("no-referrer"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    // Asked for again each time, and answered in a word: modules of two versions do not go together.
    (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];

/// The console, if it is wanted.
pub struct Console {
    /// What redeems links that sign in, and signs the tokens for them; where there are such links.
    pub sign_in: Option<(Codes, Keys)>,
}

impl Console {
    pub(super) fn routes(self) -> Router {
        let router = Router::new()
            .route(
                "/",
                get(
                    async |headers: HeaderMap, Extension(request): Extension<RequestId>| {
                        file("index.html", &headers, &request)
                    },
                ),
            )
            .route("/console", get(async || Redirect::permanent("/")))
            .route("/console/", get(async || Redirect::permanent("/")))
            .route(
                "/console/{*file}",
                get(
                    async |extract::Path(name): extract::Path<String>,
                           headers: HeaderMap,
                           Extension(request): Extension<RequestId>| {
                        file(&name, &headers, &request)
                    },
                ),
            )
            .method_not_allowed_fallback(async |verb: Verb, Extension(request): Extension<RequestId>| {
                Error::no_verb(&verb, "GET, HEAD".to_owned()).into_response(&request)
            });
        let Some((codes, keys)) = self.sign_in else {
            return router;
        };
        let redeem = async move |Extension(request): Extension<RequestId>, body: Body| {
            let mut response = match sign_in(&codes, &keys, body).await {
                Ok(token) => Json(json!({ "access_token": token })).into_response(),
                Err(error) => error.into_response(&request),
            };
            oauth::forbid_keeping(&mut response);
            response
        };
        let signing_in = Router::new().route("/console/sign-in", post(redeem));
        let signing_in = signing_in.method_not_allowed_fallback(
            async |verb: Verb, Extension(request): Extension<RequestId>| {
                Error::no_verb(&verb, "POST".to_owned()).into_response(&request)
            },
        );
        router.merge(signing_in)
    }
}

fn file(name: &str, asked: &HeaderMap, request: &RequestId) -> Response {
    let Some((_, bytes)) = FILES.iter().find(|(known, _)| *known == name) else {
        return Error::no_path(&format!("/console/{name}")).into_response(request);
    };
    let mut headers = HeaderMap::from_iter(HEADERS);
    headers.insert(CONTENT_TYPE, content_type(name));
    // A weak one: on its way it may be compressed.
    let tag = format!("W/\"{}\"", Uuid::new_v5(&Uuid::NAMESPACE_URL, bytes).simple());
    let known = asked.get_all(IF_NONE_MATCH).iter();
    let is_known = known
        .filter_map(|tags| tags.to_str().ok())
        .flat_map(|tags| tags.split(','))
        .any(|one| one.trim() == tag);
    if let Ok(tag) = tag.try_into() {
        headers.insert(ETAG, tag);
    }
    if is_known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, Bytes::from_static(bytes)).into_response()
}

fn content_type(name: &str) -> HeaderValue {
    let kind = Path::new(name).extension().and_then(|kind| kind.to_str());
    HeaderValue::from_static(match kind {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    code: String,
}

/// A token for a code, which is good once.
async fn sign_in(codes: &Codes, keys: &Keys, body: Body) -> Result<String, Error> {
    let body = timeout(BODY_TIME, to_bytes(body, BODY_BYTES_MAX));
    let body = body.await.map_err(|_| Error::slow())?;
    let body = body.map_err(|_| Error::too_large(BODY_BYTES_MAX))?;
    let SignIn { code } = serde_json::from_slice(&body).map_err(|error| {
        Error::invalid(format!(
            r#"the body must be {{"code":"…"}}, as the link has it: {error}"#
        ))
    })?;
    let redeemed = codes.redeem(&code).await;
    let is_good = redeemed.map_err(|error| {
        let status = tonic::Status::internal(format!("auth.sign_in_folder: {error}"));
        Error::of(status, "console/sign-in")
    })?;
    if !is_good {
        let message = format!(
            "the link was used, or is older than {} minutes; get a new one with `cargo run -- link`",
            Codes::TTL.as_secs() / 60
        );
        return Err(Error::new(Reason::InvalidClient, message));
    }
    tracing::info!("signed in to the console as admin, by a link");
    keys.mint(Role::Admin, None, "console", TOKEN_TTL)
        .map_err(|error| {
            let status = tonic::Status::internal(format!("no token could be made: {error}"));
            Error::of(status, "console/sign-in")
        })
}

#[cfg(test)]
mod tests {
    use http::Extensions;

    use super::*;

    fn get_file(name: &str, tag: Option<&HeaderValue>) -> Response {
        let asked = tag.map(|tag| (IF_NONE_MATCH, tag.clone()));
        file(
            name,
            &HeaderMap::from_iter(asked),
            &RequestId::of(&Extensions::new()),
        )
    }

    #[test]
    fn every_file_has_its_type_and_the_page_names_only_files_that_are_there() {
        for (name, _) in FILES {
            assert_ne!(content_type(name), "application/octet-stream", "{name}");
        }
        let (_, page) = FILES.iter().find(|(name, _)| *name == "index.html").unwrap();
        let page = std::str::from_utf8(page).unwrap();
        let named = page.split('"').filter_map(|text| text.strip_prefix("/console/"));
        let named: Vec<_> = named.collect();
        assert!(named.len() > 4, "{named:?}");
        for name in named {
            assert_eq!(get_file(name, None).status(), StatusCode::OK, "{name}");
        }
        assert_eq!(get_file("../Cargo.toml", None).status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let first = get_file("app/main.js", None);
        let tag = &first.headers()[ETAG];
        assert_eq!(
            get_file("app/main.js", Some(tag)).status(),
            StatusCode::NOT_MODIFIED
        );
        let both = HeaderValue::try_from(format!("W/\"other\", {}", tag.to_str().unwrap())).unwrap();
        assert_eq!(
            get_file("app/main.js", Some(&both)).status(),
            StatusCode::NOT_MODIFIED
        );
        assert_eq!(get_file("app/api.js", Some(tag)).status(), StatusCode::OK);
    }
}
