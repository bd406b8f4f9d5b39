//! The frames that come from the broker, as they are to go on to the client. Pure.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Verdict,
    meter::{Account, Meter},
    properties,
};

/// Type, channel and size.
const HEAD: usize = 7;
/// What a frame has beside its payload: its head, and the byte that ends it.
const FRAMING: usize = HEAD + 1;
const END: u8 = 0xCE;
/// The largest frame that is looked into as a whole. The client agrees to frames of 128 kB by default, so larger ones
/// of properties are for the bin, or for a broker that was set up for them.
pub(super) const LOOK_MAX: usize = 1 << 20;
/// The smallest `frame_max` there is.
const FRAME_MAX_MIN: usize = 4_096;
/// Class, weight, body size.
const CONTENT_HEAD: usize = 12;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

const TUNE: (u16, u16) = (10, 30);
const CHANNEL_OPENED: (u16, u16) = (20, 11);
const CHANNEL_CLOSE: (u16, u16) = (20, 40);
const CHANNEL_CLOSED: (u16, u16) = (20, 41);
const RETURN: (u16, u16) = (60, 50);
const DELIVER: (u16, u16) = (60, 60);
const GOT: (u16, u16) = (60, 71);

/// What to do with the bytes at the front of those that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// So many go on as they are.
    Pass(usize),
    /// So many are left out, and these go on instead.
    Instead(usize, Vec<u8>),
    /// More must come before anything can be said; of so many bytes in all, at least.
    More(usize),
}

/// The accounts of a connection's channels.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    meter: Meter,
    open: Mutex<HashMap<u16, Arc<Account>>>,
}

impl Accounts {
    pub(super) fn new(meter: Meter) -> Self {
        Self {
            meter,
            open: Mutex::default(),
        }
    }

    /// The channel's account in its present life.
    pub(super) fn of(&self, channel: u16) -> Arc<Account> {
        let open = || Arc::new(Account::new(self.meter.clone()));
        Arc::clone(self.open().entry(channel).or_insert_with(open))
    }

    fn end(&self, channel: u16) {
        if let Some(account) = self.open().remove(&channel) {
            account.end();
        }
    }

    pub(super) fn end_all(&self) {
        for (_, account) in self.open().drain() {
            account.end();
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u16, Arc<Account>>> {
        // Nothing panics while it is locked.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is under way on a channel.
#[derive(Debug, Default)]
struct Channel {
    account: Option<Arc<Account>>,
    /// The tag of the delivery whose properties come next. Only consumers' deliveries have an account: what is asked
    /// for one by one is its caller's to bound.
    delivery: Option<u64>,
    /// What comes next is a message of this program's own, returned.
    returned: bool,
    /// So many bytes of a body are left out yet.
    left_out: u64,
}

/// Looks at the frames of one connection.
#[derive(Debug)]
pub(super) struct Sieve {
    accounts: Arc<Accounts>,
    /// By number: there are few, and they count from 1.
    channels: Vec<Channel>,
    frame_max: usize,
    /// So many bytes of the frame under way go on, or are left out, without a look.
    rest: usize,
    rest_passes: bool,
    /// What comes is no AMQP: the client is to say so.
    blind: bool,
}

impl Sieve {
    /// For a connection whose client asks for frames of so many bytes at most; 0 leaves that to the broker.
    pub(super) fn new(accounts: Arc<Accounts>, frame_max: u32) -> Self {
        Self {
            accounts,
            channels: Vec::new(),
            frame_max: agreed(frame_max, 0),
            rest: 0,
            rest_passes: true,
            blind: false,
        }
    }

    /// What to do with the first of the bytes that came.
    pub(super) fn next(&mut self, came: &[u8]) -> Next {
        if came.is_empty() {
            return Next::More(1);
        }
        if self.blind {
            return Next::Pass(came.len());
        }
        if self.rest > 0 {
            let now = self.rest.min(came.len());
            self.rest -= now;
            return match self.rest_passes {
                true => Next::Pass(now),
                false => Next::Instead(now, Vec::new()),
            };
        }
        let Some((head, _)) = came.split_first_chunk::<HEAD>() else {
            return Next::More(HEAD);
        };
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let whole = size.saturating_add(FRAMING);
        let kind = head[0];
        match kind {
            METHOD | HEADER if whole <= LOOK_MAX => match came.get(..whole) {
                None => Next::More(whole),
                Some(frame) if frame[whole - 1] != END => self.give_up(came),
                Some(frame) => {
                    let payload = &frame[HEAD..whole - 1];
                    let instead = match kind {
                        METHOD => self.method(channel, payload),
                        _ => self.header(channel, payload),
                    };
                    match instead {
                        None => Next::Pass(whole),
                        Some(payload) => Next::Instead(whole, frame_of(kind, channel, &payload)),
                    }
                }
            },
            // Nothing of the properties is worth a megabyte: the message goes on without them.
            HEADER => match came.get(HEAD..HEAD + CONTENT_HEAD) {
                None => Next::More(HEAD + CONTENT_HEAD),
                Some(content) => {
                    let mut payload = content.to_vec();
                    // No flags at all, which nobody can read: so it is an unreadable one.
                    let instead = self.header(channel, &payload);
                    payload = instead.unwrap_or(payload);
                    (self.rest, self.rest_passes) = (whole - HEAD - CONTENT_HEAD, false);
                    Next::Instead(HEAD + CONTENT_HEAD, frame_of(HEADER, channel, &payload))
                }
            },
            BODY => {
                let left_out = &mut self.channel(channel).left_out;
                let passes = *left_out == 0;
                *left_out = left_out.saturating_sub(size as u64);
                (self.rest, self.rest_passes) = (whole, passes);
                self.next(came)
            }
            METHOD | HEARTBEAT => {
                (self.rest, self.rest_passes) = (whole, true);
                self.next(came)
            }
            _ => self.give_up(came),
        }
    }

    fn give_up(&mut self, came: &[u8]) -> Next {
        self.blind = true;
        Next::Pass(came.len())
    }

    fn channel(&mut self, channel: u16) -> &mut Channel {
        let index = usize::from(channel);
        if index >= self.channels.len() {
            self.channels.resize_with(index + 1, Channel::default);
        }
        &mut self.channels[index]
    }

    /// A method came. Answers what goes on in its place.
    fn method(&mut self, channel: u16, payload: &[u8]) -> Option<Vec<u8>> {
        let (&[c1, c2, m1, m2], arguments) = payload.split_first_chunk()?;
        // What comes before the names of an exchange and a routing key. The broker checks them no more than others.
        let names_at = match (u16::from_be_bytes([c1, c2]), u16::from_be_bytes([m1, m2])) {
            DELIVER => {
                let tag_at = 1 + usize::from(*arguments.first()?);
                let tag = arguments.get(tag_at..)?.first_chunk()?;
                let channel = self.accounted(channel);
                channel.delivery = Some(u64::from_be_bytes(*tag));
                tag_at + 9
            }
            GOT => 9,
            RETURN => {
                self.channel(channel).returned = true;
                2 + 1 + usize::from(*arguments.get(2)?)
            }
            TUNE => {
                let offered = arguments.get(2..6)?.first_chunk()?;
                self.frame_max = agreed(self.frame_max as u32, u32::from_be_bytes(*offered));
                return None;
            }
            CHANNEL_OPENED | CHANNEL_CLOSE | CHANNEL_CLOSED => {
                self.accounts.end(channel);
                *self.channel(channel) = Channel::default();
                return None;
            }
            _ => return None,
        };
        let exchange_end = names_at + 1 + usize::from(*arguments.get(names_at)?);
        let key_end = exchange_end + 1 + usize::from(*arguments.get(exchange_end)?);
        let exchange = arguments.get(names_at + 1..exchange_end)?;
        let key = arguments.get(exchange_end + 1..key_end)?;
        if std::str::from_utf8(exchange).is_ok() && std::str::from_utf8(key).is_ok() {
            return None;
        }
        let mut mended = payload[..4 + names_at].to_vec();
        for name in [exchange, key] {
            let name = std::str::from_utf8(name).unwrap_or_default();
            mended.push(name.len() as u8);
            mended.extend(name.as_bytes());
        }
        mended.extend(&arguments[key_end..]);
        Some(mended)
    }

    fn accounted(&mut self, channel: u16) -> &mut Channel {
        let accounts = Arc::clone(&self.accounts);
        let state = self.channel(channel);
        state.account.get_or_insert_with(|| accounts.of(channel));
        state
    }

    /// The properties of a message came. Answers what goes on in their place.
    fn header(&mut self, channel: u16, payload: &[u8]) -> Option<Vec<u8>> {
        let (head, came) = payload.split_at_checked(CONTENT_HEAD)?;
        let body = u64::from_be_bytes(*head[4..].first_chunk()?);
        let state = self.channel(channel);
        if std::mem::take(&mut state.returned) {
            // That it came back is all that anybody asks; whoever sent it has it.
            state.left_out = body;
            return Some(nothing(head));
        }
        let properties_max = self.frame_max - FRAMING - CONTENT_HEAD;
        let mut weight = properties::weigh(came).filter(|_| came.len() <= properties_max);
        let mut mended = None;
        let mut verdict = None;
        if weight.is_none() {
            let instead = properties::mend(came, properties_max);
            weight = properties::weigh(&instead.bytes);
            verdict = instead.id_unreadable.map(Verdict::Unreadable);
            mended = Some([head, &instead.bytes].concat());
        }
        let state = self.channel(channel);
        if let (Some(tag), Some(account)) = (state.delivery.take(), &state.account)
            && !account.came(tag, body, weight.unwrap_or_default(), verdict)
        {
            state.left_out = body;
            return Some(nothing(head));
        }
        mended
    }
}

/// The head of an empty message of the same class: no body, no properties.
fn nothing(head: &[u8]) -> Vec<u8> {
    let mut nothing = head[..4].to_vec();
    nothing.extend([0; 10]);
    nothing
}

fn frame_of(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + FRAMING);
    frame.push(kind);
    frame.extend(channel.to_be_bytes());
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame.push(END);
    frame
}

/// The most bytes of a frame, with its framing, as both sides have it.
fn agreed(asked: u32, offered: u32) -> usize {
    [asked, offered]
        .into_iter()
        .filter_map(|max| usize::try_from(max).ok())
        .filter(|max| *max > 0)
        .min()
        .unwrap_or(LOOK_MAX)
        .clamp(FRAME_MAX_MIN, LOOK_MAX)
}
