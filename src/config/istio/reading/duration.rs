//! Durations as Istio's documents write them: `3s`, `1.5s`, `250ms`, `1h30m`.
//!
//! Owns: their grammar and their bounds (ISTIO.md 1.4).
//! Never: knows what is measured.
//! Called by: check, value.

use std::time::Duration;

/// Why a duration cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// A number without a unit.
    NoUnit,
    /// Something else.
    Malformed,
    /// Part of a millisecond.
    TooFine,
    /// More than a year.
    TooLong,
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads one or more pairs of number and unit, such as `1h30m` or `1.5s`.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() || text.len() > 64 {
        return Err(DurationError::Malformed);
    }
    let (mut rest, mut nanos) = (text, 0_u128);
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        nanos += part(number, unit)?;
        rest = tail;
    }
    let ms = u64::try_from(nanos / 1_000_000).map_err(|_| DurationError::TooLong)?;
    let value = Duration::from_millis(ms);
    if value > YEAR {
        return Err(DurationError::TooLong);
    }
    match nanos.is_multiple_of(1_000_000) {
        true => Ok(value),
        false => Err(DurationError::TooFine),
    }
}

/// One pair, in nanoseconds.
fn part(number: &str, unit: &str) -> Result<u128, DurationError> {
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" if !number.is_empty() => return Err(DurationError::NoUnit),
        _ => return Err(DurationError::Malformed),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    if !digits(whole, 15) || !digits(fraction, 9) {
        return Err(DurationError::Malformed);
    }
    let read = |text: &str| text.parse::<u128>().map_err(|_| DurationError::Malformed);
    let billionths = read(&format!("{fraction:0<9}"))? * unit;
    if !billionths.is_multiple_of(1_000_000_000) {
        return Err(DurationError::TooFine);
    }
    Ok(read(whole)? * unit + billionths / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_one_or_more_numbers_with_units() {
        for (text, ms) in [
            ("3s", 3000),
            ("1.5s", 1500),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("1m0.25s", 60_250),
            ("0s", 0),
            ("0.001s", 1),
            ("1000us", 1),
            ("8760h", 31_536_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_duration_is_nothing_else() {
        use DurationError::*;
        for (text, error) in [
            ("10", NoUnit),
            ("1h30", NoUnit),
            ("", Malformed),
            ("s", Malformed),
            ("-1s", Malformed),
            ("1.s", Malformed),
            (".5s", Malformed),
            ("1 s", Malformed),
            ("1d", Malformed),
            ("1S", Malformed),
            ("1.2.3s", Malformed),
            ("1.5ms", TooFine),
            ("1ns", TooFine),
            ("0.0000000001s", Malformed),
            ("8761h", TooLong),
            ("999999999999999h", TooLong),
        ] {
            assert_eq!(duration(text), Err(error), "{text}");
        }
    }
}
