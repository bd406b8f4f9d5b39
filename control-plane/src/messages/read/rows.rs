//! Rows with their payloads, as many as may be answered.

use common::id::TenantId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Message, Order, TENANT_SETTING};

/// Which rows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'a> {
    /// Those behind a position, in this order.
    Behind(i64, Order),
    /// These, in this order.
    Among(&'a [i64], Order),
}

/// How much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The most rows.
    pub(super) rows: i64,
    /// The most payload, as text; one row comes whatever its size.
    pub(super) bytes: i64,
    /// The most that is made into text, by what is estimated.
    pub(super) estimated_bytes: i64,
    /// The largest message there is.
    pub(super) message_bytes: i32,
}

/// Rows that were read together.
pub(super) struct Chunk {
    pub(super) rows: Vec<Message>,
    /// Whether no others were there.
    pub(super) all: bool,
}

/// Whether there is one row more than asked for is seen on the way.
///
/// Which are made into text is decided by what is stored, since a text is as large as the limit allows however
/// little is stored of it: four times what is stored as it is, sixteen times what is compressed. So PostgreSQL
/// makes a few megabytes at most of text that is not sent.
///
/// Whose page it is the session is told in the same statement, which saves a round trip: the rows are looked for in a
/// subquery that needs the answer, and so not before. Should that order ever change, the policy shows nothing.
macro_rules! statement {
    ($which:literal, $direction:literal) => {
        // `offset 0` keeps the text from being made once for each place that it is used at.
        concat!(
            "select id, position, payload, created_at, there
             from (
                 select id, position, payload, created_at, there,
                        sum(octet_length(payload)) over before_and_itself - octet_length(payload) as before
                 from (
                     select id, position, payload::text as payload, created_at, there
                     from (
                         select id, position, payload, created_at, estimate,
                                sum(estimate) over before_and_itself as estimated,
                                row_number() over before_and_itself as number,
                                count(*) over () as there
                         from (
                             select id, position, payload, created_at,
                                    least($5, least($5, pg_column_size(payload))
                                              * case when pg_column_compression(payload) is null
                                                     then 4 else 16 end) as estimate
                             from (select set_config($7, $1::text, false) as is offset 0) as told,
                                  lateral (
                                      select id, position, payload, created_at
                                      from messages
                                      where tenant_id = $1 and ",
            $which,
            " and told.is <> ''
                                      order by position ",
            $direction,
            "
                                      limit $3::bigint + 1
                                  ) as found
                         ) as stored
                         window before_and_itself as (order by position ",
            $direction,
            " rows unbounded preceding)
                     ) as estimated
                     where estimated - estimate < $4 and number <= $3
                     offset 0
                 ) as texts
                 window before_and_itself as (order by position ",
            $direction,
            " rows unbounded preceding)
             ) as sized
             where before < $6
             order by position ",
            $direction
        )
    };
}

/// The largest message of what is new, as text.
const SMALL_BYTES: i32 = 4 << 10;

/// What is behind a position, if each of it is small: a third of the work that the statement above is, which counts where
/// it is done after every commit. At most `limit` rows.
pub(super) async fn new(
    connection: &mut PgConnection,
    tenant: TenantId,
    behind: i64,
    limit: i64,
) -> sqlx::Result<Option<Vec<Message>>> {
    type Row = (Uuid, i64, Option<String>, OffsetDateTime);
    let found: Vec<Row> = sqlx::query_as(
        "select id, position, case when octet_length(payload) <= $4 then payload end, created_at
         from (select set_config($5, $1::text, false) as is offset 0) as told,
              lateral (
                  select id, position, payload::text as payload, created_at
                  from messages
                  where tenant_id = $1 and position > $2 and told.is <> ''
                  order by position
                  limit $3
              ) as found",
    )
    .bind(tenant.0)
    .bind(behind)
    .bind(limit)
    .bind(SMALL_BYTES)
    .bind(TENANT_SETTING)
    .fetch_all(connection)
    .await?;
    let message = |(id, position, payload, created_at): Row| {
        Some(Message {
            id,
            position,
            payload: payload?,
            created_at,
        })
    };
    Ok(found.into_iter().map(message).collect())
}

/// Reads them: as many as there is room for, one at least if there is one.
pub(super) async fn read(
    connection: &mut PgConnection,
    tenant: TenantId,
    which: Which<'_>,
    room: Room,
) -> sqlx::Result<Chunk> {
    type Row = (Uuid, i64, String, OffsetDateTime, i64);
    let statement = match which {
        Which::Behind(_, Order::Oldest) => statement!("position > $2", ""),
        Which::Behind(_, Order::Newest) => statement!("position < $2", "desc"),
        Which::Among(_, Order::Oldest) => statement!("position = any($2)", ""),
        Which::Among(_, Order::Newest) => statement!("position = any($2)", "desc"),
    };
    let query = sqlx::query_as(statement).bind(tenant.0);
    let query = match which {
        Which::Behind(position, _) => query.bind(position),
        Which::Among(positions, _) => query.bind(positions),
    };
    let found: Vec<Row> = query
        .bind(room.rows)
        .bind(room.estimated_bytes)
        .bind(room.message_bytes)
        .bind(room.bytes)
        .bind(TENANT_SETTING)
        .fetch_all(connection)
        .await?;
    let there = found.first().map_or(0, |(.., there)| *there);
    let all = found.len() as i64 == there;
    let message = |(id, position, payload, created_at, _): Row| Message {
        id,
        position,
        payload,
        created_at,
    };
    Ok(Chunk {
        rows: found.into_iter().map(message).collect(),
        all,
    })
}
