//! A stream that is open. Four things go on side by side, so that none waits for another: hearing the daemon, keeping
//! its lease, writing down what it reports, and telling it what has changed.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use common::id::TenantId;
use proto::v1::{self, watch_request::Message};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    ACK_LIMIT, End, LANES_MAX, OUTSTANDING_MAX, QUERY_LIMIT, RENEW_EVERY, RENEW_LIMIT, Responses, STANDSTILL,
    TICK, UNRENEWED_MAX, Watch, reports::Reports,
};
use crate::{
    excerpt::excerpt,
    failure::Reason,
    fleet::{
        LEASE,
        changes::Topic,
        connections::within,
        lanes::{self, Lane},
        members::{self, Member},
    },
    identity::{Lifetime, Role, refusal},
};

pub(super) struct Session<'a> {
    watch: &'a Watch,
    member: &'a Member,
    responses: Responses,
    lifetime: Lifetime,
    /// Whether the daemon was heard of since its lease was last renewed.
    heard: AtomicBool,
    /// What is not acknowledged yet, and since when.
    outstanding: Mutex<BTreeMap<u64, Instant>>,
    acknowledged: Notify,
    reports: Reports,
}

/// What the daemon knows already.
pub(super) struct Told {
    pub(super) epoch: Uuid,
    /// What the daemon said it runs and the snapshot has not named yet; `None` once the snapshot is complete.
    pub(super) unnamed: Option<BTreeMap<TenantId, i64>>,
    /// The last row sent.
    sent: (i64, Uuid),
    nonce: u64,
}

impl Told {
    pub(super) fn new(epoch: Uuid, running: BTreeMap<TenantId, i64>) -> Self {
        Self {
            epoch,
            unnamed: Some(running),
            sent: (0, Uuid::nil()),
            nonce: 0,
        }
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(
        watch: &'a Watch,
        member: &'a Member,
        responses: Responses,
        lifetime: Lifetime,
    ) -> Self {
        Self {
            watch,
            member,
            responses,
            lifetime,
            heard: AtomicBool::new(false),
            outstanding: Mutex::default(),
            acknowledged: Notify::new(),
            reports: Reports::default(),
        }
    }

    /// Serves the stream to its end.
    pub(super) async fn run(&self, requests: Streaming<v1::WatchRequest>, told: Told) -> End {
        tokio::select! {
            () = self.watch.stop.cancelled() => {
                End::Ours(Reason::Stopping.status("this control plane is stopping; connect again"))
            }
            // The gateway ends the answer; whoever does not care for that is not to keep its lease.
            status = self.lifetime.over() => End::Ours(status),
            end = self.hear(requests) => end,
            end = self.keep() => end,
            end = self.tell(told) => end,
            never = self.reports.write(&self.watch.connections.rounds, self.member) => match never {},
        }
    }

    async fn hear(&self, mut requests: Streaming<v1::WatchRequest>) -> End {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut ticked = heard;
        loop {
            tokio::select! {
                // First: after a standstill of this process a request may wait as well.
                biased;
                _ = ticks.tick() => {
                    let now = Instant::now();
                    if now - ticked > STANDSTILL {
                        // It was this process that stood still: nobody is late for that.
                        heard = now;
                        lock(&self.outstanding).values_mut().for_each(|sent| *sent = now);
                    }
                    ticked = now;
                    if now - heard > LEASE {
                        let status = Reason::RequestTimeout.status("no heartbeat came in time; connect again");
                        return End::Broke(status);
                    }
                    if lock(&self.outstanding).values().next().is_some_and(|sent| now - *sent > ACK_LIMIT) {
                        let message = "a response was not acknowledged in time; connect again";
                        return End::Broke(Reason::RequestTimeout.status(message));
                    }
                }
                request = requests.message() => {
                    heard = Instant::now();
                    self.heard.store(true, Ordering::Relaxed);
                    let message = match request {
                        Ok(Some(request)) => request.message,
                        Ok(None) => return End::Closed,
                        Err(status) => return End::Broke(status),
                    };
                    if let Some(Message::Renewal(renewal)) = message {
                        if let Err(status) = self.renew(&renewal.token).await {
                            return End::Ours(status);
                        }
                        continue;
                    }
                    match self.take(message) {
                        Ok(false) => {}
                        Ok(true) => return End::Left,
                        Err(status) => return End::Broke(status),
                    }
                }
            }
        }
    }

    /// From now on it is this token that the stream lasts as long as, if it is a good one.
    async fn renew(&self, token: &str) -> Result<(), Status> {
        let caller = self.watch.keys.caller(token).await.map_err(|error| {
            let refused = refusal(&error);
            Reason::of(&refused).status(format!("renewal.token: {}", refused.message()))
        })?;
        if caller.role() != Role::Daemon {
            let role = caller.role().word();
            return Err(Reason::RoleDenied.status(format!(
                "renewal.token: role {role} may not watch; send one of the role daemon"
            )));
        }
        self.lifetime.renew(&caller);
        info!(daemon = self.member.id, "a daemon's token was renewed");
        Ok(())
    }

    /// Takes a request that is no renewal; answers whether the daemon leaves.
    fn take(&self, message: Option<Message>) -> Result<bool, Status> {
        match message {
            Some(Message::Hello(_)) => Err(super::invalid("message", "only the first request is a hello")),
            Some(Message::Ack(ack)) => self.acknowledge(&ack).map(|()| false),
            Some(Message::Observed(observed)) => {
                self.reports.take(observed, &self.watch.missed).map(|()| false)
            }
            Some(Message::Leave(_)) => Ok(true),
            Some(Message::Renewal(_)) | None => Err(super::invalid(
                "message",
                "must be an ack, observed, renewal or leave",
            )),
        }
    }

    fn acknowledge(&self, ack: &v1::Ack) -> Result<(), Status> {
        let nonce: Option<u64> = ack.nonce.parse().ok();
        if nonce
            .and_then(|nonce| lock(&self.outstanding).remove(&nonce))
            .is_none()
        {
            let message = format!("{:?} is not outstanding", excerpt(&ack.nonce));
            return Err(super::invalid("ack.nonce", message));
        }
        self.acknowledged.notify_one();
        for error in &ack.errors {
            // Its last good state stays, and it is not sent again until it changes.
            warn!(
                daemon = self.member.id,
                tenant = error.tenant_id,
                revision = error.revision,
                error = error.message,
                "a daemon refused an assignment"
            );
        }
        Ok(())
    }

    /// Keeps the lease of a daemon that is heard of.
    async fn keep(&self) -> End {
        let mut beats = interval(RENEW_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewed = Instant::now();
        loop {
            beats.tick().await;
            if !self.heard.swap(false, Ordering::Relaxed) {
                // Whether it is silent for too long is for `hear` to say.
                renewed = Instant::now();
                continue;
            }
            let pool = &self.watch.connections.leases;
            let renew = async |connection: &mut _| members::renew(connection, self.member).await;
            match within(pool, RENEW_LIMIT, renew).await {
                Ok(()) => renewed = Instant::now(),
                Err(members::Error::Database(error)) => {
                    debug!(daemon = self.member.id, %error, "could not renew a lease");
                    self.heard.store(true, Ordering::Relaxed);
                    if renewed.elapsed() > UNRENEWED_MAX {
                        let message = "this control plane cannot reach PostgreSQL; connect again, to another if there is one";
                        return End::Ours(Reason::DatabaseUnavailable.status(message));
                    }
                }
                Err(error) => return End::Refused(super::status(error)),
            }
        }
    }

    /// Tells the daemon what has changed, as far as it keeps up.
    async fn tell(&self, mut told: Told) -> End {
        let mut assignments = self.watch.changes.subscribe(Topic::Assignments);
        loop {
            assignments.mark_unchanged();
            match self.send_changes(&mut told).await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => debug!(daemon = self.member.id, %error, "cannot read what a daemon is to run"),
            }
            tokio::select! {
                // The sender lives as long as `changes`, which is here. It ticks, too.
                _ = assignments.changed() => {}
                () = self.acknowledged.notified() => {}
            }
        }
    }

    /// Sends what the daemon does not know yet, and answers if that is the stream's end.
    async fn send_changes(&self, told: &mut Told) -> Result<Option<End>, sqlx::Error> {
        while lock(&self.outstanding).len() < OUTSTANDING_MAX {
            let (pool, sent) = (&self.watch.connections.rounds, told.sent);
            let after =
                async |connection: &mut _| lanes::after(connection, &self.member.id, sent, LANES_MAX).await;
            let (epoch, lanes) = within(pool, QUERY_LIMIT, after).await?;
            if epoch != told.epoch {
                let message = "the fleet's revisions have begun anew; connect again";
                return Ok(Some(End::Ours(Reason::Aborted.status(message))));
            }
            let more = lanes.len() as i64 == LANES_MAX;
            if let Some(last) = lanes.last() {
                told.sent = (last.revision, last.tenant.0);
            }
            let mut response = v1::WatchResponse {
                epoch: epoch.to_string(),
                revision: told.sent.0,
                ..v1::WatchResponse::default()
            };
            for lane in lanes {
                add(lane, told.unnamed.as_mut(), &mut response);
            }
            if !more && let Some(unnamed) = told.unnamed.take() {
                // What it runs and no row names was withdrawn while it was away.
                response
                    .withdrawals
                    .extend(unnamed.into_keys().map(|tenant| v1::Withdrawal {
                        tenant_id: tenant.to_string(),
                        revision: told.sent.0,
                    }));
                response.snapshot_complete = true;
            }
            let empty = response.assignments.is_empty()
                && response.withdrawals.is_empty()
                && !response.snapshot_complete;
            if !empty {
                told.nonce += 1;
                response.nonce = told.nonce.to_string();
                lock(&self.outstanding).insert(told.nonce, Instant::now());
                // The channel has room for all that may be outstanding: a full one is a stream that does not move.
                if self.responses.try_send(Ok(response)).is_err() {
                    return Ok(Some(End::Broke(Reason::Unavailable.status("the stream is gone"))));
                }
            }
            if !more {
                break;
            }
        }
        Ok(None)
    }
}

fn add(lane: Lane, unnamed: Option<&mut BTreeMap<TenantId, i64>>, response: &mut v1::WatchResponse) {
    let known = unnamed.and_then(|unnamed| unnamed.remove(&lane.tenant));
    let (tenant_id, revision) = (lane.tenant.to_string(), lane.revision);
    if lane.workers == 0 {
        response.withdrawals.push(v1::Withdrawal { tenant_id, revision });
    } else if known != Some(revision) {
        response.assignments.push(v1::Assignment {
            tenant_id,
            workers: lane.workers,
            revision,
            store_per_second: lane.store_per_second,
            message_bytes: lane.message_bytes,
        });
    }
}

/// Nothing that holds one of these can leave it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
