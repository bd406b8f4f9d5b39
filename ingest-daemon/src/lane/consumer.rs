//! A lane's consumer: where it stands, by one total transition function, and what it is asked for with. Pure.

use std::time::{Duration, Instant};

use super::trouble::{Kind, Trouble};
use crate::{broker::Trial, clock::Now};

/// A queue is missing: being declared again, or about to be withdrawn.
const TROUBLE_MIN: Duration = Duration::from_millis(100);
const TROUBLE_MAX: Duration = Duration::from_secs(5);
/// A queue that is there can be consumed after this at the latest, while the broker is making it.
const MADE_WITHIN: Duration = Duration::from_secs(1);

/// A lane's consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    state: State,
    /// Whether there is one, or was a moment ago and is being replaced.
    there: bool,
    /// How many messages it may hold.
    prefetch: u16,
    /// The queue cannot be consumed.
    trouble: Trouble,
    /// The channel that lanes share was closed over it once.
    suspect: bool,
    /// The queue that could not be consumed has been there for a while.
    seen: bool,
}

impl Consumer {
    /// None, to be asked for now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Waiting { until: now },
            there: false,
            prefetch: 0,
            trouble: Trouble::none(Kind::Queue, TROUBLE_MIN, TROUBLE_MAX),
            suspect: false,
            seen: false,
        }
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether there is one, or was a moment ago and is being replaced.
    pub(crate) fn is_there(&self) -> bool {
        self.there
    }

    /// How many messages it may hold.
    pub(crate) fn prefetch(&self) -> u16 {
        self.prefetch
    }

    /// When to try it on a channel of its own before it is registered on the one that lanes share.
    pub(crate) fn trial(&self) -> Trial {
        match (self.trouble.is_there() && !self.seen, self.suspect, self.there) {
            (true, ..) => Trial::Look,
            (false, true, _) => Trial::Always,
            (false, false, true) => Trial::Never,
            (false, false, false) => Trial::IfConsumed,
        }
    }

    /// What is wrong with the queue.
    pub(crate) fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// Something happens; answers what is to be done about it.
    pub(crate) fn on(&mut self, event: Event) -> Step {
        let (state, step) = self.state.on(event);
        self.enter(state);
        step
    }

    /// It is asked for with this prefetch.
    pub(crate) fn asked(&mut self, prefetch: u16) {
        self.prefetch = prefetch;
    }

    /// The queue that could not be consumed is there. Answers when to ask for the consumer.
    pub(crate) fn seen(&mut self, now: Instant) -> Instant {
        self.seen = true;
        now + MADE_WITHIN
    }

    /// It is registered. Answers whether a problem has ended.
    pub(crate) fn registered(&mut self) -> bool {
        self.trouble.end()
    }

    /// It could not be registered, or the broker has ended it. Answers when to ask again, and whether that is new.
    pub(crate) fn failed(&mut self, why: &str, now: Now) -> (Instant, bool) {
        self.seen = false;
        let new = self.trouble.fail(why, now);
        (self.trouble.until().unwrap_or(now.instant), new)
    }

    /// The channel was closed over it, or did not answer.
    pub(crate) fn closed_the_channel(&mut self, why: &str, now: Now) -> bool {
        (self.suspect, self.seen) = (true, false);
        self.trouble.fail(why, now)
    }

    /// The channel is gone: it waits to ask anew, for a while if it is in trouble.
    pub(super) fn forget(&mut self, now: Instant) {
        let until = self.trouble.until().map_or(now, |until| until.max(now));
        self.enter(State::Waiting { until });
    }

    /// Whether it has waited long enough to ask.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// When something is due that nothing else brings about.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            _ => None,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        match state {
            State::Running => self.there = true,
            State::Waiting { .. } | State::Admissible | State::Draining => self.there = false,
            State::Subscribing { .. } | State::Cancelling(_) => {}
        }
    }
}

/// Where a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has no consumer, and asks for one at `until`.
    Waiting {
        /// When.
        until: Instant,
    },
    /// Its time has come to ask for a consumer, and it waits for room.
    Admissible,
    /// It has asked for a consumer, and still wants one or not.
    Subscribing {
        /// Whether it still wants one.
        wanted: bool,
    },
    /// Its consumer is registered.
    Running,
    /// Its consumer is being cancelled.
    Cancelling(Then),
    /// It is to stop and has no consumer; its work in flight ends.
    Draining,
}

/// What comes after a consumer is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Another consumer, with another prefetch. What was delivered stays.
    Again,
    /// A pause: what was delivered goes back to the queue.
    Park {
        /// When to ask for a consumer again.
        until: Instant,
    },
    /// The lane's end.
    Stop,
}

/// What happens to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is to run.
    Run,
    /// It is to stop.
    Stop,
    /// The time that it waited for has come.
    Due,
    /// There is room for it.
    Admitted,
    /// Its consumer is registered.
    Subscribed,
    /// Its consumer could not be registered.
    Unavailable {
        /// When to ask again.
        retry_at: Instant,
    },
    /// Its consumer is gone, and everything it brought is here.
    Ended {
        /// When to ask for another one, if we did not cancel it.
        retry_at: Instant,
    },
    /// Its prefetch is to change.
    Resize,
    /// It has held its messages for too long.
    Park {
        /// When to ask for a consumer again.
        until: Instant,
    },
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Stay,
    /// Wait for room.
    Queue,
    /// Ask for a consumer.
    Subscribe,
    /// Ask for the consumer to be cancelled.
    Cancel,
    /// Give back what is buffered.
    GiveBack,
}

impl State {
    /// The state after `event`, and what is to be done.
    pub(crate) fn on(self, event: Event) -> (Self, Step) {
        use State::{Admissible, Cancelling, Draining, Running, Subscribing, Waiting};
        const SUBSCRIBE: (State, Step) = (Subscribing { wanted: true }, Step::Subscribe);
        match (self, event) {
            (Waiting { .. }, Event::Due) => (Admissible, Step::Queue),
            (Admissible, Event::Admitted) => SUBSCRIBE,
            (Waiting { .. } | Admissible, Event::Stop) => (Draining, Step::GiveBack),
            (Waiting { .. } | Admissible, Event::Park { until }) => (Waiting { until }, Step::GiveBack),
            (Waiting { .. } | Admissible, _) => (self, Step::Stay),

            (Subscribing { .. }, Event::Run) => (Subscribing { wanted: true }, Step::Stay),
            (Subscribing { .. }, Event::Stop) => (Subscribing { wanted: false }, Step::Stay),
            (Subscribing { wanted: true }, Event::Subscribed) => (Running, Step::Stay),
            (Subscribing { wanted: false }, Event::Subscribed) => (Cancelling(Then::Stop), Step::Cancel),
            (Subscribing { wanted: true }, Event::Unavailable { retry_at }) => {
                (Waiting { until: retry_at }, Step::Stay)
            }
            (Subscribing { wanted: false }, Event::Unavailable { .. }) => (Draining, Step::GiveBack),
            (Subscribing { .. }, _) => (self, Step::Stay),

            (Running, Event::Stop) => (Cancelling(Then::Stop), Step::Cancel),
            (Running, Event::Resize) => (Cancelling(Then::Again), Step::Cancel),
            (Running, Event::Park { until }) => (Cancelling(Then::Park { until }), Step::Cancel),
            (Running, Event::Ended { retry_at }) => (Waiting { until: retry_at }, Step::Stay),
            (Running, _) => (self, Step::Stay),

            (Cancelling(_), Event::Stop) => (Cancelling(Then::Stop), Step::Stay),
            (Cancelling(Then::Stop), Event::Run) => (Cancelling(Then::Again), Step::Stay),
            (Cancelling(Then::Again), Event::Park { until }) => {
                (Cancelling(Then::Park { until }), Step::Stay)
            }
            // Not before: what the broker gets back while the consumer is there, it would deliver again.
            (Cancelling(Then::Again), Event::Ended { .. }) => SUBSCRIBE,
            (Cancelling(Then::Park { until }), Event::Ended { .. }) => (Waiting { until }, Step::GiveBack),
            (Cancelling(Then::Stop), Event::Ended { .. }) => (Draining, Step::GiveBack),
            (Cancelling(_), _) => (self, Step::Stay),

            (Draining, Event::Run) => SUBSCRIBE,
            (Draining, _) => (self, Step::Stay),
        }
    }

    /// Whether workers may take runs.
    pub(crate) fn works(self) -> bool {
        match self {
            Self::Waiting { .. } | Self::Admissible | Self::Running | Self::Cancelling(Then::Again) => true,
            Self::Subscribing { wanted } => wanted,
            Self::Cancelling(_) | Self::Draining => false,
        }
    }

    /// Whether the lane is to end.
    pub(crate) fn stopping(self) -> bool {
        matches!(
            self,
            Self::Draining | Self::Subscribing { wanted: false } | Self::Cancelling(Then::Stop)
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Instant {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    #[test]
    fn a_pause_gives_back_only_after_the_consumer_is_gone() {
        let (state, step) = State::Running.on(Event::Stop);
        assert_eq!((state, step), (State::Cancelling(Then::Stop), Step::Cancel));
        assert!(!state.works() && state.stopping());
        let (state, step) = state.on(Event::Ended { retry_at: at(1) });
        assert_eq!((state, step), (State::Draining, Step::GiveBack));
    }

    #[test]
    fn a_pause_that_is_taken_back_keeps_what_was_delivered() {
        let (state, _) = State::Running.on(Event::Stop);
        let (state, step) = state.on(Event::Run);
        assert_eq!(step, Step::Stay);
        assert_eq!(state.on(Event::Ended { retry_at: at(1) }).1, Step::Subscribe);
    }

    #[test]
    fn a_stop_while_subscribing_cancels_as_soon_as_there_is_a_consumer() {
        let (state, step) = State::Subscribing { wanted: true }.on(Event::Stop);
        assert_eq!(step, Step::Stay);
        assert_eq!(state.on(Event::Subscribed).1, Step::Cancel);
        assert_eq!(
            state.on(Event::Unavailable { retry_at: at(1) }),
            (State::Draining, Step::GiveBack)
        );
    }

    #[test]
    fn a_deleted_queue_is_asked_for_again() {
        let (state, _) = State::Running.on(Event::Ended { retry_at: at(1) });
        assert_eq!(state, State::Waiting { until: at(1) });
        let (state, step) = state.on(Event::Due);
        assert_eq!(step, Step::Queue);
        assert_eq!(state.on(Event::Admitted).1, Step::Subscribe);
    }

    /// A broker that does what it is asked for: at most one request is under way, and a consumer ends once.
    #[derive(Default)]
    struct Broker {
        subscribing: bool,
        consumer: bool,
        cancelling: bool,
    }

    proptest! {
        #[test]
        fn there_is_never_more_than_one_consumer_and_a_stop_is_always_reached(
            choices in prop::collection::vec(0_u8..9, 0..60)
        ) {
            let mut state = State::Waiting { until: at(0) };
            let mut broker = Broker::default();
            let stop = choices.len();
            // In the end the lane is told to stop, and the broker answers what it was asked.
            let ending = [1_u8, 2, 4, 2, 4];
            for (step, choice) in choices.into_iter().chain(ending).enumerate() {
                let event = match choice {
                    0 if step < stop => Event::Run,
                    1 => Event::Stop,
                    2 if broker.subscribing => { broker.subscribing = false; broker.consumer = true; Event::Subscribed }
                    3 if broker.subscribing => { broker.subscribing = false; Event::Unavailable { retry_at: at(1) } }
                    4 if broker.consumer && (broker.cancelling || step < stop) => {
                        broker.consumer = false; broker.cancelling = false; Event::Ended { retry_at: at(1) }
                    }
                    5 => Event::Resize,
                    6 => Event::Park { until: at(9) },
                    7 => Event::Due,
                    8 => Event::Admitted,
                    _ => continue,
                };
                let (next, step) = state.on(event);
                match step {
                    Step::Subscribe => {
                        prop_assert!(!broker.subscribing && !broker.consumer, "{state:?} {event:?}");
                        broker.subscribing = true;
                    }
                    Step::Cancel => {
                        prop_assert!(broker.consumer && !broker.cancelling, "{state:?} {event:?}");
                        broker.cancelling = true;
                    }
                    Step::GiveBack => prop_assert!(!broker.consumer && !broker.subscribing),
                    Step::Stay | Step::Queue => {}
                }
                state = next;
            }
            prop_assert_eq!(state, State::Draining);
        }
    }
}
