//! What stands in the files.

use std::{fs, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::config::Error;

/// The files of one section of the configuration, as they are at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pem {
    /// Whom to trust; nothing where no file is named.
    pub ca: Option<Vec<u8>>,
    /// Who this program is, and its key; nothing where no files are named.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Which files a section names. An empty path names none.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The section's key, such as `rabbitmq.tls`.
    section: &'static str,
    /// The last part of the key that names the authorities' file.
    ca_key: &'static str,
    ca: String,
    cert: String,
    key: String,
}

impl Files {
    pub(super) fn new(section: &'static str, ca_key: &'static str, ca: &str, cert: &str, key: &str) -> Self {
        Self {
            section,
            ca_key,
            ca: ca.to_owned(),
            cert: cert.to_owned(),
            key: key.to_owned(),
        }
    }

    /// Reads all of them.
    pub(super) fn read(&self) -> Result<Pem, Error> {
        let identity = match (self.cert.as_str(), self.key.as_str()) {
            ("", "") => None,
            ("", _) => return Err(self.error("cert_file", "is missing beside key_file")),
            (_, "") => return Err(self.error("key_file", "is missing beside cert_file")),
            (cert, key) => Some((self.file("cert_file", cert)?, self.file("key_file", key)?)),
        };
        let ca = match self.ca.as_str() {
            "" => None,
            path => Some(self.file(self.ca_key, path)?),
        };
        Ok(Pem { ca, identity })
    }

    /// The authorities that are trusted.
    pub(super) fn roots(&self, ca: &[u8]) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(self.ca_key, &self.ca, ca)? {
            roots
                .add(certificate)
                .map_err(|error| self.error(self.ca_key, format!("{}: {error}", self.ca)))?;
        }
        Ok(roots)
    }

    /// A certificate with those that it follows from, and its key.
    pub(super) fn identity(
        &self,
        cert: &[u8],
        key: &[u8],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let chain = self.certificates("cert_file", &self.cert, cert)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| self.error("key_file", format!("{} holds no private key: {error}", self.key)))?;
        Ok((chain, key))
    }

    /// What is wrong with certificate and key together.
    pub(super) fn mismatch(&self, error: &rustls::Error) -> Error {
        self.error("cert_file", format!("{} with {}: {error}", self.cert, self.key))
    }

    /// What is wrong with one of the section's keys.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) -> Error {
        Error::key(format!("{}.{key}", self.section), message)
    }

    fn file(&self, key: &str, path: &str) -> Result<Vec<u8>, Error> {
        fs::read(Path::new(path)).map_err(|error| self.error(key, format!("{path} cannot be read: {error}")))
    }

    fn certificates(&self, key: &str, path: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| self.error(key, format!("{path} holds no certificate: {error}")))?;
        if certificates.is_empty() {
            return Err(self.error(key, format!("{path} holds no certificate")));
        }
        Ok(certificates)
    }
}
