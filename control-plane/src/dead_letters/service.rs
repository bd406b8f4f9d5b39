//! What callers ask of dead letters.

use common::{id::TenantId, reason::Reason};
use sqlx::PgPool;
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use super::{
    PerSecond, Selection, Token,
    pace::Pace,
    paging::{DEPTH_MAX, Page},
    taking::Taking,
    turn::{GIVE_BACK_MAX, Turn, Turns, WORK_MAX, Work},
};
use crate::{
    broker::{DeadLetterQueues, Publisher, Reader, Told},
    error::Error,
    tenants::{Tenant, Tenants},
};

/// The most that a page holds; one dead letter is answered whatever its size.
const PAGE_BYTES_MAX: usize = 2 << 20;
/// What of a body is shown in a page.
const BEGINNING_BYTES: usize = 4 << 10;

/// Dead letters.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetters {
    tenants: Tenants,
    queues: DeadLetterQueues,
    turns: Turns,
}

/// What a replay or a deletion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// How many were sent again, or deleted.
    pub(crate) taken: u32,
    /// How many of those that were meant were not, or may not have been.
    pub(crate) remaining: u32,
}

/// What becomes of those that are taken.
enum Fate {
    Replay {
        publisher: Publisher,
        per_second: Option<PerSecond>,
    },
    Delete,
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

    /// A page of a tenant's dead letters, of those that failed for `reason` if there is one: `limit` at most, with the
    /// beginnings of their bodies; and where the next page begins.
    pub(crate) async fn list(
        &self,
        tenant: TenantId,
        reason: Option<Reason>,
        begin: Option<Token>,
        limit: usize,
    ) -> Result<(Vec<Told>, Option<Token>), Error> {
        let found = self.tenants.get(tenant).await?;
        let this = self.clone();
        to_its_end(async move {
            let (turn, mut reader) = this.begin(&found, Work::Brief).await?;
            let page = Page::new(begin, limit, PAGE_BYTES_MAX);
            let read = timeout(WORK_MAX, read_page(&mut reader, page, tenant, reason)).await;
            end(turn, reader).await;
            let page = read.unwrap_or_else(|_| Err(late()))?;
            Ok(page.end(tenant, reason))
        })
        .await
    }

    /// The oldest dead letter with this id, all of it.
    pub(crate) async fn get(&self, tenant: TenantId, id: Uuid) -> Result<Told, Error> {
        let found = self.tenants.get(tenant).await?;
        let this = self.clone();
        to_its_end(async move {
            let (turn, mut reader) = this.begin(&found, Work::Brief).await?;
            let read = timeout(WORK_MAX, find(&mut reader, tenant, id)).await;
            end(turn, reader).await;
            read.unwrap_or_else(|_| Err(late()))
        })
        .await
    }

    /// Sends dead letters through the tenant's queue again.
    pub(crate) async fn replay(
        &self,
        tenant: TenantId,
        selection: Selection,
        per_second: Option<PerSecond>,
    ) -> Result<Taken, Error> {
        let fate = Fate::Replay {
            publisher: self.queues.publisher(),
            per_second,
        };
        self.take(tenant, selection, fate, Work::Long).await
    }

    /// Deletes a tenant's dead letters, or those that failed for `reason`.
    pub(crate) async fn purge(&self, tenant: TenantId, reason: Option<Reason>) -> Result<Taken, Error> {
        if reason.is_some() {
            let selection = Selection::all(reason);
            return self.take(tenant, selection, Fate::Delete, Work::Long).await;
        }
        let found = self.tenants.get(tenant).await?;
        let this = self.clone();
        to_its_end(async move {
            // Not while another call holds some, which would come back.
            let _turn = this.turns.take(tenant, Work::Brief).await?;
            let purged = this.queues.purge(tenant).await;
            Ok(Taken {
                taken: this.tenants.noticing(&found, purged).await?,
                remaining: 0,
            })
        })
        .await
    }

    /// Deletes the oldest dead letter with this id.
    pub(crate) async fn delete(&self, tenant: TenantId, id: Uuid) -> Result<Taken, Error> {
        let selection = Selection::one(id);
        match self.take(tenant, selection, Fate::Delete, Work::Brief).await? {
            Taken { taken: 0, .. } => Err(Error::NoDeadLetter(id)),
            taken => Ok(taken),
        }
    }

    async fn take(
        &self,
        tenant: TenantId,
        selection: Selection,
        fate: Fate,
        work: Work,
    ) -> Result<Taken, Error> {
        let found = self.tenants.get(tenant).await?;
        let this = self.clone();
        to_its_end(async move {
            let (turn, reader) = this.begin(&found, work).await?;
            let mut taking = Taking::new(tenant, selection, reader, turn);
            let result = match &fate {
                Fate::Replay {
                    publisher,
                    per_second,
                } => replay(&mut taking, tenant, publisher, *per_second).await,
                Fate::Delete => delete(&mut taking).await,
            };
            // The tenant's own queue may be the one that is not there.
            let result = this.tenants.noticing(&found, result).await;
            let taken = Taken {
                taken: taking.taken(),
                remaining: taking.remaining(),
            };
            let (turn, reader) = taking.end();
            end(turn, reader).await;
            match (result, fate, taken.taken) {
                (Ok(()), ..) => Ok(taken),
                (Err(error), _, 0) => Err(error),
                (Err(error), Fate::Replay { .. }, taken) => Err(Error::Unavailable(format!(
                    "{taken} dead letters are replayed, then: {error}. Replay again for the rest"
                ))),
                (Err(error), Fate::Delete, taken) => Err(Error::Unavailable(format!(
                    "{taken} dead letters are deleted, then: {error}. Delete again for the rest"
                ))),
            }
        })
        .await
    }

    /// Waits for the turn, and begins to read.
    async fn begin(&self, tenant: &Tenant, work: Work) -> Result<(Turn, Reader), Error> {
        let turn = self.turns.take(tenant.id, work).await?;
        let reader = self.queues.read(tenant.id).await;
        let reader = self.tenants.noticing(tenant, reader).await?;
        Ok((turn, reader))
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

async fn read_page(
    reader: &mut Reader,
    mut page: Page<Told>,
    tenant: TenantId,
    reason: Option<Reason>,
) -> Result<Page<Told>, Error> {
    while !page.is_complete() {
        let Some(letter) = reader.next().await? else {
            break;
        };
        let mark = letter.mark(tenant);
        let is_meant = reason.is_none_or(|reason| reason == letter.reason());
        let item = is_meant.then(|| Told::beginning(letter, tenant, BEGINNING_BYTES));
        page.read(
            mark,
            item.map(|item| {
                let size = item.size();
                (item, size)
            }),
        );
    }
    if !page.is_complete()
        && let Some(why) = reader.broke_off()
    {
        if page.is_empty() || !page.is_settled() {
            return Err(why);
        }
        page.cut_short();
    }
    Ok(page)
}

async fn find(reader: &mut Reader, tenant: TenantId, id: Uuid) -> Result<Told, Error> {
    for _ in 0..DEPTH_MAX {
        match reader.next().await? {
            Some(letter) if letter.id(tenant) == Some(id) => return Ok(Told::whole(letter, tenant)),
            Some(_) => {}
            None => return Err(reader.broke_off().unwrap_or(Error::NoDeadLetter(id))),
        }
    }
    Err(Error::NoDeadLetter(id))
}

/// Until all are sent, or time is over.
async fn replay(
    taking: &mut Taking,
    tenant: TenantId,
    publisher: &Publisher,
    per_second: Option<PerSecond>,
) -> Result<(), Error> {
    let mut pace = Pace::new(per_second, Instant::now());
    loop {
        let batch = taking.next(pace.portion()).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let count = batch.len();
        let (tags, messages): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|(id, letter)| (letter.tag, letter.replay(id.unwrap_or_else(Uuid::now_v7))))
            .unzip();
        // First confirmed there, then taken out here: a crash in between leaves it in both, under one id.
        publisher.publish(tenant, false, messages).await?;
        taking.done(&tags).await?;
        // Waited for before the answer, too: the next call may come at once.
        if let Some(due) = pace.sent(count, Instant::now()).filter(|_| taking.has_more()) {
            sleep_until(due).await;
        }
    }
}

/// Until all are deleted, or time is over.
async fn delete(taking: &mut Taking) -> Result<(), Error> {
    loop {
        let batch = taking.next(usize::MAX).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let tags: Vec<_> = batch.iter().map(|(_, letter)| letter.tag).collect();
        drop(batch);
        taking.done(&tags).await?;
    }
}

fn late() -> Error {
    Error::Unavailable(format!(
        "RabbitMQ did not give the dead letters within {} s; try again, or ask for what is less deep",
        WORK_MAX.as_secs()
    ))
}
