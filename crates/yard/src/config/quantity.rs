//! Quantities as in submissions: `2`, `0.5`, `"64GiB"`, read by the same code.

use serde_json::Number;
use yard_wire::quantity::{parse_memory, parse_milli};

/// Thousandths of a unit from a decimal number with at most three places.
pub(super) fn milli(text: &str) -> Result<u64, String> {
    let number: Number = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    parse_milli(&number).map_err(|e| e.to_string()).and_then(storable)
}

/// Bytes from a number, with a unit or without.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    parse_memory(text).map_err(|e| e.to_string()).and_then(storable)
}

/// A whole number.
pub(super) fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "must be a whole number from 0".to_owned()).and_then(storable)
}

/// Millionths of a unit from a decimal number with at most six places.
pub(super) fn micro(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a number from 0 with at most six decimals");
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || places.len() > 6 || !digits(whole) || !digits(places) {
        return Err(wrong());
    }
    let parse = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let (units, millionths) = (parse(whole)?, parse(&format!("{places:0<6}"))?);
    units.checked_mul(1_000_000).and_then(|u| u.checked_add(millionths)).ok_or_else(wrong).and_then(storable)
}

/// Databases count up to 2^63 - 1.
fn storable(amount: u64) -> Result<u64, String> {
    if i64::try_from(amount).is_ok() { Ok(amount) } else { Err("is too large to be counted".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_submissions_may_say() {
        assert_eq!(
            (milli("2"), milli("0.5"), bytes("64GiB"), count("7")),
            (Ok(2_000), Ok(500), Ok(64 << 30), Ok(7))
        );
        for wrong in ["", "-1", "inf", "0.0001", "two", "9300000000000000000"] {
            assert!(milli(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "GiB", "-1", "1gb", "9300000000000000000"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!((micro("12.5"), micro("3"), micro("0.000001")), (Ok(12_500_000), Ok(3_000_000), Ok(1)));
        for wrong in ["", ".5", "-1", "1e3", "0.0000001", "ten", "99999999999999"] {
            assert!(micro(wrong).is_err(), "{wrong}");
        }
        assert!(count("1.5").is_err() && count("18446744073709551615").is_err());
    }
}
