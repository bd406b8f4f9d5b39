//! A publisher of messages that no client would send: frames made by hand, over a bare connection.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use lapin::uri::AMQPUri;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long one step may take.
const STEP: Duration = Duration::from_secs(20);
/// What both sides agree on: RabbitMQ's own default.
const FRAME_MAX: usize = 131_072;

/// A connection to the broker with one channel, in confirm mode.
#[derive(Debug)]
pub struct RawPublisher(TcpStream);

impl RawPublisher {
    /// Connects as a client would.
    pub async fn connect(amqp_url: &str) -> anyhow::Result<Self> {
        let uri: AMQPUri = amqp_url.parse().map_err(anyhow::Error::msg)?;
        let host = (uri.authority.host.as_str(), uri.authority.port);
        let stream = timeout(STEP, TcpStream::connect(host)).await??;
        let mut this = Self(stream);
        this.0.write_all(b"AMQP\0\0\x09\x01").await?;
        this.expect([10, 10]).await?;
        let user = &uri.authority.userinfo;
        let response = format!("\0{}\0{}", user.username, user.password);
        let start_ok = [
            long(b""),
            short(b"PLAIN"),
            long(response.as_bytes()),
            short(b"en_US"),
        ]
        .concat();
        this.method(0, [10, 11], &start_ok).await?;
        this.expect([10, 30]).await?;
        let tune_ok = [&[7, 255][..], &(FRAME_MAX as u32).to_be_bytes(), &[0, 0]].concat();
        this.method(0, [10, 31], &tune_ok).await?;
        this.method(0, [10, 40], &[short(uri.vhost.as_bytes()), vec![0, 0]].concat())
            .await?;
        this.expect([10, 41]).await?;
        this.method(1, [20, 10], &[0]).await?;
        this.expect([20, 11]).await?;
        this.method(1, [85, 10], &[0]).await?;
        this.expect([85, 11]).await?;
        Ok(this)
    }

    /// Publishes through the default exchange, with properties as they are to be on the wire (see [`properties`]),
    /// and waits for the broker to take it.
    pub async fn publish(&mut self, queue: &str, properties: &[u8], body: &[u8]) -> anyhow::Result<()> {
        let publish = [&[0, 0][..], &short(b""), &short(queue.as_bytes()), &[0]].concat();
        self.method(1, [60, 40], &publish).await?;
        let head = [&[0, 60, 0, 0], &(body.len() as u64).to_be_bytes()[..], properties].concat();
        self.frame(2, 1, &head).await?;
        for part in body.chunks(FRAME_MAX - 8) {
            self.frame(3, 1, part).await?;
        }
        self.expect([60, 80]).await
    }

    async fn method(
        &mut self,
        channel: u16,
        [class, method]: [u8; 2],
        arguments: &[u8],
    ) -> anyhow::Result<()> {
        self.frame(1, channel, &[&[0, class, 0, method], arguments].concat())
            .await
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> anyhow::Result<()> {
        ensure!(
            payload.len() + 8 <= FRAME_MAX,
            "a frame of {} bytes",
            payload.len()
        );
        let size = (payload.len() as u32).to_be_bytes();
        let frame = [&[kind], &channel.to_be_bytes()[..], &size, payload, &[0xCE]].concat();
        timeout(STEP, self.0.write_all(&frame)).await??;
        Ok(())
    }

    /// Reads until this method comes.
    async fn expect(&mut self, wanted: [u8; 2]) -> anyhow::Result<()> {
        let read = async {
            loop {
                let mut head = [0; 7];
                self.0.read_exact(&mut head).await?;
                let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
                let mut payload = vec![0; size as usize + 1];
                self.0.read_exact(&mut payload).await?;
                match (head[0], &payload[..]) {
                    (1, [0, class, 0, method, ..]) if [*class, *method] == wanted => return Ok(()),
                    (1, [0, 10 | 20, 0, 50 | 40, rest @ ..]) => {
                        bail!("the broker closed: {}", String::from_utf8_lossy(rest))
                    }
                    _ => {}
                }
            }
        };
        timeout(STEP, read)
            .await
            .with_context(|| format!("no {wanted:?} came"))?
    }
}

/// Properties of a persistent message with these headers, each an [`entry`], and this `message_id`.
pub fn properties(headers: &[Vec<u8>], message_id: &[u8]) -> Vec<u8> {
    // headers, delivery_mode, message_id
    let flags = 1_u16 << 13 | 1 << 12 | 1 << 7;
    let headers = long(&headers.concat());
    [&flags.to_be_bytes()[..], &headers, &[2], &short(message_id)].concat()
}

/// A header with a name of any bytes, and a text.
pub fn entry(name: &[u8], text: &[u8]) -> Vec<u8> {
    [&short(name)[..], b"S", &long(text)].concat()
}

/// A header that holds arrays nested so deep.
pub fn nested(name: &[u8], depth: usize) -> Vec<u8> {
    let mut value = Vec::new();
    for _ in 0..depth {
        // From the inside out would copy it all each time.
        value.extend([b'A', 0, 0, 0, 0]);
    }
    for at in 0..depth {
        let rest = (value.len() - (at + 1) * 5) as u32;
        value[at * 5 + 1..at * 5 + 5].copy_from_slice(&rest.to_be_bytes());
    }
    [&short(name)[..], &value].concat()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}
