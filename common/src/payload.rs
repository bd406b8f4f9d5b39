//! Which bodies can be stored: decided here, before PostgreSQL is asked, so that one bad body never fails a commit
//! of its neighbours.
//!
//! A body is refused when it is no JSON, or JSON that `jsonb` cannot hold or give back. `jsonb` keeps numbers as
//! decimals and writes them out in full: `1e131071` goes in as eight bytes and comes back as 131 kB, so digits are
//! counted as they will be written.

use serde::de::IgnoredAny;

/// The most digits a number may have, written out.
pub const NUMBER_DIGITS_MAX: u64 = 1_000;
/// The largest exponent that is looked at, of a zero: any other number is too long by then. PostgreSQL refuses one of
/// 2^30, and writes out none.
const EXPONENT_MAX: u64 = 100_000;
/// The deepest nesting. PostgreSQL's parser recurses: with its default `max_stack_depth` of 2 MB it gives up at
/// about 6,000 levels.
pub const DEPTH_MAX: usize = 1_000;

/// Why a body cannot be stored. The text is for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is larger than the limit, or would be when its numbers are written out.
    #[error("the body is {bytes} bytes{}, {limit} are allowed", if *written_out { " with its numbers written out" } else { "" })]
    TooLarge {
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        limit: u64,
        /// Whether only its written-out numbers make it so.
        written_out: bool,
    },
    /// It is empty.
    #[error("the body is empty; send a JSON value")]
    Empty,
    /// It is no UTF-8.
    #[error("the body has invalid UTF-8 at byte {at}")]
    NotUtf8 {
        /// The first bad byte's offset.
        at: usize,
    },
    /// It is no JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// It holds `\u0000` or half of a surrogate pair, which PostgreSQL cannot hold.
    #[error("the body has {what} at byte {at}, which PostgreSQL cannot hold in text")]
    BadEscape {
        /// What stands there.
        what: &'static str,
        /// The escape's offset.
        at: usize,
    },
    /// A number is too long.
    #[error(
        "the body has a number of {digits} digits written out at byte {at}, {NUMBER_DIGITS_MAX} are allowed"
    )]
    NumberTooLong {
        /// How many digits it has.
        digits: u64,
        /// The number's offset.
        at: usize,
    },
    /// It has a zero with an exponent that PostgreSQL does not take.
    #[error("the body has a number with an exponent beyond {EXPONENT_MAX} at byte {at}")]
    Exponent {
        /// The number's offset.
        at: usize,
    },
    /// It is nested too deeply.
    #[error("the body is nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
}

/// Checks that `body` can be stored and read back, and answers its text. `bytes_max` is the size limit.
pub fn check(body: &[u8], bytes_max: usize) -> Result<&str, Error> {
    let limit = bytes_max as u64;
    if body.len() > bytes_max {
        return Err(Error::TooLarge {
            bytes: body.len() as u64,
            limit,
            written_out: false,
        });
    }
    if body.is_empty() {
        return Err(Error::Empty);
    }
    let text = std::str::from_utf8(body).map_err(|error| Error::NotUtf8 {
        at: error.valid_up_to(),
    })?;
    // The syntax is a library's; it does not recurse over what it ignores.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| Error::NotJson(error.to_string()))?;
    let growth = scan(text.as_bytes())?;
    let bytes = body.len() as u64 + growth;
    if growth > 0 && bytes > limit {
        return Err(Error::TooLarge {
            bytes,
            limit,
            written_out: true,
        });
    }
    Ok(text)
}

/// Looks at what the syntax allows and PostgreSQL does not, and answers by how many bytes the written-out numbers are
/// longer than they were sent. `json` is known to be well-formed.
fn scan(json: &[u8]) -> Result<u64, Error> {
    let (mut at, mut depth, mut growth) = (0, 0_usize, 0_u64);
    while let Some(&byte) = json.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(Error::TooDeep);
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b'"' => at = string(json, at)?,
            b'-' | b'0'..=b'9' => {
                let end = json[at..]
                    .iter()
                    .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'e' | b'E'));
                let end = end.map_or(json.len(), |length| at + length);
                let digits = digits(&json[at..end]).ok_or(Error::Exponent { at })?;
                if digits > NUMBER_DIGITS_MAX {
                    return Err(Error::NumberTooLong { digits, at });
                }
                growth += digits.saturating_sub((end - at) as u64);
                at = end;
            }
            _ => at += 1,
        }
    }
    Ok(growth)
}

/// Walks over a string that starts at `start` and answers where it ends.
fn string(json: &[u8], start: usize) -> Result<usize, Error> {
    let mut at = start + 1;
    loop {
        match json.get(at) {
            None | Some(b'"') => return Ok(at + 1),
            Some(b'\\') if json.get(at + 1) == Some(&b'u') => {
                let bad = |what| Err(Error::BadEscape { what, at });
                match unit(json, at) {
                    Some(0) => return bad("\\u0000"),
                    Some(0xD800..=0xDBFF) => match unit(json, at + 6) {
                        Some(0xDC00..=0xDFFF) => at += 12,
                        _ => return bad("half of a surrogate pair"),
                    },
                    Some(0xDC00..=0xDFFF) => return bad("half of a surrogate pair"),
                    _ => at += 6,
                }
            }
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// The code unit of a `\uXXXX` at `at`, if one stands there.
fn unit(json: &[u8], at: usize) -> Option<u32> {
    let escape = json.get(at..at + 6)?;
    let hex = escape.strip_prefix(b"\\u")?;
    u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

/// How many digits a number has once it is written without an exponent, if it is a zero with one that can be taken.
/// Zero keeps the places it was sent with.
fn digits(number: &[u8]) -> Option<u64> {
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let (mantissa, exponent) = match number.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(e) => (&number[..e], &number[e + 1..]),
        None => (number, &b"0"[..]),
    };
    let (whole, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&mantissa[..dot], &mantissa[dot + 1..]),
        None => (mantissa, &b""[..]),
    };
    let sign = if exponent.starts_with(b"-") { -1 } else { 1 };
    let exponent = exponent
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .fold(0_i64, |value, digit| {
            value
                .saturating_mul(10)
                .saturating_add(i64::from(digit - b'0'))
                .min(i64::from(u32::MAX))
        })
        * sign;
    let after = (fraction.len() as i64 - exponent).max(0);
    let is_zero = !whole
        .iter()
        .chain(fraction)
        .any(|byte| matches!(byte, b'1'..=b'9'));
    if is_zero && exponent.unsigned_abs() > EXPONENT_MAX {
        return None;
    }
    let before = if is_zero {
        1
    } else {
        (whole.len() as i64 + exponent).max(1)
    };
    Some((before + after) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn refused(body: &str) -> Error {
        check(body.as_bytes(), LIMIT).unwrap_err()
    }

    #[test]
    fn any_json_value_is_taken_as_it_is() {
        for body in [
            "null",
            "-0.10",
            r#""text""#,
            "[]",
            r#"{"a":[1,2.50,1e2],"b":"\ud83d\ude00 \\u0000 \"\\"}"#,
            " {\"x\" : 12345678901234567890.000000000000000001 } ",
        ] {
            assert_eq!(check(body.as_bytes(), LIMIT), Ok(body));
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        assert_eq!(refused(""), Error::Empty);
        for body in [
            "{",
            "nul",
            "[1,]",
            "{\"a\":1} x",
            "01",
            "'a'",
            "NaN",
            " ",
            "\"\u{1}\"",
        ] {
            assert!(matches!(refused(body), Error::NotJson(_)), "{body}");
        }
        assert_eq!(check(b"\"\xff\"", LIMIT), Err(Error::NotUtf8 { at: 1 }));
    }

    #[test]
    fn text_that_postgresql_cannot_hold_is_refused() {
        assert!(matches!(
            refused(r#"{"a":"x\u0000"}"#),
            Error::BadEscape { at: 7, .. }
        ));
        assert!(matches!(refused(r#"["\ud800"]"#), Error::BadEscape { .. }));
        assert!(matches!(refused(r#"["\ud800A"]"#), Error::BadEscape { .. }));
        assert!(matches!(refused(r#"{"\udc00":1}"#), Error::BadEscape { .. }));
    }

    #[test]
    fn numbers_are_counted_as_they_will_be_written() {
        assert_eq!(digits(b"0"), Some(1));
        assert_eq!(digits(b"-12.50"), Some(4));
        assert_eq!(digits(b"1e3"), Some(4));
        assert_eq!(digits(b"1.5e-3"), Some(5));
        assert_eq!(digits(b"0e999"), Some(1));
        assert_eq!(digits(b"0e-5"), Some(6));
        assert!(matches!(
            refused("1e131071"),
            Error::NumberTooLong { digits: 131_072, .. }
        ));
        assert!(matches!(refused("1e-16383"), Error::NumberTooLong { .. }));
        assert!(matches!(
            refused("1e99999999999999999999"),
            Error::NumberTooLong { .. }
        ));
        for zero in [
            "[0e2000000000]",
            "[-0.0E+2000000000]",
            "[0e-99999999999]",
            "[0e100001]",
        ] {
            assert_eq!(refused(zero), Error::Exponent { at: 1 }, "{zero}");
        }
        assert!(check(b"0e1000", LIMIT).is_ok());
        assert!(check(b"1e999", LIMIT).is_ok());
        assert!(matches!(refused("1e1000"), Error::NumberTooLong { .. }));
        assert!(check("9".repeat(1_000).as_bytes(), LIMIT).is_ok());
        assert!(matches!(refused(&"9".repeat(1_001)), Error::NumberTooLong { .. }));
    }

    #[test]
    fn size_is_limited_as_sent_and_as_written_out() {
        assert!(matches!(
            check(b"[1,2]", 4),
            Err(Error::TooLarge {
                bytes: 5,
                limit: 4,
                written_out: false
            })
        ));
        let growing = format!("[{}1]", "1e999,".repeat(2_000));
        assert!(matches!(
            refused(&growing),
            Error::TooLarge {
                written_out: true,
                ..
            }
        ));
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(DEPTH_MAX).as_bytes(), LIMIT).is_ok());
        assert_eq!(refused(&nested(DEPTH_MAX + 1)), Error::TooDeep);
        assert_eq!(refused(&nested(200_000)), Error::TooDeep);
    }

    use proptest::prop_assert;

    proptest::proptest! {
        #[test]
        fn nothing_upsets_the_check(body in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = check(&body, LIMIT);
        }

        /// What PostgreSQL's numeric holds: 131,072 digits before the point, 16,383 behind it, an exponent below 2^30.
        #[test]
        fn a_number_that_is_taken_is_one_that_postgresql_holds(
            number in r"-?(0|[1-9][0-9]{0,5})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,11})?"
        ) {
            if check(number.as_bytes(), LIMIT).is_ok()
                && let Some((_, exponent)) = number.split_once(['e', 'E'])
            {
                let exponent: i64 = exponent.parse().unwrap_or(i64::MAX);
                prop_assert!((-1_000..=100_000).contains(&exponent), "{}", number);
            }
        }

        #[test]
        fn whatever_serde_writes_is_taken(text in "[^\u{0}]{0,40}", number in proptest::num::i64::ANY) {
            let body = serde_json::json!({ "text": text, "number": number }).to_string();
            prop_assert!(check(body.as_bytes(), LIMIT).is_ok());
        }
    }
}
