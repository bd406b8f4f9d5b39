use std::{fs, io, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::config::{ClientTls, Error, ServerTls};

/// An authority, and the folder that it writes to.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Writes a certificate for `host` and its key, as `name`.
    fn certify(&self, name: &str, host: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn server(&self, name: &str) -> ServerTls {
        ServerTls {
            cert_file: self.path(&format!("{name}.pem")),
            key_file: self.path(&format!("{name}.key")),
            client_ca_file: String::new(),
        }
    }

    fn trusting(&self) -> ClientTls {
        ClientTls {
            ca_file: self.path("ca.pem"),
            ..ClientTls::default()
        }
    }
}

fn server(config: &ServerTls) -> Result<Option<Server>, Error> {
    Server::new("tls", config)
}

/// Both ends of a handshake, and what was said within it.
async fn talk(server: &Server, client: &ClientTls, host: &str) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let accepting = async {
        let mut stream = server.accept(listener.accept().await?.0).await?;
        stream.write_all(b"within").await?;
        stream.shutdown().await
    };
    let connecting = async {
        let client = Client::new("rabbitmq.tls", client).map_err(io::Error::other)?;
        let mut stream = client.connect(host, TcpStream::connect(address).await?).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, io::Error>(text)
    };
    let (accepted, said) = tokio::join!(accepting, connecting);
    // Where the client refuses, the server only learns that it went.
    let said = said?;
    accepted.map(|()| said)
}

#[tokio::test]
async fn who_is_trusted_is_who_the_authority_names() {
    let (ours, other) = (Authority::new(), Authority::new());
    ours.certify("host", "broker.example.com");
    let server = server(&ours.server("host")).unwrap().unwrap();
    let said = talk(&server, &ours.trusting(), "broker.example.com").await;
    assert_eq!(said.unwrap(), "within");

    for (client, host) in [
        (other.trusting(), "broker.example.com"),
        (ours.trusting(), "another.example.com"),
        (ours.trusting(), "127.0.0.1"),
        // The system knows nothing of it.
        (ClientTls::default(), "broker.example.com"),
    ] {
        let error = talk(&server, &client, host).await.unwrap_err().to_string();
        assert!(
            error.contains(host) && error.contains("rabbitmq.tls.ca_file"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_client_that_has_to_show_who_it_is_is_refused_otherwise() {
    let (ours, other) = (Authority::new(), Authority::new());
    ours.certify("host", "localhost");
    for authority in [&ours, &other] {
        authority.certify("client", "daemon");
    }
    let config = ServerTls {
        client_ca_file: ours.path("ca.pem"),
        ..ours.server("host")
    };
    let server = server(&config).unwrap().unwrap();
    let client = |authority: &Authority| ClientTls {
        cert_file: authority.path("client.pem"),
        key_file: authority.path("client.key"),
        ..ours.trusting()
    };
    assert_eq!(
        talk(&server, &client(&ours), "localhost").await.unwrap(),
        "within"
    );
    for client in [ours.trusting(), client(&other)] {
        talk(&server, &client, "localhost").await.unwrap_err();
    }
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_shown_soon_and_one_that_is_no_good_never() {
    let ours = Authority::new();
    ours.certify("host", "old.example.com");
    let mut renewed = server(&ours.server("host")).unwrap().unwrap();
    // As the listener has it.
    let server = renewed.clone();
    let shown = async |host: &str| talk(&server, &ours.trusting(), host).await.is_ok();
    assert!(shown("old.example.com").await);
    assert!(!renewed.look().await.unwrap());

    fs::write(ours.path("host.pem"), "half a certificate").unwrap();
    renewed.look().await.unwrap_err();
    assert!(shown("old.example.com").await);

    ours.certify("host", "new.example.com");
    assert!(renewed.look().await.unwrap());
    assert!(shown("new.example.com").await);
    assert!(!shown("old.example.com").await);
}

#[tokio::test]
async fn whoever_speaks_in_clear_is_told_so() {
    let ours = Authority::new();
    ours.certify("host", "localhost");
    let server = server(&ours.server("host")).unwrap().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async { server.accept(listener.accept().await.unwrap().0).await };
    let asking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (accepted, answer) = tokio::join!(accepting, asking);
    accepted.unwrap_err();
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("https://"),
        "{answer}"
    );
}

#[test]
fn what_is_wrong_with_files_is_told_at_once_and_by_key() {
    let ours = Authority::new();
    ours.certify("host", "localhost");
    ours.certify("other", "localhost");
    fs::write(ours.path("empty.pem"), "").unwrap();
    let (good, other) = (ours.server("host"), ours.server("other"));
    let with = |change: fn(&mut ServerTls, &Path)| {
        let mut config = good.clone();
        change(&mut config, ours.folder.path());
        server(&config).unwrap_err().to_string()
    };
    for (error, key) in [
        (with(|config, _| config.key_file.clear()), "tls.key_file"),
        (with(|config, _| config.cert_file.clear()), "tls.cert_file"),
        (
            with(|config, _| config.cert_file = "/nope".into()),
            "tls.cert_file",
        ),
        (
            with(|config, at| config.cert_file = at.join("empty.pem").display().to_string()),
            "tls.cert_file",
        ),
        (
            with(|config, at| config.key_file = at.join("ca.pem").display().to_string()),
            "tls.key_file",
        ),
        (
            with(|config, at| config.client_ca_file = at.join("host.key").display().to_string()),
            "tls.client_ca_file",
        ),
    ] {
        assert!(error.contains(key), "{error}");
    }
    let strangers = ServerTls {
        key_file: other.key_file,
        ..good
    };
    assert!(
        server(&strangers)
            .unwrap_err()
            .to_string()
            .contains("tls.cert_file")
    );
    let alone = ServerTls {
        client_ca_file: ours.path("ca.pem"),
        ..ServerTls::default()
    };
    assert!(server(&alone).unwrap_err().to_string().contains("tls.cert_file"));
    assert!(server(&ServerTls::default()).unwrap().is_none());
}
