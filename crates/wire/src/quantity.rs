//! Reading amounts of resources. Also used for the configuration, so that both speak alike.

use serde_json::Number;
use thiserror::Error;
use yard_domain::resources::{Milli, show_quantity};

/// Why a text or number is no amount. Its text says how to write one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Below zero.
    #[error("must not be negative")]
    Negative,
    /// Finer than a thousandth.
    #[error("has more than 3 decimals: the finest step is 0.001")]
    TooFine,
    /// Beyond what can be counted.
    #[error("is too large to be counted")]
    TooLarge,
    /// Not a number with a unit.
    #[error(
        "is not an amount of memory: write it like \"8GiB\" or \"512MiB\" (B, KiB, MiB, GiB, TiB), or as a number of bytes"
    )]
    NotMemory,
    /// A unit that two people read differently.
    #[error("has the unit {given:?}: use KiB, MiB, GiB or TiB (powers of 1024), like {example:?}")]
    Unit {
        /// As given.
        given: String,
        /// The likely intent.
        example: String,
    },
    /// Not a whole number of bytes.
    #[error("is not a whole number of bytes")]
    Fraction,
}

/// Reads a count of cpus, gpus or of a custom resource: at most 3 decimals, not negative.
pub fn parse_milli(number: &Number) -> Result<Milli, QuantityError> {
    if let Some(whole) = number.as_u64() {
        return whole.checked_mul(1_000).ok_or(QuantityError::TooLarge);
    }
    match number.as_f64() {
        Some(0.0) => Ok(0),
        Some(f) if f > 0.0 => parse_thousandths(&f.to_string()),
        _ => Err(QuantityError::Negative),
    }
}

/// A count in thousandths as the shortest JSON number.
pub fn milli_number(milli: Milli) -> f64 {
    milli as f64 / 1_000.0
}

/// Reads an amount of memory: `8GiB`, `1.5GiB`, `512 MiB`, `1024` (bytes).
pub fn parse_memory(text: &str) -> Result<u64, QuantityError> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(QuantityError::Negative);
    }
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let size: u128 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        other => return Err(unknown_unit(number, other)),
    };
    let bytes_milli = u128::from(parse_thousandths(number)?) * size;
    if !bytes_milli.is_multiple_of(1_000) {
        return Err(QuantityError::Fraction);
    }
    u64::try_from(bytes_milli / 1_000).map_err(|_| QuantityError::TooLarge)
}

/// An amount of memory as people write it, if that is exact (`8GiB`); else `None`: show the bytes.
pub fn exact_memory_text(bytes: u64) -> Option<String> {
    let text = show_quantity("memory", bytes);
    (parse_memory(&text) == Ok(bytes)).then_some(text)
}

fn unknown_unit(number: &str, unit: &str) -> QuantityError {
    let binary = match unit.chars().next().map(|c| c.to_ascii_lowercase()) {
        Some('k') => "KiB",
        Some('m') => "MiB",
        Some('g') => "GiB",
        Some('t') => "TiB",
        _ => return QuantityError::NotMemory,
    };
    if unit.len() > 10 || number.is_empty() || number.len() > 20 {
        return QuantityError::NotMemory;
    }
    QuantityError::Unit { given: unit.to_owned(), example: format!("{number}{binary}") }
}

/// Reads `digits[.digits]` exactly.
fn parse_thousandths(text: &str) -> Result<Milli, QuantityError> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(QuantityError::NotMemory);
    }
    let part = part.trim_end_matches('0');
    if part.len() > 3 {
        return Err(QuantityError::TooFine);
    }
    let thousandths: u64 = format!("{part:0<3}").parse().map_err(|_| QuantityError::TooLarge)?;
    let whole: u64 = whole.parse().map_err(|_| QuantityError::TooLarge)?;
    whole.checked_mul(1_000).and_then(|w| w.checked_add(thousandths)).ok_or(QuantityError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_binary_units_only() {
        for (text, bytes) in [
            ("8GiB", 8 << 30),
            ("512MiB", 512 << 20),
            ("1.5 GiB", 3 << 29),
            (" 64 ", 64),
            ("7B", 7),
            ("0.5KiB", 512),
            ("2TiB", 2 << 40),
            ("0", 0),
        ] {
            assert_eq!(parse_memory(text), Ok(bytes), "{text}");
        }
        assert_eq!(
            parse_memory("8GB").unwrap_err().to_string(),
            "has the unit \"GB\": use KiB, MiB, GiB or TiB (powers of 1024), like \"8GiB\""
        );
        assert_eq!(
            parse_memory("8Gi"),
            Err(QuantityError::Unit { given: "Gi".into(), example: "8GiB".into() })
        );
        for bad in ["", "GiB", "a lot", "1..5GiB", ".5GiB", "5.", "8 X", "∞", "8GiBs and more of it"] {
            assert!(
                matches!(parse_memory(bad), Err(QuantityError::NotMemory | QuantityError::Unit { .. })),
                "{bad}"
            );
        }
        assert_eq!(parse_memory("-1GiB"), Err(QuantityError::Negative));
        assert_eq!(parse_memory("0.001KiB"), Err(QuantityError::Fraction));
        assert_eq!(parse_memory("0.0001GiB"), Err(QuantityError::TooFine));
        assert_eq!(parse_memory("99999999999TiB"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn counts_are_exact_to_the_thousandth() {
        let read = |text: &str| parse_milli(&serde_json::from_str::<Number>(text).unwrap());
        for (text, milli) in [
            ("2", 2_000),
            ("0.1", 100),
            ("1.005", 1_005),
            ("2.0", 2_000),
            ("0", 0),
            ("-0.0", 0),
            ("1e2", 100_000),
        ] {
            assert_eq!(read(text), Ok(milli), "{text}");
        }
        assert_eq!(read("0.0001"), Err(QuantityError::TooFine));
        assert_eq!(read("-1"), Err(QuantityError::Negative));
        assert_eq!(read("-0.5"), Err(QuantityError::Negative));
        assert_eq!(read("1e300"), Err(QuantityError::TooLarge));
        assert_eq!(read("18446744073709551615"), Err(QuantityError::TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = parse_memory(&text);
        }

        #[test]
        fn counts_round_trip(milli in 0u64..=1_000_000_000_000) {
            let number = Number::from_f64(milli_number(milli)).unwrap();
            proptest::prop_assert_eq!(parse_milli(&number), Ok(milli));
        }

        #[test]
        fn shown_memory_reads_back(bytes in proptest::prelude::any::<u64>(), shift in 0u32..60) {
            let bytes = bytes >> shift;
            if let Some(text) = exact_memory_text(bytes) {
                proptest::prop_assert_eq!(parse_memory(&text), Ok(bytes));
            }
        }
    }
}
