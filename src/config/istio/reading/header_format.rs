//! Values of headers that a rule writes: format strings of Envoy's (ISTIO.md V12).
//!
//! Owns: which operators there are, and which value is one at all.
//! Never: expands one (that is `proxy`).
//! Called by: http_headers.
//!
//! Why a list of its own: the access log's is a room above. A test holds the two together.

use http::HeaderValue;

use crate::config::format::quote;
use crate::model::HeaderText;

/// Operators without an argument.
const SIMPLE: &[&str] = &[
    "START_TIME",
    "PROTOCOL",
    "RESPONSE_CODE",
    "RESPONSE_FLAGS",
    "RESPONSE_CODE_DETAILS",
    "CONNECTION_TERMINATION_DETAILS",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "DURATION",
    "UPSTREAM_HOST",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "REQUESTED_SERVER_NAME",
    "ROUTE_NAME",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CERT_V_END",
];

/// What is wrong with a value, and what to write.
pub type Wrong = (String, String);

/// A value as text, or as format string where it has an operator.
pub fn parse(text: &str) -> Result<HeaderText, Wrong> {
    let (mut literal, mut operators) = (String::new(), false);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        literal.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let Some((inner, after)) = after.split_once('%') else {
            let place = text.len() - after.len() - 1;
            return Err((
                format!("the value has a % at byte {place} without an end"),
                "write %% for the sign itself".to_owned(),
            ));
        };
        operator(inner)?;
        operators = true;
        rest = after;
    }
    literal.push_str(rest);
    if operators {
        return Ok(HeaderText::Format(text.to_owned()));
    }
    match HeaderValue::from_str(&literal) {
        Ok(value) => Ok(HeaderText::Literal(value)),
        Err(_) => Err((
            "the value cannot be carried in a header".to_owned(),
            "write visible ASCII characters and spaces".to_owned(),
        )),
    }
}

/// What stands between two percent signs.
fn operator(text: &str) -> Result<(), Wrong> {
    let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    let wrong = |why: &str| {
        let problem = format!("the value has {}; {why}", quote(&format!("%{text}%")));
        Err((
            problem,
            "correct it, or write %% for the sign itself".to_owned(),
        ))
    };
    match name {
        "REQ" | "RESP" => match argument(rest, name == "REQ") {
            true => Ok(()),
            false => wrong("the operator takes a header, as in %REQ(X?Y):Z%"),
        },
        _ if SIMPLE.contains(&name) && rest.is_empty() => Ok(()),
        _ if SIMPLE.contains(&name) => wrong("this operator takes no argument"),
        _ => {
            let problem = format!(
                "the value has the operator {}, which is not known",
                quote(&format!("%{text}%"))
            );
            let advice = "write one of the access log's operators, or %% for the sign itself";
            Err((problem, advice.to_owned()))
        }
    }
}

/// `(X)`, `(X?Y)`, with `:Z` behind.
fn argument(rest: &str, request: bool) -> bool {
    let Some((names, cut)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) else {
        return false;
    };
    let cut = match cut.strip_prefix(':') {
        Some(digits) => digits.parse::<usize>().is_ok() && !digits.starts_with('+'),
        None => cut.is_empty(),
    };
    let pseudo: &[&str] = match request {
        true => &[":method", ":path", ":authority", ":scheme"],
        false => &[":status"],
    };
    let name = |name: &str| {
        let plain = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        plain || pseudo.contains(&name.to_ascii_lowercase().as_str())
    };
    cut && match names.split_once('?') {
        Some((first, second)) => name(first) && name(second),
        None => name(names),
    }
}
