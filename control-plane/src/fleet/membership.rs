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

/// Who speaks for a daemon: one stream of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speaker {
    /// Tells two processes that claim one id apart.
    pub(super) process: Uuid,
    /// Tells two streams of one process apart: the older may be half open, and end at any time.
    pub(super) stream: Uuid,
}

/// A daemon as the fleet knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// Who has the id.
    pub(super) speaker: Speaker,
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
    Join(Speaker),
    /// A process is heard of.
    Heard(Speaker),
    /// A process's stream broke.
    Broke(Speaker),
    /// A process leaves.
    Left(Speaker),
    /// An operator drains it.
    Drain,
    /// An operator lets it have lanes again.
    Undrain,
    /// Somebody looks whether it is late.
    Look,
}

/// Why nothing comes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another process has the id and is alive.
    IdInUse,
    /// The process is out.
    Out,
    /// The process has opened another stream since.
    Replaced,
    /// There is no living daemon of that id.
    NotAlive,
}

impl Membership {
    /// What the fleet knows of the daemon after `event`.
    pub(super) fn on(known: Option<Self>, event: Event, now: OffsetDateTime) -> Result<Self, Refusal> {
        let joined = |speaker| Self {
            speaker,
            state: State::Ready,
            lease_until: now + LEASE,
            joined_at: now,
        };
        let Some(known) = known else {
            return match event {
                Event::Join(speaker) => Ok(joined(speaker)),
                Event::Heard(_) | Event::Broke(_) | Event::Left(_) => Err(Refusal::Out),
                Event::Drain | Event::Undrain | Event::Look => Err(Refusal::NotAlive),
            };
        };
        let over = known.lease_until < now;
        match event {
            Event::Join(speaker) if speaker.process == known.speaker.process => Ok(Self {
                speaker,
                // One that was out may come back: what it ran is not its own any more, and it is told so.
                state: match known.state {
                    State::Draining => State::Draining,
                    State::Ready | State::Gone => State::Ready,
                },
                lease_until: now + LEASE,
                ..known
            }),
            Event::Join(speaker) if known.state == State::Gone || over => Ok(joined(speaker)),
            Event::Join(_) => Err(Refusal::IdInUse),

            Event::Heard(speaker) => known.spoken_for_by(speaker).map(|()| Self {
                lease_until: now + LEASE,
                ..known
            }),
            Event::Broke(speaker) => known.spoken_for_by(speaker).map(|()| Self {
                lease_until: known.lease_until.min(now + GRACE),
                ..known
            }),
            Event::Left(speaker) => known.spoken_for_by(speaker).map(|()| Self {
                state: State::Gone,
                ..known
            }),

            Event::Drain | Event::Undrain if known.state == State::Gone || over => Err(Refusal::NotAlive),
            Event::Drain => Ok(Self {
                state: State::Draining,
                ..known
            }),
            Event::Undrain => Ok(Self {
                state: State::Ready,
                ..known
            }),

            Event::Look if over => Ok(Self {
                state: State::Gone,
                ..known
            }),
            Event::Look => Ok(known),
        }
    }

    /// Whether it is this stream that speaks for the daemon, which is a member.
    fn spoken_for_by(&self, speaker: Speaker) -> Result<(), Refusal> {
        if self.state == State::Gone || self.speaker.process != speaker.process {
            Err(Refusal::Out)
        } else if self.speaker != speaker {
            Err(Refusal::Replaced)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const A: Speaker = speaker(1, 1);
    /// A's process again, on a new stream.
    const A2: Speaker = speaker(1, 2);
    const B: Speaker = speaker(2, 3);

    const fn speaker(process: u128, stream: u128) -> Speaker {
        Speaker {
            process: Uuid::from_u128(process),
            stream: Uuid::from_u128(stream),
        }
    }

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
        let back = after(&[broke, (2_900, Event::Join(A2)), (7_000, Event::Look)]).unwrap();
        assert_eq!((back.state, back.joined_at), (State::Ready, at(0)));
        // A grace never makes a lease longer.
        assert_eq!(
            state(&[(4_900, Event::Broke(A)), (5_001, Event::Look)]),
            State::Gone
        );
    }

    #[test]
    fn the_end_of_an_old_stream_harms_no_new_one() {
        let again = (2_000, Event::Join(A2));
        for late in [Event::Broke(A), Event::Left(A), Event::Heard(A)] {
            assert_eq!(after(&[again, (2_100, late)]), Err(Refusal::Replaced), "{late:?}");
        }
        assert_eq!(state(&[again, (6_999, Event::Look)]), State::Ready);
        let broke = (2_100, Event::Broke(A2));
        assert_eq!(state(&[again, broke, (3_101, Event::Look)]), State::Gone);
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
            assert_eq!((known.speaker, known.state), (B, State::Ready));
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
            state(&[drained, (2_000, Event::Broke(A)), (2_500, Event::Join(A2))]),
            State::Draining
        );
        assert_eq!(
            state(&[drained, (2_000, Event::Left(A)), (2_500, Event::Join(B))]),
            State::Ready
        );
        assert_eq!(state(&[drained, (2_000, Event::Undrain)]), State::Ready);
        assert_eq!(state(&[drained, (9_000, Event::Look)]), State::Gone);
        for late in [Event::Drain, Event::Undrain] {
            assert_eq!(after(&[(9_000, late)]), Err(Refusal::NotAlive));
        }
    }

    #[test]
    fn who_was_never_there_can_only_join() {
        for event in [
            Event::Heard(A),
            Event::Broke(A),
            Event::Left(A),
            Event::Drain,
            Event::Undrain,
            Event::Look,
        ] {
            assert!(Membership::on(None, event, at(0)).is_err(), "{event:?}");
        }
    }

    proptest! {
        /// Whatever happens, and however the clock jumps: nobody has a lease for longer than from its last word.
        #[test]
        fn no_lease_is_longer_than_a_lease(events in prop::collection::vec((0_u64..60_000, 0_usize..10), 0..40)) {
            let mut known = None;
            for (millis, event) in events {
                let event = [
                    Event::Join(A), Event::Join(A2), Event::Join(B), Event::Heard(A), Event::Heard(B),
                    Event::Broke(A), Event::Left(A), Event::Drain, Event::Undrain, Event::Look,
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
