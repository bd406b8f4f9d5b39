//! Whoever listens.

use std::{io, sync::Arc, time::Duration};

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::spawn_blocking,
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    pem::{Files, Pem},
    provider,
};
use crate::{
    config::{Error, ServerTls},
    second_look::SecondLook,
};

/// How soon a certificate that was renewed is shown to those who connect.
const LOOK: Duration = Duration::from_secs(2);
/// What a handshake begins with.
const HANDSHAKE: u8 = 0x16;
/// For whoever speaks HTTP in clear here.
const IN_CLEAR: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    This port speaks TLS: use https://\n";

/// Who this program is to those who connect, and who these have to be.
#[derive(Clone, Debug)]
pub struct Server {
    files: Files,
    read: Pem,
    current: watch::Sender<Arc<ServerConfig>>,
}

impl Server {
    /// The files of `section`, read at once; nothing when it names none.
    pub fn new(section: &'static str, config: &ServerTls) -> Result<Option<Self>, Error> {
        let files = Files::new(
            section,
            "client_ca_file",
            &config.client_ca_file,
            &config.cert_file,
            &config.key_file,
        );
        let read = files.read()?;
        if read.identity.is_none() {
            return match read.ca {
                Some(_) => Err(files.error("cert_file", "is missing beside client_ca_file")),
                None => Ok(None),
            };
        }
        let current = watch::Sender::new(Arc::new(server_config(&files, &read)?));
        Ok(Some(Self { files, read, current }))
    }

    /// Takes files that change, until `stop`. Ones that are no good change nothing: those from before go on.
    pub async fn renew(mut self, stop: CancellationToken) {
        let mut second_look = SecondLook::default();
        while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
            match self.look().await {
                Ok(renewed) => {
                    second_look.well();
                    if renewed {
                        info!("the listener's certificate was renewed");
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if second_look.failed(&error) {
                        warn!(error, "the listener's certificate stays as it was");
                    }
                }
            }
        }
    }

    /// Takes the files as they are now, and answers whether that changed anything.
    pub(super) async fn look(&mut self) -> Result<bool, Error> {
        let (files, before) = (self.files.clone(), self.read.clone());
        let looked = spawn_blocking(move || {
            let read = files.read()?;
            if read == before {
                return Ok(None);
            }
            let config = server_config(&files, &read)?;
            Ok(Some((read, config)))
        });
        // It can only fail when the program ends.
        let Some((read, config)) = looked.await.unwrap_or(Ok(None))? else {
            return Ok(false);
        };
        self.read = read;
        self.current.send_replace(Arc::new(config));
        Ok(true)
    }

    /// The handshake with whoever connected.
    pub(crate) async fn accept(&self, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        if stream.peek(&mut first).await? > 0 && first[0] != HANDSHAKE {
            // What was sent is taken, so that the end of the connection does not outrun the answer.
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(IN_CLEAR).await?;
            stream.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it spoke in clear"));
        }
        let config = Arc::clone(&self.current.borrow());
        TlsAcceptor::from(config).accept(stream).await
    }
}

fn server_config(files: &Files, pem: &Pem) -> Result<ServerConfig, Error> {
    let (cert, key) = pem
        .identity
        .as_ref()
        .ok_or_else(|| files.error("cert_file", "is missing"))?;
    let (chain, key) = files.identity(cert, key)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| files.error("cert_file", error.to_string()))?;
    let config = match &pem.ca {
        None => config.with_no_client_auth(),
        Some(ca) => {
            let roots: Arc<RootCertStore> = Arc::new(files.roots(ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| files.error("client_ca_file", error.to_string()))?;
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config = config
        .with_single_cert(chain, key)
        .map_err(|error| files.mismatch(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
