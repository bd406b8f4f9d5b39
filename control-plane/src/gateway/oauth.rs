//! The token endpoint, as OAuth 2.0 clients know it (RFC 6749, client credentials).
//!
//! It is a method like all others, and takes JSON like them. Beside that it takes what such clients send, a form and a
//! login by HTTP Basic, and its errors have their names in OAuth, too.

use axum::response::Response;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use prost_reflect::{DynamicMessage, Value};
use url::form_urlencoded;

use super::{api::Method, error::Error, routes::Binding, transcode};
use crate::{excerpt::excerpt, failure::Reason, request_id::RequestId};

/// The one kind of grant there is.
const GRANT: &str = "client_credentials";
/// The fields of the request.
const ID: &str = "client_id";
const SECRET: &str = "client_secret";

/// How a token is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Whether the body is a form.
    pub(super) is_form: bool,
    /// The id and the secret that came as HTTP Basic.
    login: Option<(String, String)>,
}

impl Asked {
    /// What the headers say; `None` where it is no token that is asked for.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Result<Option<Self>, Error> {
        if !method.issues_tokens() {
            return Ok(None);
        }
        let essence = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = essence
            .and_then(|value| value.split(';').next())
            .unwrap_or_default();
        Ok(Some(Self {
            is_form: essence
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded"),
            login: login(headers)?,
        }))
    }

    /// The message that headers and body make together.
    pub(super) fn request(
        &self,
        binding: &Binding,
        query: Option<&str>,
        body: &[u8],
    ) -> Result<DynamicMessage, Error> {
        // The path has no variables, and the query no fields: what stands there is refused.
        let json = if self.is_form { &[] } else { body };
        let mut message = transcode::request(binding, &[""; 0], query, json)?;
        if self.is_form {
            let Form { id, secret } = Form::read(body)?;
            set(&mut message, ID, id);
            set(&mut message, SECRET, secret);
        }
        if let Some((id, secret)) = &self.login {
            let sent = |name: &str| {
                let value = message.get_field_by_name(name);
                value
                    .and_then(|value| value.as_str().map(str::to_owned))
                    .unwrap_or_default()
            };
            if !sent(SECRET).is_empty() || !["", id].contains(&sent(ID).as_str()) {
                return Err(Error::invalid(
                    "the credential came twice, in the body and as HTTP Basic; send it one way",
                ));
            }
            set(&mut message, ID, id.clone());
            set(&mut message, SECRET, secret.clone());
        }
        Ok(message)
    }
}

fn set(message: &mut DynamicMessage, field: &str, text: String) {
    message.set_field_by_name(field, Value::String(text));
}

/// What is wanted of a form.
#[derive(Debug, Default)]
struct Form {
    id: String,
    secret: String,
}

impl Form {
    /// Reads one. What else stands in it is passed over, as the RFC wants it, and what is empty was not sent.
    fn read(body: &[u8]) -> Result<Self, Error> {
        let mut form = Self::default();
        let (mut grant, mut scope) = (String::new(), String::new());
        for (name, value) in form_urlencoded::parse(body.trim_ascii()) {
            let slot = match &*name {
                ID => &mut form.id,
                SECRET => &mut form.secret,
                "grant_type" => &mut grant,
                "scope" => &mut scope,
                _ => continue,
            };
            if !slot.is_empty() {
                return Err(Error::invalid(format!("{name} stands in the form twice")));
            }
            *slot = value.into_owned();
        }
        match grant.as_str() {
            GRANT => {}
            "" => {
                return Err(Error::invalid(format!(
                    "grant_type is missing; send grant_type={GRANT}"
                )));
            }
            other => {
                let message = format!("grant_type must be {GRANT}, got {:?}", excerpt(other));
                return Err(Error::invalid(message).in_oauth("unsupported_grant_type"));
            }
        }
        if !scope.is_empty() {
            let message =
                "scope: there are none here, a token may do what its credential's role may; leave it out";
            return Err(Error::invalid(message).in_oauth("invalid_scope"));
        }
        Ok(form)
    }
}

/// The id and the secret of `authorization: Basic …`, each of which is written as in a form. Who sends something else,
/// an old token say, has the credential in the body.
fn login(headers: &HeaderMap) -> Result<Option<(String, String)>, Error> {
    let value = headers
        .get(AUTHORIZATION)
        .map(|value| value.as_bytes().trim_ascii());
    let Some((scheme, encoded)) = value.and_then(|value| value.split_at_checked("Basic".len())) else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case(b"Basic") || !encoded.starts_with(b" ") {
        return Ok(None);
    }
    let decode = || {
        let text = String::from_utf8(STANDARD.decode(encoded.trim_ascii()).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        Some((decoded(id), decoded(secret)))
    };
    decode().map(Some).ok_or_else(|| {
        Error::new(
            Reason::InvalidClient,
            "the authorization is no HTTP Basic: that is the base64 of client_id:client_secret",
        )
    })
}

fn decoded(text: &str) -> String {
    // A form's value without a name.
    let pair = format!("={}", text.replace('&', "%26"));
    let mut pairs = form_urlencoded::parse(pair.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

/// The answer, of which nobody on the way may keep anything.
pub(super) fn answer(result: Result<Response, Error>, request: &RequestId) -> Response {
    let mut response = result.unwrap_or_else(|error| {
        let word = word(error.http());
        error.in_oauth(word).into_response(request)
    });
    if response.status() == StatusCode::UNAUTHORIZED {
        let basic = HeaderValue::from_static("Basic realm=\"jalur\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, basic);
    }
    forbid_keeping(&mut response);
    response
}

/// For an answer with a secret in it.
pub(super) fn forbid_keeping(response: &mut Response) {
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
}

/// What OAuth calls an error, where nothing better was said.
fn word(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "invalid_client",
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => "temporarily_unavailable",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request",
    }
}

/// The members that OAuth has in an error's body, to stand behind others.
pub(super) fn members(error: &str, message: &str) -> String {
    // These characters and no others may stand there.
    let description: String = message
        .chars()
        .map(|character| match character {
            '"' | '\\' => '\'',
            ' '..='~' => character,
            _ => '?',
        })
        .collect();
    format!(r#","error":"{error}","error_description":"{description}""#)
}

#[cfg(test)]
mod tests {
    use http::Method as Verb;
    use proto::v1::IssueTokenRequest;

    use super::{super::routes, *};

    const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
    const JSON: &str = "application/json";

    fn headers(content_type: &str, authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
        if !authorization.is_empty() {
            headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        }
        headers
    }

    /// The id and the secret that were asked with; or the error's word and text.
    fn ask(headers: &HeaderMap, body: &str) -> Result<(String, String), String> {
        let found = routes::find("/api/auth/token").unwrap();
        let binding = found.binding(&Verb::POST).unwrap();
        let read = || {
            let asked = Asked::of(binding.method, headers)?.unwrap();
            asked.request(binding, None, body.as_bytes())
        };
        let request: IssueTokenRequest = match read() {
            Ok(message) => message.transcode_to().unwrap(),
            Err(error) => {
                let word = error.oauth().unwrap_or_else(|| word(error.http()));
                return Err(format!("{word}: {}", error.message()));
            }
        };
        Ok((request.client_id, request.client_secret))
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_credential_comes_in_json_in_a_form_or_as_basic() {
        let wanted = Ok(("a b".to_owned(), "s:%&".to_owned()));
        let json = r#"{"client_id":"a b","client_secret":"s:%&"}"#;
        assert_eq!(ask(&headers(JSON, ""), json), wanted);
        assert_eq!(ask(&headers(JSON, "Bearer old"), json), wanted);
        let form = "grant_type=client_credentials&client_id=a+b&client_secret=s%3A%25%26&scope=&resource=x";
        assert_eq!(ask(&headers(FORM, ""), form), wanted);
        let basic = basic("a%20b:s:%25%26");
        let headers = |basic: &str| headers(FORM, basic);
        assert_eq!(ask(&headers(&basic), "grant_type=client_credentials"), wanted);
        let lower = basic.replace("Basic", "basic");
        assert_eq!(
            ask(&headers(&lower), "client_id=a+b&grant_type=client_credentials"),
            wanted
        );
    }

    #[test]
    fn what_is_wrong_has_its_name_in_oauth() {
        let grant = "grant_type=client_credentials";
        for (authorization, body, wanted) in [
            (
                "",
                "client_id=a&client_secret=b",
                "invalid_request: grant_type is missing",
            ),
            (
                "",
                "grant_type=password&username=u",
                "unsupported_grant_type: grant_type must be",
            ),
            (
                "",
                "grant_type=client_credentials&scope=all",
                "invalid_scope: scope",
            ),
            (
                "",
                "grant_type=client_credentials&client_id=a&client_id=b",
                "invalid_request: client_id stands",
            ),
            ("Basic ?", grant, "invalid_client: the authorization"),
            ("Basic YQ==", grant, "invalid_client: the authorization"),
            (
                "Basic YTpi",
                "grant_type=client_credentials&client_secret=b",
                "invalid_request: the credential came twice",
            ),
            (
                "Basic YTpi",
                "grant_type=client_credentials&client_id=c",
                "invalid_request: the credential came twice",
            ),
        ] {
            let refused = ask(&headers(FORM, authorization), body).unwrap_err();
            assert!(refused.starts_with(wanted), "{body}: {refused}");
        }
        let refused = ask(&headers(JSON, ""), r#"{"client":"a"}"#).unwrap_err();
        assert!(refused.starts_with("invalid_request: client"), "{refused}");
    }

    #[test]
    fn other_methods_know_nothing_of_it() {
        let found = routes::find("/api/tenants").unwrap();
        let method = found.binding(&Verb::POST).unwrap().method;
        assert!(Asked::of(method, &headers(FORM, "Basic ?")).unwrap().is_none());
    }

    #[test]
    fn an_error_has_both_shapes_and_is_not_kept() {
        let request = RequestId::of(&http::Extensions::new());
        let response = answer(Err(Error::invalid("a \"b\" \\ ä")), &request);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(
            members("invalid_request", "a \"b\" \\ ä"),
            r#","error":"invalid_request","error_description":"a 'b' ' ?""#
        );
        let response = answer(Err(Error::new(Reason::InvalidClient, "no")), &request);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Basic realm=\"jalur\"");
    }
}
