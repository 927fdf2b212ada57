//! What a rejected message looks like in the dead-letter queue: the body as it came, the reason as an attribute.

use std::borrow::Cow;

/// The attribute that carries the reason.
pub(crate) const REASON: &str = "yard.reason";
/// The attribute that says how long the body was, in bytes, if it had to be cut.
pub(crate) const BODY_BYTES: &str = "yard.body_bytes";
/// SQS's limit on body and attributes together, in bytes. A queue's own may be lower.
const MESSAGE_MAX: usize = 1 << 20;
/// The longest reason worth carrying; the whole of it is in the receipt.
const REASON_MAX: usize = 2_000;
/// What remains of a body that the dead-letter queue finds too long: fits the smallest limit that is usual
/// (256 KiB), with room for the attributes.
const CUT_BODY_MAX: usize = 200 << 10;
/// Names and types of the attributes count as well.
const ATTRIBUTE_OVERHEAD: usize = REASON.len() + BODY_BYTES.len() + 2 * "String".len() + 20;

/// A message for the dead-letter queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter<'a> {
    /// The body, whole or cut.
    pub body: Cow<'a, str>,
    /// Why it was rejected; `None` if the body leaves no room for it.
    pub reason: Option<String>,
    /// The length of the whole body in bytes, if it was cut.
    pub cut_from: Option<usize>,
}

/// The whole body, with as much of the reason as there is room for.
pub(crate) fn whole<'a>(body: &'a str, reason: &str) -> DeadLetter<'a> {
    let room = MESSAGE_MAX.saturating_sub(body.len() + ATTRIBUTE_OVERHEAD).min(REASON_MAX);
    DeadLetter { body: Cow::Borrowed(body), reason: attribute(reason, room), cut_from: None }
}

/// The head of the body, for a queue that refused the whole as too long. `None` if it is short already.
pub(crate) fn cut<'a>(body: &'a str, reason: &str) -> Option<DeadLetter<'a>> {
    (body.len() > CUT_BODY_MAX).then(|| DeadLetter {
        body: Cow::Borrowed(head(body, CUT_BODY_MAX)),
        reason: attribute(reason, REASON_MAX),
        cut_from: Some(body.len()),
    })
}

/// An attribute's value: only characters that SQS takes, at most `max` bytes; `None` rather than an empty one.
fn attribute(text: &str, max: usize) -> Option<String> {
    let allowed = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    let clean: String = text.chars().filter(allowed).collect();
    Some(head(&clean, max).to_owned()).filter(|value| !value.is_empty())
}

/// The first `max` bytes of `text`, or a little less, to end at a character's edge.
fn head(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_messages_go_as_they_are() {
        let letter = whole("{}", "team: unknown team \"x\"");
        assert_eq!((letter.body.as_ref(), letter.cut_from), ("{}", None));
        assert_eq!(letter.reason.as_deref(), Some("team: unknown team \"x\""));
        assert_eq!(cut("{}", "r"), None);
    }

    #[test]
    fn the_reason_gives_way_to_the_body() {
        let body = "x".repeat(MESSAGE_MAX - ATTRIBUTE_OVERHEAD - 3);
        assert_eq!(whole(&body, "reason").reason.as_deref(), Some("rea"));
        assert_eq!(whole(&"x".repeat(MESSAGE_MAX), "reason").reason, None);
        let long = "ä".repeat(REASON_MAX);
        assert_eq!(whole("{}", &long).reason.unwrap().len(), REASON_MAX);
    }

    #[test]
    fn reasons_have_only_characters_that_sqs_takes() {
        assert_eq!(attribute("a\u{0}b\u{1b}[0m\u{ffff}\nc", 100).as_deref(), Some("ab[0m\nc"));
        assert_eq!(attribute("\u{0}", 100), None);
    }

    #[test]
    fn long_bodies_are_cut_at_a_characters_edge() {
        let body = "é".repeat(CUT_BODY_MAX);
        let letter = cut(&format!("a{body}"), "r").map(|l| (l.body.len(), l.cut_from));
        assert_eq!(letter, Some((CUT_BODY_MAX - 1, Some(2 * CUT_BODY_MAX + 1))));
    }
}
