//! Pages of dead letters: where one begins, and what is in it. Pure.
//!
//! A queue has no positions. So a token names letters of the page before, by marks: its last one and some before that,
//! each twice as far as the one before. Letters keep their order, and only leave: whatever of a page is still there lies
//! no deeper than it did, and a page begins behind the last of those that are named.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{id::TenantId, reason::Reason};
use uuid::Uuid;

use crate::error::Error;

/// How deep a queue is read.
pub(super) const DEPTH_MAX: u16 = 10_000;
/// The most marks of a token: the last letter's, and those 1, 2, 4 … 512 before it. A page has 1,000 at most.
const MARKS_MAX: usize = 11;

/// Tells a letter from others.
pub(crate) type Mark = u64;

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Whose letters, and which of them.
    tenant: TenantId,
    reason: Option<Reason>,
    /// How deep the last letter lay.
    depth: u16,
    /// The last letter's mark first.
    marks: Vec<Mark>,
}

impl Token {
    /// The token for what comes after these, of which the last lay so deep.
    fn after(tenant: TenantId, reason: Option<Reason>, depth: u16, page: &[Mark]) -> Self {
        let back = std::iter::once(0).chain((0..MARKS_MAX - 1).map(|power| 1 << power));
        let marks = back.filter_map(|back| page.iter().rev().nth(back).copied());
        Self {
            tenant,
            reason,
            depth,
            marks: marks.collect(),
        }
    }

    /// Reads what a caller sent; nothing where that is empty.
    pub(crate) fn read(text: &str, tenant: TenantId, reason: Option<Reason>) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let token = Self::decode(text)
            .ok_or("must be the next_page_token of another page of dead letters, or absent")
            .and_then(|token| match (token.tenant == tenant, token.reason == reason) {
                (true, true) => Ok(token),
                (false, _) => Err("is of another tenant's dead letters; begin without one"),
                (true, false) => Err("is of pages with another reason; keep that, or begin without one"),
            });
        token
            .map(Some)
            .map_err(|message| Error::invalid("page_token", message))
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (tenant, rest) = bytes.split_first_chunk::<16>()?;
        let (&[reason, high, low], marks) = rest.split_first_chunk::<3>()?;
        let (marks, []) = marks.as_chunks::<8>() else {
            return None;
        };
        let reason = match reason.checked_sub(1) {
            None => None,
            Some(at) => Some(*Reason::ALL.get(usize::from(at))?),
        };
        let depth = u16::from_be_bytes([high, low]);
        let is_one = (1..=MARKS_MAX).contains(&marks.len()) && (1..=DEPTH_MAX).contains(&depth);
        is_one.then(|| Self {
            tenant: TenantId(Uuid::from_bytes(*tenant)),
            reason,
            depth,
            marks: marks.iter().map(|mark| Mark::from_be_bytes(*mark)).collect(),
        })
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |reason| Reason::ALL.iter().position(|known| *known == reason);
        let reason = self.reason.and_then(at).map_or(0, |at| at as u8 + 1);
        let mut bytes = self.tenant.0.as_bytes().to_vec();
        bytes.push(reason);
        bytes.extend(self.depth.to_be_bytes());
        bytes.extend(self.marks.iter().flat_map(|mark| mark.to_be_bytes()));
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// A page that is being read, from the head of the queue on.
#[derive(Debug)]
pub(super) struct Page<T> {
    begin: Option<Token>,
    limit: usize,
    bytes_max: usize,
    /// How many letters have been looked at.
    depth: u16,
    /// Whether none that `begin` names can come any more.
    settled: bool,
    items: Vec<T>,
    marks: Vec<Mark>,
    bytes: usize,
    /// How deep the last item lay.
    last: u16,
    /// Whether there was another one, which the page had no room for.
    more: bool,
}

impl<T> Page<T> {
    /// One item whatever its size, and no more than `limit` or than `bytes_max`.
    pub(super) fn new(begin: Option<Token>, limit: usize, bytes_max: usize) -> Self {
        Self {
            settled: begin.is_none(),
            begin,
            limit,
            bytes_max,
            depth: 0,
            items: Vec::new(),
            marks: Vec::new(),
            bytes: 0,
            last: 0,
            more: false,
        }
    }

    /// Whether it is known what belongs to it.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether nothing more needs to be read.
    pub(super) fn is_complete(&self) -> bool {
        self.depth >= DEPTH_MAX || (self.settled && self.more)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The next letter of the queue; an item, with its size, if it is one of those that are asked for.
    pub(super) fn read(&mut self, mark: Mark, item: Option<(T, usize)>) {
        self.depth += 1;
        let named = self.begin.as_ref().is_some_and(|begin| {
            self.settled |= begin.depth <= self.depth || begin.marks.first() == Some(&mark);
            self.depth <= begin.depth && begin.marks.contains(&mark)
        });
        if named {
            // It was on the page before, and so was everything that was read until now.
            self.items.clear();
            self.marks.clear();
            (self.bytes, self.more) = (0, false);
        } else if let Some((item, bytes)) = item {
            let fits = self.items.len() < self.limit
                && (self.items.is_empty() || self.bytes + bytes <= self.bytes_max);
            // In their order: behind one that did not fit none does.
            self.more |= !fits;
            if !self.more {
                self.items.push(item);
                self.marks.push(mark);
                self.bytes += bytes;
                self.last = self.depth;
            }
        }
    }

    /// There is more that could not be read.
    pub(super) fn cut_short(&mut self) {
        self.more = true;
    }

    /// The items, and where the next page begins.
    pub(super) fn end(self, tenant: TenantId, reason: Option<Reason>) -> (Vec<T>, Option<Token>) {
        let next = self.more && !self.items.is_empty();
        let token = next.then(|| Token::after(tenant, reason, self.last, &self.marks));
        (self.items, token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId(Uuid::from_u128(7));

    /// Reads a page of a queue of numbers that are their own marks; `meant` are asked for.
    fn page(
        queue: &[u64],
        begin: Option<Token>,
        limit: usize,
        meant: fn(u64) -> bool,
    ) -> (Vec<u64>, Option<Token>) {
        let mut page = Page::new(begin, limit, usize::MAX);
        let mut queue = queue.iter();
        while !page.is_complete()
            && let Some(&letter) = queue.next()
        {
            page.read(letter, meant(letter).then_some((letter, 1)));
        }
        page.end(TENANT, None)
    }

    fn any(_: u64) -> bool {
        true
    }

    #[test]
    fn pages_follow_one_another_and_the_last_says_so() {
        let queue: Vec<_> = (0..25).collect();
        let (first, token) = page(&queue, None, 10, any);
        let (second, token) = page(&queue, token, 10, any);
        let (third, end) = page(&queue, token, 10, any);
        assert_eq!([first, second, third].concat(), queue);
        assert_eq!(end, None);
        assert_eq!(
            page(&queue[..10], None, 10, any).1,
            None,
            "exactly full is the end"
        );
    }

    #[test]
    fn what_is_asked_for_is_found_between_others() {
        let queue: Vec<_> = (0..100).collect();
        let third = |letter| letter % 3 == 0;
        let (first, token) = page(&queue, None, 20, third);
        let (second, end) = page(&queue, token, 20, third);
        assert_eq!(
            [first, second].concat(),
            (0..100).filter(|n| third(*n)).collect::<Vec<_>>()
        );
        assert_eq!(end, None);
    }

    #[test]
    fn whatever_leaves_in_between_none_is_passed_over() {
        let queue: Vec<_> = (0..30).collect();
        let (_, token) = page(&queue, None, 10, any);
        let without = |gone: &[u64]| -> Vec<u64> {
            let left = queue.iter().filter(|letter| !gone.contains(letter));
            left.copied().collect()
        };
        let next = |gone: &[u64]| page(&without(gone), token.clone(), 5, any).0;
        assert_eq!(next(&[]), [10, 11, 12, 13, 14]);
        assert_eq!(next(&[0, 1, 2, 3]), [10, 11, 12, 13, 14], "some before");
        assert_eq!(
            next(&[9]),
            [10, 11, 12, 13, 14],
            "the last one: the one before is named, too"
        );
        assert_eq!(
            next(&[7, 8, 9]),
            [6, 10, 11, 12, 13],
            "one that is not named is repeated"
        );
        let whole: Vec<_> = (0..10).collect();
        assert_eq!(next(&whole), [10, 11, 12, 13, 14], "the page was replayed, say");
        let (second, token) = page(&queue, token.clone(), 10, any);
        assert_eq!(
            page(&without(&second), token, 3, any).0,
            [0, 1, 2],
            "then it begins at the oldest"
        );
    }

    #[test]
    fn letters_that_look_alike_are_all_shown() {
        let queue = [1; 7];
        let (first, token) = page(&queue, None, 3, any);
        let (second, token) = page(&queue, token, 3, any);
        let (third, end) = page(&queue, token, 3, any);
        assert_eq!((first.len(), second.len(), third.len(), end), (3, 3, 1, None));
    }

    #[test]
    fn a_page_is_bounded_by_bytes_and_a_queue_by_its_depth() {
        let mut sized = Page::new(None, 10, 100);
        for (mark, bytes) in [(0, 500), (1, 1)] {
            sized.read(mark, Some((mark, bytes)));
        }
        assert!(sized.is_complete());
        assert_eq!(sized.end(TENANT, None).0, [0], "one whatever its size");

        let queue: Vec<_> = (0..20_000).collect();
        let (mut read, mut token) = (Vec::new(), None);
        loop {
            let (some, next) = page(&queue, token, 1_000, any);
            read.extend(some);
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(read, queue[..usize::from(DEPTH_MAX)]);
    }

    #[test]
    fn a_token_comes_back_as_it_went_and_to_nobody_else() {
        let token = Token::after(
            TENANT,
            Some(Reason::Refused),
            1_000,
            &(0..1_000).collect::<Vec<_>>(),
        );
        assert_eq!(
            token.marks,
            [999, 998, 997, 995, 991, 983, 967, 935, 871, 743, 487]
        );
        let text = token.to_string();
        assert!(text.len() <= 200, "the proto says so");
        let read = |text: &str, tenant, reason| Token::read(text, tenant, reason);
        assert_eq!(read(&text, TENANT, Some(Reason::Refused)).unwrap(), Some(token));
        assert_eq!(read("", TENANT, None).unwrap(), None);
        let mut cut = text.clone();
        cut.pop();
        let other = TenantId(Uuid::from_u128(8));
        for (text, tenant, reason, word) in [
            (text.as_str(), other, Some(Reason::Refused), "another tenant"),
            (&text, TENANT, None, "another reason"),
            (&cut, TENANT, Some(Reason::Refused), "next_page_token"),
            ("x", TENANT, None, "next_page_token"),
            ("é", TENANT, None, "next_page_token"),
            (&"A".repeat(200), TENANT, None, "next_page_token"),
        ] {
            let error = read(text, tenant, reason).unwrap_err().to_string();
            assert!(
                error.starts_with("page_token ") && error.contains(word),
                "{text}: {error}"
            );
        }
    }
}
