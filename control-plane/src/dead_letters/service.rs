//! What callers ask of dead letters.

use std::time::Duration;

use common::id::TenantId;
use sqlx::PgPool;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{
    Selection,
    turn::{Turn, Turns, WAIT_MAX, Work},
};
use crate::{
    broker::{DeadLetterQueues, Letter, Outgoing, Publisher, Reader},
    error::Error,
    tenants::Tenants,
};

/// When a call is answered at the latest: its wait for the turn, its work, and its giving back.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How much of that is for giving back what a call has read. The broker takes milliseconds for it, or some hundred of
/// them for thousands; if it needs longer, the turn ends later than the call.
const GIVE_BACK_MAX: Duration = Duration::from_secs(4);
/// How long a call may work once it has its turn.
const WORK_MAX: Duration = ANSWER_MAX.saturating_sub(WAIT_MAX.saturating_add(GIVE_BACK_MAX));
/// The most of bodies in a page; one dead letter is answered whatever its size.
pub(crate) const PAGE_BYTES_MAX: usize = 2 << 20;
/// How many dead letters are sent and confirmed together, enough to hide the broker's round trip.
const BATCH_LETTERS: usize = 256;
/// What of their bodies is held for that; one dead letter is sent whatever its size.
const BATCH_BYTES: usize = 4 << 20;
/// How many that are not meant a replay holds while it looks for its ids, which the broker has to put back.
const PASSED_MAX: u32 = 10_000;

/// Dead letters.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetters {
    tenants: Tenants,
    queues: DeadLetterQueues,
    turns: Turns,
}

/// What a replay did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// How many were sent again.
    pub(crate) replayed: u32,
    /// How many of those that were meant were not, for want of time.
    pub(crate) remaining: u32,
}

impl DeadLetters {
    /// `locks` is a pool of one connection, which these calls have for themselves.
    pub(crate) fn new(tenants: Tenants, queues: DeadLetterQueues, locks: PgPool) -> Self {
        Self {
            tenants,
            queues,
            turns: Turns::new(locks),
        }
    }

    /// A tenant's oldest dead letters, `limit` at most and [`PAGE_BYTES_MAX`], one at least if there is one.
    pub(crate) async fn list(&self, tenant: TenantId, limit: usize) -> Result<Vec<Letter>, Error> {
        let found = self.tenants.get(tenant).await?;
        let this = self.clone();
        to_its_end(async move {
            let turn = this.turns.take(tenant, Work::Brief).await?;
            let reader = this.queues.read(tenant).await;
            let mut reader = this.tenants.noticing(&found, reader).await?;
            let page = timeout(WORK_MAX, page(&mut reader, limit)).await;
            end(turn, reader).await;
            page.unwrap_or_else(|_| Err(late()))
        })
        .await
    }

    /// Sends dead letters through the tenant's queue again.
    pub(crate) async fn replay(&self, tenant: TenantId, selection: Selection) -> Result<Replayed, Error> {
        let found = self.tenants.get(tenant).await?;
        let this = self.clone();
        to_its_end(async move {
            let turn = this.turns.take(tenant, Work::Replay).await?;
            let reader = this.queues.read(tenant).await;
            let mut replay = Replay {
                tenant,
                selection,
                reader: this.tenants.noticing(&found, reader).await?,
                publisher: this.queues.publisher(),
                until: Instant::now() + WORK_MAX,
                passed: 0,
                sent: 0,
            };
            let result = replay.run().await;
            // The tenant's own queue may be the one that is not there.
            let result = this.tenants.noticing(&found, result).await;
            let replayed = Replayed {
                replayed: replay.sent,
                remaining: replay.selection.remaining(replay.reader.left()),
            };
            end(turn, replay.reader).await;
            match result {
                Err(error) if replayed.replayed > 0 => Err(Error::Unavailable(format!(
                    "{} dead letters are replayed, then: {error}. Replay again for the rest",
                    replayed.replayed
                ))),
                result => result.map(|()| replayed),
            }
        })
        .await
    }

    /// Deletes a tenant's dead letters and answers how many those were.
    pub(crate) async fn purge(&self, tenant: TenantId) -> Result<u32, Error> {
        let found = self.tenants.get(tenant).await?;
        let this = self.clone();
        to_its_end(async move {
            // Not while another call holds some, which would come back.
            let _turn = this.turns.take(tenant, Work::Brief).await?;
            let purged = this.queues.purge(tenant).await;
            this.tenants.noticing(&found, purged).await
        })
        .await
    }
}

/// Gives back what was read, and then the turn: the next call finds every letter in its place.
async fn end(turn: Turn, reader: Reader) {
    let ending = tokio::spawn(async move {
        reader.close().await;
        drop(turn);
    });
    // However long it takes, it goes on.
    let _ = timeout(GIVE_BACK_MAX, ending).await;
}

/// Does what a call began even where its caller has gone: only so are the letters it holds back in their queue before
/// the turn is another's. It is bounded like any call.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a call on dead letters broke off");
        Err(Error::Unavailable("the call broke off; try again".into()))
    })
}

async fn page(reader: &mut Reader, limit: usize) -> Result<Vec<Letter>, Error> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while page.len() < limit
        && let Some(letter) = reader.next().await?
    {
        bytes += letter.body.len();
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            break;
        }
        page.push(letter);
    }
    match page.is_empty() && reader.is_full() {
        true => Err(no_room()),
        false => Ok(page),
    }
}

fn no_room() -> Error {
    Error::Unavailable(
        "there is no room for the next dead letter beside those that other calls have; try again".into(),
    )
}

fn late() -> Error {
    Error::Unavailable(format!(
        "RabbitMQ did not give the dead letters within {} s; try again",
        WORK_MAX.as_secs()
    ))
}

/// A replay under way.
struct Replay {
    tenant: TenantId,
    selection: Selection,
    reader: Reader,
    publisher: Publisher,
    until: Instant,
    /// How many were not meant, and are held until the end.
    passed: u32,
    /// How many have left the dead-letter queue.
    sent: u32,
}

impl Replay {
    /// Until all are sent, or time is over.
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            let (tags, batch) = self.batch().await?;
            if batch.is_empty() {
                return match self.sent == 0 && self.reader.is_full() {
                    true => Err(no_room()),
                    false => Ok(()),
                };
            }
            // First confirmed there, then taken out here: a crash in between leaves it in both, under one id.
            self.publisher.publish(self.tenant, batch).await?;
            let sent = u32::try_from(tags.len()).unwrap_or(u32::MAX);
            self.reader.done(&tags).await?;
            self.sent = self.sent.saturating_add(sent);
        }
    }

    /// The next of those that are meant, and their tags. The others stay in the reader's hands, which gives them back
    /// to their places.
    async fn batch(&mut self) -> Result<(Vec<u64>, Vec<Outgoing>), Error> {
        let (mut tags, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        while batch.len() < BATCH_LETTERS
            && bytes < BATCH_BYTES
            && self.passed < PASSED_MAX
            && !self.selection.is_found()
            && Instant::now() < self.until
        {
            let Some(letter) = self.reader.next().await? else {
                break;
            };
            let id = letter.id(self.tenant);
            if self.selection.takes(id) {
                bytes += letter.body.len();
                tags.push(letter.tag);
                batch.push(letter.replay(id.unwrap_or_else(Uuid::now_v7)));
            } else {
                self.passed += 1;
            }
        }
        Ok((tags, batch))
    }
}
