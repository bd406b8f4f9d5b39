//! What bodies are read as, and what is said of those that cannot be.

use super::{super::super::api, *};

fn message(name: &str) -> MessageDescriptor {
    api::pool()
        .get_message_by_name(&format!("jalur.v1.{name}"))
        .unwrap()
}

fn refused(name: &str, body: &str) -> String {
    read(&message(name), body.as_bytes()).unwrap_err().to_string()
}

fn publish(body: &str) -> proto::v1::PublishMessagesRequest {
    let message = read(&message("PublishMessagesRequest"), body.as_bytes()).unwrap();
    message.transcode_to().unwrap()
}

#[test]
fn a_payload_is_the_text_that_was_sent() {
    for payload in [
        "null",
        "12345678901234567890.0000000000000000000001",
        "1e400",
        r#"{"b": [1, 2.50],  "a": "\u00e9", "a": -0}"#,
        r#""\ud800""#,
    ] {
        let body = format!(r#" {{ "messages" : [ {{"payload":  {payload} }} ] }} "#);
        let request = publish(&body);
        assert_eq!(request.messages[0].payload.as_ref().unwrap().text, payload);
    }
}

#[test]
fn deep_nesting_is_passed_on_and_not_followed() {
    let payload = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let request = publish(&format!(r#"{{"messages":[{{"payload":{payload}}}]}}"#));
    assert_eq!(request.messages[0].payload.as_ref().unwrap().text, payload);
    assert_eq!(
        refused("CreateTenantRequest", &format!(r#"{{"name":{payload}}}"#)),
        "name must be a string of Unicode characters, got an array. 1 to 200 characters, unique among living \
         tenants."
    );
}

#[test]
fn null_is_absence_but_for_a_payload() {
    let request = publish(r#"{"messages":[{"id":null,"payload":null},{}]}"#);
    assert_eq!(request.messages[0].id, None);
    assert_eq!(request.messages[0].payload.as_ref().unwrap().text, "null");
    assert_eq!(request.messages[1].payload, None);
    assert_eq!(publish(r#"{"messages":null}"#).messages.len(), 0);
}

#[test]
fn an_empty_body_is_an_empty_message() {
    for body in ["", " \n", "{}"] {
        assert_eq!(publish(body), proto::v1::PublishMessagesRequest::default());
    }
}

#[test]
fn a_wrong_value_is_named_with_its_path_and_what_it_may_be() {
    let body = r#"{"messages":[{"payload":1},{"id":5}]}"#;
    let error = refused("PublishMessagesRequest", body);
    assert!(
        error.starts_with("messages[1].id must be a string of Unicode characters, got 5"),
        "{error}"
    );
    for (body, wanted) in [
        (
            "2.5",
            "workers must be an integer, got 2.5. How many workers the tenant has in all, 1 to 256.",
        ),
        ("\"many\"", "workers must be an integer, got \"many\"."),
        ("\"5\"", "workers must be an integer, got \"5\"."),
        ("1e2", "workers must be an integer, got 1e2."),
        ("true", "workers must be an integer, got true."),
        ("[5]", "workers must be an integer, got an array."),
        (
            "2147483648",
            "workers must be an integer from 1 to 256, got 2147483648.",
        ),
        (
            "-99999999999999999999999",
            "workers must be an integer from 1 to 256, got -999",
        ),
    ] {
        let error = refused("SetConcurrencyRequest", &format!(r#"{{"workers":{body}}}"#));
        assert!(error.starts_with(wanted), "{error}");
    }
    let error = refused("CreateTenantRequest", r#"{"status":"gone"}"#);
    assert!(
        error.starts_with(r#"status must be one of "active", "paused", got "gone""#),
        "{error}"
    );
    for status in [
        "\"unspecified\"",
        "\"ACTIVE\"",
        "\"TENANT_STATUS_ACTIVE\"",
        "1",
        "{}",
    ] {
        assert!(
            refused("CreateTenantRequest", &format!(r#"{{"status":{status}}}"#))
                .starts_with("status must be")
        );
    }
    let error = refused("PublishMessagesRequest", r#"{"messages":{}}"#);
    assert!(
        error.starts_with("messages must be an array, got an object"),
        "{error}"
    );
    let error = refused("PublishMessagesRequest", r#"{"messages":[null]}"#);
    assert!(
        error.starts_with("messages[0] must be an object, got null"),
        "{error}"
    );
    let error = refused("CreateTenantRequest", r#"{"name":"\ud800"}"#);
    assert!(
        error.starts_with("name must be a string of Unicode characters"),
        "{error}"
    );
}

#[test]
fn an_unknown_field_is_named_beside_the_known_ones() {
    assert_eq!(
        refused("PublishMessagesRequest", r#"{"messages":[{"payloads":1}]}"#),
        "messages[0].payloads is unknown; known here: id, payload"
    );
    assert!(refused("SetConcurrencyRequest", r#"{"tenantId":"x"}"#).starts_with("tenantId is unknown"));
    assert_eq!(
        refused("Leave", r#"{"a":1}"#),
        "a is unknown; no field is known here"
    );
}

#[test]
fn a_field_that_stands_twice_is_refused() {
    let body = r#"{"name":"a","na\u006de":"a"}"#;
    assert_eq!(refused("CreateTenantRequest", body), "name stands there twice");
}

#[test]
fn a_list_holds_so_many_elements_and_no_more_are_looked_at() {
    let publish_of = |count: usize| format!(r#"{{"messages":[{}]}}"#, vec!["{}"; count].join(","));
    assert_eq!(publish(&publish_of(1_000)).messages.len(), 1_000);
    assert_eq!(
        refused("PublishMessagesRequest", &publish_of(1_001)),
        "messages must hold 1000 elements at most, got more"
    );
    // Members beyond what a message can have are not collected either.
    let members = vec![r#""a":0"#; 1_000].join(",");
    assert!(refused("CreateTenantRequest", &format!("{{{members}}}")).starts_with("a is unknown"));
    let members = vec![r#""name":"a""#; 1_000].join(",");
    assert_eq!(
        refused("CreateTenantRequest", &format!("{{{members}}}")),
        "name stands there twice"
    );
}

#[test]
fn malformed_json_is_named_with_line_and_column() {
    assert_eq!(
        refused("CreateTenantRequest", "{\n\"name\":}"),
        "the body is not JSON: expected value at line 2 column 8"
    );
    assert_eq!(
        refused("CreateTenantRequest", "[]"),
        "the body must be a JSON object, got an array"
    );
    let error = read(&message("CreateTenantRequest"), b"\"\xff\"").unwrap_err();
    assert_eq!(error.to_string(), "the body has invalid UTF-8 at byte 1");
    assert!(refused("CreateTenantRequest", "{} x").contains("trailing characters"));
}

#[test]
fn wide_integers_are_read_from_numbers_and_strings() {
    for body in [
        r#"{"cursor":"9007199254740993"}"#,
        r#"{"cursor":9007199254740993}"#,
    ] {
        let read = read(&message("ListMessagesRequest"), body.as_bytes()).unwrap();
        let request: proto::v1::ListMessagesRequest = read.transcode_to().unwrap();
        assert_eq!(request.cursor, 9_007_199_254_740_993);
    }
    let error = refused("ListMessagesRequest", r#"{"cursor":"9223372036854775808"}"#);
    assert!(
        error.starts_with("cursor must be an integer from 0 to"),
        "{error}"
    );
}

#[test]
fn a_time_is_read_in_any_zone() {
    let body = br#"{"created_at":"2026-01-31T13:00:00.5+01:00"}"#;
    let tenant: proto::v1::Tenant = read(&message("Tenant"), body).unwrap().transcode_to().unwrap();
    let created_at = tenant.created_at.unwrap();
    assert_eq!(
        (created_at.seconds, created_at.nanos),
        (1_769_860_800, 500_000_000)
    );
    assert!(refused("Tenant", r#"{"created_at":5}"#).starts_with("created_at must be a time in RFC 3339"));
}

proptest::proptest! {
    #[test]
    fn nothing_upsets_the_reader(body in "[\\[\\]{}\",:a-z0-9.\\\\ud]{0,64}") {
        let _ = read(&message("PublishMessagesRequest"), body.as_bytes());
        let _ = read(&message("CreateTenantRequest"), body.as_bytes());
    }
}
