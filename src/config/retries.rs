//! `retries` of a rule (ISTIO.md V14, X5, X8).
//!
//! Owns: its tables and its lowering.
//! Never: tries anything.
//! Called by: rules.

use std::time::Duration;

use crate::model::{Retries, RetryOn};

use super::cursor::At;
use super::diagnostic::{Code, Diagnostics};
use super::settings::set;
use super::shape::{Choice, DURATION, Field, Shape, Table};

/// Tries beyond the first. More than ten is a storm, not a retry.
pub const ATTEMPTS: Shape = Shape::Whole { min: 0, max: 10 };

static ON: Shape = Shape::Either(&[
    Shape::Choice(&[
        Choice {
            word: "connect-failure",
            doc: "TCP refused, reset or late before anything was sent.",
        },
        Choice {
            word: "refused-stream",
            doc: "HTTP/2 REFUSED_STREAM.",
        },
        Choice {
            word: "reset",
            doc: "The connection ended before the answer's head came.",
        },
        Choice {
            word: "gateway-error",
            doc: "502, 503 and 504 from the upstream, or no answer at all.",
        },
        Choice {
            word: "unavailable",
            doc: "gRPC status unavailable in the answer's head.",
        },
        Choice {
            word: "cancelled",
            doc: "gRPC status cancelled in the answer's head.",
        },
    ]),
    Shape::Whole { min: 400, max: 599 },
]);

static BUDGET: Table = Table::new(
    "budget",
    "Bounds the retries that are under way, so that they do not make an overload worse.",
    &[
        Field::optional(
            "percent",
            "Of the requests that are under way.",
            Shape::Percent,
        )
        .default("20"),
        Field::optional(
            "min",
            "So many are always allowed.",
            Shape::Whole { min: 0, max: 1000 },
        )
        .default("3"),
    ],
);

/// What is tried again.
pub static RETRIES: Table = Table::new(
    "retries",
    "What is tried again, and how often.",
    &[
        Field::optional("attempts", "Tries beyond the first; 0: none.", ATTEMPTS).default("2"),
        Field::optional(
            "on",
            "On which causes; a number is a status of the upstream.",
            Shape::Many(&ON),
        )
        .default("[connect-failure, refused-stream, unavailable, cancelled]"),
        Field::optional(
            "perTryTimeout",
            "Bound on each try. Absent: the rule's timeout alone.",
            DURATION,
        ),
        Field::optional(
            "backoff",
            "Least pause before a retry; doubles each time, with jitter, to ten times itself.",
            Shape::Duration {
                min: Duration::from_millis(1),
                max: Duration::from_secs(60),
            },
        )
        .default("25ms"),
        Field::optional("budget", "Bound on all retries.", Shape::Object(&BUDGET)),
    ],
)
.any_of(&["attempts", "on", "perTryTimeout", "backoff", "budget"]);

/// A number of attempts, or the whole block.
pub fn lower(at: &At<'_>, out: &mut Diagnostics) -> Retries {
    let mut retries = Retries::default();
    if let Some(attempts) = at.as_whole().and_then(|n| u32::try_from(n).ok()) {
        retries.attempts = attempts;
        return retries;
    }
    set(&mut retries.attempts, at.whole("attempts"));
    if at.whole::<u32>("attempts") == Some(0) {
        for key in ["on", "perTryTimeout", "backoff", "budget"] {
            if at.has(key) {
                let problem = format!("\"{key}\" means nothing beside attempts: 0");
                at.report_key(
                    out,
                    key,
                    Code::Conflict,
                    problem,
                    "leave it out, or raise attempts",
                );
            }
        }
    }
    if let Some(causes) = at.key("on") {
        retries.on = on(&causes);
    }
    retries.per_try_timeout = at.duration("perTryTimeout");
    set(&mut retries.backoff, at.duration("backoff"));
    if let Some(budget) = at.key("budget") {
        set(&mut retries.budget_percent, budget.percent("percent"));
        set(&mut retries.budget_min, budget.whole("min"));
    }
    retries
}

fn on(causes: &At<'_>) -> RetryOn {
    let mut on = RetryOn {
        connect_failure: false,
        refused_stream: false,
        reset: false,
        gateway_error: false,
        grpc_unavailable: false,
        grpc_cancelled: false,
        ..RetryOn::default()
    };
    for cause in causes.one_or_many() {
        match cause.as_word() {
            Some("connect-failure") => on.connect_failure = true,
            Some("refused-stream") => on.refused_stream = true,
            Some("reset") => on.reset = true,
            Some("gateway-error") => on.gateway_error = true,
            Some("unavailable") => on.grpc_unavailable = true,
            Some("cancelled") => on.grpc_cancelled = true,
            _ => on
                .statuses
                .extend(cause.as_whole().and_then(|n| u16::try_from(n).ok())),
        }
    }
    on
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{load_texts, said};

    fn rule(retries: &str) -> String {
        format!(
            "upstreams: [{{name: a, endpoints: a:1, tls: {{mode: disable}}}}]\nroutes:\n- host: a\n  \
             rules:\n  - {{upstream: a, retries: {retries}}}\n"
        )
    }

    fn read(retries: &str) -> Retries {
        let config = load_texts(&[("a.yaml", &rule(retries))]).unwrap().config;
        config.hosts[0].rules[0].retries.clone()
    }

    #[test]
    fn x5_a_number_stands_for_attempts() {
        assert_eq!((read("0").attempts, read("3").attempts), (0, 3));
        assert_eq!(read("2"), Retries::default());
    }

    #[test]
    fn v14_the_causes_that_are_named_replace_the_usual_ones() {
        let usual = "{on: [connect-failure, refused-stream, unavailable, cancelled]}";
        assert_eq!(read(usual), Retries::default());
        let on = read("{on: [reset, gateway-error, 503, 429]}").on;
        assert!(on.reset && on.gateway_error && !on.connect_failure && !on.refused_stream);
        assert_eq!(on.statuses, [503, 429]);
        assert_eq!(read("{on: 503}").on.statuses, [503]);
    }

    #[test]
    fn x8_retries_that_contradict_themselves_are_errors() {
        for (retries, expected) in [
            (
                "{attempts: 0, perTryTimeout: 1s}",
                "a.yaml:5:42: error[SRT0203] routes[0].rules[0].retries.perTryTimeout: \
                 \"perTryTimeout\" means nothing beside attempts: 0; leave it out, or raise attempts",
            ),
            (
                "{on: [conect-failure]}",
                "a.yaml:5:34: error[SRT0104] routes[0].rules[0].retries.on[0]: \"conect-failure\" is \
                 not allowed here; did you mean connect-failure? Allowed: one of connect-failure, \
                 refused-stream, reset, gateway-error, unavailable, cancelled, or a whole number \
                 from 400 to 599",
            ),
            (
                "{on: 200}",
                "a.yaml:5:33: error[SRT0105] routes[0].rules[0].retries.on: 200 is too small; write a \
                 whole number from 400 to 599",
            ),
            (
                "11",
                "a.yaml:5:28: error[SRT0105] routes[0].rules[0].retries: 11 is too large; write a \
                 whole number from 0 to 10",
            ),
            (
                "{budget: {percent: 101%}}",
                "a.yaml:5:47: error[SRT0105] routes[0].rules[0].retries.budget.percent: 101 is too \
                 large; write a percentage from 0 to 100, such as 20 or 20%",
            ),
        ] {
            assert_eq!(said(&rule(retries)), [expected]);
        }
    }
}
