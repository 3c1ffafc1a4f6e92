//! What happened in the window, as JSON.
//!
//! Owns: the counts, every latency, and the CPU time of the processes watched.
//! Never: forgives: an answer that is not 2xx and a broken connection are counted, warm-up included.
//! Called by: `steady`, `http2`.

use std::time::{Duration, Instant};

use crate::process;

/// More broken connections than this end the run: the peer is not there.
const MOST_FAILURES: u64 = 100;

pub struct Tally {
    pids: Vec<u32>,
    warm_until: Instant,
    length: Duration,
    began: Option<Instant>,
    cpu_before: u64,
    user_before: u64,
    pub requests: u64,
    /// Answers that are not 2xx, and the last of them.
    pub refusals: u64,
    pub last_refusal: u16,
    pub failures: u64,
    pub last_failure: String,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub resumed: u64,
    latencies: Vec<u64>,
}

impl Tally {
    pub fn new(pids: Vec<u32>, warm: Duration, length: Duration) -> Tally {
        Tally {
            pids,
            warm_until: Instant::now() + warm,
            length,
            began: None,
            cpu_before: 0,
            user_before: 0,
            requests: 0,
            refusals: 0,
            last_refusal: 0,
            failures: 0,
            last_failure: String::new(),
            bytes_in: 0,
            bytes_out: 0,
            resumed: 0,
            latencies: Vec::with_capacity(1 << 20),
        }
    }

    /// Opens the window when it is time. Whether it is over.
    pub fn over(&mut self, now: Instant) -> Result<bool, String> {
        if self.failures > MOST_FAILURES {
            return Err(format!(
                "{} connections broke: {}",
                self.failures, self.last_failure
            ));
        }
        if let Some(began) = self.began {
            return Ok(now >= began + self.length);
        }
        if now >= self.warm_until {
            self.cpu_before = process::cpu(&self.pids)?;
            self.user_before = process::user_ticks(&self.pids);
            self.requests = 0;
            (self.bytes_in, self.bytes_out, self.resumed) = (0, 0, 0);
            self.latencies.clear();
            self.began = Some(Instant::now());
        }
        Ok(false)
    }

    /// When the window opens or ends next.
    pub fn next_edge(&self) -> Instant {
        self.began
            .map_or(self.warm_until, |began| began + self.length)
    }

    pub fn answered(&mut self, status: u16, since: Instant) {
        self.requests += 1;
        if !(200..300).contains(&status) {
            self.refusals += 1;
            self.last_refusal = status;
        }
        // Of a fixed rate, only what was due inside the window.
        if self.began.is_some_and(|began| since >= began) {
            self.latencies.push(since.elapsed().as_nanos() as u64);
        }
    }

    pub fn failed(&mut self, why: impl ToString) {
        self.failures += 1;
        self.last_failure = why.to_string();
    }

    /// `unanswered`: since when each request waits that has no answer yet.
    pub fn report(mut self, unanswered: &[Instant]) -> Result<String, String> {
        let began = self.began.ok_or("the window never opened")?;
        let seconds = began.elapsed().as_secs_f64();
        let cpu = process::cpu(&self.pids)? - self.cpu_before;
        let user = process::user_ticks(&self.pids) - self.user_before;
        // A request that never came back must not make the run look good.
        let waits = unanswered.iter().filter(|since| **since >= began);
        self.latencies
            .extend(waits.map(|since| since.elapsed().as_nanos() as u64));
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let last = self.latencies.len().saturating_sub(1);
            let index = (last as f64 * share).round() as usize;
            self.latencies.get(index).copied().unwrap_or_default() as f64 / 1000.0
        };
        Ok(format!(
            "{{\"requests\":{},\"seconds\":{seconds:.4},\"refusals\":{},\"last_refusal\":{},\
             \"failures\":{},\"last_failure\":{:?},\"bytes_in\":{},\"bytes_out\":{},\"resumed\":{},\
             \"cpu_ns\":{cpu},\"user_ms\":{},\"samples\":{},\
             \"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1}}}",
            self.requests,
            self.refusals,
            self.last_refusal,
            self.failures,
            self.last_failure,
            self.bytes_in,
            self.bytes_out,
            self.resumed,
            user * 10,
            self.latencies.len(),
            at(0.5),
            at(0.99),
            at(0.999),
        ))
    }
}
