//! Looking for rows without reading their payloads out: where a time is among the positions, and which rows match.

use common::id::TenantId;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Filter, Order};

/// How far a message's time may be from the order of positions: a commit's time is that of its beginning, and it is
/// given its positions a little later, ten seconds at most, since a statement ends by then; and clocks are set.
const DISORDER: Duration = Duration::seconds(10);
/// How many rows are looked at by one statement.
pub(super) const STEP_ROWS: i64 = 2_000;
/// And how much may be stored in them.
const STEP_BYTES: i64 = 16 << 20;

/// Positions between which everything is that a filter's times allow, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: i64,
    pub(super) last: i64,
}

/// What a step found.
#[derive(Debug)]
pub(super) struct Found {
    /// Where those are that match, in the page's order.
    pub(super) matches: Vec<i64>,
    /// Up to where was looked; none where nothing was.
    pub(super) up_to: Option<i64>,
    pub(super) rows: i64,
    /// What is stored in these.
    pub(super) bytes: i64,
    /// Whether nothing is behind them.
    pub(super) all: bool,
}

/// Says whose rows the session reads from here on.
pub(super) async fn tell(connection: &mut PgConnection, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query("select set_config($1, $2::text, false)")
        .bind(super::TENANT_SETTING)
        .bind(tenant.0)
        .execute(connection)
        .await
        .map(drop)
}

/// Where the filter's times are. No index holds times: they follow the positions, so it is found by halving.
pub(super) async fn range(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &Filter,
) -> sqlx::Result<Range> {
    let first = match filter.after {
        Some(after) => up_to(connection, tenant, after.saturating_sub(DISORDER)).await?,
        None => 0,
    };
    let last = match filter.before {
        Some(before) => up_to(connection, tenant, before.saturating_add(DISORDER)).await?,
        None => i64::MAX - 1,
    };
    Ok(Range {
        first: first + 1,
        last,
    })
}

/// The last position of what was stored before `time`; 0 where nothing was. Each step halves what lies between a
/// position known to be before it (`low`) and one that is not (`high`).
async fn up_to(connection: &mut PgConnection, tenant: TenantId, time: OffsetDateTime) -> sqlx::Result<i64> {
    let low: Option<i64> = sqlx::query_scalar(
        "with recursive halving (low, high) as (
             select (select position from messages where tenant_id = $1 order by position limit 1) - 1,
                    (select position from messages where tenant_id = $1 order by position desc limit 1) + 1
           union all
             select case when probe.is_before then probe.position else low end,
                    case when probe.is_before then high else (low + high) / 2 end
             from halving left join lateral (
                 select position, created_at < $2 as is_before
                 from messages
                 where tenant_id = $1 and position >= (low + high) / 2 and position < high
                 order by position
                 limit 1
             ) as probe on true
             where high - low > 1
         )
         select low from halving order by high - low limit 1",
    )
    .bind(tenant.0)
    .bind(time)
    .fetch_one(connection)
    .await?;
    Ok(low.unwrap_or(0))
}

/// `$2` is the position behind which to look, `$3` the last one of the range.
macro_rules! statement {
    ($last:literal, $which:literal, $direction:literal) => {
        concat!(
            "select ",
            $last,
            "(position), count(*), coalesce(sum(size), 0)::bigint, coalesce(max(there), 0),
                    array_agg(position order by position ",
            $direction,
            ") filter (
                        where ($5::timestamptz is null or created_at >= $5)
                          and ($6::timestamptz is null or created_at < $6)
                          and ($7::text is null or payload @> $7::text::jsonb)
                    )
             from (
                 select position, created_at, payload, size, count(*) over () as there,
                        sum(size) over (order by position ",
            $direction,
            " rows unbounded preceding) - size as before
                 from (
                     select position, created_at, payload, pg_column_size(payload) as size
                     from messages
                     where tenant_id = $1 and ",
            $which,
            "
                     order by position ",
            $direction,
            "
                     limit $4
                 ) as found
             ) as sized
             where before < $8"
        )
    };
}

/// Looks at the next rows of the range behind a position.
pub(super) async fn step(
    connection: &mut PgConnection,
    tenant: TenantId,
    filter: &Filter,
    order: Order,
    range: Range,
    behind: i64,
) -> sqlx::Result<Found> {
    let (statement, behind, end) = match order {
        Order::Oldest => (
            statement!("max", "position > $2 and position <= $3", ""),
            behind.max(range.first - 1),
            range.last,
        ),
        Order::Newest => (
            statement!("min", "position < $2 and position >= $3", "desc"),
            behind.min(range.last.saturating_add(1)),
            range.first,
        ),
    };
    type Row = (Option<i64>, i64, i64, i64, Option<Vec<i64>>);
    let (up_to, rows, bytes, there, matches): Row = sqlx::query_as(statement)
        .bind(tenant.0)
        .bind(behind)
        .bind(end)
        .bind(STEP_ROWS)
        .bind(filter.after)
        .bind(filter.before)
        .bind(&filter.contains)
        .bind(STEP_BYTES)
        .fetch_one(connection)
        .await?;
    Ok(Found {
        matches: matches.unwrap_or_default(),
        up_to,
        rows,
        bytes,
        all: rows == there && rows < STEP_ROWS,
    })
}
