//! Sizes as people write them.

/// Reads `10`, `10m`, `1.5GiB`; units are powers of 1024, as Docker reads sizes of memory.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let split = lower.rfind(|letter: char| letter.is_ascii_digit() || letter == '.').map_or(0, |at| at + 1);
    let (number, unit) = lower.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let value = number.parse::<f64>().ok().filter(|value| *value >= 0.0 && !number.starts_with(['+', '-']))?;
    let bytes = value * 1024_f64.powi(i32::try_from(power).ok()?);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie within the range")]
    (bytes <= 9e18).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, size) in [("0", 0), ("10", 10), ("1k", 1024), ("1.5KiB", 1536), ("2 mb", 2 << 20), ("1g", 1 << 30)] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in ["", "x", "-1", "1zz", "+1", "1e30p"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
