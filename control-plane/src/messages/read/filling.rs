//! A page as it is filled: with all rows behind its cursor, or with those of them that match.

use common::id::TenantId;
use sqlx::PgConnection;

use super::{
    Ask, Message, PAGE_BYTES_MAX, Page,
    rows::{self, Room, Which},
    search::{self, Found},
};
use crate::{
    error::Error,
    memory::{Account, COPIES},
};

/// How many rows are asked for before it is known how large they are. Most pages are no longer.
const FIRST_ROWS: i64 = 100;
/// By how much the next rows may be more: some small ones say little about the large ones behind them.
const GROWTH: i64 = 4;
/// How many rows a filter looks at for one page, and how much may be stored in them: a call lasts a moment, whatever it
/// looks for.
const LOOKED_AT_ROWS: i64 = 20_000;
const LOOKED_AT_BYTES: i64 = 64 << 20;

/// A page that is being filled.
pub(super) struct Filling<'a> {
    ask: &'a Ask,
    account: &'a Account,
    message_bytes_max: usize,
    rows: Vec<Message>,
    bytes: i64,
}

/// Why no more rows are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// There were no more.
    All,
    /// The page is full.
    Full,
}

impl<'a> Filling<'a> {
    pub(super) fn new(ask: &'a Ask, account: &'a Account, message_bytes_max: usize) -> Self {
        Self {
            ask,
            account,
            message_bytes_max,
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// Fills it with the rows that come next.
    pub(super) async fn with_all(
        &mut self,
        connection: &mut PgConnection,
        tenant: TenantId,
    ) -> Result<Page, Error> {
        let (mut behind, mut wanted) = (self.ask.start(), FIRST_ROWS);
        let ended = loop {
            let which = Which::Behind(behind, self.ask.order);
            let Some(chunk) = self.read(connection, tenant, which, wanted).await? else {
                break Ended::Full;
            };
            if chunk.all {
                break Ended::All;
            }
            if self.is_full() {
                break Ended::Full;
            }
            behind = self.last();
            wanted = self.more(wanted);
        };
        Ok(self.page(self.last(), ended))
    }

    /// Fills it with the rows that match.
    pub(super) async fn with_matches(
        &mut self,
        connection: &mut PgConnection,
        tenant: TenantId,
    ) -> Result<Page, Error> {
        let ask = self.ask;
        search::tell(connection, tenant).await?;
        let range = search::range(connection, tenant, &ask.filter).await?;
        let (mut behind, mut next) = (ask.start(), ask.cursor);
        let (mut rows, mut bytes) = (0, 0);
        loop {
            let found = search::step(connection, tenant, &ask.filter, ask.order, range, behind).await?;
            let Found {
                mut matches, up_to, ..
            } = found;
            let Some(up_to) = up_to else {
                return Ok(self.page(next, Ended::All));
            };
            let room = (ask.limit - self.count()).max(0) as usize;
            let is_cut = matches.len() > room;
            matches.truncate(room);
            if self.take(connection, tenant, &matches).await? == Ended::Full {
                return Ok(self.page(self.last(), Ended::Full));
            }
            if is_cut {
                // At least one was taken, or the page was full before; what matches behind it is the next page's.
                let last = matches.last().copied();
                return Ok(self.page(last.unwrap_or(next), Ended::Full));
            }
            (behind, next) = (up_to, up_to);
            if found.all {
                return Ok(self.page(next, Ended::All));
            }
            rows += found.rows;
            bytes += found.bytes;
            if self.is_full() || rows >= LOOKED_AT_ROWS || bytes >= LOOKED_AT_BYTES {
                return Ok(self.page(next, Ended::Full));
            }
        }
    }

    /// Takes the rows at these positions, as far as there is room. What was removed meanwhile is passed over.
    async fn take(
        &mut self,
        connection: &mut PgConnection,
        tenant: TenantId,
        positions: &[i64],
    ) -> Result<Ended, Error> {
        let (mut rest, mut wanted) = (positions, FIRST_ROWS);
        while !rest.is_empty() {
            let these = &rest[..rest.len().min(wanted as usize)];
            let which = Which::Among(these, self.ask.order);
            let Some(chunk) = self.read(connection, tenant, which, wanted).await? else {
                return Ok(Ended::Full);
            };
            let done = match chunk.all {
                true => these.len(),
                false => {
                    let last = self.last();
                    these.iter().position(|&at| at == last).map_or(0, |at| at + 1)
                }
            };
            rest = &rest[done..];
            if !rest.is_empty() && (self.is_full() || done == 0) {
                return Ok(Ended::Full);
            }
            wanted = self.more(wanted);
        }
        Ok(Ended::All)
    }

    /// Reads rows and takes them; none if not all that were read are taken.
    async fn read(
        &mut self,
        connection: &mut PgConnection,
        tenant: TenantId,
        which: Which<'_>,
        wanted: i64,
    ) -> Result<Option<Read>, Error> {
        let room = Room {
            rows: wanted.min(self.ask.limit - self.count()),
            bytes: self.ask.bytes_max - self.bytes,
            estimated_bytes: PAGE_BYTES_MAX,
            message_bytes: i32::try_from(self.message_bytes_max).unwrap_or(i32::MAX / 16),
        };
        let chunk = rows::read(connection, tenant, which, room).await?;
        for row in chunk.rows {
            let length = row.payload.len() as i64;
            // The chunk always has a first row; the page takes it only when it is the page's first or fits.
            if !self.rows.is_empty() && self.bytes + length > self.ask.bytes_max {
                return Ok(None);
            }
            match self.account.hold(row.payload.len() * COPIES) {
                Ok(()) => {}
                Err(full) if self.rows.is_empty() => return Err(full.into()),
                Err(_) => return Ok(None),
            }
            self.bytes += length;
            self.rows.push(row);
        }
        Ok(Some(Read { all: chunk.all }))
    }

    /// How many rows to ask for next, by how large those were that came.
    fn more(&self, wanted: i64) -> i64 {
        let fit = (self.ask.bytes_max - self.bytes).max(0) * self.count() / self.bytes.max(1) + 1;
        fit.min(wanted * GROWTH)
    }

    fn count(&self) -> i64 {
        self.rows.len() as i64
    }

    fn is_full(&self) -> bool {
        self.count() >= self.ask.limit || self.bytes >= self.ask.bytes_max
    }

    /// The position of the last row, or where the page begins.
    fn last(&self) -> i64 {
        self.rows.last().map_or(self.ask.cursor, |row| row.position)
    }

    fn page(&mut self, next: i64, ended: Ended) -> Page {
        Page {
            rows: std::mem::take(&mut self.rows),
            next,
            at_end: ended == Ended::All,
        }
    }
}

/// What came of reading.
struct Read {
    /// Whether no others were there.
    all: bool,
}
