//! Which dead letters are meant.

use std::collections::HashMap;

use common::reason::Reason;
use uuid::Uuid;

use crate::{error::Error, excerpt::excerpt};

/// The most ids of one call.
const IDS_MAX: usize = 1_000;

/// Some dead letters, or all.
#[derive(Debug)]
pub(crate) struct Selection {
    which: Which,
    /// Of those, only the ones that failed for it.
    reason: Option<Reason>,
}

#[derive(Debug)]
enum Which {
    /// All that are there.
    All,
    /// Those with one of these ids, and whether one has been found yet.
    Ids(HashMap<Uuid, bool>),
}

/// Reads the name of a reason; nothing where that is empty.
pub(crate) fn reason(word: &str) -> Result<Option<Reason>, Error> {
    match (word, Reason::named(word)) {
        ("", _) => Ok(None),
        (_, Some(reason)) => Ok(Some(reason)),
        (_, None) => {
            let words = Reason::ALL.map(Reason::as_str).join(", ");
            let message = format!("must be one of {words}, got {:?}", excerpt(word));
            Err(Error::invalid("reason", message))
        }
    }
}

impl Selection {
    /// Checks what a caller sent. A reason alone means all that failed for it.
    pub(crate) fn new(ids: &[String], all: bool, reason: Option<Reason>) -> Result<Self, Error> {
        match (all, ids.len()) {
            (true, 0) => return Ok(Self::all(reason)),
            (false, 0) if reason.is_some() => return Ok(Self::all(reason)),
            (true, _) => return Err(Error::invalid("ids, all", "send one of them, not both")),
            (false, 0) => {
                let message = format!("send one of them: 1 to {IDS_MAX} ids, or all as true");
                return Err(Error::invalid("ids, all", message));
            }
            (false, 1..=IDS_MAX) => {}
            (false, count) => {
                let message = format!("must hold between 1 and {IDS_MAX} ids, got {count}");
                return Err(Error::invalid("ids", message));
            }
        }
        let parse = |(index, text): (usize, &String)| match Uuid::try_parse(text) {
            Ok(id) => Ok((id, false)),
            Err(_) => Err(Error::invalid(
                format!("ids[{index}]"),
                format!("{:?} is not a UUID", excerpt(text)),
            )),
        };
        let ids = ids.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        Ok(Self {
            which: Which::Ids(ids),
            reason,
        })
    }

    /// All, or those that failed for one reason.
    pub(crate) fn all(reason: Option<Reason>) -> Self {
        Self {
            which: Which::All,
            reason,
        }
    }

    /// The one with this id.
    pub(crate) fn one(id: Uuid) -> Self {
        Self {
            which: Which::Ids(HashMap::from([(id, false)])),
            reason: None,
        }
    }

    /// Whether the dead letter with this id, which failed for this reason, is meant. One without an id is not among any.
    pub(super) fn takes(&mut self, id: Option<Uuid>, reason: Reason) -> bool {
        let is_named = match (&mut self.which, id) {
            (Which::All, _) => true,
            (Which::Ids(_), None) => false,
            (Which::Ids(ids), Some(id)) => ids.get_mut(&id).map(|found| *found = true).is_some(),
        };
        is_named && self.reason.is_none_or(|wanted| wanted == reason)
    }

    /// How many that are meant may be among `unread` dead letters that nobody has looked at.
    pub(super) fn remaining(&self, unread: u32) -> u32 {
        match &self.which {
            Which::All => unread,
            Which::Ids(_) if unread == 0 => 0,
            Which::Ids(ids) => {
                let missed = ids.values().filter(|found| !**found).count();
                u32::try_from(missed).unwrap_or(u32::MAX).min(unread)
            }
        }
    }

    /// Whether it is of ids.
    pub(super) fn is_of_ids(&self) -> bool {
        matches!(self.which, Which::Ids(_))
    }

    /// Whether every id has been found, so that the rest of a long queue need not be read.
    pub(super) fn is_found(&self) -> bool {
        match &self.which {
            Which::All => false,
            Which::Ids(ids) => ids.values().all(|found| *found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u128) -> Vec<String> {
        (0..count).map(|id| Uuid::from_u128(id).to_string()).collect()
    }

    fn new(ids: &[String], all: bool) -> Result<Selection, Error> {
        Selection::new(ids, all, None)
    }

    #[test]
    fn it_is_either_ids_or_all() {
        assert!(new(&[], true).is_ok());
        assert!(new(&ids(1), false).is_ok() && new(&ids(1_000), false).is_ok());
        for (ids, all, words) in [
            (ids(1), true, "ids, all: "),
            (vec![], false, "ids, all: "),
            (ids(1_001), false, "ids must hold"),
            (vec![Uuid::nil().to_string(), "x".repeat(100)], false, "ids[1]: "),
        ] {
            let error = new(&ids, all).unwrap_err().to_string();
            assert!(error.starts_with(words) && error.len() < 100, "{error}");
        }
    }

    #[test]
    fn all_takes_everything_and_is_never_found() {
        let mut all = new(&[], true).unwrap();
        assert!(all.takes(None, Reason::Unknown) && all.takes(Some(Uuid::nil()), Reason::Refused));
        assert_eq!((all.remaining(7), all.is_found()), (7, false));
    }

    #[test]
    fn a_reason_takes_those_that_failed_for_it_and_alone_means_all_of_them() {
        let refused = reason("refused").unwrap();
        for mut some in [
            Selection::new(&[], true, refused).unwrap(),
            Selection::new(&[], false, refused).unwrap(),
        ] {
            assert!(some.takes(None, Reason::Refused) && !some.takes(None, Reason::NotJson));
        }
        let mut one = Selection::new(&ids(1), false, refused).unwrap();
        assert!(!one.takes(Some(Uuid::nil()), Reason::TooLarge));
        assert!(one.is_found(), "it is there, and is not meant");

        assert_eq!(reason("").unwrap(), None);
        let error = reason("Refused").unwrap_err().to_string();
        assert!(
            error.starts_with("reason must") && error.contains("not_json, ") && error.contains("\"Refused\""),
            "{error}"
        );
    }

    #[test]
    fn ids_are_found_once_each_has_been() {
        let mut some = new(&ids(2), false).unwrap();
        let mut takes = |id: Option<u128>| some.takes(id.map(Uuid::from_u128), Reason::Refused);
        assert!(!takes(None) && !takes(Some(7)) && takes(Some(0)));
        assert!(takes(Some(0)), "its twin is meant as well");
        assert_eq!((some.remaining(0), some.remaining(100)), (0, 1));
        assert!(!some.is_found() && some.takes(Some(Uuid::from_u128(1)), Reason::Refused));
        assert!(some.is_found());
    }
}
