//! The client's stream of bytes, with the wall in it.

use std::{
    future::Future,
    io::{self, Read, Write},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{Tokio, traits::Reactor};
use futures::{
    Stream,
    io::{AsyncRead, AsyncWrite},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    sieve::{Accounts, Next, Sieve},
    transport::{Tls, Transport},
};

/// How much is read at a time: some hundred small messages, and little enough to stay in a processor's cache until the
/// client has it.
const READ_BYTES: usize = 128 << 10;
/// After leaving out so many bytes in one go the client has its turn, heartbeats among it.
const LEFT_OUT_MAX: usize = 4 << 20;

/// A stream with the wall in it: what is read from it is what the client can take.
#[derive(Debug)]
pub(super) struct Walled<S> {
    stream: S,
    /// Ends the stream, whatever is still under way; and what wakes its reader for that.
    cut: CancellationToken,
    cutting: Pin<Box<WaitForCancellationFutureOwned>>,
    accounts: Arc<Accounts>,
    sieve: Sieve,
    /// What came, from `at` to `end`; and so many of it go on.
    came: Vec<u8>,
    at: usize,
    end: usize,
    passes: usize,
    /// What goes on before that, from `made_at`.
    made: Vec<u8>,
    made_at: usize,
}

impl<S> Walled<S> {
    pub(super) fn new(stream: S, cut: CancellationToken, accounts: Arc<Accounts>, frame_max: u32) -> Self {
        Self {
            stream,
            cutting: Box::pin(cut.clone().cancelled_owned()),
            cut,
            sieve: Sieve::new(Arc::clone(&accounts), frame_max),
            accounts,
            came: vec![0; READ_BYTES],
            at: 0,
            end: 0,
            passes: 0,
            made: Vec::new(),
            made_at: 0,
        }
    }

    /// Moves what may go on into `buf`, from `filled` on, and answers how far that is filled then.
    fn hand_out(&mut self, buf: &mut [u8], mut filled: usize) -> usize {
        let made = &self.made[self.made_at..];
        let count = made.len().min(buf.len() - filled);
        buf[filled..filled + count].copy_from_slice(&made[..count]);
        filled += count;
        self.made_at += count;
        if self.made_at < self.made.len() {
            return filled;
        }
        let count = self.passes.min(buf.len() - filled);
        buf[filled..filled + count].copy_from_slice(&self.came[self.at..self.at + count]);
        self.at += count;
        self.passes -= count;
        filled + count
    }

    /// Makes room for a frame of so many bytes at the front of what came.
    fn make_room(&mut self, whole: usize) {
        self.came.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        if self.came.len() < whole {
            self.came.resize(whole, 0);
        } else if self.came.len() > READ_BYTES && whole <= READ_BYTES && self.end <= READ_BYTES {
            // One large frame is no reason to keep so much.
            self.came.truncate(READ_BYTES);
            self.came.shrink_to_fit();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Walled<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.cutting.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let (mut filled, mut left_out) = (0, 0);
        loop {
            filled = this.hand_out(buf, filled);
            if filled == buf.len() {
                return Poll::Ready(Ok(filled));
            }
            match this.sieve.next(&this.came[this.at..this.end]) {
                Next::Pass(count) => {
                    this.passes = count;
                    continue;
                }
                Next::Instead(count, made) => {
                    this.at += count;
                    (this.made, this.made_at) = (made, 0);
                    left_out += count;
                    continue;
                }
                Next::More(whole) => this.make_room(whole),
            }
            if filled > 0 {
                return Poll::Ready(Ok(filled));
            }
            if left_out > LEFT_OUT_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let read = Pin::new(&mut this.stream).poll_read(cx, &mut this.came[this.end..]);
            match ready!(read)? {
                0 => return Poll::Ready(Ok(0)),
                count => this.end += count,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Walled<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl<S> Drop for Walled<S> {
    fn drop(&mut self) {
        self.accounts.end_all();
    }
}

/// tokio's input and output, with the wall in every stream that is connected.
#[derive(Clone, Debug)]
pub(super) struct Walling {
    pub(super) tokio: Tokio,
    pub(super) cut: CancellationToken,
    pub(super) accounts: Arc<Accounts>,
    pub(super) frame_max: u32,
    /// Within which the frames come, if so: the wall is to see them.
    pub(super) tls: Option<Tls>,
}

impl Reactor for Walling {
    type TcpStream = Walled<Transport>;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// The client connects, and registers nothing.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Self::TcpStream, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.tokio.tcp_connect_addr(address);
        let (cut, accounts, frame_max) = (self.cut.clone(), Arc::clone(&self.accounts), self.frame_max);
        let tls = self.tls.clone();
        async move {
            let stream = connecting.await?;
            // What ends without a word ends at once: a broker that does not read would take a mere end of the stream
            // for one after all that came before it, and read that when it reads again. What is closed in good order
            // has been read.
            stream.get_ref().set_zero_linger()?;
            let stream = Transport::over(stream, tls).await?;
            Ok(Walled::new(stream, cut, accounts, frame_max))
        }
    }
}

#[cfg(test)]
mod tests;
