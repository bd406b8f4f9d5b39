//! A session of PostgreSQL, and what is asked of it.

use std::time::{Duration, Instant};

use common::{database::Connect, id::TenantId};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgDatabaseError};
use uuid::Uuid;

use super::{
    failure::said,
    patience::Patience,
    statements,
    store::{Job, New, Rows},
};

/// How many commits are careful after one that met a message for the second time: redeliveries come in numbers.
const CAREFUL_COMMITS: u32 = 100;
/// How many counters are mended on the way. More of them, behind after a restore, are mended by the next tries.
const MENDED_MAX: usize = 16;

const BEGIN: &str = "begin; set constraints all immediate";

/// Which backend serves a session, for as long as that runs: its process, and when it began.
pub(super) type Backend = (i32, String);

#[derive(Debug)]
pub(super) struct Session {
    connection: PgConnection,
    backend: Backend,
    opened: Instant,
    /// What it was told last.
    patience: Option<Patience>,
    /// For how many commits something may be there already.
    careful: u32,
}

impl Session {
    /// Opens one, and ends the one that was given up before.
    pub(super) async fn open(connect: &Connect, abandoned: Option<&Backend>) -> Result<Self, sqlx::Error> {
        let mut connection = connect.connection().await?;
        let backend = sqlx::query_as(statements::BACKEND)
            .fetch_one(&mut connection)
            .await?;
        if let Some((pid, began)) = abandoned {
            // Where that is not allowed its counters are free when it ends by itself.
            let _ = sqlx::query(statements::END_BACKEND)
                .bind(pid)
                .bind(began)
                .execute(&mut connection)
                .await;
        }
        Ok(Self {
            connection,
            backend,
            opened: Instant::now(),
            patience: None,
            // Whatever ended the last one may have left commits that nobody was told of.
            careful: CAREFUL_COMMITS,
        })
    }

    /// Whether what is stored here will be seen by those who have read before. Where that cannot be asked, for want of
    /// a right or of the newest schema, it is for the control planes alone to find out.
    pub(super) async fn history_is_known(&mut self) -> Result<bool, sqlx::Error> {
        let known = sqlx::query_scalar(statements::HISTORY_IS_KNOWN)
            .fetch_one(&mut self.connection)
            .await;
        match known {
            Err(sqlx::Error::Database(_)) => Ok(true),
            known => known,
        }
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    pub(super) fn backend(self) -> Backend {
        self.backend
    }

    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }

    pub(super) async fn run(&mut self, job: Job<'_>, patience: Patience) -> Result<New, sqlx::Error> {
        self.be_patient(patience).await?;
        match job {
            Job::Probe => {
                self.store(statements::STORE_NEW, &[]).await?;
                sqlx::query(statements::TOUCH_DISK)
                    .execute(&mut self.connection)
                    .await?;
                Ok(New::new())
            }
            Job::StoreAll(rows) if self.careful == 0 => match self.store(statements::STORE_NEW, rows).await {
                Err(error) if is_unique_violation(&error) => {
                    self.careful = CAREFUL_COMMITS;
                    self.store_carefully(rows, false).await
                }
                result => result,
            },
            Job::StoreAll(rows) => {
                self.careful -= 1;
                self.store_carefully(rows, false).await
            }
            Job::StorePart(rows) => self.store_carefully(rows, true).await,
        }
    }

    async fn be_patient(&mut self, patience: Patience) -> Result<(), sqlx::Error> {
        if self.patience == Some(patience) {
            return Ok(());
        }
        sqlx::query(
            "select set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false)",
        )
        .bind(patience.statement.as_millis().to_string())
        .bind(patience.lock.as_millis().to_string())
        .execute(&mut self.connection)
        .await?;
        self.patience = Some(patience);
        Ok(())
    }

    /// Stores what may be there already, and mends counters on the way: those that are behind their tables, since what
    /// is stored would get a position for the second time, and those that are missing.
    async fn store_carefully(&mut self, rows: &[Rows<'_>], part: bool) -> Result<New, sqlx::Error> {
        let mut mended = 0;
        let new = loop {
            let result = match part {
                true => self.store_part(rows).await,
                false => self.store(statements::STORE_CAREFULLY, rows).await,
            };
            let error = match result {
                Ok(new) => break new,
                Err(error) => error,
            };
            // Ids that are there were passed over, so a position is, or something is unique that is none of ours.
            let behind = said(&error).and_then(|said| behind(said, rows));
            match behind {
                Some(tenant) if mended < MENDED_MAX && self.mend(tenant).await? => mended += 1,
                _ => return Err(error),
            }
        };
        if new.len() < rows.len() {
            self.mend_missing(rows, &new).await?;
        }
        Ok(new)
    }

    async fn store_part(&mut self, rows: &[Rows<'_>]) -> Result<New, sqlx::Error> {
        let mut transaction = self.connection.begin_with(BEGIN).await?;
        let new = store(&mut transaction, statements::STORE_CAREFULLY, rows).await?;
        transaction.commit().await?;
        Ok(new)
    }

    async fn store(&mut self, statement: &'static str, rows: &[Rows<'_>]) -> Result<New, sqlx::Error> {
        store(&mut self.connection, statement, rows).await
    }

    /// Answers whether the counter was behind.
    async fn mend(&mut self, tenant: TenantId) -> Result<bool, sqlx::Error> {
        let mend = statements::mend(&tenant.partition());
        let done = sqlx::query(AssertSqlSafe(mend))
            .bind(tenant.0)
            .persistent(false)
            .execute(&mut self.connection)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Of the tenants that were left out most have a counter that somebody else holds. One that has none would wait
    /// for ever.
    async fn mend_missing(&mut self, rows: &[Rows<'_>], new: &New) -> Result<(), sqlx::Error> {
        let left_out: Vec<Uuid> = rows
            .iter()
            .filter(|(tenant, _)| !new.contains_key(tenant))
            .map(|(tenant, _)| tenant.0)
            .collect();
        let missing: Vec<Uuid> = sqlx::query_scalar(statements::WITHOUT_COUNTER)
            .bind(left_out)
            .fetch_all(&mut self.connection)
            .await?;
        for tenant in missing.into_iter().take(MENDED_MAX) {
            self.mend(tenant.into()).await?;
        }
        Ok(())
    }
}

/// Answers how many new rows of each tenant there are now.
async fn store(
    connection: &mut PgConnection,
    statement: &'static str,
    rows: &[Rows<'_>],
) -> Result<New, sqlx::Error> {
    let count = rows.iter().map(|(_, messages)| messages.len()).sum();
    let mut asked = Vec::with_capacity(rows.len());
    let mut asked_rows = Vec::with_capacity(rows.len());
    let mut tenants = Vec::with_capacity(count);
    let mut numbers = Vec::with_capacity(count);
    let mut ids = Vec::with_capacity(count);
    let mut payloads = Vec::with_capacity(count);
    for ((tenant_id, messages), tenant) in rows.iter().zip(1_i32..) {
        asked.push(tenant_id.0);
        asked_rows.push(i64::try_from(messages.len()).unwrap_or(i64::MAX));
        for (message, number) in messages.iter().zip(1_i64..) {
            tenants.push(tenant);
            numbers.push(number);
            ids.push(message.id);
            payloads.push(message.payload.as_str());
        }
    }
    let new: Vec<(Uuid, i64)> = sqlx::query_as(statement)
        .bind(asked)
        .bind(asked_rows)
        .bind(tenants)
        .bind(numbers)
        .bind(ids)
        .bind(payloads)
        .fetch_all(connection)
        .await?;
    let new = new.into_iter();
    Ok(new
        .map(|(tenant, new)| (tenant.into(), usize::try_from(new).unwrap_or(0)))
        .collect())
}

/// Whose counter a violation may be about: PostgreSQL names the table, whose name says the tenant. The constraint's
/// name differs from one partition to the next.
fn behind(said: &PgDatabaseError, rows: &[Rows<'_>]) -> Option<TenantId> {
    let unique = said.code() == UNIQUE_VIOLATION;
    let table = said.table().filter(|_| unique)?;
    let mut tenants = rows.iter().map(|(tenant, _)| *tenant);
    tenants.find(|tenant| tenant.partition() == table)
}

const UNIQUE_VIOLATION: &str = "23505";

fn is_unique_violation(error: &sqlx::Error) -> bool {
    said(error).is_some_and(|said| said.code() == UNIQUE_VIOLATION)
}
