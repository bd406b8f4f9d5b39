//! How calls can fail, as the document says it: every status with its meaning.

use http::Method as Verb;
use serde_json::{Map, Value, json};

use super::{
    super::routes::{Binding, Body},
    reference,
};
use crate::{
    failure::{DOMAIN, Reason},
    identity::Rule,
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
    Failure(
        401,
        "Unauthorized",
        "The token, or the credential, is missing or not accepted.",
        any,
    ),
    Failure(
        403,
        "Forbidden",
        "The token's role may not do this, or not to this tenant.",
        has_roles,
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

fn has_roles(binding: &Binding) -> bool {
    binding.method.rule() != Some(Rule::Public)
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
            response["headers"]["Retry-After"] = json!({
                "description": "After how many seconds to try again.",
                "schema": { "type": "integer" },
            });
        }
        components.insert(name.to_owned(), response);
    }
    let mut other = response("The call failed; the message says why and what to do.");
    other["content"]["application/json"]["example"] = json!({
        "code": 5,
        "message": "tenant 0198c0de-0000-7000-8000-000000000001 does not exist",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "TENANT_NOT_FOUND",
                "domain": "jalur",
                "metadata": { "tenant_id": "0198c0de-0000-7000-8000-000000000001" },
            },
            { "@type": "type.googleapis.com/google.rpc.RequestInfo", "request_id": "0198c0de-7a69-7c1b-9a3e-2f5d8c6b4a03" },
        ],
    });
    components.insert("Error".to_owned(), other);
    components.into()
}

/// The header that every answer has.
fn request_id() -> Value {
    json!({
        "description": "The request's id: the one that was sent, or a new one.",
        "schema": { "type": "string" },
    })
}

/// `google.rpc.Status`, as errors have it.
pub(super) fn status() -> Value {
    json!({
        "type": "object",
        "description": "Why a call failed (`google.rpc.Status`).",
        "properties": {
            "code": {
                "type": "integer",
                "format": "int32",
                "description": "The code in gRPC (`google.rpc.Code`).",
            },
            "message": { "type": "string", "description": "What is wrong, and what to do." },
            "details": {
                "type": "array",
                "items": reference("ErrorDetail"),
                "description": "The reason for programs and the request's id; where it applies, the fields that are \
                    to blame, and when to try again.",
            },
        },
        "required": ["code", "message", "details"],
    })
}

/// One of an error's details. In one schema, with what each kind has: generated clients read that most easily.
pub(super) fn detail() -> Value {
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
    json!({
        "type": "object",
        "description": "One of an error's details: which, says `@type`.",
        "properties": {
            "@type": {
                "type": "string",
                "description": "Its kind: `type.googleapis.com/google.rpc.ErrorInfo` (always there), `…BadRequest`, \
                    `…RetryInfo` or `…RequestInfo` (always there).",
            },
            "reason": {
                "type": "string",
                "description": format!("Of ErrorInfo: why, for programs. Reasons keep their names: {}.", reasons.join(", ")),
            },
            "domain": { "type": "string", "description": format!("Of ErrorInfo: `{DOMAIN}`.") },
            "metadata": {
                "type": "object",
                "additionalProperties": { "type": "string" },
                "description": "Of ErrorInfo: what it is about, such as `tenant_id`.",
            },
            "field_violations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "field": { "type": "string", "description": "Its path, such as `messages[3].id`." },
                        "description": { "type": "string", "description": "What is wrong with it." },
                    },
                    "required": ["field", "description"],
                },
                "description": "Of BadRequest: the fields that are to blame.",
            },
            "retry_delay": {
                "type": "string",
                "pattern": r"^[0-9]+(\.[0-9]+)?s$",
                "description": "Of RetryInfo: after how long to try again, such as `1s`.",
            },
            "request_id": {
                "type": "string",
                "description": "Of RequestInfo: the request's id, as the header `x-request-id` has it.",
            },
        },
        "required": ["@type"],
    })
}

fn response(meaning: &str) -> Value {
    json!({
        "description": meaning,
        "headers": { "x-request-id": request_id() },
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
