//! What of a message's properties goes on where it is published again, and which headers where there is no room for all: a
//! frame of properties cannot be split. Pure.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    types::{AMQPValue, ShortString},
};

/// The header that says which ones were left out.
pub const CUT: &str = "x-jalur-headers-cut";
/// What a header that we say something in says at most, in bytes.
pub const SAYS_MAX: usize = 1_000;
/// Headers that a message is not itself without: they stay, as long as they are as short as they should be.
const KEPT: [&[u8]; 4] = [
    b"x-jalur-id",
    b"x-jalur-attempts",
    b"x-jalur-first-failed-at",
    b"x-jalur-published-at",
];
const KEPT_BYTES_MAX: usize = 256;
/// What other people's headers may take. They travel in one frame, of 128 kB unless it was agreed otherwise, and the
/// broker adds its own about delays: half of that, less 6 kB for ours and the other properties.
const BYTES_MAX: usize = 58 << 10;
/// As much of a name as is said.
const NAME_SHOWN_MAX: usize = 64;

/// The properties that mean the same where a message is published again, as they came. Not among them: headers and
/// `reply_to`, which may have to be changed; how it is kept; `user_id`, since the broker refuses another than the
/// connection's; and `expiration`, since what was kept for somebody is not to be dropped for its age.
pub fn lasting(came: &BasicProperties) -> BasicProperties {
    let mut properties = BasicProperties::default();
    macro_rules! keep {
        ($($get:ident $with:ident),*) => {$(
            if let Some(value) = came.$get() {
                properties = properties.$with(value.clone());
            }
        )*};
    }
    keep!(
        content_type with_content_type, content_encoding with_content_encoding, priority with_priority,
        correlation_id with_correlation_id, message_id with_message_id, timestamp with_timestamp,
        kind with_type, app_id with_app_id, cluster_id with_cluster_id
    );
    properties
}

/// What is to be left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// For each header whether it is.
    pub out: Vec<bool>,
    /// What [`CUT`] is to say; empty if nothing is left out.
    pub says: String,
}

/// Chooses among headers, given as names and sizes in bytes, so that the rest have room in `bytes_max`: the largest go
/// first.
pub fn cut(headers: &[(&[u8], usize)], bytes_max: usize) -> Cut {
    let mut cut = Cut {
        out: vec![false; headers.len()],
        says: String::new(),
    };
    let mut bytes: usize = headers.iter().map(|(_, bytes)| bytes).sum();
    if bytes <= bytes_max {
        return cut;
    }
    let mut largest: Vec<_> = (0..headers.len())
        .filter(|&index| !(KEPT.contains(&headers[index].0) && headers[index].1 <= KEPT_BYTES_MAX))
        .collect();
    largest.sort_by_key(|&index| std::cmp::Reverse(headers[index].1));
    let mut unsaid = 0;
    for index in largest {
        if bytes <= bytes_max {
            break;
        }
        let (name, size) = headers[index];
        bytes -= size;
        cut.out[index] = true;
        let name = String::from_utf8_lossy(&name[..name.len().min(NAME_SHOWN_MAX)]);
        let said = format!("{name} ({size} bytes), ");
        // The last words have room, too.
        match cut.says.len() + said.len() + 32 <= SAYS_MAX {
            true => cut.says.push_str(&said),
            false => unsaid += 1,
        }
    }
    match unsaid {
        0 => cut.says.truncate(cut.says.trim_end_matches(", ").len()),
        _ => cut.says.push_str(&format!("and {unsaid} more")),
    }
    cut
}

/// Leaves out the largest headers if there is no room for all of them, and says which.
pub fn fit(headers: &mut BTreeMap<ShortString, AMQPValue>) {
    let sizes: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes(), 1 + name.as_str().len() + size(value)))
        .collect();
    let cut = cut(&sizes, BYTES_MAX);
    let mut out = cut.out.into_iter();
    headers.retain(|_, _| !out.next().unwrap_or_default());
    if !cut.says.is_empty() {
        headers.insert(CUT.into(), AMQPValue::LongString(cut.says.into()));
    }
}

/// How many bytes a value takes in a frame, with its type. It is not nested deeply: what comes is bounded.
fn size(value: &AMQPValue) -> usize {
    let bytes = match value {
        AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.as_slice().len(),
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::FieldArray(values) => 4 + values.as_slice().iter().map(size).sum::<usize>(),
        AMQPValue::FieldTable(table) => {
            let entry = |(name, value): (&ShortString, _)| 1 + name.as_str().len() + size(value);
            4 + table.inner().iter().map(entry).sum::<usize>()
        }
        _ => 8,
    };
    1 + bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_go_first_until_there_is_room() {
        let headers: [(&[u8], usize); 4] = [(b"a", 10), (b"large", 500), (b"larger", 900), (b"b", 20)];
        assert_eq!(
            cut(&headers, 2_000),
            Cut {
                out: vec![false; 4],
                says: String::new()
            }
        );
        let one = cut(&headers, 600);
        assert_eq!(one.out, [false, false, true, false]);
        assert_eq!(one.says, "larger (900 bytes)");
        assert_eq!(cut(&headers, 40).out, [false, true, true, false]);
    }

    #[test]
    fn a_message_stays_itself_among_any_number_of_headers() {
        let mut headers: Vec<(&[u8], usize)> = vec![(b"x", 4); 30_000];
        headers.push((b"x-jalur-id", 52));
        let cut = cut(&headers, 60_000);
        assert!(!cut.out[30_000]);
        assert!(
            cut.says.len() <= SAYS_MAX && cut.says.ends_with(" more"),
            "{}",
            cut.says
        );
        // What is no id is not protected for its name.
        assert!(super::cut(&[(b"x-jalur-id", 100_000)], 60_000).out[0]);
    }
}
