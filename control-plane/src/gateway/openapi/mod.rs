//! The OpenAPI document, from the same descriptors and routes that requests are answered by.
//!
//! Version 3.0.3: every generator of clients reads it.

mod errors;
mod examples;
mod schema;

use prost_reflect::{DescriptorPool, FieldDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use self::schema::{Direction, Schemas};
use super::{
    api, feed,
    routes::{self, Binding, Body},
    rules, transcode,
};
use crate::identity::Rule;

/// Where operations are documented. The bare paths are the same, and each stands there once.
const PREFIX: &str = "/api/";
/// Second paths of a method, and what a client calls them.
const SECOND: &[(&str, &str)] = &[("/api/messages", "ListOwnMessages")];
/// How a form is encoded.
const FORM: &str = "application/x-www-form-urlencoded";

/// The document.
pub fn openapi() -> Value {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    let bindings = routes::bindings();
    for binding in bindings
        .iter()
        .filter(|binding| binding.template.starts_with(PREFIX))
    {
        let path = paths.entry(binding.template.clone()).or_insert_with(|| json!({}));
        path[binding.verb.as_str().to_lowercase()] = operation(binding, &mut schemas);
    }
    let mut components = schemas.into_inner();
    components.insert("Status".to_owned(), errors::status());
    components.insert("ErrorDetail".to_owned(), errors::detail());
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Jalur",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every tenant's messages, taken in through its own queue and kept in its own partition. \
                The same methods are there over gRPC, package `jalur.v1`.",
            "license": { "name": "MIT", "url": "https://opensource.org/license/mit" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "tags": tags(api::pool()),
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A JWT with the claims iss, aud, sub, iat, exp, role and, for a tenant's roles, \
                        tenant_id.",
                },
            },
            "responses": errors::components(),
        },
    })
}

fn operation(binding: &Binding, schemas: &mut Schemas) -> Value {
    let method = &binding.method.descriptor;
    let comment = api::comment(&method.parent_service().parent_file(), method.path()).unwrap_or_default();
    let summary = comment.split(['.', ':']).next().unwrap_or_default();
    let name = method.name();
    let rule = binding.method.rule();
    let mut responses = errors::of(binding);
    let done = if binding.method.creates() { "201" } else { "200" };
    responses.insert(
        done.to_owned(),
        json!({
            "description": binding
                .answer
                .as_ref()
                .and_then(schema::comment)
                .unwrap_or_else(|| summary.to_owned()),
            "content": answers(binding, content(
                match &binding.answer {
                    Some(field) => schemas.of_field(field, Direction::Answer),
                    None => schemas.of_message(&method.output(), Direction::Answer, &[]),
                },
                examples::answer(name),
            )),
        }),
    );
    let second = SECOND.iter().find(|(template, _)| *template == binding.template);
    let mut operation = json!({
        "operationId": second.map_or(name, |(_, name)| name),
        "tags": [tag(method.parent_service().name())],
        "summary": summary,
        "description": format!("{comment}\n\n{}", callers(rule)),
        "parameters": parameters(binding),
        "responses": responses,
    });
    if rule == Some(Rule::Public) {
        operation["security"] = json!([]);
    }
    let body = match &binding.body {
        Body::Ignored => return operation,
        Body::Whole => schemas.of_message(&method.input(), Direction::Request, &binding.variables),
        Body::Field(field) => schemas.of_field(field, Direction::Request),
    };
    operation["requestBody"] = json!({
        "required": requires(binding),
        "content": { "application/json": content(body, examples::request(name)) },
    });
    if binding.method.issues_tokens() {
        operation["requestBody"]["content"][FORM] = form(method);
    }
    operation
}

/// What is answered, by its media type: of a stream a message a line, or an event.
fn answers(binding: &Binding, message: Value) -> Value {
    match binding.method.is_streaming() {
        false => json!({ "application/json": message }),
        true => json!({ feed::LINES: message, feed::EVENTS: { "schema": { "type": "string" } } }),
    }
}

/// Whether a body has to be there: one without is an empty object.
fn requires(binding: &Binding) -> bool {
    let input = binding.method.descriptor.input();
    let mut fields = input.fields();
    fields.any(|field| !binding.variables.contains(&field) && rules::of(&field).is_required)
}

/// Who may call, in words.
fn callers(rule: Option<Rule>) -> String {
    match rule {
        Some(Rule::Public) => "For anybody, without a token.".to_owned(),
        Some(Rule::Roles(roles)) => {
            let words: Vec<_> = roles.iter().map(|role| format!("`{}`", role.word())).collect();
            format!("For the roles {}.", words.join(", "))
        }
        None => "For nobody.".to_owned(),
    }
}

/// What OAuth 2.0 clients send: the same with the kind of grant, and without the credential where that comes as HTTP
/// Basic.
fn form(method: &MethodDescriptor) -> Value {
    let input = method.input();
    let fields = input.fields();
    let mut properties: Map<_, _> = fields
        .map(|field| (field.name().to_owned(), schema::scalar(&field)))
        .collect();
    let grant = json!({ "type": "string", "enum": ["client_credentials"] });
    properties.insert("grant_type".to_owned(), grant);
    json!({ "schema": { "type": "object", "properties": properties, "required": ["grant_type"] } })
}

fn content(schema: Value, example: Option<Value>) -> Value {
    let mut content = json!({ "schema": schema });
    if let Some(example) = example {
        content["example"] = example;
    }
    content
}

fn parameters(binding: &Binding) -> Vec<Value> {
    let parameter = |field: &FieldDescriptor, place: &str| {
        let mut parameter = json!({
            "name": field.name(),
            "in": place,
            "required": place == "path" || rules::of(field).is_required,
            "schema": schema::scalar(field),
        });
        if let Some(comment) = schema::comment(field) {
            parameter["description"] = comment.into();
        }
        if let Some(example) = examples::parameter(field) {
            parameter["example"] = example;
        }
        if place == "query" && transcode::may_be_empty(field) {
            parameter["allowEmptyValue"] = true.into();
        }
        parameter
    };
    let path = binding.variables.iter().map(|field| parameter(field, "path"));
    let query = transcode::query_fields(binding);
    let resume = binding.method.is_streaming().then(|| {
        json!({
            "name": "Last-Event-ID",
            "in": "header",
            "required": false,
            "description": "The id of the last event seen, which is its message's position: the stream goes on behind \
                it, whatever `cursor` says. A browser's EventSource sends it by itself.",
            "schema": { "type": "string", "pattern": "^([0-9]{0,18}|[0-8][0-9]{18})$" },
        })
    });
    path.chain(query.iter().map(|field| parameter(field, "query")))
        .chain(resume)
        .collect()
}

fn tags(pool: &DescriptorPool) -> Vec<Value> {
    let bindings = routes::bindings();
    let has_paths = |service: &prost_reflect::ServiceDescriptor| {
        bindings
            .iter()
            .any(|binding| binding.method.descriptor.parent_service() == service)
    };
    let services = pool.services().filter(has_paths);
    services
        .map(|service| {
            let comment = api::comment(&service.parent_file(), service.path()).unwrap_or_default();
            json!({ "name": tag(service.name()), "description": comment })
        })
        .collect()
}

fn tag(service: &str) -> &str {
    service.strip_suffix("Service").unwrap_or(service)
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_path_is_there_once_under_an_id_of_its_own() {
        let document = openapi();
        let mut ids = HashSet::new();
        for binding in routes::bindings() {
            let operation = &document["paths"][&binding.template][binding.verb.as_str().to_lowercase()];
            let Some(id) = operation["operationId"].as_str() else {
                let template = &binding.template;
                assert!(!template.starts_with(PREFIX), "{template}");
                assert!(
                    document["paths"].get(format!("/api{template}")).is_some(),
                    "{template}"
                );
                continue;
            };
            assert!(
                ids.insert(id.to_owned()),
                "{id} is there twice: it needs a name among the second ones"
            );
            for text in ["summary", "description"] {
                assert!(!operation[text].as_str().unwrap().is_empty());
            }
        }
        assert!(ids.contains("ListMessages") && ids.contains("ListOwnMessages"));
    }

    #[test]
    fn what_the_path_gives_is_no_part_of_the_body() {
        let document = openapi();
        let body = &document["components"]["schemas"]["SetConcurrencyRequest"]["properties"];
        assert_eq!(body["tenant_id"], Value::Null);
        assert_eq!(body["workers"]["minimum"], 1);
        assert_eq!(body["workers"]["maximum"], 256);
    }

    #[test]
    fn schemas_say_what_json_has() {
        let schemas = openapi()["components"]["schemas"].take();
        let message = &schemas["Message"]["properties"];
        assert_eq!(message["position"]["type"], "string");
        assert_eq!(message["position"]["format"], "int64");
        assert_eq!(message["payload"]["type"], Value::Null);
        assert_eq!(message["created_at"]["format"], "date-time");
        assert_eq!(
            schemas["Tenant"]["properties"]["status"]["enum"],
            json!(["active", "paused", "creating"])
        );
        assert_eq!(
            schemas["CreateTenantRequest"]["properties"]["name"]["maxLength"],
            200
        );
    }

    #[test]
    fn every_way_to_fail_is_told_where_it_can_come() {
        let document = openapi();
        let statuses = |path: &str, verb: &str| {
            let responses = document["paths"][path][verb]["responses"].as_object().unwrap();
            responses.keys().cloned().collect::<HashSet<_>>()
        };
        let publish = statuses("/api/tenants/{tenant_id}/messages", "post");
        for status in [
            "200", "400", "401", "403", "404", "408", "413", "415", "429", "503",
        ] {
            assert!(publish.contains(status), "{status}");
        }
        let read = statuses("/api/tenants/{tenant_id}/messages", "get");
        assert!(!read.contains("408") && !read.contains("409") && read.contains("503"));
    }

    #[test]
    fn a_reference_leads_somewhere() {
        let document = openapi();
        let text = document.to_string();
        for reference in text.split("\"#/").skip(1) {
            let pointer = format!("/{}", reference.split('"').next().unwrap());
            assert!(document.pointer(&pointer).is_some(), "{pointer}");
        }
    }
}
