//! Rewrite, retries, faults and mirrors of an HTTP route (ISTIO.md V11, V14, V16, X8).
//!
//! Owns: reading them.
//! Never: knows the action of the route.
//! Called by: http_route.

use crate::config::cursor::At;
use crate::config::diagnostic::Code;
use crate::config::format::{Format, quote};
use crate::config::istio::virtual_service::Destination;
use crate::config::validate::did_you_mean;
use crate::model::{Abort, Fault, PathRewrite, Retries, RetryOn, Share};

use super::context::Reading;
use super::{http_route, names, value};

/// `rewrite`, the path of it.
pub fn rewrite(at: &At<'_>, r: &mut Reading<'_>) -> Option<PathRewrite> {
    let expression = at.key("uriRegexRewrite");
    let uri = names::formatted_key(at, "uri", Format::NewPath, r);
    let has_uri = at.text("uri").is_some_and(|uri| !uri.is_empty());
    if has_uri && expression.is_some() {
        let problem = "uri and uriRegexRewrite both say what becomes of the path".to_owned();
        r.wrong_key(at, "uri", problem, "keep one of the two");
    }
    let authority = at
        .text("authority")
        .is_some_and(|authority| !authority.is_empty());
    if !has_uri && !authority && expression.is_none() {
        let problem = "the rewrite says nothing".to_owned();
        r.wrong(at, problem, "write uri, authority or uriRegexRewrite");
    }
    let Some(expression) = expression else {
        return uri.map(|uri| PathRewrite::Replace(uri.to_owned()));
    };
    let pattern = expression
        .key("match")
        .filter(|at| at.as_text() != Some(""));
    let Some(pattern) = pattern else {
        let problem = "there is nothing to look for".to_owned();
        r.wrong_key(
            &expression,
            "match",
            problem,
            "write match: with a regular expression",
        );
        return None;
    };
    let pattern = names::formatted(&pattern, Format::Regex, r)?.to_owned();
    let substitution = match expression.key("rewrite") {
        Some(at) => names::formatted(&at, Format::Substitution, r)?.to_owned(),
        None => String::new(),
    };
    Some(PathRewrite::Regex {
        pattern,
        substitution,
    })
}

/// V14. Silence of `attempts` is 0 in Istio, and switches retries off.
pub fn retries(at: &At<'_>, r: &mut Reading<'_>) -> Retries {
    let mut retries = Retries {
        attempts: value::whole(at, "attempts").unwrap_or_default(),
        per_try_timeout: value::duration(at, "perTryTimeout"),
        ..Retries::default()
    };
    if let Some(backoff) = value::duration(at, "backoff") {
        retries.backoff = backoff;
    }
    if retries.attempts == 0 {
        let says = |key: &str| match at.key(key) {
            Some(at) => at.as_text() != Some(""),
            None => false,
        };
        for key in ["retryOn", "perTryTimeout"]
            .into_iter()
            .filter(|key| says(key))
        {
            let problem = format!("{key} means nothing: attempts is 0, and nothing is tried again");
            r.wrong_key(
                at,
                key,
                problem,
                "write attempts: 2 or more, or leave it out",
            );
        }
    }
    if let Some(words) = at.key("retryOn")
        && let Some(text) = words.as_text().filter(|text| !text.is_empty())
    {
        retries.on = retry_on(&words, text, r);
    }
    retries
}

/// Words of `retryOn` that sortie follows, and those that it knows.
const WORDS: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

fn retry_on(at: &At<'_>, text: &str, r: &mut Reading<'_>) -> RetryOn {
    let mut on = RetryOn {
        connect_failure: false,
        refused_stream: false,
        grpc_unavailable: false,
        grpc_cancelled: false,
        ..RetryOn::default()
    };
    for word in text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        match word {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "reset" => on.reset = true,
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "retriable-4xx" => on.statuses.push(409),
            "cancelled" => on.grpc_cancelled = true,
            "deadline-exceeded" => on.grpc_deadline_exceeded = true,
            "internal" => on.grpc_internal = true,
            "resource-exhausted" => on.grpc_resource_exhausted = true,
            "unavailable" => on.grpc_unavailable = true,
            // Of the statuses that are listed beside it.
            "retriable-status-codes" => {}
            "reset-before-request"
            | "envoy-ratelimited"
            | "retriable-headers"
            | "http3-post-connect-failure" => {
                let problem = format!("sortie does not retry on {word}");
                let advice = "leave it out; connect-failure and reset come near to it";
                r.warning(at.wrong(Code::FieldWithoutEffect, problem, advice));
            }
            _ => match word.parse::<u16>() {
                Ok(status) if (100..=599).contains(&status) => on.statuses.push(status),
                _ => unknown_word(at, word, r),
            },
        }
    }
    on
}

fn unknown_word(at: &At<'_>, word: &str, r: &mut Reading<'_>) {
    let problem = format!("{} is nothing to retry on", quote(word));
    let advice = match did_you_mean(word, WORDS.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("write a status, or one of {}", WORDS.join(", ")),
    };
    r.wrong(at, problem, &advice);
}

/// `percentage: {value: 12.5}`.
fn percentage(at: &At<'_>, key: &str) -> Option<Share> {
    let percent = value::number(&at.key(key)?, "value").unwrap_or_default();
    Some(share(percent))
}

fn share(percent: f64) -> Share {
    let millionths = (percent.clamp(0.0, 100.0) * 10_000.0).round();
    // In range: it was clamped.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 1,000,000"
    )]
    Share(millionths as u32)
}

/// V16.
pub fn fault(at: &At<'_>, r: &mut Reading<'_>) -> Fault {
    if !at.has("delay") && !at.has("abort") {
        let problem = "the fault says nothing".to_owned();
        r.wrong(at, problem, "write delay or abort, or leave it out");
    }
    let delay = at.key("delay").and_then(|delay| {
        let percent = value::number(&delay, "percent").map(share);
        let how_often = percentage(&delay, "percentage").or(percent);
        never(&delay, how_often, r);
        let Some(time) = value::duration(&delay, "fixedDelay") else {
            if !delay.has("fixedDelay") {
                let problem = "the delay says no time".to_owned();
                r.wrong_key(&delay, "fixedDelay", problem, "write fixedDelay: 5s");
            }
            return None;
        };
        Some((time, how_often.unwrap_or_default()))
    });
    let abort = at.key("abort").and_then(|abort| {
        let how_often = percentage(&abort, "percentage");
        never(&abort, how_often, r);
        Some((status(&abort, r)?, how_often.unwrap_or_default()))
    });
    Fault { delay, abort }
}

fn never(at: &At<'_>, how_often: Option<Share>, r: &mut Reading<'_>) {
    if how_often.is_none() {
        let problem = "without a percentage it never happens".to_owned();
        r.odd(
            at,
            problem,
            "write percentage: {value: 100} for every request",
        );
    }
}

fn status(at: &At<'_>, r: &mut Reading<'_>) -> Option<Abort> {
    if let Some(status) = value::whole::<u16>(at, "httpStatus") {
        if !(200..=599).contains(&status) {
            let problem = format!("{status} is not a status to answer with");
            r.wrong_key(at, "httpStatus", problem, "write one from 200 to 599");
        }
        return Some(Abort::Http(status));
    }
    let Some(text) = value::text(at, "grpcStatus") else {
        let there = at.has("httpStatus") || at.has("http2Error");
        if !there {
            let problem = "the abort says no status".to_owned();
            r.wrong_key(
                at,
                "httpStatus",
                problem,
                "write httpStatus: 503, or grpcStatus: UNAVAILABLE",
            );
        }
        return None;
    };
    let number = GRPC.iter().position(|word| *word == text);
    let number = number.and_then(|n| u32::try_from(n).ok());
    let number = number.or_else(|| text.parse().ok().filter(|n| *n <= 16));
    if number.is_none() {
        let problem = format!("{} is not a status of gRPC", quote(text));
        r.wrong_key(
            at,
            "grpcStatus",
            problem,
            &format!("write one of {}", GRPC.join(", ")),
        );
    }
    number.map(Abort::Grpc)
}

/// Statuses of gRPC, by number.
const GRPC: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// `mirror` with its percentage, or `mirrors`.
pub fn mirrors(at: &At<'_>, r: &mut Reading<'_>) -> Vec<(Destination, Share)> {
    let several = at
        .key("mirrors")
        .filter(|list| list.items().next().is_some());
    if at.has("mirror") && several.is_some() {
        let problem = "mirror and mirrors both say who gets a copy".to_owned();
        r.wrong_key(at, "mirror", problem, "keep one of the two");
    }
    if at.has("mirrorPercent") {
        let problem = "mirrorPercent is deprecated".to_owned();
        let advice = "write mirrorPercentage: {value: 10}";
        r.warning(at.wrong_key("mirrorPercent", Code::SchemaWarning, problem, advice));
    }
    let mut all = Vec::new();
    if let Some(mirror) = at.key("mirror") {
        let percent = value::number(at, "mirrorPercent").map(share);
        let share = percentage(at, "mirrorPercentage")
            .or(percent)
            .unwrap_or(Share::ALL);
        all.extend(http_route::destination(&mirror, r).map(|destination| (destination, share)));
    }
    for item in several.iter().flat_map(At::items) {
        let share = percentage(&item, "percentage").unwrap_or(Share::ALL);
        all.extend(http_route::destination_of(&item, r).map(|destination| (destination, share)));
    }
    all.retain(|(_, share)| *share != Share(0));
    all
}
