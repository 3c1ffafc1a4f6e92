//! Times as people and log shippers read them: RFC 3339 in UTC.
//!
//! Owns: the calendar arithmetic.
//! Never: knows of time zones or leap seconds.
//! Called by: the access log (START_TIME), admin and cli (certificates, reloads).
//!
//! Why not a calendar crate: two formats of UTC do not pay for one.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-21T10:00:00.123Z`, as Envoy writes START_TIME (ISTIO.md B7). A time before 1970 is
/// written as 1970, one behind the year 9999 as its last second.
pub fn rfc3339_millis(time: SystemTime) -> String {
    let mut text = Vec::with_capacity(24);
    write_millis(&mut text, time);
    String::from_utf8(text).unwrap_or_default()
}

/// `2026-11-21T10:00:00Z`, from seconds since 1970; cut off as [`rfc3339_millis`] does.
pub fn rfc3339_seconds(seconds: i64) -> String {
    let mut text = Vec::with_capacity(20);
    write_date(&mut text, u64::try_from(seconds).unwrap_or(0));
    text.push(b'Z');
    String::from_utf8(text).unwrap_or_default()
}

/// [`rfc3339_millis`] behind what `out` holds; allocates nothing where there is room.
pub(super) fn write_millis(out: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    write_date(out, since.as_secs());
    // Writing to a vector cannot fail.
    let _ = write!(out, ".{:03}Z", since.subsec_millis());
}

/// Days to civil date: Howard Hinnant's `civil_from_days`, for days from 1970 on.
fn write_date(out: &mut Vec<u8>, seconds: u64) {
    // 9999-12-31T23:59:59Z: a five-digit year would break every reader.
    let seconds = seconds.min(253_402_300_799);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}",
        second % 60
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_time_is_written_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_255_445, "2026-11-21T10:04:05Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339_seconds(seconds), text);
        }
        let time = UNIX_EPOCH + Duration::from_millis(1_795_255_445_007);
        assert_eq!(rfc3339_millis(time), "2026-11-21T10:04:05.007Z");
    }

    #[test]
    fn a_time_that_no_calendar_has_is_cut_off_and_not_wrong() {
        assert_eq!(rfc3339_seconds(-1), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_seconds(i64::MAX), "9999-12-31T23:59:59Z");
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339_millis(before), "1970-01-01T00:00:00.000Z");
    }
}
