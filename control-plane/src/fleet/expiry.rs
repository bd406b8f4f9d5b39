//! Who is out: daemons whose lease is over. It runs on a clock of its own, on every control plane, and trusts what it
//! sees only while it has seen the leases all along: what nobody could renew is nobody's fault.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::PgConnection;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Connections, LEASE, connections::within, history, members};

/// How often the leases are looked at, at least.
const EVERY: Duration = Duration::from_millis(500);
/// A lease that ends before is looked at then, but not before this.
const SOONEST: Duration = Duration::from_millis(50);
/// How long a look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// How long declaring daemons out may take, and beginning a new history.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks that are further apart a lease may have ended that could not be renewed: it is a second old when
/// renewed, and has a second more for that.
const GAP_MAX: Duration = Duration::from_secs(3);

/// Looks at the leases.
#[derive(Debug)]
pub(crate) struct Expiry {
    connections: Connections,
    sighted: Arc<AtomicBool>,
}

impl Expiry {
    pub(crate) fn new(connections: Connections) -> Self {
        Self {
            connections,
            sighted: Arc::default(),
        }
    }

    /// Whether the database was seen at least once, and is the one that it was, or known not to be.
    pub(crate) fn sighted(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.sighted)
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.look_on()).await;
    }

    async fn look_on(&self) {
        let (mut sight, mut failing) = (Sight::default(), false);
        loop {
            let pause = match self.look(&mut sight).await {
                Ok(pause) => {
                    failing = false;
                    pause
                }
                Err(error) => {
                    if failing {
                        debug!(%error, "still cannot see the daemons' leases");
                    } else {
                        warn!(%error, "cannot see the daemons' leases; retrying");
                    }
                    failing = true;
                    EVERY
                }
            };
            sleep(pause).await;
        }
    }

    /// Looks once, and answers when to look again.
    async fn look(&self, sight: &mut Sight) -> Result<Duration, members::Error> {
        let began = Instant::now();
        let look = async |connection: &mut PgConnection| {
            let known = history::is_known(connection).await?;
            Ok::<_, sqlx::Error>((known, members::leases(connection).await?))
        };
        let (known, leases) = within(&self.connections.leases, LOOK_LIMIT, look).await?;
        if !known {
            // Leases of another history are nobody's.
            sight.lose();
            within(&self.connections.rounds, WRITE_LIMIT, history::check).await?;
        }
        self.sighted.store(true, Ordering::Relaxed);
        match sight.look(began, Instant::now()) {
            Seen::Anew { gap } => {
                if let Some(gap) = gap {
                    info!(
                        ?gap,
                        "the daemons' leases could not be seen; each has its whole time again"
                    );
                }
                return Ok(EVERY);
            }
            Seen::NotLongEnough => return Ok(EVERY),
            Seen::AllAlong => {}
        }
        let (late, left): (Vec<_>, Vec<_>) = leases.into_iter().partition(|(_, left)| *left <= 0.0);
        if !late.is_empty() {
            let late: Vec<_> = late.into_iter().map(|(id, _)| id).collect();
            let declare = async |connection: &mut _| members::declare_out(connection, &late).await;
            for daemon in within(&self.connections.leases, WRITE_LIMIT, declare).await? {
                warn!(
                    daemon,
                    "a daemon was not heard of until its lease was over, and is out"
                );
            }
        }
        let next = left.into_iter().map(|(_, left)| left).fold(f64::MAX, f64::min);
        let next = Duration::try_from_secs_f64(next).unwrap_or(EVERY);
        Ok(next.clamp(SOONEST, EVERY))
    }
}

/// Since when the leases have been seen without a gap. Pure.
#[derive(Debug, Default)]
struct Sight {
    since: Option<Instant>,
    /// The last look's end.
    last: Option<Instant>,
}

/// What a look is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It is the first, or the first after a gap.
    Anew {
        /// Since the look before.
        gap: Option<Duration>,
    },
    /// Somebody may not have had the time to renew.
    NotLongEnough,
    /// Who is late is out.
    AllAlong,
}

impl Sight {
    /// A look that began and ended then.
    fn look(&mut self, began: Instant, ended: Instant) -> Seen {
        let gap = self.last.map(|last| ended.saturating_duration_since(last));
        self.last = Some(ended);
        match (self.since, gap) {
            (Some(since), Some(gap)) if gap <= GAP_MAX => {
                if began.saturating_duration_since(since) > LEASE {
                    Seen::AllAlong
                } else {
                    Seen::NotLongEnough
                }
            }
            _ => {
                self.since = Some(ended);
                Seen::Anew { gap }
            }
        }
    }

    /// What was seen last counts for nothing.
    fn lose(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;
    use crate::fleet::membership::{Event, Membership, Speaker, State};

    /// Looks of 5 ms that end at these milliseconds: what the last one is worth.
    fn seen(looks: &[u64]) -> Seen {
        let (start, mut sight) = (Instant::now(), Sight::default());
        let mut seen = Seen::NotLongEnough;
        for &ended in looks {
            let at = |millis| start + Duration::from_millis(millis);
            seen = sight.look(at(ended - 5), at(ended));
        }
        seen
    }

    #[test]
    fn nobody_is_late_until_a_lease_s_time_was_seen() {
        assert_eq!(seen(&[10]), Seen::Anew { gap: None });
        let every_second: Vec<_> = (0..7).map(|n| 10 + n * 1_000).collect();
        assert_eq!(seen(&every_second[..6]), Seen::NotLongEnough);
        assert_eq!(seen(&every_second), Seen::AllAlong);
    }

    #[test]
    fn a_gap_gives_everyone_a_whole_lease_again() {
        let mut looks: Vec<_> = (0..20).map(|n| 10 + n * 500).collect();
        assert_eq!(seen(&looks), Seen::AllAlong);
        let last = 10 + 19 * 500;
        looks.push(last + 3_000);
        assert_eq!(seen(&looks), Seen::AllAlong, "leases outlast that");
        looks.push(last + 3_000 + 8_000);
        let gap = Some(Duration::from_secs(8));
        assert_eq!(seen(&looks), Seen::Anew { gap });
        looks.extend((1..=10).map(|n| last + 11_000 + n * 500));
        assert_eq!(seen(&looks), Seen::NotLongEnough);
        looks.push(last + 11_000 + 5_500);
        assert_eq!(seen(&looks), Seen::AllAlong);
    }

    proptest! {
        /// A daemon that is heard of every second whenever the database answers is never declared out, whatever
        /// outages there are, and one that has died is within a lease's time and a little of the last of them.
        #[test]
        fn outages_cost_no_healthy_daemon_its_lease_and_save_no_dead_one(
            outages in prop::collection::vec((0_u64..40_000, 0_u64..20_000), 0..4),
            phase in 0_u64..1_000,
            dies in 0_u64..60_000,
        ) {
            let speaker = |n| Speaker { process: Uuid::from_u128(n), stream: Uuid::from_u128(n) };
            let at = |millis| OffsetDateTime::UNIX_EPOCH + Duration::from_millis(millis);
            let down = |millis: u64| outages.iter().any(|(from, long)| (*from..from + long).contains(&millis));
            let (start, mut sight) = (Instant::now(), Sight::default());
            let join = |n| Membership::on(None, Event::Join(speaker(n)), at(0)).unwrap();
            let (mut healthy, mut dead) = (join(1), join(2));
            for millis in 1..100_000_u64 {
                if down(millis) {
                    continue;
                }
                // What could not be renewed in an outage is right after it.
                if millis % 1_000 == phase || down(millis - 1) {
                    healthy = Membership::on(Some(healthy), Event::Heard(speaker(1)), at(millis)).unwrap();
                    if millis < dies {
                        dead = Membership::on(Some(dead), Event::Heard(speaker(2)), at(millis)).unwrap();
                    }
                }
                // The look comes first: it must not depend on who is quicker.
                if millis % 500 == 0 {
                    let now = start + Duration::from_millis(millis);
                    if sight.look(now, now) == Seen::AllAlong {
                        for daemon in [&mut healthy, &mut dead] {
                            *daemon = Membership::on(Some(*daemon), Event::Look, at(millis)).unwrap();
                        }
                    }
                }
            }
            prop_assert_eq!(healthy.state, State::Ready);
            // The last outage is over by 60 s.
            prop_assert_eq!(dead.state, State::Gone);
        }
    }
}
