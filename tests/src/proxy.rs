//! A way to a server that takes its time, or stands still.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use url::Url;

/// What one read takes at most.
const CHUNK: usize = 64 << 10;
/// Chunks under way at most, in one direction of one connection: 4 MiB.
const UNDER_WAY: usize = 64;

/// A listener that carries what it gets to a server. New connections end with it.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    standing_still: watch::Sender<bool>,
    listening: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Stands in for the server of `url`. What goes to it arrives `delay` later, as over a long line: what follows is
    /// not held up any further.
    pub async fn start(url: &str, delay: Duration) -> anyhow::Result<Self> {
        let mut url = Url::parse(url)?;
        let server = format!(
            "{}:{}",
            url.host_str().context("the server's URL has no host")?,
            url.port().context("the server's URL has no port")?
        );
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        url.set_host(Some("127.0.0.1"))?;
        url.set_port(Some(port))
            .ok()
            .context("the server's URL takes no port")?;
        let (standing_still, still) = watch::channel(false);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, still, moving) = (server.clone(), still.clone(), watch::channel(false).1);
                tokio::spawn(async move {
                    // An end that is gone ends its connection, which the other end sees.
                    if let Ok(server) = TcpStream::connect(server).await {
                        let _ = client.set_nodelay(true);
                        let _ = server.set_nodelay(true);
                        let (client, server) = (client.into_split(), server.into_split());
                        tokio::join!(
                            carry(client.0, server.1, delay, still),
                            carry(server.0, client.1, Duration::ZERO, moving)
                        );
                    }
                });
            }
        });
        Ok(Self {
            url: url.into(),
            standing_still,
            listening,
        })
    }

    /// The server's URL with the proxy's host and port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Nothing reaches the server until [`Proxy::go_on`]; what it says arrives all the same.
    pub fn stand_still(&self) {
        self.standing_still.send_replace(true);
    }

    /// Everything that was held arrives.
    pub fn go_on(&self) {
        self.standing_still.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    mut still: watch::Receiver<bool>,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + delay;
            if sender.send((due, buffer[..count].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = receiver.recv().await {
            sleep_until(due).await;
            // Where the proxy is gone nobody holds anything any more.
            let _ = still.wait_for(|still| !still).await;
            if to.write_all(&chunk).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}
