//! REST's routes, from the `google.api.http` options of the protos.
//!
//! Of the options' path syntax there is what the protos use: literal segments and `{field}` for one segment. A
//! template with more fails as the table is made, and so in every test.

use std::sync::LazyLock;

use http::Method as Verb;
use prost_reflect::{DynamicMessage, FieldDescriptor};

use super::api::{self, Method};

static ROOT: LazyLock<Node> = LazyLock::new(|| {
    let mut root = Node::default();
    for binding in bindings() {
        root.insert(binding);
    }
    root
});

/// One way to call a method over REST.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    /// The method.
    pub(super) method: &'static Method,
    /// How.
    pub(super) verb: Verb,
    /// Where, such as `/api/tenants/{id}`.
    pub(super) template: String,
    /// The fields that the path gives, in its order.
    pub(super) variables: Vec<FieldDescriptor>,
    /// What the body gives.
    pub(super) body: Body,
    /// The field of the answer that is the body; all of it when absent.
    pub(super) answer: Option<FieldDescriptor>,
}

/// What a request's body gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    /// Nothing: what the path does not give is the query's.
    Ignored,
    /// Everything that the path does not give.
    Whole,
    /// One field; the rest is the query's.
    Field(FieldDescriptor),
}

/// A path that exists.
#[derive(Debug)]
pub(super) struct Found<'p> {
    bindings: &'static [Binding],
    /// What stands for the template's variables, as it came.
    pub(super) segments: Vec<&'p str>,
}

impl Found<'_> {
    /// What the verb means on this path. HEAD is a GET whose body is left out.
    pub(super) fn binding(&self, verb: &Verb) -> Option<&'static Binding> {
        let verb = if verb == Verb::HEAD { &Verb::GET } else { verb };
        self.bindings.iter().find(|binding| binding.verb == *verb)
    }

    /// The path with its variables unfilled.
    pub(super) fn template(&self) -> &'static str {
        self.bindings
            .first()
            .map_or("unknown", |binding| &binding.template)
    }

    /// The verbs that mean something on this path, for `Allow`.
    pub(super) fn allow(&self) -> String {
        let mut verbs: Vec<_> = self
            .bindings
            .iter()
            .map(|binding| binding.verb.as_str())
            .collect();
        if verbs.contains(&"GET") {
            verbs.push("HEAD");
        }
        verbs.push("OPTIONS");
        verbs.sort_unstable();
        verbs.join(", ")
    }
}

/// Looks a path up.
pub(super) fn find(path: &str) -> Option<Found<'_>> {
    let mut segments = Vec::new();
    let rest: Vec<_> = path.strip_prefix('/')?.split('/').collect();
    let node = ROOT.find(&rest, &mut segments)?;
    Some(Found {
        bindings: &node.bindings,
        segments,
    })
}

/// All bindings: of each method first the main one, then the additional ones.
pub(super) fn bindings() -> Vec<Binding> {
    let http = api::pool().get_extension_by_name("google.api.http");
    let http = http.expect("the protos import google/api/annotations.proto");
    let mut bindings = Vec::new();
    for method in api::methods() {
        let options = method.descriptor.options();
        if !options.has_extension(&http) {
            continue;
        }
        let rule = options.get_extension(&http);
        let rule = rule.as_message().expect("google.api.http is a message");
        bindings.push(binding(method, rule));
        if let Some(additional) = rule.get_field_by_name("additional_bindings") {
            let rules = additional.as_list().unwrap_or_default();
            bindings.extend(
                rules
                    .iter()
                    .filter_map(|rule| rule.as_message())
                    .map(|rule| binding(method, rule)),
            );
        }
    }
    bindings
}

fn binding(method: &'static Method, rule: &DynamicMessage) -> Binding {
    let text = |name: &str| {
        let value = rule.get_field_by_name(name);
        value
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let field = |name: &str, message: prost_reflect::MessageDescriptor| {
        message
            .get_field_by_name(name)
            .unwrap_or_else(|| panic!("{}: {name:?} in google.api.http is no field", method.path))
    };
    let (verb, template) = [Verb::GET, Verb::PUT, Verb::POST, Verb::DELETE, Verb::PATCH]
        .into_iter()
        .map(|verb| (text(&verb.as_str().to_lowercase()), verb))
        .find_map(|(template, verb)| (!template.is_empty()).then_some((verb, template)))
        .unwrap_or_else(|| panic!("{}: google.api.http has no path", method.path));
    let variables = template.split('/').filter_map(variable);
    Binding {
        variables: variables
            .map(|name| field(name, method.descriptor.input()))
            .collect(),
        body: match text("body").as_str() {
            "" => Body::Ignored,
            "*" => Body::Whole,
            name => Body::Field(field(name, method.descriptor.input())),
        },
        answer: match text("response_body").as_str() {
            "" => None,
            name => Some(field(name, method.descriptor.output())),
        },
        method,
        verb,
        template,
    }
}

/// The field's name, if the segment is a variable.
fn variable(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    assert!(
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
        "{segment}: only {{field}} is understood"
    );
    Some(name)
}

/// What may follow one segment.
#[derive(Debug, Default)]
struct Node {
    literals: Vec<(String, Node)>,
    variable: Option<Box<Node>>,
    /// What the path that ends here means, by verb; several methods share a path.
    bindings: Vec<Binding>,
}

impl Node {
    fn insert(&mut self, binding: Binding) {
        let template = binding.template.clone();
        let mut node = self;
        for segment in template.trim_start_matches('/').split('/') {
            node = if variable(segment).is_some() {
                node.variable.get_or_insert_default()
            } else {
                let at = node.literals.iter().position(|(literal, _)| literal == segment);
                let at = at.unwrap_or_else(|| {
                    node.literals.push((segment.to_owned(), Self::default()));
                    node.literals.len() - 1
                });
                &mut node.literals[at].1
            };
        }
        assert!(
            node.bindings.iter().all(|other| other.verb != binding.verb),
            "{} {template} stands for two methods",
            binding.verb
        );
        node.bindings.push(binding);
    }

    /// A literal is preferred to a variable. As deep as the longest template, whatever the path.
    fn find<'p>(&self, path: &[&'p str], segments: &mut Vec<&'p str>) -> Option<&Self> {
        let Some((segment, rest)) = path.split_first() else {
            return (!self.bindings.is_empty()).then_some(self);
        };
        let literal = self.literals.iter().find(|(literal, _)| literal == segment);
        if let Some(found) = literal.and_then(|(_, node)| node.find(rest, segments)) {
            return Some(found);
        }
        let node = self.variable.as_ref().filter(|_| !segment.is_empty())?;
        segments.push(segment);
        let found = node.find(rest, segments);
        if found.is_none() {
            segments.pop();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(verb: Verb, path: &str) -> Option<&'static str> {
        let binding = find(path)?.binding(&verb)?;
        Some(binding.method.descriptor.name())
    }

    #[test]
    fn both_spellings_of_a_path_reach_the_same_method() {
        for prefix in ["", "/api"] {
            let method = |verb, path: &str| method(verb, &format!("{prefix}{path}")).unwrap();
            assert_eq!(method(Verb::POST, "/tenants"), "CreateTenant");
            assert_eq!(method(Verb::GET, "/tenants"), "ListTenants");
            assert_eq!(method(Verb::HEAD, "/tenants"), "ListTenants");
            assert_eq!(method(Verb::GET, "/tenants/7"), "GetTenant");
            assert_eq!(method(Verb::PATCH, "/tenants/7"), "UpdateTenant");
            assert_eq!(method(Verb::DELETE, "/tenants/7"), "DeleteTenant");
            assert_eq!(
                method(Verb::PUT, "/tenants/7/config/concurrency"),
                "SetConcurrency"
            );
            assert_eq!(method(Verb::PUT, "/tenants/7/config/limits"), "SetLimits");
            assert_eq!(method(Verb::POST, "/tenants/7/messages"), "PublishMessages");
            assert_eq!(method(Verb::GET, "/tenants/7/messages"), "ListMessages");
            assert_eq!(method(Verb::GET, "/messages"), "ListMessages");
        }
    }

    #[test]
    fn other_paths_do_not_exist() {
        for path in [
            "",
            "/",
            "*",
            "/api",
            "/tenants/",
            "/tenants//messages",
            "/tenants/7/",
            "/api/api/tenants",
            "/tenants/7/x",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_path_says_which_verbs_it_takes() {
        let found = find("/tenants/7").unwrap();
        assert_eq!(found.allow(), "DELETE, GET, HEAD, OPTIONS, PATCH");
        assert_eq!(found.template(), "/tenants/{id}");
        assert_eq!(found.segments, ["7"]);
        assert!(found.binding(&Verb::POST).is_none());
    }

    #[test]
    fn every_method_that_is_no_stream_has_a_path() {
        let bindings = bindings();
        for method in api::methods().filter(|method| !method.is_streaming()) {
            assert!(
                bindings.iter().any(|binding| binding.method.path == method.path),
                "{}",
                method.path
            );
        }
    }
}
