//! Which dead letters are meant.

use std::collections::HashMap;

use uuid::Uuid;

use crate::{error::Error, excerpt::excerpt};

/// The most ids of one call.
const IDS_MAX: usize = 1_000;

/// Some dead letters, or all.
#[derive(Debug)]
pub(crate) enum Selection {
    /// All that are there.
    All,
    /// Those with one of these ids, and whether one has been found yet.
    Ids(HashMap<Uuid, bool>),
}

impl Selection {
    /// Checks what a caller sent.
    pub(crate) fn new(ids: &[String], all: bool) -> Result<Self, Error> {
        match (all, ids.len()) {
            (true, 0) => return Ok(Self::All),
            (true, _) => return Err(Error::invalid("ids, all", "send one of them, not both")),
            (false, 0) => {
                let message = format!("send one of them: 1 to {IDS_MAX} ids, or all as true");
                return Err(Error::invalid("ids, all", message));
            }
            (false, 1..=IDS_MAX) => {}
            (false, count) => {
                let message = format!("is to hold 1 to {IDS_MAX} ids, not {count}");
                return Err(Error::invalid("ids", message));
            }
        }
        let parse = |(index, text): (usize, &String)| match Uuid::try_parse(text) {
            Ok(id) => Ok((id, false)),
            Err(_) => Err(Error::invalid(
                format!("ids[{index}]"),
                format!("{:?} is no UUID", excerpt(text)),
            )),
        };
        let ids = ids.iter().enumerate().map(parse);
        Ok(Self::Ids(ids.collect::<Result<_, _>>()?))
    }

    /// Whether the dead letter with this id is meant. One without an id is only among all.
    pub(super) fn takes(&mut self, id: Option<Uuid>) -> bool {
        match (self, id) {
            (Self::All, _) => true,
            (Self::Ids(_), None) => false,
            (Self::Ids(ids), Some(id)) => ids.get_mut(&id).map(|found| *found = true).is_some(),
        }
    }

    /// How many that are meant may be among `unread` dead letters that nobody has looked at.
    pub(super) fn remaining(&self, unread: u32) -> u32 {
        match self {
            Self::All => unread,
            Self::Ids(_) if unread == 0 => 0,
            Self::Ids(ids) => {
                let missed = ids.values().filter(|found| !**found).count();
                u32::try_from(missed).unwrap_or(u32::MAX).min(unread)
            }
        }
    }

    /// Whether every id has been found, so that the rest of a long queue need not be read.
    pub(super) fn is_found(&self) -> bool {
        match self {
            Self::All => false,
            Self::Ids(ids) => ids.values().all(|found| *found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u128) -> Vec<String> {
        (0..count).map(|id| Uuid::from_u128(id).to_string()).collect()
    }

    #[test]
    fn it_is_either_ids_or_all() {
        assert!(Selection::new(&[], true).is_ok());
        assert!(Selection::new(&ids(1), false).is_ok() && Selection::new(&ids(1_000), false).is_ok());
        for (ids, all, words) in [
            (ids(1), true, "ids, all: "),
            (vec![], false, "ids, all: "),
            (ids(1_001), false, "ids: "),
            (vec![Uuid::nil().to_string(), "x".repeat(100)], false, "ids[1]: "),
        ] {
            let error = Selection::new(&ids, all).unwrap_err().to_string();
            assert!(error.starts_with(words) && error.len() < 100, "{error}");
        }
    }

    #[test]
    fn all_takes_everything_and_is_never_found() {
        let mut all = Selection::new(&[], true).unwrap();
        assert!(all.takes(None) && all.takes(Some(Uuid::nil())) && !all.is_found());
        assert_eq!(all.remaining(7), 7);
    }

    #[test]
    fn ids_are_found_once_each_has_been() {
        let mut some = Selection::new(&ids(2), false).unwrap();
        assert!(!some.takes(None) && !some.takes(Some(Uuid::from_u128(7))));
        assert!(some.takes(Some(Uuid::from_u128(0))) && !some.is_found());
        assert!(some.takes(Some(Uuid::from_u128(0))), "its twin is meant as well");
        assert_eq!((some.remaining(0), some.remaining(100)), (0, 1));
        assert!(some.takes(Some(Uuid::from_u128(1))) && some.is_found());
    }
}
