//! A message's headers as JSON, for people to read.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lapin::types::{AMQPValue, ShortString};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// How deep tables and lists may lie in one another; what lies deeper is null.
const DEPTH_MAX: usize = 16;

/// The table as a JSON object's text. Integers keep every digit.
pub(super) fn json(table: &BTreeMap<ShortString, AMQPValue>) -> String {
    Value::Object(object(table, DEPTH_MAX)).to_string()
}

fn object(table: &BTreeMap<ShortString, AMQPValue>, depth: usize) -> Map<String, Value> {
    let entry = |(name, of): (&ShortString, &_)| (name.to_string(), value(of, depth));
    table.iter().map(entry).collect()
}

fn value(of: &AMQPValue, depth: usize) -> Value {
    let Some(within) = depth.checked_sub(1) else {
        return Value::Null;
    };
    match of {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        // What is no number in JSON is null.
        AMQPValue::Float(value) => f64::from(*value).into(),
        AMQPValue::Double(value) => (*value).into(),
        AMQPValue::DecimalValue(value) => format!("{}e-{}", value.value, value.scale).into(),
        AMQPValue::ShortString(value) => value.as_str().into(),
        AMQPValue::LongString(value) => match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => text.into(),
            Err(_) => STANDARD.encode(value.as_bytes()).into(),
        },
        AMQPValue::FieldArray(values) => {
            let values = values.as_slice().iter();
            values.map(|of| value(of, within)).collect()
        }
        AMQPValue::Timestamp(seconds) => time(*seconds).map_or_else(|| (*seconds).into(), Value::from),
        AMQPValue::FieldTable(table) => Value::Object(object(table.inner(), within)),
        AMQPValue::ByteArray(bytes) => STANDARD.encode(bytes.as_slice()).into(),
        AMQPValue::Void => Value::Null,
    }
}

fn time(seconds: u64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    time.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::*;

    #[test]
    fn headers_are_readable_whatever_they_hold() {
        let mut inner = FieldTable::default();
        inner.insert("deep".into(), AMQPValue::LongLongInt(i64::MAX));
        let mut headers = FieldTable::default();
        for (name, value) in [
            ("text", AMQPValue::LongString("é\"".into())),
            ("bytes", AMQPValue::LongString(vec![0xff, 0].into())),
            ("at", AMQPValue::Timestamp(1_769_860_800)),
            ("never", AMQPValue::Timestamp(u64::MAX)),
            ("nan", AMQPValue::Double(f64::NAN)),
            (
                "list",
                AMQPValue::FieldArray(vec![AMQPValue::Void, AMQPValue::FieldTable(inner)].into()),
            ),
        ] {
            headers.insert(name.into(), value);
        }
        let read: Value = serde_json::from_str(&json(headers.inner())).unwrap();
        assert_eq!(
            read,
            serde_json::json!({
                "text": "é\"", "bytes": "/wA=", "at": "2026-01-31T12:00:00Z", "never": u64::MAX, "nan": null,
                "list": [null, { "deep": i64::MAX }],
            })
        );
        assert_eq!(json(&BTreeMap::new()), "{}");
    }

    #[test]
    fn a_table_within_itself_over_and_over_is_cut() {
        let mut table = FieldTable::default();
        for _ in 0..1_000 {
            let mut outer = FieldTable::default();
            outer.insert("t".into(), AMQPValue::FieldTable(table));
            table = outer;
        }
        assert!(json(table.inner()).len() < 200);
    }
}
