//! Telling what lasts from what is over with the next look.

/// Remembers what failed when something was looked at last.
#[derive(Debug, Default)]
pub struct SecondLook(Option<(String, u32)>);

impl SecondLook {
    /// It went well.
    pub fn well(&mut self) {
        self.0 = None;
    }

    /// It failed; whether it is time to say so: the second time in a row that it fails for this reason, and not again
    /// after that. Several files are not changed at once, and half of a change is seen now and then.
    pub fn failed(&mut self, why: &str) -> bool {
        match &mut self.0 {
            Some((before, times)) if before == why => {
                *times = times.saturating_add(1);
                *times == 2
            }
            last => {
                *last = Some((why.to_owned(), 1));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_once() {
        let mut look = SecondLook::default();
        assert_eq!(
            ["a", "a", "a", "b", "a", "a"].map(|why| look.failed(why)),
            [false, true, false, false, false, true]
        );
        look.well();
        assert!(!look.failed("a") && look.failed("a"));
    }
}
