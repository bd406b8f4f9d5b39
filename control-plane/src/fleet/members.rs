//! The daemons' rows. What happens to one is decided by [`Membership`].

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    changes::{Topic, notify},
    lanes,
    membership::{Event, Membership, Refusal, Speaker, State},
};
use crate::problems;

/// Why a daemon is not, or no longer, a member.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A living daemon has that id.
    #[error(
        "another daemon with id {0:?} is alive; give each daemon an id of its own, or wait until that one is declared out"
    )]
    IdInUse(String),
    /// It was declared out.
    #[error("daemon {0:?} was declared out, since it was not heard of in time; connect again")]
    Out(String),
    /// It has opened another stream since.
    #[error("daemon {0:?} has opened another stream since; this one counts no more")]
    Replaced(String),
    /// There is no such daemon.
    #[error("daemon {0:?} is not alive; GET /api/daemons lists those that are")]
    NotAlive(String),
    /// PostgreSQL failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// One stream that is a member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) speaker: Speaker,
}

/// Lets a daemon in, or back in.
pub(super) async fn join(connection: &mut PgConnection, member: &Member, capacity: i32) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    // Whoever joins makes room for its row.
    sqlx::query(
        "delete from daemons where state = 'gone' and lease_until < now() - interval '1 hour' and id <> $1",
    )
    .bind(&member.id)
    .execute(&mut *transaction)
    .await?;
    let (before, _) = happens(&mut transaction, &member.id, Event::Join(member.speaker)).await?;
    if before.is_some_and(|before| before.speaker.process != member.speaker.process) {
        // What the process before it reported says nothing of this one.
        lanes::forget_reports(&mut transaction, &member.id).await?;
        problems::forget(&mut transaction, &member.id).await?;
    }
    sqlx::query("update daemons set capacity = $2 where id = $1")
        .bind(&member.id)
        .bind(capacity)
        .execute(&mut *transaction)
        .await?;
    notify(&mut *transaction, Topic::Demand).await?;
    transaction.commit().await?;
    Ok(())
}

/// Keeps a member in.
pub(super) async fn renew(connection: &mut PgConnection, member: &Member) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    happens(&mut transaction, &member.id, Event::Heard(member.speaker)).await?;
    transaction.commit().await?;
    Ok(())
}

/// A member's stream broke: it has a short time to come back.
pub(super) async fn lose(connection: &mut PgConnection, member: &Member) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    happens(&mut transaction, &member.id, Event::Broke(member.speaker)).await?;
    transaction.commit().await?;
    Ok(())
}

/// A member leaves: its lanes move at once.
pub(super) async fn leave(connection: &mut PgConnection, member: &Member) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    happens(&mut transaction, &member.id, Event::Left(member.speaker)).await?;
    notify(&mut *transaction, Topic::Demand).await?;
    transaction.commit().await?;
    Ok(())
}

/// Takes a daemon's lanes off it, or lets it have some again.
pub(super) async fn set_draining(
    connection: &mut PgConnection,
    id: &str,
    draining: bool,
) -> Result<(), Error> {
    let event = if draining { Event::Drain } else { Event::Undrain };
    let mut transaction = connection.begin().await?;
    happens(&mut transaction, id, event).await?;
    notify(&mut *transaction, Topic::Demand).await?;
    transaction.commit().await?;
    Ok(())
}

/// How many seconds are left of the living daemons' leases: none, or less, of those that are late.
pub(super) async fn leases(connection: &mut PgConnection) -> Result<Vec<(String, f64)>, sqlx::Error> {
    // Without their locks: most are heard of just now.
    sqlx::query_as(
        "select id, extract(epoch from lease_until - clock_timestamp())::float8
         from daemons where state <> 'gone' order by id",
    )
    .fetch_all(connection)
    .await
}

/// Declares those of `late` out that still are, and answers who it was.
pub(super) async fn declare_out(
    connection: &mut PgConnection,
    late: &[String],
) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    let mut transaction = connection.begin().await?;
    // In the order of their ids, for whoever else does so now.
    for id in late {
        if happens(&mut transaction, id, Event::Look).await?.1.state == State::Gone {
            out.push(id.clone());
        }
    }
    notify(&mut *transaction, Topic::Demand).await?;
    transaction.commit().await?;
    Ok(out)
}

/// Something happens to a daemon: reads what is known of it, lets [`Membership`] decide, and writes that down. Answers
/// what was known before and what is now.
async fn happens(
    connection: &mut PgConnection,
    id: &str,
    event: Event,
) -> Result<(Option<Membership>, Membership), Error> {
    // Two processes that join under a new id have no row yet to wait for each other at.
    if let Event::Join(_) = event {
        sqlx::query("select pg_advisory_xact_lock(hashtextextended('daemon ' || $1, 0))")
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    let known = |row: PgRow| {
        Ok(Membership {
            speaker: Speaker {
                process: row.try_get("incarnation")?,
                stream: row.try_get("stream")?,
            },
            state: match row.try_get("state")? {
                "ready" => State::Ready,
                "draining" => State::Draining,
                _ => State::Gone,
            },
            lease_until: row.try_get("lease_until")?,
            joined_at: row.try_get("joined_at")?,
        })
    };
    // A round that gives the daemon lanes refers to its row, and does not wait for this.
    let known = sqlx::query(
        "select incarnation, stream, state, lease_until, joined_at from daemons where id = $1 for no key update",
    )
    .bind(id)
    .try_map(known)
    .fetch_optional(&mut *connection)
    .await?;
    // After the locks, which may have taken a while.
    let now = sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(&mut *connection)
        .await?;
    let after = Membership::on(known, event, now).map_err(|refusal| match refusal {
        Refusal::IdInUse => Error::IdInUse(id.to_owned()),
        Refusal::Out => Error::Out(id.to_owned()),
        Refusal::Replaced => Error::Replaced(id.to_owned()),
        Refusal::NotAlive => Error::NotAlive(id.to_owned()),
    })?;
    let state = match after.state {
        State::Ready => "ready",
        State::Draining => "draining",
        State::Gone => "gone",
    };
    // The capacity of a new one is written by who lets it in.
    sqlx::query(
        "insert into daemons (id, incarnation, stream, state, capacity, lease_until, joined_at)
         values ($1, $2, $3, $4, 1, $5, $6)
         on conflict (id) do update
             set incarnation = excluded.incarnation, stream = excluded.stream, state = excluded.state,
                 lease_until = excluded.lease_until, joined_at = excluded.joined_at",
    )
    .bind(id)
    .bind(after.speaker.process)
    .bind(after.speaker.stream)
    .bind(state)
    .bind(after.lease_until)
    .bind(after.joined_at)
    .execute(connection)
    .await?;
    Ok((known, after))
}

/// The fleet's epoch and revision.
pub(super) async fn fleet(connection: &mut PgConnection) -> Result<(Uuid, i64), sqlx::Error> {
    sqlx::query_as("select epoch, revision from fleet")
        .fetch_one(connection)
        .await
}
