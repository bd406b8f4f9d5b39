//! How a connection begins says which HTTP it speaks.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What every connection over HTTP/2 begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The HTTP that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Reads as little as tells the version, and answers what it read too.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(Version, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(PREFACE.len());
    while bytes.len() < PREFACE.len() {
        let missing = (PREFACE.len() - bytes.len()) as u64;
        if from.take(missing).read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(&bytes) {
            return Ok((Version::Http1, bytes));
        }
    }
    Ok((Version::Http2, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_from(mut bytes: &[u8]) -> Option<(Version, Vec<u8>, usize)> {
        let (version, begun) = read(&mut bytes).await.ok()?;
        Some((version, begun, bytes.len()))
    }

    #[tokio::test]
    async fn a_preface_is_http2_and_anything_else_http1() {
        let mut sent = PREFACE.to_vec();
        sent.extend_from_slice(b"more");
        assert_eq!(
            read_from(&sent).await,
            Some((Version::Http2, PREFACE.to_vec(), 4))
        );
        for sent in [&b"G"[..], b"PRI * HTTP/1.1\r\n\r\n", b"PUT / HTTP/1.1\r\n\r\n"] {
            let (version, begun, left) = read_from(sent).await.unwrap();
            assert_eq!(version, Version::Http1);
            assert_eq!(begun, sent[..sent.len() - left]);
        }
        for sent in [&b""[..], b"PRI * HTTP/2"] {
            assert_eq!(read_from(sent).await, None);
        }
    }
}
