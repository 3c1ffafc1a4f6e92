//! When a certificate's end is worth a word (ISTIO.md R17), as a pure function of the time.
//!
//! Owns: the thresholds.
//! Never: logs, or looks at the clock.
//! Called by: `certs::store`, `certs::entry`, `certs::rows`.

use std::time::{SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Certificates that live less are warned of by shares of their life.
const SHORT_LIVED: i64 = 60 * DAY;

/// How near the end is. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Nothing to say.
    Fine,
    /// The n-th threshold is passed, from 1.
    Ending(u8),
    /// It is over.
    Expired,
}

/// The stage at `now` of what is valid `from` .. `to` (all in seconds since 1970): 30 d, 7 d, 1 d and 1 h before the end; for a
/// certificate that lives less than 60 d, at 20, 10 and 5 percent of its life.
pub(super) fn stage((from, to): (i64, i64), now: i64) -> Stage {
    let left = to.saturating_sub(now);
    if left < 0 {
        return Stage::Expired;
    }
    let life = to.saturating_sub(from).max(0);
    let long = [30 * DAY, 7 * DAY, DAY, HOUR];
    let short = [life / 5, life / 10, life / 20];
    let thresholds: &[i64] = if life < SHORT_LIVED { &short } else { &long };
    let passed = thresholds.iter().filter(|at| left <= **at).count();
    match u8::try_from(passed) {
        Ok(0) | Err(_) => Stage::Fine,
        Ok(n) => Stage::Ending(n),
    }
}

/// `3 days`, `5 hours`, `2 minutes`: the largest unit that makes at least two, rounded down.
pub(super) fn rough(seconds: i64) -> String {
    let (unit, name) = match seconds {
        s if s >= 2 * DAY => (DAY, "days"),
        s if s >= 2 * HOUR => (HOUR, "hours"),
        s if s >= 120 => (60, "minutes"),
        _ => (1, "seconds"),
    };
    format!("{} {name}", seconds / unit)
}

/// Seconds since 1970, negative before.
pub(super) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stages with `left` seconds to go.
    fn stages(life: i64, left: &[i64]) -> Vec<Stage> {
        left.iter()
            .map(|left| stage((0, life), life - left))
            .collect()
    }

    #[test]
    fn r17_a_long_lived_certificate_is_warned_of_at_30_d_7_d_1_d_and_1_h() {
        use Stage::{Ending, Expired, Fine};
        let left = [
            30 * DAY + 1,
            30 * DAY,
            7 * DAY + 1,
            7 * DAY,
            DAY,
            HOUR + 1,
            HOUR,
            0,
            -1,
        ];
        let expected = [
            Fine,
            Ending(1),
            Ending(1),
            Ending(2),
            Ending(3),
            Ending(3),
            Ending(4),
            Ending(4),
            Expired,
        ];
        assert_eq!(stages(365 * DAY, &left), expected);
    }

    #[test]
    fn r17_a_short_lived_certificate_is_warned_of_by_shares_of_its_life() {
        use Stage::{Ending, Expired, Fine};
        let hours = [24, 5, 4, 2, 1, 0].map(|h| h * HOUR);
        let expected = [Fine, Fine, Ending(1), Ending(2), Ending(3), Ending(3)];
        assert_eq!(stages(24 * HOUR, &hours), expected);
        assert_eq!(stages(24 * HOUR, &[-1]), [Expired]);
    }

    #[test]
    fn r17_a_certificate_whose_dates_are_absurd_does_no_harm() {
        assert_eq!(stage((i64::MIN, i64::MAX), 0), Stage::Fine);
        let ended = stage((i64::MIN, i64::MIN), i64::MAX);
        assert_eq!(ended, Stage::Expired);
    }

    #[test]
    fn a_rest_is_told_in_the_unit_that_fits() {
        let rests = [30 * DAY, DAY, HOUR, 90].map(rough);
        assert_eq!(rests, ["30 days", "24 hours", "60 minutes", "90 seconds"]);
    }
}
