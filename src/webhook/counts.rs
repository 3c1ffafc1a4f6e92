//! What the webhook did, in numbers.
//!
//! Owns: the names and the text of its metrics (Prometheus 0.0.4).
//! Never: decides anything.
//! Called by: exchange and server (count), certificate (says when it ends), status (shows).

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// What became of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod got its sidecar.
    Patched,
    /// The pod, or whatever it was, stays as it is.
    Unchanged,
    /// The pod asked for a sidecar and cannot have it.
    Refused,
    /// It was no review, or did not come in time.
    Malformed,
}

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Patched, "patched"),
    (Outcome::Unchanged, "unchanged"),
    (Outcome::Refused, "refused"),
    (Outcome::Malformed, "malformed"),
];

/// Every count of one process.
#[derive(Debug, Default)]
pub struct Counts {
    reviews: [AtomicU64; OUTCOMES.len()],
    microseconds: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) handshake_failures: AtomicU64,
    /// Seconds since 1970 at which our certificate ends; 0: there is none.
    pub(super) certificate_ends: AtomicI64,
}

impl Counts {
    /// A review was answered, `time` after its last byte came.
    pub fn review(&self, outcome: Outcome, time: Duration) {
        let at = OUTCOMES.iter().position(|(one, _)| *one == outcome);
        if let Some(count) = at.and_then(|at| self.reviews.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(micros, Ordering::Relaxed);
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, String)]| {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (suffix, value) in rows {
                let _ = writeln!(out, "{name}{suffix} {value}");
            }
        };
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counted = OUTCOMES.iter().zip(&self.reviews);
        let rows: Vec<_> = counted
            .map(|((_, word), count)| (format!("{{outcome=\"{word}\"}}"), load(count).to_string()))
            .collect();
        let reviews: u64 = self.reviews.iter().map(load).sum();
        family(
            "sortie_webhook_reviews_total",
            "counter",
            "Admission reviews answered.",
            &rows,
        );
        let micros = load(&self.microseconds);
        let seconds = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        let rows = [
            ("_sum".to_owned(), seconds),
            ("_count".to_owned(), reviews.to_string()),
        ];
        let help = "From a review's last byte to its answer.";
        family(
            "sortie_webhook_review_duration_seconds",
            "summary",
            help,
            &rows,
        );
        let one = |value: String| [(String::new(), value)];
        let rows = one(load(&self.connections).to_string());
        family(
            "sortie_webhook_connections",
            "gauge",
            "Open connections.",
            &rows,
        );
        let rows = one(load(&self.handshake_failures).to_string());
        let help = "TLS handshakes that failed.";
        family(
            "sortie_webhook_handshake_failures_total",
            "counter",
            help,
            &rows,
        );
        let ends = self.certificate_ends.load(Ordering::Relaxed);
        if ends != 0 {
            let rows = [("{usage=\"server\"}".to_owned(), ends.to_string())];
            let help = "When the certificate ends, in seconds since 1970.";
            family("sortie_cert_expiry_timestamp_seconds", "gauge", help, &rows);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_counted_by_its_word_and_shown_from_the_start() {
        let counts = Counts::default();
        counts.review(Outcome::Patched, Duration::from_micros(1_500_002));
        counts.review(Outcome::Malformed, Duration::ZERO);
        let text = counts.text();
        for line in [
            "sortie_webhook_reviews_total{outcome=\"patched\"} 1",
            "sortie_webhook_reviews_total{outcome=\"refused\"} 0",
            "sortie_webhook_reviews_total{outcome=\"malformed\"} 1",
            "sortie_webhook_review_duration_seconds_sum 1.500002",
            "sortie_webhook_review_duration_seconds_count 2",
            "# TYPE sortie_webhook_connections gauge",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert!(
            !text.contains("sortie_cert_expiry"),
            "there is no certificate"
        );
    }
}
