//! Reading a request's body, of bounded size, in bounded time, and counted as it comes.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::memory::{Account, COPIES, Full};

/// How long nothing of a body may come.
const SILENCE: Duration = Duration::from_secs(10);
/// How long all of it may take.
const WHOLE: Duration = Duration::from_secs(60);
/// How many times the largest body is read before its sender is cut off.
const PATIENCE: usize = 4;

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// It holds more than may be sent at once.
    TooLarge,
    /// Its sender went away.
    BrokenOff,
    /// It does not come.
    Late,
    /// There is no room for it.
    Full(Full),
}

/// Reads a body of at most `bytes_max` bytes.
pub(super) async fn read(body: Body, bytes_max: usize, account: &Account) -> Result<Bytes, Error> {
    let whole = Instant::now() + WHOLE;
    let mut body = body;
    let mut read = Ok(BytesMut::new());
    let mut total = 0_usize;
    // As much as the sender says, at once: of many who come together the first have room for all of theirs, where each
    // would have a part otherwise, and none enough.
    let said = body
        .size_hint()
        .exact()
        .and_then(|said| usize::try_from(said).ok());
    let mut counted = said.filter(|said| *said <= bytes_max).unwrap_or_default();
    if let Err(full) = account.hold(counted.saturating_mul(COPIES)) {
        read = Err(Error::Full(full));
    }
    loop {
        let until = whole.min(Instant::now() + SILENCE);
        let frame = timeout_at(until, body.frame()).await.map_err(|_| Error::Late)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| Error::BrokenOff)?.into_data() else {
            continue;
        };
        total += data.len();
        if total > bytes_max.saturating_mul(PATIENCE) {
            break;
        }
        if total > bytes_max {
            read = Err(Error::TooLarge);
        } else if let Some(more) = total.checked_sub(counted)
            && read.is_ok()
        {
            counted = total;
            if let Err(full) = account.hold(more.saturating_mul(COPIES)) {
                read = Err(Error::Full(full));
            }
        }
        match &mut read {
            Ok(read) => read.extend_from_slice(&data),
            // An answer while the client still sends is often lost to it: the connection is reset. So the rest is
            // taken, within reason, and dropped.
            Err(_) => account.release(),
        }
    }
    read.map(BytesMut::freeze)
}
