//! Rules in plain words.
//!
//! Owns: how conditions, rewrites, redirects, header changes, retries and faults are said.
//! Never: compares anything.
//! Called by: the rest of this room, admin (`/routes`).

use std::time::Duration;

use crate::model::{
    Abort, Fault, HeaderMatch, HeaderOps, HeaderText, MatchSpec, PathRewrite, QueryMatch, Redirect,
    RedirectPath, RedirectPort, Retries, Rewrite, Share, StringMatch,
};

/// Conditions that must all hold: `GET|POST /v1* x-tier:gold`; `*` where there is none.
pub fn condition(spec: &MatchSpec) -> String {
    let mut parts = Vec::new();
    if !spec.methods.is_empty() {
        let methods: Vec<&str> = spec.methods.iter().map(http::Method::as_str).collect();
        parts.push(methods.join("|"));
    }
    let named = |name: &str, text: &StringMatch| format!("{name} {}", text_match(text));
    parts.extend(spec.method.as_ref().map(|text| named("method", text)));
    parts.extend(spec.path.as_ref().map(|path| match spec.path_ignores_case {
        true => format!("{} (in any case)", text_match(path)),
        false => text_match(path),
    }));
    parts.extend(spec.scheme.as_ref().map(|text| named("scheme", text)));
    parts.extend(spec.authority.as_ref().map(|text| named("authority", text)));
    parts.extend(spec.headers.iter().map(|(name, wanted)| match wanted {
        HeaderMatch::Present => format!("{name}:*"),
        HeaderMatch::Absent => format!("no {name}"),
        HeaderMatch::Value(value) | HeaderMatch::Joined(value) => {
            format!("{name}:{}", text_match(value))
        }
        HeaderMatch::NotJoined(value) => format!("not {name}:{}", text_match(value)),
    }));
    parts.extend(spec.query.iter().map(|(name, wanted)| match wanted {
        QueryMatch::Present => format!("?{name}"),
        QueryMatch::Value(value) => format!("?{name}={}", text_match(value)),
    }));
    match parts.is_empty() {
        true => "*".to_owned(),
        false => parts.join(" "),
    }
}

/// `/a`, `/a*` or `~/a.*`.
pub(super) fn text_match(text: &StringMatch) -> String {
    match text {
        StringMatch::Exact(text) => text.clone(),
        StringMatch::Prefix(text) => format!("{text}*"),
        StringMatch::Regex(text) => format!("~{text}"),
    }
}

/// `301 https://(host)(path)`: what stays as the request has it stands in brackets.
pub fn redirect(redirect: &Redirect) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or("(scheme)");
    let authority = redirect.authority.as_deref().unwrap_or("(host)");
    let port = match redirect.port {
        None => String::new(),
        Some(RedirectPort::Number(port)) => format!(":{port}"),
        Some(RedirectPort::OfScheme) => ":(the scheme's port)".to_owned(),
        Some(RedirectPort::OfRequest) => ":(the request's port)".to_owned(),
    };
    let path = match &redirect.path {
        None => "(path)".to_owned(),
        Some(RedirectPath::Whole(path)) => path.clone(),
        Some(RedirectPath::Prefix(prefix)) => format!("{prefix}(rest)"),
    };
    format!("{} {scheme}://{authority}{port}{path}", redirect.status)
}

/// Changes of host and path; `None` where there are none.
pub fn rewrite(rewrite: &Rewrite) -> Option<String> {
    let host = rewrite.host.as_ref().map(|host| format!("host {host}"));
    let path = rewrite.path.as_ref().map(|path| match path {
        PathRewrite::Replace(text) => format!("path {text}"),
        PathRewrite::Regex {
            pattern,
            substitution,
        } => format!("path ~{pattern} to {substitution}"),
    });
    let parts: Vec<String> = host.into_iter().chain(path).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// In the order in which they are made (ISTIO.md V12); `None` where there are none.
pub(super) fn header_ops(ops: &HeaderOps) -> Option<String> {
    let value = |value: &HeaderText| match value {
        HeaderText::Literal(value) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        HeaderText::Format(text) => text.clone(),
    };
    let removed = ops.remove.iter().map(|name| format!("remove {name}"));
    let set = ops
        .set
        .iter()
        .map(|(name, text)| format!("set {name}: {}", value(text)));
    let added = ops
        .add
        .iter()
        .map(|(name, text)| format!("add {name}: {}", value(text)));
    let parts: Vec<String> = removed.chain(set).chain(added).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `None` for the default (ISTIO.md V14).
pub(super) fn retries(retries: &Retries) -> Option<String> {
    if *retries == Retries::default() {
        return None;
    }
    if retries.attempts == 0 {
        return Some("none".to_owned());
    }
    let on = &retries.on;
    let causes = [
        (on.connect_failure, "connect-failure"),
        (on.refused_stream, "refused-stream"),
        (on.reset, "reset"),
        (on.gateway_error, "gateway-error"),
        (on.server_error, "5xx"),
        (on.grpc_deadline_exceeded, "deadline-exceeded"),
        (on.grpc_internal, "internal"),
        (on.grpc_resource_exhausted, "resource-exhausted"),
        (on.grpc_unavailable, "unavailable"),
        (on.grpc_cancelled, "cancelled"),
    ];
    let causes = causes.iter().filter(|(wanted, _)| *wanted);
    let causes = causes.map(|(_, word)| (*word).to_owned());
    let all: Vec<String> = causes
        .chain(on.statuses.iter().map(ToString::to_string))
        .collect();
    let mut text = format!("up to {} on {}", retries.attempts, all.join(","));
    if let Some(bound) = retries.per_try_timeout {
        text.push_str(&format!(", each try within {}", duration(bound)));
    }
    Some(text)
}

/// `None` where nothing is done wrong.
pub(super) fn fault(fault: &Fault) -> Option<String> {
    let delay = fault
        .delay
        .as_ref()
        .map(|(time, share)| format!("{} delayed by {}", self::share(*share), duration(*time)));
    let abort = fault.abort.as_ref().map(|(abort, share)| match abort {
        Abort::Http(status) => format!("{} answered {status}", self::share(*share)),
        Abort::Grpc(status) => format!("{} answered gRPC status {status}", self::share(*share)),
    });
    let parts: Vec<String> = delay.into_iter().chain(abort).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `12.5%`.
pub(super) fn share(share: Share) -> String {
    part(u64::from(share.0), u64::from(Share::ALL.0))
}

/// `part` of `whole` in percent, to a tenth where it is not even.
pub(super) fn part(part: u64, whole: u64) -> String {
    let tenths = (part * 1000 + whole / 2).checked_div(whole).unwrap_or(0);
    match (part > 0 && tenths == 0, tenths % 10) {
        (true, _) if whole > 0 => "under 0.1%".to_owned(),
        (_, 0) => format!("{}%", tenths / 10),
        (_, rest) => format!("{}.{rest}%", tenths / 10),
    }
}

/// `15 s`, `250 ms`.
pub(super) fn duration(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_condition_is_said() {
        let spec = MatchSpec {
            path: Some(StringMatch::Prefix("/v1".into())),
            path_ignores_case: true,
            methods: vec![http::Method::GET, http::Method::POST],
            method: Some(StringMatch::Regex("P.*".into())),
            scheme: Some(StringMatch::Exact("http".into())),
            authority: Some(StringMatch::Prefix("bank.".into())),
            headers: vec![(http::HeaderName::from_static("x-old"), HeaderMatch::Absent)],
            query: vec![
                ("a".to_owned(), QueryMatch::Present),
                (
                    "b".to_owned(),
                    QueryMatch::Value(StringMatch::Exact("1".into())),
                ),
            ],
        };
        assert_eq!(
            condition(&spec),
            "GET|POST method ~P.* /v1* (in any case) scheme http authority bank.* no x-old ?a ?b=1"
        );
        assert_eq!(condition(&MatchSpec::default()), "*");
    }

    #[test]
    fn shares_add_up_in_tenths_of_a_percent() {
        assert_eq!(
            [part(1, 3), part(2, 4), part(1, 1), part(0, 2)],
            ["33.3%", "50%", "100%", "0%"]
        );
        assert_eq!(share(Share(1)), "under 0.1%");
        assert_eq!(part(1, 0), "0%");
    }

    #[test]
    fn retries_are_said_where_they_are_not_the_default() {
        assert_eq!(retries(&Retries::default()), None);
        let none = Retries {
            attempts: 0,
            ..Retries::default()
        };
        assert_eq!(retries(&none).as_deref(), Some("none"));
        let mut some = Retries {
            attempts: 3,
            per_try_timeout: Some(Duration::from_millis(250)),
            ..Retries::default()
        };
        some.on.statuses = vec![503];
        assert_eq!(
            retries(&some).as_deref(),
            Some(
                "up to 3 on connect-failure,refused-stream,unavailable,cancelled,503, each try \
                 within 250 ms"
            )
        );
    }
}
