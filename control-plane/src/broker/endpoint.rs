//! What of RabbitMQ speaks HTTP: where it is, and who asks.

use common::{
    config::{self, ClientTls, Secret},
    tls,
};
use reqwest::{RequestBuilder, Url};

/// A base URL, and the login that stood in it.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Without a login.
    pub(super) url: Url,
    /// Where the URL says so.
    pub(super) tls: Option<tls::Client>,
    pub(super) login: Option<(String, Secret)>,
}

impl Endpoint {
    /// What the URL of `key` says.
    pub(super) fn new(key: &str, url: &Secret, tls: &ClientTls) -> Result<Self, config::Error> {
        let mut url = parse(key, url)?;
        let decoded = |text: &str| {
            let text = percent_encoding::percent_decode_str(text).decode_utf8();
            text.map(String::from)
                .map_err(|error| config::Error::key(key, error.to_string()))
        };
        let login = match url.username() {
            "" => None,
            user => Some((
                decoded(user)?,
                decoded(url.password().unwrap_or_default())?.into(),
            )),
        };
        // A URL with a host can be without a login.
        let _ = (url.set_username(""), url.set_password(None));
        let tls = match url.scheme() {
            "https" => Some(tls::Client::new("rabbitmq.tls", tls)?),
            _ => None,
        };
        Ok(Self { url, tls, login })
    }

    /// Where that path is.
    pub(super) fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        // A URL with a host has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// A request with the login, if there is one.
    pub(super) fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password.expose())),
            None => request,
        }
    }
}

/// Checks the URL of `key`. In clear it is asked on this machine alone, unless `insecure`.
pub(super) fn check(key: &str, url: &Secret, insecure: bool) -> Result<(), config::Error> {
    let url = parse(key, url)?;
    match url.scheme() {
        "http" if !insecure => config::check_clear(key, url.host_str().unwrap_or_default(), "use https://"),
        _ => Ok(()),
    }
}

fn parse(key: &str, url: &Secret) -> Result<Url, config::Error> {
    config::validate_url(key, url, &["http", "https"])?;
    let parsed = Url::parse(url.expose()).map_err(|error| config::Error::key(key, error.to_string()))?;
    match parsed.has_host() {
        true => Ok(parsed),
        false => Err(config::Error::key(key, "has no host")),
    }
}
