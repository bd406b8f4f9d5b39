use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use proptest::prelude::*;

use super::*;

/// A table's entry: a name, a type, and the bytes of a value.
pub(crate) fn entry(name: &[u8], form: u8, value: &[u8]) -> Vec<u8> {
    [&[name.len() as u8], name, &[form], value].concat()
}

pub(crate) fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

/// Properties with these headers and this `message_id`.
pub(crate) fn properties(headers: &[Vec<u8>], message_id: &[u8]) -> Vec<u8> {
    let flags = bit(2) | bit(8);
    [
        flags.to_be_bytes().to_vec(),
        long(&headers.concat()),
        short(message_id),
    ]
    .concat()
}

/// As the client reads them.
pub(crate) fn parsed(properties: &[u8]) -> Option<BasicProperties> {
    let (rest, properties) = lapin::protocol::basic::parse_properties(properties).ok()?;
    rest.is_empty().then_some(properties)
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn says(properties: &BasicProperties, name: &str) -> String {
    match header(properties, name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{name} is {other:?}"),
    }
}

const ROOM: usize = 131_000;

#[test]
fn an_id_that_is_no_text_is_left_out_and_said() {
    let came = properties(&[entry(b"mine", b't', &[1])], &[0xff, 0xfe]);
    assert_eq!(weigh(&came), None);
    let mended = mend(&came, ROOM);
    let read = parsed(&mended.bytes).unwrap();
    assert_eq!(
        mended.id_unreadable.as_deref(),
        Some("message_id cannot be read: fffe")
    );
    assert!(read.message_id().is_none());
    assert_eq!(header(&read, "mine"), Some(&AMQPValue::Boolean(true)));
    assert_eq!(says(&read, UNREADABLE), "message_id=fffe");
}

#[test]
fn flags_that_nobody_knows_make_no_message_unreadable() {
    // Dead letters without an id of their own would all have the same, and one of them be stored when they are replayed.
    let mut came = properties(&[], b"m-1");
    came[1] |= 3;
    assert!(weigh(&came).is_some());
    let read = parsed(&came).unwrap();
    assert_eq!(read.message_id().as_ref().unwrap().as_str(), "m-1");
}

#[test]
fn a_name_that_is_no_text_costs_its_header_alone() {
    let came = properties(
        &[
            entry(b"before", b'S', &long(b"a")),
            entry(&[0xff], b'S', &long(b"b")),
            entry(b"after", b'V', b""),
        ],
        b"m-1",
    );
    let mended = mend(&came, ROOM);
    let read = parsed(&mended.bytes).unwrap();
    assert_eq!(mended.id_unreadable, None);
    assert_eq!(read.message_id().as_ref().unwrap().as_str(), "m-1");
    assert!(header(&read, "before").is_some() && header(&read, "after").is_some());
    assert_eq!(says(&read, UNREADABLE), "header=01ff530000000162");
}

#[test]
fn our_own_id_that_cannot_be_read_is_told() {
    let bad = entry(b"x-jalur-id", b'F', &long(&entry(&[0xff], b'V', b"")));
    for headers in [vec![bad.clone()], vec![entry(b"odd", b'?', b""), bad]] {
        let mended = mend(&properties(&headers, b"m-1"), ROOM);
        assert!(mended.id_unreadable.unwrap().starts_with("header x-jalur-id"));
    }
}

#[test]
fn every_type_that_the_broker_knows_can_be_read() {
    let nested = [entry(b"", b'V', b""), entry(b"t", b'T', &[1; 8])].concat();
    let list = [&b"V"[..], &[b'b', 1], &[b's', 0, 1]].concat();
    let values: [(u8, Vec<u8>); 18] = [
        (b't', vec![1]),
        (b'b', vec![255]),
        (b'B', vec![255]),
        (b's', vec![0; 2]),
        (b'u', vec![0; 2]),
        (b'I', vec![0; 4]),
        (b'i', vec![0; 4]),
        (b'l', vec![0; 8]),
        (b'L', vec![0; 8]),
        (b'f', vec![0; 4]),
        (b'd', vec![0; 8]),
        (b'D', vec![2, 0, 0, 1, 0]),
        (b'S', long(&[0xff])),
        (b'x', long(&[0xff])),
        (b'T', vec![255; 8]),
        (b'V', vec![]),
        (b'F', long(&nested)),
        (b'A', long(&list)),
    ];
    let entries: Vec<_> = values
        .iter()
        .map(|(form, value)| entry(b"twice", *form, value))
        .collect();
    let came = properties(&entries, b"");
    assert!(parsed(&came).is_some() && weigh(&came).is_some());
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| {
        let mut value = Vec::new();
        for _ in 0..depth {
            value = [&b"A"[..], &long(&value)].concat();
        }
        properties(&[entry(b"deep", b'A', &long(&value))], b"m-1")
    };
    assert!(weigh(&nested(DEPTH_MAX - 1)).is_some());
    let came = nested(20_000);
    assert_eq!(weigh(&came), None);
    assert!(parsed(&mend(&came, ROOM).bytes).unwrap().headers().is_some());
}

#[test]
fn small_values_weigh_what_they_take() {
    let list = vec![b'V'; 100_000];
    let came = properties(&[entry(b"many", b'A', &long(&list))], b"m-1");
    assert!(weigh(&came).unwrap() > 100_000 * VALUE_BYTES);
    assert!(weigh(&properties(&[], b"m-1")).unwrap() < 100);
}

#[test]
fn the_largest_headers_go_where_there_is_no_room() {
    let came = properties(
        &[
            entry(b"large", b'S', &long(&[b'x'; 5_000])),
            entry(b"small", b'S', &long(b"x")),
        ],
        b"m-1",
    );
    let mended = mend(&came, 8_000);
    let read = parsed(&mended.bytes).unwrap();
    assert!(mended.bytes.len() <= 8_000);
    assert!(header(&read, "large").is_none() && header(&read, "small").is_some());
    assert_eq!(says(&read, headers::CUT), "large (5011 bytes)");
    assert_eq!(read.message_id().as_ref().unwrap().as_str(), "m-1");
}

/// Properties such as a publisher might make them, with bytes turned over.
fn odd() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        (
            prop::sample::select(b"tbBsuIilLfdDTV".to_vec()),
            prop::collection::vec(any::<u8>(), 0..9)
        ),
        (
            prop::sample::select(b"SxFA".to_vec()),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| long(&bytes))
        ),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..9)),
    ];
    let entry = (prop::collection::vec(any::<u8>(), 0..12), value)
        .prop_map(|(name, (form, value))| entry(&name, form, &value));
    let made = (
        prop::collection::vec(entry, 0..6),
        prop::collection::vec(any::<u8>(), 0..10),
    )
        .prop_map(|(headers, id)| properties(&headers, &id));
    let any_flags = (any::<u16>(), prop::collection::vec(any::<u8>(), 0..200))
        .prop_map(|(flags, rest)| [flags.to_be_bytes().to_vec(), rest].concat());
    prop_oneof![made, any_flags, prop::collection::vec(any::<u8>(), 0..40)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_to_be_readable_is_what_the_client_reads(came in odd()) {
        prop_assert_eq!(weigh(&came).is_some(), parsed(&came).is_some());
    }

    #[test]
    fn whatever_comes_the_client_can_read_what_is_left(came in odd(), room in 6_000_usize..140_000) {
        let mended = mend(&came, room);
        prop_assert!(parsed(&mended.bytes).is_some());
        prop_assert!(weigh(&mended.bytes).is_some());
        prop_assert!(mended.bytes.len() <= room);
    }

    #[test]
    fn what_can_be_read_stays(names in prop::collection::btree_set("[a-z]{1,8}", 0..8), id in "[a-z]{0,20}") {
        let mut table = FieldTable::default();
        for name in &names {
            table.insert(name.as_str().into(), AMQPValue::LongString(name.as_str().into()));
        }
        let entries: Vec<_> = names.iter().map(|name| entry(name.as_bytes(), b'S', &long(name.as_bytes()))).collect();
        let came = properties(&entries, id.as_bytes());
        let read = parsed(&mend(&came, ROOM).bytes).unwrap();
        prop_assert_eq!(read.message_id().as_ref().map(|id| id.as_str()), Some(id.as_str()));
        prop_assert_eq!(read.headers().clone().unwrap_or_default(), table);
    }
}
