//! Durations, sizes and percentages as people write them.
//!
//! Owns: the grammar of `1.5s`, `64KiB` and `20%`, and its patterns for the schema.
//! Never: knows what is measured.
//! Called by: validate (checks), cursor (reads), schema (patterns).

use std::time::Duration;

/// Matches what [`duration`] reads.
pub const DURATION_PATTERN: &str = r"^[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h)$";
/// Matches what [`size`] reads.
pub const SIZE_PATTERN: &str = r"^[0-9]{1,15}(B|KiB|MiB|GiB)$";
/// Matches what [`percent`] reads.
pub const PERCENT_PATTERN: &str = r"^[0-9]{1,3}%$";

/// Why a duration cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// A number without `ms`, `s`, `m` or `h`.
    NoUnit,
    /// Something else.
    Malformed,
    /// Part of a millisecond.
    TooFine,
}

/// Reads a number and one of `ms`, `s`, `m`, `h`. At most three decimals; whole milliseconds.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    // How many milliseconds one unit has.
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if !number.is_empty() => return Err(DurationError::NoUnit),
        _ => return Err(DurationError::Malformed),
    };
    let (whole, fraction) = match number.split_once('.') {
        None => (number, ""),
        Some((_, "")) => return Err(DurationError::Malformed),
        Some(parts) => parts,
    };
    let digits = |text: &str, max: usize| {
        !text.is_empty() && text.len() <= max && text.bytes().all(|b| b.is_ascii_digit())
    };
    if !digits(whole, 9) || !(fraction.is_empty() || digits(fraction, 3)) {
        return Err(DurationError::Malformed);
    }
    let whole: u64 = whole.parse().map_err(|_| DurationError::Malformed)?;
    let thousandths: u64 = format!("{fraction:0<3}")
        .parse()
        .map_err(|_| DurationError::Malformed)?;
    let scaled = thousandths * unit_ms;
    if !scaled.is_multiple_of(1000) {
        return Err(DurationError::TooFine);
    }
    Ok(Duration::from_millis(whole * unit_ms + scaled / 1000))
}

/// The shortest text that [`duration`] reads as `value`; below a millisecond it is cut off.
pub fn show_duration(value: Duration) -> String {
    let ms = value.as_millis();
    match () {
        () if ms > 0 && ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        () if ms > 0 && ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        () if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        () => format!("{ms}ms"),
    }
}

/// Reads whole bytes: a number and one of `B`, `KiB`, `MiB`, `GiB`.
pub fn size(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits_end);
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    if number.len() > 15 {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The shortest text that [`size`] reads as `bytes`.
pub fn show_size(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units
        .iter()
        .find(|(factor, _)| bytes > 0 && bytes.is_multiple_of(*factor));
    match unit {
        Some((factor, name)) => format!("{}{name}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Reads `20%`. The bound is the caller's.
pub fn percent(text: &str) -> Option<u64> {
    let number = text.strip_suffix('%')?;
    let digits = (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, ms) in [
            ("10s", 10_000),
            ("1.5s", 1500),
            ("250ms", 250),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0.5h", 1_800_000),
            ("0.001s", 1),
            ("0s", 0),
            ("999999999h", 3_599_999_996_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_duration_is_nothing_else() {
        use DurationError::*;
        for (text, error) in [
            ("10", NoUnit),
            ("1.5", NoUnit),
            ("", Malformed),
            ("s", Malformed),
            ("10 s", Malformed),
            ("-1s", Malformed),
            ("1.s", Malformed),
            (".5s", Malformed),
            ("1.2.3s", Malformed),
            ("1d", Malformed),
            ("1S", Malformed),
            ("1h30m", Malformed),
            ("9999999999s", Malformed),
            ("1.0000s", Malformed),
            ("1.5ms", TooFine),
        ] {
            assert_eq!(duration(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_size_is_a_number_and_a_unit_of_powers_of_two() {
        for (text, bytes) in [("64KiB", 65_536), ("1MiB", 1 << 20), ("100B", 100)] {
            assert_eq!(
                (size(text), show_size(bytes)),
                (Some(bytes), text.to_owned())
            );
        }
        for text in ["64", "64KB", "KiB", "-1B", "1.5MiB", "", "64 KiB", "64kib"] {
            assert_eq!(size(text), None, "{text}");
        }
        assert_eq!(size("999999999999999GiB"), None, "it does not overflow");
    }

    #[test]
    fn a_percentage_is_a_number_and_the_sign() {
        assert_eq!((percent("20%"), percent("0%")), (Some(20), Some(0)));
        for text in ["20", "%", "-1%", "1000%", "2.5%", ""] {
            assert_eq!(percent(text), None, "{text}");
        }
    }

    #[test]
    fn a_shown_duration_reads_as_itself() {
        for ms in [0, 1, 1000, 1500, 60_000, 90_000, 3_600_000, 86_400_000] {
            let value = Duration::from_millis(ms);
            assert_eq!(duration(&show_duration(value)), Ok(value));
        }
    }

    #[test]
    fn the_patterns_of_the_schema_say_the_same() {
        let of = |pattern| regex::Regex::new(pattern).unwrap();
        let (durations, sizes) = (of(DURATION_PATTERN), of(SIZE_PATTERN));
        for text in [
            "10s",
            "1.5s",
            "1.s",
            "10",
            "1d",
            "9999999999s",
            "1h30m",
            "",
            "1.0000s",
        ] {
            assert_eq!(durations.is_match(text), duration(text).is_ok(), "{text}");
            assert_eq!(of(PERCENT_PATTERN).is_match(text), percent(text).is_some());
        }
        for text in ["64KiB", "64", "1.5MiB", "1B", "", "KiB"] {
            assert_eq!(sizes.is_match(text), size(text).is_some(), "{text}");
        }
    }
}
