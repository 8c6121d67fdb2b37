//! The trace context (W3C Trace Context, section "traceparent Header Field Values") of a request, for delegates.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};

/// The variable, as the reference library names it; `TRACESTATE` and `BAGGAGE` beside it are passed on as they are.
const VARIABLE: &str = "TRACEPARENT";
/// The flags that are known: "sampled", and "random trace id" of the second edition. Others are sent as zero.
const KNOWN_FLAGS: u8 = 0b11;

/// This environment with a span of our own as the parent: a delegate's spans are then children of this request, which
/// is a child of the runtime's. An invalid value stays as it is: whoever made it may understand it.
pub(super) fn environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    variables.map(|(name, value)| {
        if name != VARIABLE {
            return (name, value);
        }
        let child = child_of(&value, span_id());
        if let Some(child) = &child {
            tracing::debug!(traceparent = child, "delegates continue this trace");
        }
        (name, child.map_or(value, OsString::from))
    })
}

/// The value with another parent: of version 00, the one that we know. `None` when it is not valid.
fn child_of(value: &OsStr, span: u64) -> Option<String> {
    let mut fields = value.to_str()?.split('-');
    let version = hex(fields.next()?, 2)?;
    let trace = fields.next().filter(|field| hex(field, 32).is_some())?;
    hex(fields.next()?, 16).filter(|parent| *parent != 0)?;
    let flags = hex(fields.next()?, 2)?;
    // Later versions may add fields.
    let whole = version != 0 || fields.next().is_none();
    if version == 0xff || !whole || trace.bytes().all(|digit| digit == b'0') {
        return None;
    }
    let flags = flags & u128::from(KNOWN_FLAGS);
    Some(format!("00-{trace}-{span:016x}-{flags:02x}"))
}

/// A number of exactly `digits` hexadecimal digits in lower case.
fn hex(field: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let valid = field.len() == digits && field.bytes().all(lower);
    valid
        .then(|| u128::from_str_radix(field, 16).ok())
        .flatten()
}

/// A random number other than zero. The standard library seeds its hashers from the kernel's random numbers.
fn span_id() -> u64 {
    RandomState::new().hash_one(std::process::id()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_child_keeps_the_trace_and_the_flags_and_has_another_parent() {
        for (parent, flags) in [("01", "01"), ("00", "00"), ("03", "03"), ("ff", "03")] {
            let value = format!("00-{TRACE}-b7ad6b7169203331-{parent}");
            let child = child_of(OsStr::new(&value), 0xab).unwrap();
            assert_eq!(child, format!("00-{TRACE}-00000000000000ab-{flags}"));
        }
    }

    #[test]
    fn a_later_version_is_continued_as_the_one_that_we_know() {
        let value = format!("cc-{TRACE}-b7ad6b7169203331-01-what-the-future-brings");
        assert_eq!(
            child_of(OsStr::new(&value), 1).unwrap(),
            format!("00-{TRACE}-0000000000000001-01")
        );
    }

    #[test]
    fn an_invalid_value_is_left_alone() {
        for value in [
            "",
            "00",
            "junk",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let before = [(OsString::from(VARIABLE), OsString::from(value))];
            let after: Vec<_> = environment(before.clone().into_iter()).collect();
            assert_eq!(after, before);
        }
    }

    #[test]
    fn other_variables_are_passed_on_unchanged_and_spans_differ() {
        let value = format!("00-{TRACE}-b7ad6b7169203331-01");
        let before = || {
            [
                ("TRACEPARENT", value.as_str()),
                ("TRACESTATE", "a=1"),
                ("BAGGAGE", "b=2"),
            ]
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .into_iter()
        };
        let (one, two): (Vec<_>, Vec<_>) = (
            environment(before()).collect(),
            environment(before()).collect(),
        );
        assert_eq!(one[1..], two[1..]);
        assert_eq!(one[1..], before().collect::<Vec<_>>()[1..]);
        assert_ne!(one[0].1, two[0].1);
        assert_ne!(one[0].1, OsString::from(&value));
    }
}
