//! Times as texts.

use yard_domain::Timestamp;

/// A time as RFC 3339 in UTC with microseconds.
pub fn time_text(at: Timestamp) -> String {
    at.to_string()
}

/// Reads [`time_text`] back; `None` for any other form.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = b"0000-00-00T00:00:00.000000Z";
    let fits = bytes.len() == shape.len()
        && bytes.iter().zip(shape).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == s });
    if !fits {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second, micros) = (number(11..13)?, number(14..16)?, number(17..19)?, number(20..26)?);
    // Days from civil, after Howard Hinnant: the inverse of the domain's Display.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let yoe = shifted - era * 400;
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    let days = era * 146_097 + doe - 719_468;
    let at =
        Timestamp::from_micros(((days * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + micros);
    // What does not read back (February 30, 25 o'clock) was no time.
    (at.to_string() == text).then_some(at)
}
