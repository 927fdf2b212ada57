//! Amounts as Kubernetes writes and reads them.

/// CPUs, in thousandths, as a quantity.
pub(crate) fn cpu_text(milli: u64) -> String {
    if milli.is_multiple_of(1_000) { (milli / 1_000).to_string() } else { format!("{milli}m") }
}

/// Reads a quantity in thousandths of its unit: `1500m`, `2`, `8Gi`, `1e3`. `None` if it is none, or negative.
pub(crate) fn milli(text: &str) -> Option<u64> {
    let text = text.trim();
    let number_end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && *c == '+')))
        .map_or(text.len(), |(i, _)| i);
    let (number, suffix) = text.split_at(number_end);
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    // Nine decimals is as fine as Kubernetes itself is; more digits than this fits no u128.
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    let nano = format!("{whole}{part}").parse::<u128>().ok()?;
    let milli_nano = match suffix {
        "n" => nano.checked_div(1_000_000)?,
        "u" => nano.checked_div(1_000)?,
        "m" => nano,
        "" => nano.checked_mul(1_000)?,
        "k" => nano.checked_mul(1_000_000)?,
        "M" => nano.checked_mul(1_000_000_000)?,
        "G" => nano.checked_mul(1_000_000_000_000)?,
        "T" => nano.checked_mul(1_000_000_000_000_000)?,
        "P" => nano.checked_mul(1_000_000_000_000_000_000)?,
        "Ki" => nano.checked_mul(1_000 << 10)?,
        "Mi" => nano.checked_mul(1_000 << 20)?,
        "Gi" => nano.checked_mul(1_000 << 30)?,
        "Ti" => nano.checked_mul(1_000 << 40)?,
        "Pi" => nano.checked_mul(1_000 << 50)?,
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            nano.checked_mul(10u128.checked_pow(power)?)?.checked_mul(1_000)?
        }
    };
    u64::try_from(milli_nano / 1_000_000_000).ok()
}

/// Reads a quantity in whole units, such as bytes.
pub(crate) fn whole(text: &str) -> Option<u64> {
    // Bytes beyond 2^64/1000 are nothing that a node has.
    milli(text).map(|milli| milli / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_kubernetes_means_them() {
        for (text, expected) in [
            ("2", 2_000),
            ("1500m", 1_500),
            ("0.1", 100),
            (".5", 500),
            ("+3", 3_000),
            ("1e3", 1_000_000),
            ("1E2", 100_000),
            ("250000000n", 250),
            ("1500u", 1),
            ("3k", 3_000_000),
        ] {
            assert_eq!(milli(text), Some(expected), "{text}");
        }
        for (text, expected) in
            [("32825432Ki", 32_825_432 << 10), ("8Gi", 8 << 30), ("1.5Gi", 3 << 29), ("129M", 129_000_000)]
        {
            assert_eq!(whole(text), Some(expected), "{text}");
        }
        for bad in ["", "-1", "x", "1x", "1.2.3", "Gi", "99999999999999999999999999999999999999999"] {
            assert_eq!(milli(bad), None, "{bad}");
        }
        assert_eq!([cpu_text(2_000), cpu_text(1_500), cpu_text(0)], ["2", "1500m", "0"]);
    }
}
