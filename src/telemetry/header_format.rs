//! The values of headers that rules describe by Envoy's format strings (ISTIO.md V12).
//!
//! Owns: the compiled formats of one set of header changes, and how a value is put together.
//! Never: touches a header map, or gives a value that no header can hold.
//! Called by: route (compiles), proxy (expands), config (checks).

use http::{HeaderName, HeaderValue};

use super::access_entry::{AccessEntry, Captured};
use super::access_format::{FormatError, capture, write_plain};
use super::access_operator::{Headers, Part, Value, parts};
use crate::message::Fields;

/// The formats of one set of header changes. They share what they keep of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormatSet {
    formats: Vec<Vec<Part>>,
    headers: Headers,
}

impl FormatSet {
    /// Adds a format and gives its number.
    ///
    /// # Errors
    /// An operator that is not known, or a `%` that is neither one nor doubled.
    pub fn add(&mut self, text: &str) -> Result<usize, FormatError> {
        self.formats.push(parts(text, &mut self.headers)?);
        Ok(self.formats.len() - 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.formats.len()
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.formats.is_empty()
    }

    /// The request headers that the formats name.
    pub fn request_headers(&self) -> &[HeaderName] {
        &self.headers.request
    }

    /// Keeps what the formats need of a request's head.
    pub fn capture_request(&self, headers: &Fields) -> Captured {
        capture(&self.headers.request, headers)
    }

    /// Keeps what the formats need of an answer's head.
    pub fn capture_response(&self, headers: &Fields) -> Captured {
        capture(&self.headers.response, headers)
    }

    /// The value of every format, in the order they were added. What is not known is left out, as
    /// Envoy does; `None` where nothing is left, or what no header can hold.
    pub fn expand(&self, entry: &AccessEntry<'_>) -> Vec<Option<HeaderValue>> {
        let value = |parts: &Vec<Part>| {
            let mut out = Vec::new();
            for part in parts {
                match part {
                    Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                    Part::Operator(operator) => write(&mut out, &operator.value(entry)),
                }
            }
            let value = HeaderValue::from_bytes(&out).ok();
            value.filter(|value| !value.is_empty())
        };
        self.formats.iter().map(value).collect()
    }
}

/// As it stands: a header is no line of a log, so nothing is escaped.
fn write(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Text(text) | Value::Word(text) | Value::Words(text) | Value::Joined(text) => {
            out.extend_from_slice(text);
        }
        other => write_plain(out, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access_entry::sample;

    fn one(text: &str, entry: &AccessEntry<'_>) -> Option<String> {
        let mut set = FormatSet::default();
        assert_eq!(set.add(text), Ok(0));
        let value = set.expand(entry).remove(0)?;
        Some(String::from_utf8(value.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn v12_operators_of_the_access_log_are_expanded_and_a_doubled_sign_is_one() {
        for (format, value) in [
            ("100%%", "100%"),
            ("%DOWNSTREAM_REMOTE_ADDRESS%", "127.0.0.1:51234"),
            (
                "a %PROTOCOL%, %START_TIME%",
                "a HTTP/1.1, 2026-11-21T10:04:05.123Z",
            ),
            ("%REQ(:METHOD)% %REQ(:PATH)%", "GET /v1/accounts?id=7"),
            ("%UPSTREAM_CLUSTER%", "bank"),
            ("%REQ(:AUTHORITY):4%", "bank"),
        ] {
            assert_eq!(one(format, &sample()).as_deref(), Some(value), "{format}");
        }
    }

    #[test]
    fn v12_what_is_not_known_is_left_out_and_an_empty_value_is_none() {
        assert_eq!(
            one("<%REQ(X-FORWARDED-FOR)%>", &sample()).as_deref(),
            Some("<>")
        );
        assert_eq!(one("%REQ(X-FORWARDED-FOR)%", &sample()), None);
        assert_eq!(one("", &sample()), None);
    }

    #[test]
    fn v12_a_value_that_no_header_can_hold_is_none_and_never_a_panic() {
        let entry = AccessEntry {
            path: "/a\r\nx-forged: 1",
            ..sample()
        };
        assert_eq!(one("%REQ(:PATH)%", &entry), None);
        let entry = AccessEntry {
            user_agent: b"\xff \"quoted\"",
            ..sample()
        };
        let mut set = FormatSet::default();
        set.add("%REQ(USER-AGENT)%").unwrap();
        let value = set.expand(&entry).remove(0).unwrap();
        assert_eq!(value.as_bytes(), b"\xff \"quoted\"");
    }

    #[test]
    fn v12_formats_of_one_set_share_what_they_keep_of_a_request() {
        let mut set = FormatSet::default();
        set.add("%REQ(X-A)%%REQ(X-B?X-A)%").unwrap();
        set.add("%REQ(x-a)%").unwrap();
        assert_eq!(set.request_headers(), ["x-a", "x-b"]);
        let headers = Fields::from_iter([("x-a", "1")]);
        let kept = set.capture_request(&headers);
        let entry = AccessEntry {
            request_headers: &kept,
            ..sample()
        };
        let values: Vec<_> = set.expand(&entry).into_iter().flatten().collect();
        assert_eq!(values, ["11", "1"]);
    }

    #[test]
    fn v12_an_operator_that_is_not_known_is_refused() {
        for text in [
            "%NO_SUCH%",
            "%REQ(a",
            "50%",
            "%START_TIME(%s)%",
            "%PER_REQUEST_STATE(x)%",
        ] {
            assert!(FormatSet::default().add(text).is_err(), "{text}");
        }
    }
}
