//! The statement that stores, on a connection of its own.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use common::{config, database, id::TenantId};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgDatabaseError},
};
use uuid::Uuid;

use super::blame::{Blame, Fault, blame};
use crate::delivery::Message;

/// How long a commit waits for a table that somebody has locked.
const LOCK_TIMEOUT_MS: u32 = 1_000;
/// The same where a lock is expected: while a failed commit is taken apart, and for a tenant that was held. Its
/// neighbours wait along.
const LOCK_TIMEOUT_TRIAL_MS: u32 = 100;
/// A server that says nothing at all: longer than its own statement timeout, which it would report.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection keeps up to 33 kB for every partition it ever touched; it is replaced before that adds up.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 60);

/// How many commits are careful after one that met a message for the second time: redeliveries come in numbers.
const CAREFUL_COMMITS: u32 = 100;

/// Planned once for a connection, since planning takes longer than storing a few rows. What a plan made for any commit
/// could do badly is ruled out: rows find their tenant by its number in an array, not by a join whose kind would be
/// chosen for an unknown size; and counters are found by their key, however few there were at the time.
const PLANNING: [(&str, &str); 2] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
];

/// One statement, and so one transaction and one round trip.
///
/// - `locked`: whoever stores messages of a tenant holds its counter until commit, so positions become visible in
///   their order. A counter that another daemon holds is left out, not waited for. Locking a row answers its newest
///   version, so `last` is right although the statement's snapshot may be older; everything below takes it from here.
/// - `bases`: by a tenant's number, the last position given out, or -1 if it was left out.
/// - `moved`: past every position handed out, used or not.
macro_rules! statement {
    (stored: $on_conflict:literal, answer: $answer:literal) => {
        concat!(
            "with locked as materialized (
                 select asked.tenant, tenant_id, positions.last, ($2::bigint[])[asked.tenant] as rows
                 from unnest($1::uuid[]) with ordinality as asked (tenant_id, tenant) join positions using (tenant_id)
                 for update of positions skip locked
             ), bases as (
                 select array_agg(coalesce(locked.last, -1) order by tenant) as last
                 from generate_series(1, cardinality($1::uuid[])::bigint) as tenant left join locked using (tenant)
             ), stored as (
                 insert into messages (id, tenant_id, payload, position)
                 select row.id, ($1::uuid[])[row.tenant], row.payload::jsonb, bases.last[row.tenant] + row.number
                 from bases,
                      unnest($3::integer[], $4::bigint[], $5::uuid[], $6::text[]) as row (tenant, number, id, payload)
                 where bases.last[row.tenant] >= 0 ",
            $on_conflict,
            "), moved as (
                 update positions set last = locked.last + locked.rows
                 from locked where positions.tenant_id = locked.tenant_id
             ) ",
            $answer
        )
    };
}

/// Stores what is all new; PostgreSQL refuses the whole of it otherwise. Looking first whether each id is there costs
/// a third more.
const STORE_NEW: &str = statement!(stored: "", answer: "select tenant_id, rows from locked");

/// Stores what may be there already. Such an id is passed over, which leaves a gap in the positions and no harm.
/// Asking for it beforehand (`not exists`) would plan over every partition.
const STORE_CAREFULLY: &str = statement!(
    stored: "on conflict (tenant_id, id) do nothing returning tenant_id",
    answer: "select locked.tenant_id, count(stored.tenant_id)
             from locked left join stored on stored.tenant_id = locked.tenant_id
             group by locked.tenant_id"
);

/// Why nothing was stored.
#[derive(Debug)]
pub(super) struct Failure {
    /// What is to blame.
    pub(super) blame: Blame,
    /// What happened, for a person.
    pub(super) detail: String,
}

/// A committer's way to PostgreSQL.
#[derive(Debug)]
pub(super) struct Store {
    options: PgConnectOptions,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    connection: PgConnection,
    opened: Instant,
    lock_timeout_ms: u32,
    /// For how many commits something may be there already.
    careful: u32,
}

impl Store {
    pub(super) fn new(config: &config::Database) -> Result<Self, config::Error> {
        Ok(Self {
            // What is slow or fails is said once, by the lanes that it concerns.
            options: database::options(config, "jalur-ingest-daemon")?
                .disable_statement_logging()
                .options(PLANNING),
            session: None,
        })
    }

    /// Stores all of `rows` or nothing, and answers for every tenant whose counter was not locked how many rows are
    /// new.
    pub(super) async fn commit(
        &mut self,
        rows: &[(TenantId, &[Message])],
        trial: bool,
    ) -> Result<HashMap<TenantId, usize>, Failure> {
        let mut session = match self.session.take() {
            Some(session) if session.opened.elapsed() < LIFETIME_MAX => session,
            Some(old) => {
                // It ends by itself where it cannot be told to.
                let _ = tokio::time::timeout(CONNECT_TIMEOUT, old.connection.close()).await;
                self.open().await?
            }
            None => self.open().await?,
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, session.commit(rows, trial)).await;
        let result = answer
            .map_err(|_| Failure {
                blame: Blame::Everything,
                detail: format!("PostgreSQL did not answer within {} s", ANSWER_TIMEOUT.as_secs()),
            })
            .and_then(|answer| answer.map_err(Failure::from));
        // A connection on which something else is wrong than the rows is not used again.
        if !matches!(&result, Err(failure) if failure.blame == Blame::Everything) {
            self.session = Some(session);
        }
        result
    }

    /// Ends the connection.
    pub(super) async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = tokio::time::timeout(CONNECT_TIMEOUT, session.connection.close()).await;
        }
    }

    async fn open(&self) -> Result<Session, Failure> {
        let connect = PgConnection::connect_with(&self.options);
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(connection)) => Ok(Session {
                connection,
                opened: Instant::now(),
                lock_timeout_ms: 0,
                // Whatever ended the last one may have left commits that nobody was told of.
                careful: CAREFUL_COMMITS,
            }),
            // Whatever the reason: without a connection nobody's rows are to blame.
            Ok(Err(error)) => Err(Failure {
                blame: Blame::Everything,
                detail: error.to_string(),
            }),
            Err(_) => Err(Failure {
                blame: Blame::Everything,
                detail: format!(
                    "PostgreSQL took no connection within {} s",
                    CONNECT_TIMEOUT.as_secs()
                ),
            }),
        }
    }
}

impl Session {
    async fn commit(
        &mut self,
        rows: &[(TenantId, &[Message])],
        trial: bool,
    ) -> Result<HashMap<TenantId, usize>, sqlx::Error> {
        let lock_timeout_ms = if trial {
            LOCK_TIMEOUT_TRIAL_MS
        } else {
            LOCK_TIMEOUT_MS
        };
        if self.lock_timeout_ms != lock_timeout_ms {
            sqlx::query("select set_config('lock_timeout', $1, false)")
                .bind(lock_timeout_ms.to_string())
                .execute(&mut self.connection)
                .await?;
            self.lock_timeout_ms = lock_timeout_ms;
        }
        let stored = match self.careful {
            0 => match self.store(STORE_NEW, rows).await {
                Err(error) if is_unique_violation(&error) => {
                    self.careful = CAREFUL_COMMITS;
                    self.store(STORE_CAREFULLY, rows).await
                }
                result => result,
            },
            _ => {
                self.careful -= 1;
                self.store(STORE_CAREFULLY, rows).await
            }
        }?;
        Ok(stored
            .into_iter()
            .map(|(tenant, new)| (tenant.into(), usize::try_from(new).unwrap_or(0)))
            .collect())
    }

    /// Answers how many new rows of each tenant there are now.
    async fn store(
        &mut self,
        statement: &'static str,
        rows: &[(TenantId, &[Message])],
    ) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
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
        sqlx::query_as(statement)
            .bind(asked)
            .bind(asked_rows)
            .bind(tenants)
            .bind(numbers)
            .bind(ids)
            .bind(payloads)
            .fetch_all(&mut self.connection)
            .await
    }
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let postgres = error
            .as_database_error()
            .and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        let blame = blame(Fault {
            code: postgres.map(PgDatabaseError::code),
            constraint: postgres.and_then(PgDatabaseError::constraint),
            routine: postgres.and_then(PgDatabaseError::routine),
        });
        let detail = match postgres {
            Some(error) => format!("{} (SQLSTATE {})", error.message(), error.code()),
            None => error.to_string(),
        };
        Self { blame, detail }
    }
}
