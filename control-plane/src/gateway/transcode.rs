//! From a REST request to the method's message, and from the method's answer to a REST body.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use prost_reflect::{DynamicMessage, FieldDescriptor};

use super::{
    error::Error,
    json::{self, Shape},
    routes::{Binding, Body},
};
use crate::excerpt::excerpt;

/// The message that path, query and body make together.
pub(super) fn request(
    binding: &Binding,
    segments: &[impl AsRef<str>],
    query: Option<&str>,
    body: &[u8],
) -> Result<DynamicMessage, Error> {
    let descriptor = binding.method.descriptor.input();
    let mut message = match &binding.body {
        Body::Whole => json::read(&descriptor, body)?,
        Body::Field(field) => {
            let mut message = DynamicMessage::new(descriptor);
            if !body.trim_ascii().is_empty() {
                message.set_field(field, json::read_field(field, body)?);
            }
            message
        }
        Body::Ignored => DynamicMessage::new(descriptor),
    };
    for (field, segment) in binding.variables.iter().zip(segments) {
        let value = json::from_text(field, &decoded(field.name(), segment.as_ref())?)?;
        if message.has_field(field) && *message.get_field(field) != value {
            let problem = "is another in the body than in the path; leave it out of the body";
            return Err(json::Error::field(field.name(), problem).into());
        }
        message.set_field(field, value);
    }
    read_query(binding, query.unwrap_or_default(), &mut message)?;
    Ok(message)
}

/// The body that an answer makes.
pub(super) fn response(binding: &Binding, message: &DynamicMessage) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write(&mut out, binding, message);
    out
}

/// Writes what an answer says.
pub(super) fn write(out: &mut Vec<u8>, binding: &Binding, message: &DynamicMessage) {
    match &binding.answer {
        Some(field) => json::write_field(out, field, &message.get_field(field)),
        None => json::write(out, message),
    }
}

/// The names that a query may use, and their fields: single values that neither the path nor the body gives.
pub(super) fn query_fields(binding: &Binding) -> Vec<FieldDescriptor> {
    if binding.body == Body::Whole {
        return Vec::new();
    }
    let is_query = |field: &FieldDescriptor| {
        let is_body = matches!(&binding.body, Body::Field(body) if body == field);
        !is_body && !binding.variables.contains(field) && !field.is_list() && Shape::of(field).is_scalar()
    };
    let input = binding.method.descriptor.input();
    input.fields().filter(is_query).collect()
}

/// Whether a query may name it and give nothing: `?cursor=` is how a program writes that it has none yet. A word, or a
/// time, is there or is not.
pub(super) fn may_be_empty(field: &FieldDescriptor) -> bool {
    matches!(Shape::of(field), Shape::Text | Shape::Integer(_))
}

fn read_query(binding: &Binding, query: &str, message: &mut DynamicMessage) -> Result<(), Error> {
    if query.is_empty() {
        return Ok(());
    }
    let known = query_fields(binding);
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded_form("the query", name)?;
        let Some(field) = known.iter().find(|field| field.name() == name) else {
            let names: Vec<_> = known.iter().map(FieldDescriptor::name).collect();
            let known = match names.as_slice() {
                [] => "no parameter is known here".to_owned(),
                names => format!("known here: {}", names.join(", ")),
            };
            let problem = format!("is unknown in the query; {known}");
            return Err(json::Error::field(&excerpt(&name), problem).into());
        };
        if seen.contains(&field.number()) {
            return Err(json::Error::field(field.name(), "stands in the query twice").into());
        }
        seen.push(field.number());
        let text = decoded_form(field.name(), text)?;
        if !text.is_empty() || !may_be_empty(field) {
            message.set_field(field, json::from_text(field, &text)?);
        }
    }
    Ok(())
}

/// Decodes what a query writes, where a plus is a space.
fn decoded_form<'a>(name: &str, text: &'a str) -> Result<Cow<'a, str>, Error> {
    if text.contains('+') {
        return decoded(name, &text.replace('+', " ")).map(|text| Cow::Owned(text.into_owned()));
    }
    decoded(name, text)
}

fn decoded<'a>(name: &str, text: &'a str) -> Result<Cow<'a, str>, Error> {
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| json::Error::field(name, "is not UTF-8 once its %-escapes are decoded").into())
}

#[cfg(test)]
mod tests {
    use http::Method as Verb;
    use tonic::Code;

    use super::{super::routes, *};

    fn read(verb: Verb, uri: &str, body: &str) -> Result<DynamicMessage, String> {
        let (path, query) = uri
            .split_once('?')
            .map_or((uri, None), |(path, query)| (path, Some(query)));
        let found = routes::find(path).unwrap();
        request(
            found.binding(&verb).unwrap(),
            &found.segments,
            query,
            body.as_bytes(),
        )
        .map_err(|error| {
            assert_eq!(error.code(), Code::InvalidArgument);
            error.message().to_owned()
        })
    }

    #[test]
    fn path_and_query_fill_the_message() {
        let read = read(Verb::GET, "/tenants/a%2Fb/messages?cursor=5&limit=7&", "ignored").unwrap();
        let request: proto::v1::ListMessagesRequest = read.transcode_to().unwrap();
        assert_eq!(
            (request.tenant_id.as_str(), request.cursor, request.limit),
            ("a/b", 5, Some(7))
        );
    }

    #[test]
    fn a_query_is_decoded() {
        let read = read(Verb::GET, "/tenants?page%5Ftoken=a+b%2Bc&page_size=", "").unwrap();
        let request: proto::v1::ListTenantsRequest = read.transcode_to().unwrap();
        assert_eq!((request.page_token.as_str(), request.page_size), ("a b+c", None));
    }

    #[test]
    fn a_bad_query_is_named() {
        for (uri, wanted) in [
            (
                "/messages?limits=1",
                "limits is unknown in the query; known here: tenant_id, cursor, limit",
            ),
            (
                "/tenants/1/messages?tenant_id=2",
                "tenant_id is unknown in the query; known here: cursor, limit",
            ),
            (
                "/tenants/1?x",
                "x is unknown in the query; no parameter is known here",
            ),
            ("/messages?limit=1&limit=1", "limit stands in the query twice"),
            (
                "/messages?created_before=",
                "created_before must be a time in RFC 3339",
            ),
            ("/messages?order=", "order must be one of \"oldest\", \"newest\""),
            (
                "/messages?limit=ten",
                "limit must be an integer, got \"ten\". At most how many",
            ),
            (
                "/messages?limit=3000000000",
                "limit must be an integer from 1 to 1000",
            ),
            ("/messages?cursor=1.5", "cursor must be an integer, got \"1.5\""),
            ("/messages?tenant_id=%ff", "tenant_id is not UTF-8"),
            ("/tenants/%ff/messages", "tenant_id is not UTF-8"),
        ] {
            let error = read(Verb::GET, uri, "").unwrap_err();
            assert!(error.starts_with(wanted), "{uri}: {error}");
        }
        let error = read(Verb::POST, "/tenants?name=x", "{}").unwrap_err();
        assert!(error.starts_with("name is unknown in the query"), "{error}");
    }

    #[test]
    fn the_path_and_the_body_have_to_agree() {
        let patch = |body| read(Verb::PATCH, "/tenants/a", body);
        assert!(patch(r#"{"name":"n"}"#).is_ok());
        assert!(patch(r#"{"name":"n","id":"a"}"#).is_ok());
        assert_eq!(
            patch(r#"{"id":"b"}"#).unwrap_err(),
            "id is another in the body than in the path; leave it out of the body"
        );
    }
}
