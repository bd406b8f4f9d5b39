//! When a daemon is a member of the fleet: one total function of what happens to it. Pure; the time is the database's,
//! so that no control plane's own clock matters.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{GRACE, LEASE};

/// What a daemon is to the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It takes lanes.
    Ready,
    /// It keeps none, and takes none until its process is replaced.
    Draining,
    /// It is out.
    Gone,
}

/// A daemon as the fleet knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// Which process has the id.
    pub(super) incarnation: Uuid,
    pub(super) state: State,
    /// When it is out unless it is heard of before.
    pub(super) lease_until: OffsetDateTime,
    /// When the process joined.
    pub(super) joined_at: OffsetDateTime,
}

/// What happens to a daemon, or to the process that had its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A process opens a stream under the id.
    Join(Uuid),
    /// A process is heard of.
    Heard(Uuid),
    /// A process's stream broke.
    Broke(Uuid),
    /// A process leaves.
    Left(Uuid),
    /// An operator drains it.
    Drain,
    /// A round of assignment looks at it.
    Look,
}

/// Why nothing comes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another process has the id and is alive.
    IdInUse,
    /// The process is out.
    Out,
    /// There is no living daemon of that id.
    NotAlive,
}

impl Membership {
    /// What the fleet knows of the daemon after `event`.
    pub(super) fn on(known: Option<Self>, event: Event, now: OffsetDateTime) -> Result<Self, Refusal> {
        let joined = |incarnation| Self {
            incarnation,
            state: State::Ready,
            lease_until: now + LEASE,
            joined_at: now,
        };
        let Some(known) = known else {
            return match event {
                Event::Join(process) => Ok(joined(process)),
                Event::Heard(_) | Event::Broke(_) | Event::Left(_) => Err(Refusal::Out),
                Event::Drain | Event::Look => Err(Refusal::NotAlive),
            };
        };
        let over = known.lease_until < now;
        let same = |process: Uuid| known.incarnation == process;
        match event {
            Event::Join(process) if same(process) => Ok(Self {
                // One that was out may come back: what it ran is not its own any more, and it is told so.
                state: match known.state {
                    State::Draining => State::Draining,
                    State::Ready | State::Gone => State::Ready,
                },
                lease_until: now + LEASE,
                ..known
            }),
            Event::Join(process) if known.state == State::Gone || over => Ok(joined(process)),
            Event::Join(_) => Err(Refusal::IdInUse),

            Event::Heard(process) if same(process) && known.state != State::Gone => Ok(Self {
                lease_until: now + LEASE,
                ..known
            }),
            Event::Broke(process) if same(process) && known.state != State::Gone => Ok(Self {
                lease_until: known.lease_until.min(now + GRACE),
                ..known
            }),
            Event::Left(process) if same(process) => Ok(Self {
                state: State::Gone,
                ..known
            }),
            Event::Heard(_) | Event::Broke(_) | Event::Left(_) => Err(Refusal::Out),

            Event::Drain if known.state == State::Gone || over => Err(Refusal::NotAlive),
            Event::Drain => Ok(Self {
                state: State::Draining,
                ..known
            }),

            Event::Look if over => Ok(Self {
                state: State::Gone,
                ..known
            }),
            Event::Look => Ok(known),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn at(millis: u64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// A daemon that joined at 0, and what has happened since, each at its time in milliseconds.
    fn after(events: &[(u64, Event)]) -> Result<Membership, Refusal> {
        let mut known = Membership::on(None, Event::Join(A), at(0));
        for &(millis, event) in events {
            known = Membership::on(Some(known?), event, at(millis));
        }
        known
    }

    fn state(events: &[(u64, Event)]) -> State {
        after(events).unwrap().state
    }

    #[test]
    fn a_daemon_that_is_heard_of_stays() {
        let heard: Vec<_> = (1..100).map(|second| (second * 1_000, Event::Heard(A))).collect();
        let known = after(&heard).unwrap();
        assert_eq!((known.state, known.joined_at), (State::Ready, at(0)));
        assert_eq!(known.lease_until, at(99_000 + 5_000));
    }

    #[test]
    fn one_that_says_nothing_is_out_after_its_lease_and_not_before() {
        assert_eq!(state(&[(5_000, Event::Look)]), State::Ready);
        assert_eq!(state(&[(5_001, Event::Look)]), State::Gone);
    }

    #[test]
    fn one_whose_stream_broke_has_a_second_to_come_back() {
        let broke = (2_000, Event::Broke(A));
        assert_eq!(state(&[broke, (3_000, Event::Look)]), State::Ready);
        assert_eq!(state(&[broke, (3_001, Event::Look)]), State::Gone);
        let back = after(&[broke, (2_900, Event::Join(A)), (7_000, Event::Look)]).unwrap();
        assert_eq!((back.state, back.joined_at), (State::Ready, at(0)));
        // A grace never makes a lease longer.
        assert_eq!(
            state(&[(4_900, Event::Broke(A)), (5_001, Event::Look)]),
            State::Gone
        );
    }

    #[test]
    fn one_that_leaves_is_out_at_once() {
        assert_eq!(state(&[(1_000, Event::Left(A))]), State::Gone);
    }

    #[test]
    fn one_that_wakes_learns_that_it_is_out_and_may_come_back() {
        let out = (6_000, Event::Look);
        assert_eq!(after(&[out, (7_000, Event::Heard(A))]), Err(Refusal::Out));
        assert_eq!(state(&[out, (7_000, Event::Join(A))]), State::Ready);
        // Nobody has looked yet: then nothing was given away, and it simply goes on.
        assert_eq!(
            state(&[(7_000, Event::Heard(A)), (7_001, Event::Look)]),
            State::Ready
        );
    }

    #[test]
    fn an_id_is_another_process_s_only_when_the_first_is_out() {
        assert_eq!(after(&[(4_000, Event::Join(B))]), Err(Refusal::IdInUse));
        for over in [
            vec![(5_001, Event::Join(B))],
            vec![(1_000, Event::Left(A)), (1_001, Event::Join(B))],
        ] {
            let known = after(&over).unwrap();
            assert_eq!((known.incarnation, known.state), (B, State::Ready));
            // What the first one still says counts for nothing.
            for late in [Event::Heard(A), Event::Broke(A), Event::Left(A)] {
                assert_eq!(Membership::on(Some(known), late, at(5_002)), Err(Refusal::Out));
            }
        }
    }

    #[test]
    fn a_drained_daemon_is_drained_until_its_process_is_replaced() {
        let drained = (1_000, Event::Drain);
        assert_eq!(state(&[drained, (2_000, Event::Drain)]), State::Draining);
        assert_eq!(
            state(&[drained, (2_000, Event::Broke(A)), (2_500, Event::Join(A))]),
            State::Draining
        );
        assert_eq!(
            state(&[drained, (2_000, Event::Left(A)), (2_500, Event::Join(B))]),
            State::Ready
        );
        assert_eq!(state(&[drained, (9_000, Event::Look)]), State::Gone);
        assert_eq!(after(&[(9_000, Event::Drain)]), Err(Refusal::NotAlive));
    }

    #[test]
    fn who_was_never_there_can_only_join() {
        for event in [
            Event::Heard(A),
            Event::Broke(A),
            Event::Left(A),
            Event::Drain,
            Event::Look,
        ] {
            assert!(Membership::on(None, event, at(0)).is_err(), "{event:?}");
        }
    }

    proptest! {
        /// Whatever happens, and however the clock jumps: nobody has a lease for longer than from its last word.
        #[test]
        fn no_lease_is_longer_than_a_lease(events in prop::collection::vec((0_u64..60_000, 0_usize..8), 0..40)) {
            let mut known = None;
            for (millis, event) in events {
                let event = [
                    Event::Join(A), Event::Join(B), Event::Heard(A), Event::Heard(B), Event::Broke(A),
                    Event::Left(A), Event::Drain, Event::Look,
                ][event];
                let before: Option<Membership> = known;
                if let Ok(after) = Membership::on(before, event, at(millis)) {
                    let heard = matches!(event, Event::Join(_) | Event::Heard(_));
                    match before {
                        _ if heard => prop_assert_eq!(after.lease_until, at(millis) + LEASE),
                        Some(before) => prop_assert!(after.lease_until <= before.lease_until),
                        None => prop_assert!(heard),
                    }
                    known = Some(after);
                }
            }
        }
    }
}
