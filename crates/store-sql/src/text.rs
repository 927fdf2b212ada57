//! Cutting texts from outside to what their columns hold, at a character's edge. Valid submissions are far
//! shorter; only what is rejected anyway, or is there for people, is ever cut.

/// At most `max` characters.
pub(crate) fn fit_chars(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).map_or(text, |(edge, _)| &text[..edge])
}

/// The UTF-8 of at most `max` bytes.
pub(crate) fn fit_bytes(text: &str, max: usize) -> Vec<u8> {
    let edge = (0..=max.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    text.as_bytes()[..edge].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_characters() {
        assert_eq!(fit_chars("aäb", 2), "aä");
        assert_eq!(fit_chars("aäb", 3), "aäb");
        assert_eq!(fit_bytes("aäb", 2), b"a");
        assert_eq!(fit_bytes("aäb", 9), "aäb".as_bytes());
    }
}
