//! A way to PostgreSQL that takes its time.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};
use url::Url;

/// What one read takes at most.
const CHUNK: usize = 64 << 10;
/// Chunks under way at most, in one direction of one connection: 4 MiB.
const UNDER_WAY: usize = 64;

/// Listens, and answers `url` with its own host and port. What goes to the server arrives `delay` later, as over a
/// long line: what follows is not held up any further. It ends with the program.
pub(crate) async fn start(url: &str, delay: Duration) -> anyhow::Result<String> {
    let mut url = Url::parse(url)?;
    let server = format!(
        "{}:{}",
        url.host_str().context("the database's URL has no host")?,
        url.port().unwrap_or(5432)
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    url.set_host(Some("127.0.0.1"))?;
    url.set_port(Some(port))
        .ok()
        .context("the database's URL takes no port")?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                // An end that is gone ends its connection, which the other end sees.
                if let Ok(server) = TcpStream::connect(server).await {
                    let _ = client.set_nodelay(true);
                    let _ = server.set_nodelay(true);
                    let (client, server) = (client.into_split(), server.into_split());
                    tokio::join!(
                        carry(client.0, server.1, delay),
                        carry(server.0, client.1, Duration::ZERO)
                    );
                }
            });
        }
    });
    Ok(url.into())
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
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
            if to.write_all(&chunk).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}
