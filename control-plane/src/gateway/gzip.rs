//! Compressed gRPC messages, opened where they are counted.
//!
//! A message of a few bytes can become a gigabyte. So it is opened here, as far as a message may be large, and what
//! the handlers decode is as long as it says.

use std::io::Read as _;

use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Status, metadata::MetadataValue};

use crate::{
    failure::Reason,
    memory::{Account, COPIES, Full},
};

/// How a call's messages are compressed.
pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Which compressions are taken.
const ACCEPTED: (&str, &str) = ("grpc-accept-encoding", "gzip,identity");
/// By how much a message grows before it is counted again.
const STEP: u64 = 64 << 10;

/// Why a message could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// It holds more than may be sent at once.
    TooLarge,
    /// It is not what it says.
    Broken,
    /// There is no room for it.
    Full(Full),
}

/// Fails where a call's messages are compressed in a way that is not taken.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Status> {
    let encoding = headers.get(ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    if encoding.eq_ignore_ascii_case(b"gzip") {
        return Ok(());
    }
    let mut status = Reason::NotImplemented.status(format!(
        "messages compressed by {:?} are not taken: send them as they are, or as gzip with grpc-encoding: gzip",
        String::from_utf8_lossy(encoding)
    ));
    let (name, accepted) = ACCEPTED;
    status
        .metadata_mut()
        .insert(name, MetadataValue::from_static(accepted));
    Err(status)
}

/// A message of at most `bytes_max` bytes, counted as it grows.
pub(super) fn open(compressed: &[u8], bytes_max: usize, account: &Account) -> Result<Vec<u8>, Error> {
    let mut decoder = GzDecoder::new(compressed);
    let mut message = Vec::new();
    loop {
        let more = decoder.by_ref().take(STEP).read_to_end(&mut message);
        let more = more.map_err(|_| Error::Broken)?;
        if more == 0 {
            return Ok(message);
        }
        if message.len() > bytes_max {
            return Err(Error::TooLarge);
        }
        account.hold(more * COPIES).map_err(Error::Full)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::memory::Memory;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn account(bytes: usize) -> Account {
        Memory::new(bytes).account(None).unwrap()
    }

    #[test]
    fn a_message_is_what_it_was() {
        for length in [0, 1, 1_000, 300_000] {
            let message = vec![7; length];
            assert_eq!(open(&gzip(&message), 300_000, &account(16 << 20)), Ok(message));
        }
    }

    #[test]
    fn one_that_becomes_too_large_is_opened_no_further() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100 << 10);
        assert_eq!(open(&bomb, 1 << 20, &account(64 << 20)), Err(Error::TooLarge));
        assert!(matches!(
            open(&bomb, 64 << 20, &account(4 << 20)),
            Err(Error::Full(_))
        ));
    }

    #[test]
    fn one_that_is_none_is_refused() {
        let cut = gzip(&[1; 1_000]);
        for broken in [&b""[..], b"no gzip", &cut[..cut.len() - 4]] {
            assert_eq!(open(broken, 1_000, &account(1 << 20)), Err(Error::Broken));
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_upsets_it(bytes: Vec<u8>) {
            let _ = open(&bytes, 1_000, &account(1 << 20));
        }
    }
}
