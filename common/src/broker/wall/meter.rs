//! How many bytes of deliveries are held: from the moment that they are let in until whatever they became is dropped.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use super::Verdict;

/// What a delivery costs beside its body: its envelope, and the structures that it passes through.
const OVERHEAD: u64 = 1 << 10;
/// A message leaves room for so many more of its size.
const ROOM_FOR: u64 = 16;

/// Counts what a program holds of the messages delivered to it, over all its connections. Cheap to clone. The default
/// counts nothing and lets everything in.
#[derive(Clone, Debug, Default)]
pub struct Meter(Option<Arc<Count>>);

#[derive(Debug)]
struct Count {
    limit: u64,
    held: AtomicU64,
    /// Whether one message beyond the limit is held.
    beyond: AtomicBool,
}

/// What one delivery was let in with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Share {
    /// Nothing is counted.
    #[default]
    Free,
    /// So many bytes within the limit.
    Within(u64),
    /// The one message beyond it.
    Beyond,
}

impl Meter {
    /// One that lets in `limit` bytes, and one message of any size beyond them.
    pub fn new(limit: u64) -> Self {
        Self(Some(Arc::new(Count {
            limit,
            held: AtomicU64::new(0),
            beyond: AtomicBool::new(false),
        })))
    }

    /// How many bytes are held within the limit.
    pub fn held(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |count| count.held.load(Ordering::Relaxed))
    }

    /// Lets a delivery of so many bytes in, if there is room for it.
    ///
    /// The larger it is, the more it leaves for others, up to half of the limit: whoever sends large messages,
    /// everybody else's small ones still come. What does not fit is let in when nothing else is that did not fit.
    fn admit(&self, bytes: u64) -> Option<Share> {
        let Some(count) = &self.0 else {
            return Some(Share::Free);
        };
        let room = count.limit - bytes.saturating_mul(ROOM_FOR).min(count.limit / 2);
        let fits = |held: u64| held.checked_add(bytes).filter(|held| *held <= room);
        match count
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
        {
            Ok(_) => Some(Share::Within(bytes)),
            Err(_) if count.beyond.swap(true, Ordering::Relaxed) => None,
            Err(_) => Some(Share::Beyond),
        }
    }

    fn release(&self, share: Share) {
        match (&self.0, share) {
            (Some(count), Share::Within(bytes)) => {
                count.held.fetch_sub(bytes, Ordering::Relaxed);
            }
            (Some(count), Share::Beyond) => count.beyond.store(false, Ordering::Relaxed),
            (None, _) | (_, Share::Free) => {}
        }
    }
}

/// A delivery's share of the memory, given back when it is dropped: it goes with whatever becomes of the delivery. The
/// default holds nothing.
#[derive(Debug, Default)]
pub struct Held {
    meter: Meter,
    share: Share,
}

impl Held {
    /// How much it takes beside what every delivery does: its body, and properties where they are heavy.
    pub fn bytes(&self) -> u64 {
        match self.share {
            Share::Within(bytes) => bytes.saturating_sub(OVERHEAD),
            Share::Free | Share::Beyond => 0,
        }
    }

    /// Whether it is the one beyond the limit, for which others of its size wait.
    pub fn is_beyond(&self) -> bool {
        matches!(self.share, Share::Beyond)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.release(self.share);
    }
}

/// What the wall knows of a delivery when the client hands it over.
#[derive(Debug, Default)]
pub struct Claim {
    /// Its share of the memory.
    pub held: Held,
    /// What is wrong with it.
    pub verdict: Option<Verdict>,
}

/// What was let in on one channel, in the channel's life, and not claimed yet.
#[derive(Debug)]
pub struct Account {
    meter: Meter,
    /// Bytes of deliveries that there is nothing else to say about: these are almost all, so they are a mere sum.
    plain: AtomicU64,
    /// How many notes there are: asked for every delivery, without a lock.
    noted: AtomicUsize,
    notes: Mutex<HashMap<u64, Note>>,
}

#[derive(Debug)]
struct Note {
    share: Share,
    verdict: Option<Verdict>,
}

impl Account {
    pub(super) fn new(meter: Meter) -> Self {
        Self {
            meter,
            plain: AtomicU64::new(0),
            noted: AtomicUsize::new(0),
            notes: Mutex::default(),
        }
    }

    /// A delivery comes, with a body and with properties that take so many bytes once they are read. Answers whether
    /// it may; if not, what is known about it says so.
    pub(super) fn came(&self, tag: u64, body: u64, properties: u64, verdict: Option<Verdict>) -> bool {
        let light = properties <= OVERHEAD;
        let plain = body.saturating_add(OVERHEAD);
        let room = match light {
            true => plain,
            false => plain.saturating_add(properties),
        };
        let Some(share) = self.meter.admit(room) else {
            let bytes = room.saturating_sub(OVERHEAD);
            let verdict = Some(Verdict::Deferred { bytes });
            let share = Share::Free;
            self.note(tag, Note { share, verdict });
            return false;
        };
        match share {
            Share::Within(bytes) if light && verdict.is_none() => {
                self.plain.fetch_add(bytes, Ordering::Relaxed);
            }
            Share::Free if verdict.is_none() => {}
            share => self.note(tag, Note { share, verdict }),
        }
        true
    }

    /// Takes over what is known of a delivery with this tag, and a body of so many bytes.
    pub fn claim(&self, tag: u64, body: usize) -> Claim {
        if self.noted.load(Ordering::Acquire) > 0
            && let Some(note) = self.take_note(tag)
        {
            let (meter, share) = (self.meter.clone(), note.share);
            return Claim {
                held: Held { meter, share },
                verdict: note.verdict,
            };
        }
        let bytes = body as u64 + OVERHEAD;
        let rest = |plain: u64| plain.checked_sub(bytes);
        // It fails when the channel has ended meanwhile, and when nothing is counted.
        match self
            .plain
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest)
        {
            Ok(_) => Claim {
                held: Held {
                    meter: self.meter.clone(),
                    share: Share::Within(bytes),
                },
                verdict: None,
            },
            Err(_) => Claim::default(),
        }
    }

    /// The channel is gone, and with it what nobody has claimed.
    pub(super) fn end(&self) {
        self.meter
            .release(Share::Within(self.plain.swap(0, Ordering::Relaxed)));
        let mut notes = self.notes();
        for (_, note) in notes.drain() {
            self.meter.release(note.share);
        }
        self.noted.store(0, Ordering::Release);
    }

    fn note(&self, tag: u64, note: Note) {
        let mut notes = self.notes();
        notes.insert(tag, note);
        self.noted.store(notes.len(), Ordering::Release);
    }

    fn take_note(&self, tag: u64) -> Option<Note> {
        let mut notes = self.notes();
        let note = notes.remove(&tag);
        self.noted.store(notes.len(), Ordering::Release);
        note
    }

    fn notes(&self) -> MutexGuard<'_, HashMap<u64, Note>> {
        // Nothing panics while it is locked.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 64 << 20;

    fn comes(account: &Account, tag: u64, body: usize) -> bool {
        account.came(tag, body as u64, 0, None)
    }

    #[test]
    fn what_is_let_in_is_held_until_it_is_dropped() {
        let meter = Meter::new(LIMIT);
        let account = Account::new(meter.clone());
        assert!(comes(&account, 1, 1_000) && comes(&account, 2, 2_000));
        assert_eq!(meter.held(), 3_000 + 2 * OVERHEAD);
        let (first, second) = (account.claim(1, 1_000), account.claim(2, 2_000));
        assert_eq!(meter.held(), 3_000 + 2 * OVERHEAD);
        drop(first);
        assert_eq!(meter.held(), 2_000 + OVERHEAD);
        drop(second);
        assert_eq!(meter.held(), 0);
    }

    #[test]
    fn one_message_beyond_the_limit_comes_at_a_time() {
        let meter = Meter::new(LIMIT);
        let account = Account::new(meter.clone());
        let large = 60 << 20;
        assert!(comes(&account, 1, large));
        let first = account.claim(1, large);
        assert!(first.held.is_beyond());
        assert!(!comes(&account, 2, large));
        let deferred = account.claim(2, 0);
        assert_eq!(deferred.verdict, Some(Verdict::Deferred { bytes: large as u64 }));
        assert_eq!(meter.held(), 0);
        assert!(comes(&account, 3, 100), "a small one still comes");
        drop((first, deferred));
        assert!(comes(&account, 4, large));
    }

    #[test]
    fn large_messages_leave_room_for_small_ones() {
        let meter = Meter::new(LIMIT);
        let account = Account::new(meter.clone());
        let came = (1..1_000)
            .take_while(|tag| comes(&account, *tag, 1 << 20))
            .count();
        assert!((40..50).contains(&came), "{came}");
        assert!((1_000..10_000).all(|tag| comes(&account, tag, 256)));
    }

    #[test]
    fn the_end_of_a_channel_gives_back_what_nobody_claimed() {
        let meter = Meter::new(LIMIT);
        let account = Account::new(meter.clone());
        assert!(comes(&account, 1, 100) && comes(&account, 2, 60 << 20));
        assert!(account.came(3, 100, 100_000, None));
        account.end();
        assert_eq!(meter.held(), 0);
        let late = account.claim(1, 100);
        drop(late);
        assert_eq!(meter.held(), 0);
        assert!(comes(&account, 4, 60 << 20));
    }

    #[test]
    fn heavy_properties_count_as_well() {
        let meter = Meter::new(LIMIT);
        let account = Account::new(meter.clone());
        assert!(account.came(1, 10, 4 << 20, None));
        let claim = account.claim(1, 10);
        assert!(meter.held() > 4 << 20);
        assert_eq!(claim.held.bytes(), 10 + (4 << 20));
        drop(claim);
        assert_eq!(meter.held(), 0);
        // One beyond the limit, and then there is no room.
        assert!(account.came(2, 10, 60 << 20, None) && !account.came(3, 10, 60 << 20, None));
        let deferred = Some(Verdict::Deferred {
            bytes: 10 + (60 << 20),
        });
        assert_eq!(account.claim(3, 0).verdict, deferred);
    }

    #[test]
    fn nothing_is_counted_without_a_limit() {
        let account = Account::new(Meter::default());
        assert!((0..100).all(|tag| comes(&account, tag, 1 << 30)));
        assert_eq!(account.claim(1, 1 << 30).verdict, None);
    }
}
