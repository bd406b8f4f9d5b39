//! How calls can fail, as the document says it: every status with its meaning.

use http::Method as Verb;
use serde_json::{Map, Value, json};

use super::{
    super::routes::{Binding, Body},
    reference,
};

/// A way to fail: its status, its name among the document's components, its meaning, and which calls can.
struct Failure(u16, &'static str, &'static str, fn(&Binding) -> bool);

const FAILURES: [Failure; 12] = [
    Failure(
        400,
        "BadRequest",
        "Something that was sent is not possible. The message names it and says what it may be.",
        any,
    ),
    Failure(401, "Unauthorized", "The token is missing, or not accepted.", any),
    Failure(
        403,
        "Forbidden",
        "The token's role may not do this, or not to this tenant.",
        any,
    ),
    Failure(404, "NotFound", "What the path names is not there.", |binding| {
        !binding.variables.is_empty()
    }),
    Failure(
        408,
        "RequestTimeout",
        "The body did not come in time. The request can be sent again.",
        has_body,
    ),
    Failure(
        409,
        "Conflict",
        "Something that is there stands in the way. Trying again changes nothing.",
        |binding| binding.verb != Verb::GET,
    ),
    Failure(
        413,
        "PayloadTooLarge",
        "The body, or a message in it, is too large.",
        has_body,
    ),
    Failure(
        415,
        "UnsupportedMediaType",
        "The body is something else than JSON, or encoded.",
        has_body,
    ),
    Failure(
        429,
        "TooManyRequests",
        "There is no room for more of this tenant's. It can be sent again later.",
        any,
    ),
    Failure(
        500,
        "InternalServerError",
        "A fault of the server's; its log says which.",
        any,
    ),
    Failure(
        503,
        "ServiceUnavailable",
        "It cannot be done at the moment. The request can be sent again.",
        any,
    ),
    Failure(
        504,
        "GatewayTimeout",
        "No answer came in time. It may have been done all the same.",
        any,
    ),
];

fn any(_: &Binding) -> bool {
    true
}

fn has_body(binding: &Binding) -> bool {
    binding.body != Body::Ignored
}

/// The document's components for all of them, and for whatever else comes.
pub(super) fn components() -> Value {
    let mut components = Map::new();
    for Failure(status, name, meaning, _) in FAILURES {
        let mut response = response(meaning);
        if matches!(status, 429 | 503) {
            response["headers"] = json!({ "Retry-After": {
                "description": "After how many seconds to try again.",
                "schema": { "type": "integer" },
            } });
        }
        components.insert(name.to_owned(), response);
    }
    let mut other = response("The call failed; the message says why and what to do.");
    other["content"]["application/json"]["example"] = json!({
        "code": 5,
        "message": "tenant 0198c0de-0000-7000-8000-000000000001 does not exist",
        "details": [],
    });
    components.insert("Error".to_owned(), other);
    components.into()
}

fn response(meaning: &str) -> Value {
    json!({
        "description": meaning,
        "content": { "application/json": { "schema": reference("Status") } },
    })
}

/// The answers of one call that failed.
pub(super) fn of(binding: &Binding) -> Map<String, Value> {
    let reference = |name: &str| json!({ "$ref": format!("#/components/responses/{name}") });
    let can = FAILURES.iter().filter(|Failure(.., can)| can(binding));
    can.map(|Failure(status, name, ..)| (status.to_string(), reference(name)))
        .chain([("default".to_owned(), reference("Error"))])
        .collect()
}
