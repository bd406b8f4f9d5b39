//! What callers ask of dead letters.

use std::time::Duration;

use common::id::TenantId;
use sqlx::PgPool;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{Selection, turn::Turns};
use crate::{
    broker::{DeadLetterQueues, Letter, Outgoing, Publisher, Reader},
    error::Error,
    tenants::Tenants,
};

/// How long a call may work once it has its turn: with the wait for it less than REST gives a call.
pub(super) const WORK_MAX: Duration = Duration::from_secs(20);
/// The most of bodies in a page; one dead letter is answered whatever its size.
const PAGE_BYTES_MAX: usize = 2 << 20;
/// How many dead letters are sent and confirmed together, enough to hide the broker's round trip.
const BATCH_LETTERS: usize = 256;
/// What of their bodies is held for that; one dead letter is sent whatever its size.
const BATCH_BYTES: usize = 4 << 20;
/// How many that are not meant a replay holds while it looks for its ids. The broker puts back slowly what was held:
/// 1,000 take a few milliseconds, but 80,000 kept a queue of RabbitMQ 3.10 from answering for minutes.
const PASSED_MAX: u32 = 10_000;

/// Dead letters.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetters {
    tenants: Tenants,
    queues: DeadLetterQueues,
    turns: Turns,
}

/// Why a replay stopped before its end.
enum Stop {
    Late,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl DeadLetters {
    pub(crate) fn new(tenants: Tenants, queues: DeadLetterQueues, pool: PgPool) -> Self {
        Self {
            tenants,
            queues,
            turns: Turns::new(pool),
        }
    }

    /// A tenant's oldest dead letters, `limit` at most and [`PAGE_BYTES_MAX`], one at least if there is one.
    pub(crate) async fn list(&self, tenant: TenantId, limit: usize) -> Result<Vec<Letter>, Error> {
        self.tenants.get(tenant).await?;
        let _turn = self.turns.take(tenant).await?;
        let mut reader = self.queues.read(tenant).await?;
        let page = timeout(WORK_MAX, page(&mut reader, limit)).await;
        reader.close().await;
        page.unwrap_or_else(|_| Err(late()))
    }

    /// Sends dead letters through the tenant's queue again and answers how many those were.
    pub(crate) async fn replay(&self, tenant: TenantId, mut selection: Selection) -> Result<u32, Error> {
        self.tenants.get(tenant).await?;
        let _turn = self.turns.take(tenant).await?;
        let mut replay = Replay {
            tenant,
            reader: self.queues.read(tenant).await?,
            publisher: self.queues.publisher(),
            until: Instant::now() + WORK_MAX,
            passed: 0,
            sent: 0,
        };
        let result = replay.run(&mut selection).await;
        let (sent, left) = (replay.sent, replay.reader.left());
        replay.reader.close().await;
        match result {
            Ok(()) => Ok(sent),
            Err(Stop::Failed(error)) if sent == 0 => Err(error),
            Err(Stop::Failed(error)) => Err(Error::Unavailable(format!(
                "{sent} dead letters are replayed, then: {error}. Replay again for the rest"
            ))),
            Err(Stop::Late) => Err(Error::Unavailable(format!(
                "{sent} dead letters are replayed and {left} not looked at yet, but {} s are over; replay again for the rest",
                WORK_MAX.as_secs()
            ))),
        }
    }

    /// Deletes a tenant's dead letters and answers how many those were.
    pub(crate) async fn purge(&self, tenant: TenantId) -> Result<u32, Error> {
        self.tenants.get(tenant).await?;
        // Not while another call holds some, which would come back.
        let _turn = self.turns.take(tenant).await?;
        self.queues.purge(tenant).await
    }
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
    Ok(page)
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
    reader: Reader,
    publisher: Publisher,
    until: Instant,
    /// How many were not meant, and are held until the end.
    passed: u32,
    /// How many have left the dead-letter queue.
    sent: u32,
}

impl Replay {
    async fn run(&mut self, selection: &mut Selection) -> Result<(), Stop> {
        loop {
            let (tags, batch) = self.batch(selection).await?;
            if batch.is_empty() {
                return Ok(());
            }
            // First confirmed there, then taken out here: a crash in between leaves it in both, under one id.
            self.publisher.publish(self.tenant, batch).await?;
            let sent = u32::try_from(tags.len()).unwrap_or(u32::MAX);
            self.reader.done(tags).await?;
            self.sent = self.sent.saturating_add(sent);
        }
    }

    /// The next of those that are meant, and their tags. The others stay in the reader's hands, which gives them back
    /// to their places.
    async fn batch(&mut self, selection: &mut Selection) -> Result<(Vec<u64>, Vec<Outgoing>), Stop> {
        let (mut tags, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        while batch.len() < BATCH_LETTERS
            && bytes < BATCH_BYTES
            && self.passed < PASSED_MAX
            && !selection.is_found()
        {
            if Instant::now() >= self.until {
                return Err(Stop::Late);
            }
            let Some(letter) = self.reader.next().await? else {
                break;
            };
            let id = letter.id(self.tenant);
            if selection.takes(id) {
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
