//! What the wall stands on: a connection, or TLS on one.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use async_rs::{Tokio, traits::Reactor};
use futures::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::tls;

/// The client's own kind of connection.
type Clear = <Tokio as Reactor>::TcpStream;

/// With whom TLS is spoken, and how.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) client: tls::Client,
    pub(super) host: String,
}

/// A connection to the broker.
pub(super) enum Transport {
    Clear(Clear),
    Tls(Box<Compat<TlsStream<TcpStream>>>),
}

impl Transport {
    /// Speaks what is asked for on `stream`.
    pub(super) async fn over(stream: Clear, tls: Option<Tls>) -> io::Result<Self> {
        match tls {
            None => Ok(Self::Clear(stream)),
            Some(Tls { client, host }) => {
                let stream = client.connect(&host, stream.into_inner()).await?;
                Ok(Self::Tls(Box::new(stream.compat())))
            }
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear(_) => "Clear",
            Self::Tls(_) => "Tls",
        })
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_close(cx),
            Self::Tls(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}
