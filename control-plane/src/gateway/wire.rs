//! How many pieces a protobuf message consists of, before anything is made of them.
//!
//! Two bytes can be an element of a list, or a field that says nothing; decoded, an element is a structure of a
//! hundred. So they are counted in the bytes. What cannot be followed is left to the decoder, which says what is wrong
//! with it.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use tonic::Status;

use super::json::LIST_MAX;
use crate::failure::Reason;

/// The most fields of a request, those of the messages in it included: several times what the largest one has.
const FIELDS_MAX: usize = 16_384;

/// Checks an encoded request. The error is for the person who sent it.
pub(super) fn check(message: &MessageDescriptor, bytes: &[u8]) -> Result<(), Status> {
    walk(message, bytes, &mut 0)
}

/// The text that the first field of that number holds. What cannot be followed has none.
pub(super) fn text(number: u32, mut bytes: &[u8]) -> Option<&str> {
    loop {
        match next(&mut bytes)? {
            (found, Some(text)) if found == number => return std::str::from_utf8(text).ok(),
            _ => {}
        }
    }
}

fn walk(message: &MessageDescriptor, mut bytes: &[u8], fields: &mut usize) -> Result<(), Status> {
    // Of lists there are few in a message.
    let mut lists: Vec<(u32, usize)> = Vec::new();
    while let Some((number, value)) = next(&mut bytes) {
        *fields += 1;
        if *fields > FIELDS_MAX {
            let message = format!("the message has more than {FIELDS_MAX} fields; send less at once");
            return Err(Reason::InvalidRequest.status(message));
        }
        let Some(field) = message.get_field(number) else {
            continue;
        };
        if field.is_list() {
            count(&field, &mut lists)?;
        }
        if let (Kind::Message(inner), Some(bytes)) = (field.kind(), value) {
            walk(&inner, bytes, fields)?;
        }
    }
    Ok(())
}

fn count(field: &FieldDescriptor, lists: &mut Vec<(u32, usize)>) -> Result<(), Status> {
    let at = lists.iter().position(|(number, _)| *number == field.number());
    let at = at.unwrap_or_else(|| {
        lists.push((field.number(), 0));
        lists.len() - 1
    });
    lists[at].1 += 1;
    if lists[at].1 > LIST_MAX {
        let problem = format!("must hold {LIST_MAX} at most, got more");
        let failure = Reason::InvalidField.failure(format!("{} {problem}", field.name()));
        return Err(failure.blames(field.name(), &problem).into());
    }
    Ok(())
}

/// The next field's number, and its bytes if it has a length. None at the end, and where it cannot be followed.
fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let key = varint(bytes)?;
    let number = u32::try_from(key >> 3).ok()?;
    let value = match key & 7 {
        0 => varint(bytes).map(|_| None)?,
        1 => bytes.split_off(..8).map(|_| None)?,
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            Some(bytes.split_off(..length)?)
        }
        5 => bytes.split_off(..4).map(|_| None)?,
        // A group begins or ends. The decoder passes over it; what is in it counts as if it stood outside.
        3 | 4 => None,
        _ => return None,
    };
    Some((number, value))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use proto::v1;

    use super::{super::api, *};

    fn checked(name: &str, bytes: &[u8]) -> Result<(), String> {
        check(
            &api::pool()
                .get_message_by_name(&format!("jalur.v1.{name}"))
                .unwrap(),
            bytes,
        )
        .map_err(|status| status.message().to_owned())
    }

    fn publish(count: usize) -> Vec<u8> {
        let payload = Some(v1::Json {
            text: "{}".repeat(100),
        });
        let id = Some("x".into());
        let messages = vec![v1::NewMessage { id, payload }; count];
        let tenant_id = "t".into();
        v1::PublishMessagesRequest { tenant_id, messages }.encode_to_vec()
    }

    #[test]
    fn as_many_as_a_list_may_hold_pass_and_one_more_does_not() {
        assert_eq!(checked("PublishMessagesRequest", &publish(LIST_MAX)), Ok(()));
        let refused = checked("PublishMessagesRequest", &publish(LIST_MAX + 1)).unwrap_err();
        assert!(refused.starts_with("messages must hold 1000"), "{refused}");
        let empty = [0x12, 0].repeat(1 << 20);
        assert!(checked("PublishMessagesRequest", &empty).is_err());
        assert!(
            checked("ReplayDeadLettersRequest", &empty)
                .unwrap_err()
                .starts_with("ids")
        );
    }

    #[test]
    fn fields_that_say_nothing_are_counted_wherever_they_stand() {
        let nothing = [0x78, 1].repeat(FIELDS_MAX + 1);
        assert!(checked("GetTenantRequest", &nothing).is_err());
        let mut within = vec![0x12];
        prost::encoding::encode_varint(nothing.len() as u64, &mut within);
        within.extend_from_slice(&nothing);
        assert!(checked("PublishMessagesRequest", &within).is_err());
    }

    #[test]
    fn a_group_hides_nothing() {
        let begins_and_ends = [0x7b, 0x7c];
        let empty = [0x12, 0].repeat(LIST_MAX + 1);
        let behind = [&begins_and_ends[..], &empty].concat();
        assert!(
            v1::PublishMessagesRequest::decode(&behind[..]).is_ok(),
            "it is passed over"
        );
        assert!(checked("PublishMessagesRequest", &behind).is_err());
        let within = [
            &begins_and_ends[..1],
            &[0x78, 1].repeat(FIELDS_MAX),
            &begins_and_ends[1..],
        ]
        .concat();
        assert!(checked("PublishMessagesRequest", &within).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_upsets_the_walk(bytes: Vec<u8>) {
            let _ = checked("PublishMessagesRequest", &bytes);
        }
    }
}
