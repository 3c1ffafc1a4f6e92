//! Warnings that a stranger can cause, kept few: whoever knocks at a port a thousand times a second
//! must not fill the log.
//!
//! Owns: how many lines one port and one reason have in a while, and how many were left out.
//! Never: keeps a counter from counting, or a line from the access log.
//! Called by: `proxy::stream`.
//!
//! Why each worker remembers for itself: a lock for every worker would be one for every stranger.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So many lines in this time.
const MOST: (u64, Duration) = (20, Duration::from_secs(10));
/// Ports and reasons remembered; over it all are forgotten, and some lines more are written.
const MOST_KEYS: usize = 1024;

/// A port, and a reason.
type Key = (u16, &'static str);

struct Window {
    began: Instant,
    asked: u64,
}

thread_local! {
    static WINDOWS: RefCell<HashMap<Key, Window>> = RefCell::default();
}

/// Whether a line is written for `key` now; how many were left out since the last one.
pub(super) fn may_say(key: Key) -> Option<u64> {
    WINDOWS.with_borrow_mut(|windows| look(windows, key, Instant::now()))
}

fn look(windows: &mut HashMap<Key, Window>, key: Key, now: Instant) -> Option<u64> {
    if windows.len() >= MOST_KEYS && !windows.contains_key(&key) {
        windows.clear();
    }
    let window = windows.entry(key).or_insert(Window {
        began: now,
        asked: 0,
    });
    if now.saturating_duration_since(window.began) >= MOST.1 {
        let left_out = window.asked.saturating_sub(MOST.0);
        *window = Window {
            began: now,
            asked: 1,
        };
        return Some(left_out);
    }
    window.asked += 1;
    (window.asked <= MOST.0).then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_its_lines_and_says_later_how_many_were_left_out() {
        let mut windows = HashMap::new();
        let now = Instant::now();
        let key = (443, "plaintext_on_tls");
        for _ in 0..MOST.0 {
            assert_eq!(look(&mut windows, key, now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(look(&mut windows, key, now), None);
        }
        // Another reason, and another port, have theirs.
        assert_eq!(look(&mut windows, (443, "silent"), now), Some(0));
        assert_eq!(look(&mut windows, (80, key.1), now), Some(0));
        assert_eq!(look(&mut windows, key, now + MOST.1), Some(7));
        assert_eq!(look(&mut windows, key, now + MOST.1), Some(0));
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let mut windows = HashMap::new();
        let now = Instant::now();
        for port in 0..4 * u16::try_from(MOST_KEYS).unwrap() {
            assert_eq!(look(&mut windows, (port, "silent"), now), Some(0));
            assert!(windows.len() <= MOST_KEYS);
        }
    }
}
