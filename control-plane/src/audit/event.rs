//! What is written down of a call.

use std::net::IpAddr;

use common::id::TenantId;
use tonic::Code;

use crate::{failure::code_word, identity::Caller, request_id::RequestId};

/// The most characters of any text.
const CHARACTERS_MAX: usize = 500;

/// A call, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Its name, such as `jalur.v1.TenantService/CreateTenant`.
    pub(crate) method: &'static str,
    pub(crate) request: RequestId,
    /// Whom it comes from, or the proxy that it comes by.
    pub(crate) address: Option<IpAddr>,
    pub(crate) caller: Option<Caller>,
}

impl Call {
    pub(super) fn new(method: &'static str, request: RequestId, address: Option<IpAddr>) -> Self {
        Self {
            method,
            request,
            address,
            caller: None,
        }
    }
}

/// A call, and what it is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    pub(crate) call: &'a Call,
    /// The tenant that it is done to.
    pub(crate) tenant: Option<TenantId>,
    /// What is asked for, in short.
    pub(crate) summary: &'a str,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: Code,
    /// What the caller is told; empty where all went well.
    pub(crate) message: String,
}

impl Outcome {
    pub(super) fn new(code: Code, message: &str) -> Self {
        let message = bounded(message);
        Self { code, message }
    }

    pub(super) fn word(&self) -> &'static str {
        code_word(self.code)
    }
}

/// A text as it can be kept: cut short, and without what no column and no line can hold.
pub(crate) fn bounded(text: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => character,
    };
    text.chars().take(CHARACTERS_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_bounded_and_one_line() {
        assert_eq!(bounded("short"), "short");
        assert_eq!(bounded("a\0b\nc"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(bounded(&"é".repeat(100_000)).chars().count(), CHARACTERS_MAX);
    }
}
