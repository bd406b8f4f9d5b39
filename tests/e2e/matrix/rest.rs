//! The routes, from the document that describes them.

use std::sync::LazyLock;

use reqwest::Method as Verb;
use serde_json::Value;
use uuid::Uuid;

use super::{Answer, Cell, Method, judge};
use crate::support::Stack;

/// One route, with an example of what is sent there.
struct Route {
    verb: Verb,
    template: String,
    body: Option<Vec<u8>>,
    method: Method,
}

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(routes);

/// Each route of the document, and the same without `/api`.
fn routes() -> Vec<Route> {
    let document = control_plane::gateway::openapi();
    let mut routes = Vec::new();
    for (template, operations) in document["paths"].as_object().unwrap() {
        for (verb, operation) in operations.as_object().unwrap() {
            let Ok(verb) = verb.to_uppercase().parse::<Verb>() else {
                continue;
            };
            let name = match operation["operationId"].as_str().unwrap() {
                "ListOwnMessages" => "ListMessages",
                name => name,
            };
            let parameters = operation["parameters"].as_array();
            let asks = |parameter: &Value| parameter["name"] == "tenant_id" && parameter["in"] == "query";
            let asks = parameters.is_some_and(|parameters| parameters.iter().any(asks));
            let content = &operation["requestBody"]["content"]["application/json"]["example"];
            let mut template = template.clone();
            let is_of_a_tenant = template.contains("/tenants/{") || asks;
            if asks {
                template += "?tenant_id={tenant_id}";
            }
            let method = Method {
                path: super::grpc::path_of(name),
                is_of_a_tenant,
            };
            let body = (!content.is_null()).then(|| content.to_string().into_bytes());
            let bare = template.strip_prefix("/api").map(str::to_owned);
            for template in [Some(template), bare].into_iter().flatten() {
                routes.push(Route {
                    verb: verb.clone(),
                    template,
                    body: body.clone(),
                    method: method.clone(),
                });
            }
        }
    }
    assert!(routes.len() > 30, "there are more than {}", routes.len());
    routes
}

/// What is wrong with the answers that this caller gets on any route.
pub(super) async fn try_all(stack: &Stack, cell: &Cell<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for route in ROUTES.iter() {
        if route.method.is_left_out(cell.caller, cell.target) {
            continue;
        }
        let path = fill(&route.template, cell.target.id());
        let body = route.body.clone().map(|body| ("application/json", body));
        let answer = stack
            .send(route.verb.clone(), &path, &cell.caller.token, body)
            .await;
        let what = format!("{} {}", route.verb, route.template);
        let is = match answer.status {
            401 => Answer::Unauthenticated,
            403 => Answer::Denied,
            500 => {
                wrong.push(format!("{what} by {}: {}", cell.caller.what, answer.json));
                continue;
            }
            _ => Answer::Reached,
        };
        wrong.extend(judge(&what, &route.method, cell, is, answer.text.as_bytes()));
    }
    wrong
}

/// The path for this tenant; whatever else it names does not exist.
fn fill(template: &str, tenant: Uuid) -> String {
    let mut path = template
        .replace("/tenants/{id}", &format!("/tenants/{tenant}"))
        .replace("{tenant_id}", &tenant.to_string());
    while let (Some(begin), Some(end)) = (path.find('{'), path.find('}')) {
        path.replace_range(begin..=end, &Uuid::now_v7().to_string());
    }
    path
}
