//! A committer's way to PostgreSQL: one session, replaced when it is broken or old.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use common::{config, database::Connect, id::TenantId};
use tokio::time::timeout;

use super::{
    blame::Blame,
    failure::{Failure, brief},
    pass::Witness,
    patience::Patience,
    session::{Backend, Session},
};
use crate::delivery::Message;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection keeps up to 33 kB for every partition it ever touched; it is replaced before that adds up.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 60);

/// Planned once for a connection, since planning takes longer than storing a few rows. What a plan made for any commit
/// could do badly is ruled out: rows find their tenant by its number in an array, not by a join whose kind would be
/// chosen for an unknown size; and counters are found by their key, however few there were at the time. And what a
/// trigger has to say beside errors nobody reads: it would be lines of the log, of any length.
const SETTINGS: [(&str, &str); 3] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("client_min_messages", "error"),
];

/// One tenant's part of what is stored together.
pub(super) type Rows<'a> = (TenantId, &'a [Message]);
/// How many rows of each tenant are new. A tenant whose counter was locked is missing.
pub(super) type New = HashMap<TenantId, usize>;

/// What a session is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job<'a> {
    /// To store all of these rows or nothing, when nothing is known against them: in one round trip.
    StoreAll(&'a [Rows<'a>]),
    /// The same when something is: what a table does only when the transaction ends it does at once, so that the
    /// statement's timeout is for that too.
    StorePart(&'a [Rows<'a>]),
    /// To do everything that storing does, for nobody.
    Probe,
}

/// A committer's way to PostgreSQL.
#[derive(Debug)]
pub(super) struct Store {
    connect: Connect,
    session: Option<Session>,
    /// Why it has just been in vain to connect.
    unreachable: Option<String>,
    /// It may still be at it, and hold counters.
    abandoned: Option<Backend>,
}

impl Store {
    pub(super) fn new(config: &config::Database) -> Result<Self, config::Error> {
        Ok(Self {
            // What is slow or fails is said once, by the lanes that it concerns.
            connect: SETTINGS.iter().fold(
                Connect::new(config, "jalur-ingest-daemon")?.quiet(),
                |connect, (name, value)| connect.set(name, value),
            ),
            session: None,
            unreachable: None,
            abandoned: None,
        })
    }

    /// Connects if that is to be done, so that what comes next takes no longer for it. That it could not is said by
    /// what comes next.
    pub(super) async fn connect(&mut self) {
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.age() >= LIFETIME_MAX)
        {
            self.close().await;
        }
        if self.session.is_none() {
            match self.open().await {
                Ok(session) => self.session = Some(session),
                Err(detail) => self.unreachable = Some(detail),
            }
        }
    }

    /// Does `job`, and answers for every tenant whose counter was not locked how many rows are new.
    pub(super) async fn run(&mut self, job: Job<'_>, patience: Patience) -> Result<New, Failure> {
        if let Some(detail) = self.unreachable.take() {
            return Err(Failure::Unreachable(detail));
        }
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open().await.map_err(Failure::Unreachable)?,
        };
        let begun = Instant::now();
        match timeout(patience.answer, session.run(job, patience)).await {
            Ok(result) => {
                let result = result.map_err(Failure::from).map_err(|failure| match failure {
                    // Cancelled by somebody, or the session has another timeout than it was told.
                    Failure::Refused(Blame::Slow, detail) if begun.elapsed() < patience.statement / 2 => {
                        Failure::Refused(Blame::Session, detail)
                    }
                    failure => failure,
                });
                if !matches!(result, Err(Failure::Refused(Blame::Session, _))) {
                    self.session = Some(session);
                }
                result
            }
            Err(_) => {
                self.abandoned = Some(session.backend());
                let detail = format!("PostgreSQL did not answer within {:?}", patience.answer);
                Err(Failure::Refused(Blame::Slow, detail))
            }
        }
    }

    /// Asks whether PostgreSQL is well. A session that says it is not may be all that is wrong, since a trigger can set
    /// what it likes for the rest of one, timeouts among it: it is given up, and another one is asked.
    pub(super) async fn probe(&mut self, patience: Patience) -> Result<Witness, Failure> {
        match self.run(Job::Probe, patience).await {
            Ok(_) => Ok(Witness::Same),
            Err(Failure::Refused(..)) if self.session.is_some() => {
                self.close().await;
                self.run(Job::Probe, patience).await.map(|_| Witness::Another)
            }
            Err(failure) => {
                self.close().await;
                Err(failure)
            }
        }
    }

    /// Ends the session. It ends by itself where it cannot be told to.
    pub(super) async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = timeout(CONNECT_TIMEOUT, session.close()).await;
        }
    }

    /// Whatever the reason: without a connection nobody's rows are to blame.
    async fn open(&mut self) -> Result<Session, String> {
        let open = async {
            let mut session = Session::open(&self.connect, self.abandoned.as_ref()).await?;
            let known = session.history_is_known().await?;
            Ok::<_, sqlx::Error>((session, known))
        };
        let (session, known) = timeout(CONNECT_TIMEOUT, open)
            .await
            .map_err(|_| format!("PostgreSQL took no connection within {CONNECT_TIMEOUT:?}"))?
            .map_err(|error| brief(&error.to_string()))?;
        if !known {
            let detail =
                "the database was restored from a backup, and no control plane has begun a new history yet";
            return Err(detail.into());
        }
        self.abandoned = None;
        Ok(session)
    }
}
