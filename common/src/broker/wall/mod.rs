//! The wall in front of the AMQP client.
//!
//! The client takes one message that it cannot read for the end of its connection, and takes messages of any size into
//! memory before anybody can say no. The broker hands out both, so one publisher could stop everybody whose lanes share
//! the connection. So every connection's stream goes through here first: frames pass as they are, but
//!
//! - properties that the client could not read are passed on without what is unreadable, and
//! - a message for which there is no room is passed on as an empty one.
//!
//! What is wrong with a delivery is told beside it, where no publisher can write: by its tag, when it is claimed.

mod meter;
mod properties;
mod sieve;
mod stream;
mod transport;

use std::sync::Arc;

use async_rs::{Runtime, Tokio, util::RuntimeParts};
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    uri::{AMQPScheme, AMQPUri},
};
use tokio_util::sync::CancellationToken;

pub use self::meter::{Account, Claim, Held, Meter};
use self::{sieve::Accounts, stream::Walling, transport::Tls};
use crate::tls;

/// What is wrong with a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Which message it is cannot be read; what stands there instead, for a person. The body is as it came.
    Unreadable(String),
    /// There was no room for it. Neither body nor properties came: it is to be given back.
    Deferred {
        /// How large it is: its body, and properties where they are heavy.
        bytes: u64,
    },
}

/// One connection's wall.
#[derive(Clone, Debug)]
pub struct Wall {
    accounts: Arc<Accounts>,
    cut: CancellationToken,
}

impl Wall {
    pub(super) fn new(meter: Meter) -> Self {
        Self {
            accounts: Arc::new(Accounts::new(meter)),
            cut: CancellationToken::new(),
        }
    }

    /// What is known of the deliveries on a channel, as long as that is open.
    pub fn account(&self, channel: u16) -> Arc<Account> {
        self.accounts.of(channel)
    }

    /// Cuts the connection. A client that waits to be read from could not close it, and what it has not sent is not
    /// sent any more.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// Connects through the wall. TLS is spoken on its far side, so that it sees what comes.
    pub(super) async fn connect(
        &self,
        mut uri: AMQPUri,
        tls: &tls::Client,
        properties: ConnectionProperties,
    ) -> lapin::Result<Connection> {
        let tls = (uri.scheme == AMQPScheme::AMQPS).then(|| Tls {
            client: tls.clone(),
            host: uri.authority.host.clone(),
        });
        // What the client has to do with itself.
        uri.scheme = AMQPScheme::AMQP;
        let walling = Walling {
            tokio: Tokio::current(),
            cut: self.cut.clone(),
            accounts: Arc::clone(&self.accounts),
            frame_max: uri.query.frame_max.unwrap_or_default(),
            tls,
        };
        let runtime = Runtime::new(RuntimeParts::new(Tokio::current(), walling));
        let stream = async |uri: AMQPUri, runtime: Runtime<RuntimeParts<Tokio, Walling>>| {
            let address = (uri.authority.host.clone(), uri.authority.port);
            let stream = AsyncTcpStream::connect(&runtime, runtime.to_socket_addrs(address)).await;
            stream.map_err(lapin::Error::from)
        };
        Connection::connector(uri, runtime, stream, properties).await
    }
}
