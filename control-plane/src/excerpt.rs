//! What a caller sent, said back in an error: a few characters of it, whatever was sent.

use std::borrow::Cow;

/// The most characters of it.
const CHARACTERS_MAX: usize = 64;

/// The text, cut short.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_cut_short() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt(&"é".repeat(100_000)).chars().count(), CHARACTERS_MAX + 1);
    }
}
