//! A message's properties as they come: whether the client can read them, and what is left of them if not. Pure.
//!
//! The broker passes on what publishers sent: it looks at neither the encoding of short strings nor at the names of
//! headers, and tables may be nested as deep as a frame has room for. The client takes any of that for the connection's
//! end, or overflows its stack.

use std::fmt::Write as _;

use crate::broker::headers::{self, SAYS_MAX, cut};

/// The header that says what could not be read, in hexadecimal.
const UNREADABLE: &str = "x-jalur-unreadable";
/// The message's id.
const ID: &[u8] = b"x-jalur-id";
/// The most bytes that are shown of one thing that could not be read.
const SHOWN_MAX: usize = 256;
/// How deep tables and arrays may be nested. The client recurses.
const DEPTH_MAX: usize = 32;
/// What a value takes once it is read, beside its bytes.
const VALUE_BYTES: u64 = 128;

/// How a property is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Table,
    Octet,
    Time,
}

/// The properties, in the order of their flags from the highest bit on.
const PROPERTIES: [(&str, Form); 14] = [
    ("content_type", Form::Text),
    ("content_encoding", Form::Text),
    ("headers", Form::Table),
    ("delivery_mode", Form::Octet),
    ("priority", Form::Octet),
    ("correlation_id", Form::Text),
    ("reply_to", Form::Text),
    ("expiration", Form::Text),
    ("message_id", Form::Text),
    ("timestamp", Form::Time),
    ("type", Form::Text),
    ("user_id", Form::Text),
    ("app_id", Form::Text),
    ("cluster_id", Form::Text),
];
const HEADERS: usize = 2;

/// What is left of properties that the client could not have taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mended {
    /// The properties as they are passed on: flags and values.
    pub(super) bytes: Vec<u8>,
    /// What about the message's id cannot be read.
    pub(super) id_unreadable: Option<String>,
}

/// How many bytes properties take once they are read, if the client can read them.
pub(super) fn weigh(properties: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(properties);
    let flags = reader.flags()?;
    for (index, (_, form)) in PROPERTIES.iter().enumerate() {
        if flags & bit(index) == 0 {
            continue;
        }
        let good = match form {
            Form::Text => std::str::from_utf8(reader.short()?).is_ok(),
            Form::Table => {
                let mut table = Reader::new(reader.long()?);
                let good = table.entries(0, &mut |_| {});
                reader.values += table.values;
                good
            }
            Form::Octet => reader.take(1).is_some(),
            Form::Time => reader.take(8).is_some(),
        };
        if !good {
            return None;
        }
    }
    let bytes = properties.len() as u64 + reader.values * VALUE_BYTES;
    reader.rest.is_empty().then_some(bytes)
}

/// What can be read of properties, within so many bytes. What cannot is left out, and said in a header; and so are
/// the largest headers where there is no room for them.
pub(super) fn mend(properties: &[u8], bytes_max: usize) -> Mended {
    let mut lost = Lost::default();
    let mut values: [Option<&[u8]>; PROPERTIES.len()] = [None; PROPERTIES.len()];
    let mut headers = Vec::new();
    let mut reader = Reader::new(properties);
    let Some(flags) = reader.flags() else {
        lost.property("properties", properties);
        return Mended {
            bytes: written(&values, &lost.headers(&headers, bytes_max)),
            id_unreadable: Some("the properties cannot be read".into()),
        };
    };
    for (index, (name, form)) in PROPERTIES.iter().enumerate() {
        if flags & bit(index) == 0 {
            continue;
        }
        let before = reader.rest;
        let value = match form {
            Form::Text => reader.short(),
            Form::Table => reader.long(),
            Form::Octet => reader.take(1),
            Form::Time => reader.take(8),
        };
        let Some(value) = value else {
            // Where it ends, nobody knows; and so it is with those behind it.
            for (index, (name, _)) in PROPERTIES.iter().enumerate().skip(index) {
                if flags & bit(index) != 0 {
                    lost.property(name, before);
                }
            }
            break;
        };
        match form {
            Form::Text if std::str::from_utf8(value).is_err() => lost.property(name, value),
            Form::Table => {
                let mut table = Reader::new(value);
                table.entries(0, &mut |entry| match entry {
                    Entry::Good(entry) => headers.push(entry),
                    Entry::Bad { name, entry } => lost.header(name, entry),
                });
            }
            _ => values[index] = Some(&before[..before.len() - reader.rest.len()]),
        }
    }
    let headers = lost.headers(&headers, bytes_max);
    Mended {
        bytes: written(&values, &headers),
        id_unreadable: lost.id,
    }
}

fn bit(index: usize) -> u16 {
    1 << (15 - index)
}

fn written(values: &[Option<&[u8]>; PROPERTIES.len()], headers: &[u8]) -> Vec<u8> {
    let mut flags = 0;
    let mut bytes = vec![0; 2];
    for (index, value) in values.iter().enumerate() {
        if index == HEADERS && !headers.is_empty() {
            flags |= bit(index);
            bytes.extend((headers.len() as u32).to_be_bytes());
            bytes.extend(headers);
        } else if let Some(value) = value {
            flags |= bit(index);
            bytes.extend(*value);
        }
    }
    bytes[..2].copy_from_slice(&flags.to_be_bytes());
    bytes
}

/// What could not be read.
#[derive(Default)]
struct Lost {
    says: String,
    id: Option<String>,
}

impl Lost {
    fn property(&mut self, name: &str, bytes: &[u8]) {
        if name == "message_id" {
            self.id = Some(format!("message_id cannot be read: {}", hex(bytes)));
        }
        self.say(name, bytes);
    }

    fn header(&mut self, name: Option<&[u8]>, entry: &[u8]) {
        let whose = match name {
            Some(name) => name == ID,
            // Where one ends is not known, and the id may be behind it.
            None => entry.windows(ID.len()).any(|bytes| bytes == ID),
        };
        if whose {
            self.id = Some(format!("header x-jalur-id cannot be read: {}", hex(entry)));
        }
        self.say("header", entry);
    }

    fn say(&mut self, name: &str, bytes: &[u8]) {
        let said = format!("{name}={}", hex(bytes));
        if self.says.len() + said.len() + 2 <= SAYS_MAX {
            if !self.says.is_empty() {
                self.says.push_str("; ");
            }
            self.says.push_str(&said);
        }
    }

    /// The headers' table: those that can be read, as far as there is room beside the other properties, and what was
    /// lost. Of two headers with one name the later counts, so what is said here does.
    fn headers(&self, entries: &[&[u8]], bytes_max: usize) -> Vec<u8> {
        // The other properties are short strings at most, and the two sayings have their bound.
        let bytes_max = bytes_max.saturating_sub(PROPERTIES.len() * 256 + 2 * (SAYS_MAX + 32));
        let sizes = entries.iter().map(|entry| (name_of(entry), entry.len()));
        let cut = cut(&sizes.collect::<Vec<_>>(), bytes_max);
        let kept = entries.iter().zip(&cut.out).filter(|(_, out)| !**out);
        let mut table = kept.map(|(entry, _)| *entry).collect::<Vec<_>>().concat();
        for (name, says) in [(UNREADABLE, &self.says), (headers::CUT, &cut.says)] {
            if !says.is_empty() {
                table.push(name.len() as u8);
                table.extend(name.as_bytes());
                table.push(b'S');
                table.extend((says.len() as u32).to_be_bytes());
                table.extend(says.as_bytes());
            }
        }
        table
    }
}

/// The name of an entry that is well-formed.
fn name_of(entry: &[u8]) -> &[u8] {
    let name = entry
        .split_first()
        .and_then(|(&len, rest)| rest.get(..len.into()));
    name.unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in &bytes[..bytes.len().min(SHOWN_MAX)] {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > SHOWN_MAX {
        let _ = write!(text, "… ({} bytes)", bytes.len());
    }
    text
}

/// One entry of a table.
enum Entry<'a> {
    /// The client can read it.
    Good(&'a [u8]),
    /// It cannot. Without a name it is all the rest of the table, since where it ends is not known.
    Bad { name: Option<&'a [u8]>, entry: &'a [u8] },
}

/// Reads from the front.
struct Reader<'a> {
    rest: &'a [u8],
    /// How many values were read from tables and arrays.
    values: u64,
}

impl<'a> Reader<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest, values: 0 }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn octet(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    /// The one word of flags that there is. Its last bits, of which one says that another word follows, mean nothing
    /// to the broker, and to the client neither.
    fn flags(&mut self) -> Option<u16> {
        let flags = self.take(2)?;
        Some(u16::from_be_bytes([flags[0], flags[1]]))
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.octet()?;
        self.take(len.into())
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let before = self.rest;
        let len = self.take(4)?;
        let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]);
        let value = usize::try_from(len).ok().and_then(|len| self.take(len));
        if value.is_none() {
            self.rest = before;
        }
        value
    }

    /// Reads a table's entries to the end, and answers whether the client can read all of them.
    fn entries(&mut self, depth: usize, found: &mut dyn FnMut(Entry<'a>)) -> bool {
        let mut good = true;
        while !self.rest.is_empty() {
            let before = self.rest;
            let Some((name, value)) = self.short().and_then(|name| Some((name, self.value(depth)?))) else {
                found(Entry::Bad {
                    name: None,
                    entry: before,
                });
                self.rest = &[];
                return false;
            };
            let entry = &before[..before.len() - self.rest.len()];
            if value && std::str::from_utf8(name).is_ok() {
                found(Entry::Good(entry));
            } else {
                good = false;
                found(Entry::Bad {
                    name: Some(name),
                    entry,
                });
            }
        }
        good
    }

    /// Reads a value with its type, and answers whether the client can read it; nothing where its end is not known.
    fn value(&mut self, depth: usize) -> Option<bool> {
        self.values += 1;
        let bytes = match self.octet()? {
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'u' | b'U' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            b'S' | b'x' => return self.long().map(|_| true),
            form @ (b'F' | b'A') => {
                let nested = self.long()?;
                return Some(depth < DEPTH_MAX && self.nested(form, nested, depth + 1));
            }
            _ => return None,
        };
        self.take(bytes).map(|_| true)
    }

    fn nested(&mut self, form: u8, bytes: &'a [u8], depth: usize) -> bool {
        let mut nested = Reader::new(bytes);
        let good = match form {
            b'F' => nested.entries(depth, &mut |_| {}),
            _ => loop {
                if nested.rest.is_empty() {
                    break true;
                }
                if nested.value(depth) != Some(true) {
                    break false;
                }
            },
        };
        self.values += nested.values;
        good
    }
}

#[cfg(test)]
pub(super) mod tests;
