//! What a process has used: CPU time and memory.
//!
//! Owns: the reading of `/proc`.
//! Never: signals a process.
//! Called by: every kind of load, at the edges of its window.

use std::fs;

/// CPU time of all living threads, in nanoseconds: what utime + stime are made of, unrounded.
pub fn cpu(pids: &[u32]) -> Result<u64, String> {
    let mut sum = 0;
    for pid in pids {
        let folder = format!("/proc/{pid}/task");
        let threads = fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?;
        for thread in threads.flatten() {
            // A thread may end between the two; what it used is then missing, and small.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            let first = text.split_ascii_whitespace().next().unwrap_or_default();
            sum += first.parse::<u64>().unwrap_or_default();
        }
    }
    Ok(sum)
}

/// The part of it in user space, in ticks of the clock (10 ms).
pub fn user_ticks(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = text.rsplit_once(')')?;
        rest.split_ascii_whitespace().nth(11)?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum()
}

/// Resident memory in KiB.
pub fn rss(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum()
}
