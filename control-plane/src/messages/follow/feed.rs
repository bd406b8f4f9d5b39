//! One reader's stream.

use std::sync::Arc;

use common::id::TenantId;
use futures::{Stream, stream};
use tokio::sync::watch;

use super::{
    super::read::{Ask, Message, Reading},
    tails::{New, Shown, Tails},
};
use crate::{
    error::Error,
    memory::{Account, COPIES},
};

/// The most that is read at a time. It is held until the reader has taken it, however slow that is.
const PAGE_ROWS: i64 = 1_000;
const PAGE_BYTES: i64 = 512 << 10;

/// Streams of what is stored; a handle.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    reading: Reading,
    tails: Tails,
}

/// A reader, and where it is.
struct Reader {
    feed: Feed,
    tenant: TenantId,
    cursor: i64,
    account: Account,
    batch: Batch,
    /// Whether nothing was behind the cursor when it was looked at.
    at_end: bool,
    /// What comes then; none for a reader that only wants what is there.
    tail: Option<watch::Receiver<Shown>>,
}

/// What was read and not taken yet.
enum Batch {
    Own(std::vec::IntoIter<Message>),
    Shown { rows: Arc<[Message]>, next: usize },
}

impl Iterator for Batch {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        match self {
            Self::Own(rows) => rows.next(),
            Self::Shown { rows, next } => {
                let row = rows.get(*next).cloned();
                *next += 1;
                row
            }
        }
    }
}

impl Feed {
    pub(crate) fn new(reading: Reading, tails: Tails) -> Self {
        Self { reading, tails }
    }

    /// The messages behind `cursor`, and with `follow` those that are stored from then on. What it holds is counted on
    /// `account`. It ends with its first error.
    pub(crate) fn stream(
        &self,
        tenant: TenantId,
        cursor: i64,
        follow: bool,
        account: Account,
    ) -> impl Stream<Item = Result<Message, Error>> + Send + 'static {
        let reader = Reader {
            feed: self.clone(),
            tenant,
            cursor,
            account,
            batch: Batch::Own(Vec::new().into_iter()),
            at_end: false,
            // Before the first look, so that nothing comes between.
            tail: follow.then(|| self.tails.follow(tenant)),
        };
        stream::try_unfold(reader, |mut reader| async move {
            let message = reader.next().await?;
            Ok(message.map(|message| (message, reader)))
        })
    }
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            if let Some(message) = self.batch.next() {
                self.cursor = message.position;
                return Ok(Some(message));
            }
            self.batch = Batch::Own(Vec::new().into_iter());
            self.account.release();
            if !self.at_end {
                self.read().await?;
            } else if !self.wait().await? {
                return Ok(None);
            }
        }
    }

    /// Reads a page. In a task of its own: whoever does not take what was sent before is not asked to go on, and would
    /// keep the connection meanwhile.
    async fn read(&mut self) -> Result<(), Error> {
        let (reading, account, tenant) = (self.feed.reading.clone(), self.account.clone(), self.tenant);
        let ask = Ask::behind(self.cursor, PAGE_ROWS, PAGE_BYTES);
        let page = tokio::spawn(async move { reading.page(tenant, &ask, &account).await });
        let page = page
            .await
            .map_err(|error| Error::Fault(format!("reading a page: {error}")))??;
        self.at_end = page.at_end;
        self.batch = Batch::Own(page.rows.into_iter());
        Ok(())
    }

    /// Waits for what comes; answers whether it is wanted at all.
    async fn wait(&mut self) -> Result<bool, Error> {
        let Some(tail) = &mut self.tail else {
            return Ok(false);
        };
        if tail.changed().await.is_err() {
            let message = "what is stored is not seen any more; open the stream again";
            return Err(Error::Unavailable(message.into()));
        }
        let shown = tail.borrow_and_update().clone();
        match shown {
            Shown::These(New { behind, rows }) if behind <= self.cursor => {
                let next = rows.partition_point(|row| row.position <= self.cursor);
                let bytes: usize = rows[next..].iter().map(|row| row.payload.len()).sum();
                self.account.hold(bytes * COPIES)?;
                self.batch = Batch::Shown { rows, next };
            }
            // It has missed something, or nobody knows.
            Shown::These(_) | Shown::Something => self.at_end = false,
        }
        Ok(true)
    }
}
