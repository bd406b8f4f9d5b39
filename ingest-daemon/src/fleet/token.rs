//! The daemon's token, and the one that follows it.
//!
//! A token that stands in a file is replaced by whoever writes that file: it is looked at again and again, and what is
//! new there is sent on the living stream, which then lasts as long as the new one.

use std::{sync::Arc, time::Duration};

use common::{
    config::{Error, Secret},
    second_look::SecondLook,
};
use tokio::{task::spawn_blocking, time::sleep};
use tonic::metadata::AsciiMetadataValue;
use tracing::{debug, warn};

/// How soon another token is seen.
const LOOK: Duration = Duration::from_secs(2);

/// Reads the token that is configured at the moment.
pub(crate) type Read = Arc<dyn Fn() -> Result<Secret, Error> + Send + Sync>;

/// A token that can be sent.
#[derive(Clone)]
pub(super) struct Bearer {
    token: Secret,
    authorization: AsciiMetadataValue,
}

impl Bearer {
    pub(super) fn new(token: Secret) -> Result<Self, Error> {
        let mut authorization: AsciiMetadataValue = format!("Bearer {}", token.expose())
            .parse()
            .map_err(|_| Error::key("control_plane.token", "has characters that no header may have"))?;
        authorization.set_sensitive(true);
        Ok(Self { token, authorization })
    }

    /// What opens a stream.
    pub(super) fn authorization(&self) -> AsciiMetadataValue {
        self.authorization.clone()
    }

    /// What renews one.
    pub(super) fn expose(&self) -> &str {
        self.token.expose()
    }
}

/// The token in use.
pub(super) struct Token {
    read: Read,
    current: Bearer,
}

impl Token {
    pub(super) fn new(read: Read, token: Secret) -> Result<Self, Error> {
        Ok(Self {
            read,
            current: Bearer::new(token)?,
        })
    }

    pub(super) fn current(&self) -> &Bearer {
        &self.current
    }

    pub(super) fn replace(&mut self, bearer: Bearer) {
        self.current = bearer;
    }

    /// Takes the one that is configured now. Where there is none that is any good the one from before may still do.
    pub(super) async fn refresh(&mut self) {
        match read(&self.read).await {
            Ok(bearer) => self.current = bearer,
            Err(error) => debug!(error, "the token cannot be read again"),
        }
    }

    /// Completes when another one is configured. It is to be seen twice: half of a file is seen now and then, and a token
    /// that is no good ends the stream.
    pub(super) fn another(&self) -> impl Future<Output = Bearer> + use<> {
        let (reading, current) = (Arc::clone(&self.read), self.current.token.clone());
        async move {
            let (mut seen, mut second_look) = (None, SecondLook::default());
            loop {
                sleep(LOOK).await;
                match read(&reading).await {
                    Ok(bearer) if bearer.token == current => {
                        seen = None;
                        second_look.well();
                    }
                    Ok(bearer) if seen.as_ref() == Some(&bearer.token) => return bearer,
                    Ok(bearer) => seen = Some(bearer.token),
                    Err(error) => {
                        seen = None;
                        if second_look.failed(&error) {
                            warn!(
                                error,
                                "the token cannot be read again; going on with the one from before"
                            );
                        }
                    }
                }
            }
        }
    }
}

async fn read(reading: &Read) -> Result<Bearer, String> {
    let reading = Arc::clone(reading);
    let read = spawn_blocking(move || Bearer::new(reading()?)).await;
    read.map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Mutex};

    use tokio::time::timeout;

    use super::*;

    type Configured = Result<&'static str, &'static str>;

    /// A token, and what is configured beside it.
    fn token(first: &str) -> (Token, Arc<Mutex<Configured>>) {
        let configured = Arc::new(Mutex::new(Configured::Err("nothing yet")));
        let reading = Arc::clone(&configured);
        let read: Read = Arc::new(move || match *reading.lock().unwrap() {
            Ok(token) => Ok(token.into()),
            Err(problem) => Err(Error::key("control_plane.token_file", problem)),
        });
        (Token::new(read, first.into()).unwrap(), configured)
    }

    #[tokio::test(start_paused = true)]
    async fn another_token_is_one_that_stands_there_twice() {
        let (token, configured) = token("first");
        let mut another = pin!(token.another());
        // Between two looks, from here on.
        assert!(timeout(LOOK / 2, &mut another).await.is_err());
        let mut quiet = async |what: Configured| {
            *configured.lock().unwrap() = what;
            timeout(LOOK, &mut another).await.is_err()
        };
        assert!(quiet(Err("the file is gone")).await);
        assert!(quiet(Ok("first")).await);
        assert!(quiet(Ok("sec")).await, "half of it");
        assert!(quiet(Ok("second\n")).await, "no header's");
        assert!(quiet(Ok("second")).await);
        let bearer = timeout(LOOK, another).await.unwrap();
        assert_eq!(bearer.expose(), "second");
        assert_eq!(bearer.authorization().to_str().unwrap(), "Bearer second");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_never_changes_is_never_another() {
        let (token, configured) = token("first");
        *configured.lock().unwrap() = Ok("first");
        assert!(timeout(1_000 * LOOK, token.another()).await.is_err());
    }

    #[tokio::test]
    async fn what_is_configured_is_taken_and_nothing_good_changes_nothing() {
        let (mut token, configured) = token("first");
        token.refresh().await;
        assert_eq!(token.current().expose(), "first");
        *configured.lock().unwrap() = Ok("second");
        token.refresh().await;
        assert_eq!(token.current().expose(), "second");
    }
}
