//! Whoever connects.

use std::{io, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_blocking,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    pem::{Files, Pem},
    provider,
};
use crate::config::{ClientTls, Error};

/// Whom this program trusts when it connects, and how it shows who it is.
#[derive(Clone, Debug)]
pub struct Client {
    files: Files,
}

impl Client {
    /// The files of `section`, which are read once to see whether they are good.
    pub fn new(section: &'static str, config: &ClientTls) -> Result<Self, Error> {
        let files = Files::new(
            section,
            "ca_file",
            &config.ca_file,
            &config.cert_file,
            &config.key_file,
        );
        let client = Self { files };
        let pem = client.read()?;
        // The system's authorities are some hundred files, and no part of the configuration, which is checked every few
        // seconds.
        let roots = pem.ca.as_ref().map(|ca| client.files.roots(ca)).transpose()?;
        client.trusting(roots.unwrap_or_else(RootCertStore::empty), &pem)?;
        Ok(client)
    }

    /// Whoever the system trusts, and as nobody in particular.
    pub fn of_system() -> Self {
        let ClientTls {
            ca_file,
            cert_file,
            key_file,
        } = ClientTls::default();
        let files = Files::new("", "ca_file", &ca_file, &cert_file, &key_file);
        Self { files }
    }

    /// The files as they are now.
    pub fn read(&self) -> Result<Pem, Error> {
        self.files.read()
    }

    /// What the files say now, for a client of another kind.
    pub fn configured(&self) -> Result<ClientConfig, Error> {
        self.config(&self.read()?)
    }

    /// Speaks TLS on `stream`, with `host`, which has to be the one that its certificate names.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let client = self.clone();
        let config = spawn_blocking(move || client.configured()).await?;
        let config = config.map_err(io::Error::other)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        connecting
            .await
            .map_err(|error| io::Error::new(error.kind(), self.advice(host, &error)))
    }

    /// The system's authorities count where no file names others.
    fn config(&self, pem: &Pem) -> Result<ClientConfig, Error> {
        let roots = match &pem.ca {
            Some(ca) => self.files.roots(ca)?,
            None => system_roots(),
        };
        self.trusting(roots, pem)
    }

    fn trusting(&self, roots: RootCertStore, pem: &Pem) -> Result<ClientConfig, Error> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| self.files.error("ca_file", error.to_string()))?
            .with_root_certificates(roots);
        match &pem.identity {
            None => Ok(config.with_no_client_auth()),
            Some((cert, key)) => {
                let (chain, key) = self.files.identity(cert, key)?;
                config
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| self.files.mismatch(&error))
            }
        }
    }

    fn advice(&self, host: &str, error: &io::Error) -> String {
        let problem = self.files.error(
            "ca_file",
            "names who is trusted, the system's authorities where it is empty",
        );
        format!("TLS with {host} failed: {error} ({problem})")
    }
}

/// For a client that speaks in clear alone, and is to have something to speak TLS with all the same: it trusts nobody, and
/// reads nothing.
pub fn trusting_nobody() -> Result<ClientConfig, rustls::Error> {
    let versions = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(versions
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// Those of them that can be read: one that cannot is no reason to trust none.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
