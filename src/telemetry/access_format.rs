//! One request as one line of text or JSON (ISTIO.md B6 to B9).
//!
//! Owns: how lines are put together, and how foreign text in them is made harmless.
//! Never: writes a file (that is `access_log`).
//! Called by: access_log.
//!
//! Why everything foreign is escaped: a client chooses its path, headers and names, and none of
//! them may look like a second line, a closing quote, or another column.

use std::io::Write;

use http::HeaderName;

use super::access_entry::{AccessEntry, Captured};
use super::access_operator::{Headers, Operator, Part, Value};
use super::timestamp::write_millis;
use crate::message::Fields;

/// B6, without the newline.
const DEFAULT: &str = "[%START_TIME%] \
    \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%";

/// B7: keys and what they hold, in Istio's order.
const JSON: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
];

/// Keys of our own behind Istio's, in lines that have something to say under them.
const OWN_JSON: &[(&str, &str)] = &[
    ("downstream_tls_version", "%DOWNSTREAM_TLS_VERSION%"),
    ("downstream_peer_uri_san", "%DOWNSTREAM_PEER_URI_SAN%"),
    (
        "downstream_transport_failure_reason",
        "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
];

/// How lines look: compiled once, so that an unknown operator is refused at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessFormat {
    layout: Layout,
    headers: Headers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    Text(Vec<Piece>),
    Json(Vec<Field>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    key: &'static str,
    operator: Operator,
    /// Left out where there is nothing to say.
    optional: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// `quoted`: it stands between quotes, so that spaces in it separate nothing.
    Value {
        operator: Operator,
        quoted: bool,
    },
}

/// Why a format cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Neither a known word nor a format string.
    #[error(
        "the access log format \"{0}\" is not known; write text, json, or an Envoy format string \
         with operators such as %RESPONSE_CODE%"
    )]
    Word(String),
    /// An operator that is not known.
    #[error("the format has the operator %{0}%, which is not known")]
    Unknown(String),
    /// A `%` that begins an operator which does not end.
    #[error("the format has a % at byte {0} without an end; write %% for the sign itself")]
    Unclosed(usize),
    /// `REQ` and `RESP` need a header's name, the others take nothing.
    #[error("the format has %{operator}%; {expected}")]
    Argument {
        /// As written.
        operator: String,
        /// What is allowed there.
        expected: &'static str,
    },
}

impl AccessFormat {
    /// `text` (B6), `json` (B7), or a format string of Envoy's, told by a `%` in it.
    ///
    /// Three keys of `json` are sortie's own additions, and are there only where they have a value:
    /// `downstream_tls_version`, `downstream_peer_uri_san`, `downstream_transport_failure_reason`.
    pub fn parse(text: &str) -> Result<AccessFormat, FormatError> {
        match text {
            "text" => AccessFormat::compile(DEFAULT),
            "json" => {
                let mut headers = Headers::default();
                let istios = JSON.iter().map(|field| (field, false));
                let own = OWN_JSON.iter().map(|field| (field, true));
                let keys = istios.chain(own).map(|((key, operator), optional)| {
                    let inner = operator.trim_matches('%');
                    Ok(Field {
                        key,
                        operator: Operator::parse(inner, &mut headers)?,
                        optional,
                    })
                });
                let layout = Layout::Json(keys.collect::<Result<_, FormatError>>()?);
                Ok(AccessFormat { layout, headers })
            }
            _ if text.contains('%') => AccessFormat::compile(text),
            _ => Err(FormatError::Word(text.to_owned())),
        }
    }

    fn compile(text: &str) -> Result<AccessFormat, FormatError> {
        let mut headers = Headers::default();
        let mut quoted = false;
        let mut pieces = Vec::new();
        for part in super::access_operator::parts(text, &mut headers)? {
            pieces.push(match part {
                Part::Literal(literal) => {
                    quoted ^= literal.matches('"').count() % 2 == 1;
                    Piece::Literal(literal)
                }
                Part::Operator(operator) => Piece::Value { operator, quoted },
            });
        }
        match pieces.last_mut() {
            Some(Piece::Literal(literal)) if literal.ends_with('\n') => {}
            Some(Piece::Literal(literal)) => literal.push('\n'),
            _ => pieces.push(Piece::Literal("\n".to_owned())),
        }
        let layout = Layout::Text(pieces);
        Ok(AccessFormat { layout, headers })
    }

    /// The values of the request headers that the format names.
    pub(super) fn capture_request(&self, headers: &Fields) -> Captured {
        capture(&self.headers.request, headers)
    }

    /// The values of the answer's headers that the format names.
    pub(super) fn capture_response(&self, headers: &Fields) -> Captured {
        capture(&self.headers.response, headers)
    }

    /// One line, newline included, behind what `out` holds.
    pub(super) fn write(&self, out: &mut Vec<u8>, entry: &AccessEntry<'_>) {
        match &self.layout {
            Layout::Text(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                        Piece::Value { operator, quoted } => {
                            write_text(out, operator.value(entry), *quoted);
                        }
                    }
                }
            }
            Layout::Json(fields) => {
                for (place, field) in fields.iter().enumerate() {
                    let value = field.operator.value(entry);
                    if field.optional && is_empty(&value) {
                        continue;
                    }
                    out.extend_from_slice(if place == 0 { b"{\"" } else { b",\"" });
                    out.extend_from_slice(field.key.as_bytes());
                    out.extend_from_slice(b"\":");
                    write_json(out, value);
                }
                out.extend_from_slice(b"}\n");
            }
        }
    }
}

pub(super) fn capture(names: &[HeaderName], headers: &Fields) -> Captured {
    match names.is_empty() {
        true => Captured::NONE,
        false => Captured::of(names, headers),
    }
}

/// What needs no escape. Writing to a vector cannot fail, so the results are dropped here and below.
pub(super) fn write_plain(out: &mut Vec<u8>, value: &Value<'_>) {
    let _ = match value {
        Value::Nothing | Value::Text(_) | Value::Word(_) | Value::Words(_) | Value::Joined(_) => {
            Ok(())
        }
        Value::Number(number) => write!(out, "{number}"),
        Value::Digits(number) => write!(out, "{number}"),
        Value::Address(address) => write!(out, "{address}"),
        Value::Ip(ip) => write!(out, "{ip}"),
        Value::Flags(flags) => write!(out, "{flags}"),
        Value::Time(time) => {
            write_millis(out, *time);
            Ok(())
        }
    };
}

/// Nothing is there to be written.
fn is_empty(value: &Value<'_>) -> bool {
    matches!(
        value,
        Value::Nothing
            | Value::Text(b"")
            | Value::Word(b"")
            | Value::Words(b"")
            | Value::Joined(b"")
    )
}

fn write_text(out: &mut Vec<u8>, value: Value<'_>, quoted: bool) {
    match value {
        value if is_empty(&value) => out.push(b'-'),
        Value::Text(text) if quoted => text.iter().for_each(|byte| escape(out, *byte)),
        Value::Text(text) | Value::Word(text) => {
            for byte in text {
                match byte {
                    b' ' => out.extend_from_slice(b"\\x20"),
                    _ => escape(out, *byte),
                }
            }
        }
        Value::Words(text) => words(text).for_each(|byte| match byte {
            b' ' if !quoted => out.extend_from_slice(b"\\x20"),
            _ => escape(out, byte),
        }),
        Value::Joined(text) => joined(text).for_each(|byte| escape(out, byte)),
        _ => write_plain(out, &value),
    }
}

fn words(text: &[u8]) -> impl Iterator<Item = u8> {
    text.iter().map(|byte| match byte {
        b'"' => b'\'',
        other => *other,
    })
}

/// Envoy joins the words of such a text: it stands without quotes.
fn joined(text: &[u8]) -> impl Iterator<Item = u8> {
    text.iter().map(|byte| match byte {
        b' ' | b'\t' | b'\r' | b'\n' => b'_',
        other => *other,
    })
}

/// As nginx does: what is not printable ASCII, and what could end a quoted text, as `\xNN`.
fn escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
            let _ = write!(out, "\\x{byte:02X}");
        }
        _ => out.push(byte),
    }
}

fn write_json(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        value if is_empty(&value) => out.extend_from_slice(b"null"),
        Value::Number(_) => write_plain(out, &value),
        Value::Text(text) | Value::Word(text) | Value::Words(text) => {
            json_text(out, &String::from_utf8_lossy(text));
        }
        Value::Joined(text) => {
            let text: Vec<u8> = joined(text).collect();
            json_text(out, &String::from_utf8_lossy(&text));
        }
        _ => {
            out.push(b'"');
            write_plain(out, &value);
            out.push(b'"');
        }
    }
}

/// RFC 8259 section 7, in ASCII alone: some readers take U+2028 for the end of a line.
fn json_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            ' '..='~' => out.push(c as u8),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Flags;
    use crate::telemetry::access_entry::{TlsFacts, sample, secured};

    fn line(format: &str, entry: &AccessEntry<'_>) -> String {
        let mut out = Vec::new();
        AccessFormat::parse(format).unwrap().write(&mut out, entry);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn b6_the_default_line_is_envoys() {
        assert_eq!(
            line("text", &sample()),
            "[2026-11-21T10:04:05.123Z] \"GET /v1/accounts?id=7 HTTP/1.1\" 200 - via_upstream - \
             \"-\" 12 3456 7 6 \"-\" \"curl/8.5.0\" \"2c1d0f6e\" \"bank.example\" \
             \"192.0.2.7:8443\" bank 10.0.0.5:40112 127.0.0.1:80 127.0.0.1:51234 - accounts\n"
        );
    }

    #[test]
    fn b6_a_failed_request_says_why() {
        let entry = AccessEntry {
            code: 503,
            flags: Flags::UF | Flags::URX,
            details: "upstream_reset_before_response_started{connection failure}",
            upstream_failure: "the certificate of \"bank\" has expired",
            upstream_service_time: None,
            upstream_local: None,
            ..sample()
        };
        let text = line("text", &entry);
        let middle = "503 UF,URX upstream_reset_before_response_started{connection_failure} - \
                      \"the certificate of 'bank' has expired\" 12 3456 7 - ";
        assert!(text.contains(middle), "{text}");
    }

    #[test]
    fn b7_a_connection_without_requests_begins_with_dashes() {
        let entry = AccessEntry {
            method: "",
            path: "",
            protocol: "",
            code: 0,
            ..sample()
        };
        assert!(line("text", &entry).contains("] \"- - -\" 0 - "));
    }

    #[test]
    fn b7_json_has_istios_keys_and_nothing_but_json() {
        let entry = AccessEntry {
            user_agent: b"a\"b\\c\n\xff\xe2\x80\xa8",
            ..sample()
        };
        let text = line("json", &entry);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.is_ascii());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let object = value.as_object().unwrap();
        assert_eq!(object.len(), JSON.len());
        assert_eq!(object["user_agent"], "a\"b\\c\n\u{fffd}\u{2028}");
        assert_eq!(
            (&object["response_code"], &object["duration"]),
            (&200.into(), &7.into())
        );
        assert_eq!(object["upstream_service_time"], "6");
        assert_eq!(object["upstream_host"], "192.0.2.7:8443");
        assert_eq!(object["response_flags"], "-");
        assert!(object["x_forwarded_for"].is_null());
    }

    #[test]
    fn an_entry_tells_who_the_client_is_and_what_tls_agreed_on() {
        let secured = secured();
        let entry = AccessEntry {
            downstream_tls: Some(&secured),
            ..sample()
        };
        for (format, expected) in [
            ("%DOWNSTREAM_TLS_VERSION%", "TLSv1.3"),
            ("%DOWNSTREAM_TLS_CIPHER%", "TLS_AES_128_GCM_SHA256"),
            ("%DOWNSTREAM_LOCAL_URI_SAN%", "spiffe://td/ns/shop/sa/till"),
            ("%DOWNSTREAM_LOCAL_SUBJECT%", "CN=till"),
            (
                "%DOWNSTREAM_PEER_URI_SAN%",
                "spiffe://td/ns/web/sa/front,https://b",
            ),
            ("%DOWNSTREAM_PEER_DNS_SAN%", "a.example,b.example"),
            ("%DOWNSTREAM_PEER_IP_SAN%", "192.0.2.1"),
            (
                "\"%DOWNSTREAM_PEER_SUBJECT%\"",
                "\"CN=front,O=A \\x5C\\x22B\\x5C\\x22\"",
            ),
            ("%DOWNSTREAM_PEER_ISSUER%", "CN=root"),
            ("%DOWNSTREAM_PEER_SERIAL%", "0aff"),
            ("%DOWNSTREAM_PEER_FINGERPRINT_256%", "abcd"),
            ("%DOWNSTREAM_PEER_CERT_V_START%", "2026-01-01T00:00:00.000Z"),
            ("%DOWNSTREAM_PEER_CERT_V_END%", "2026-01-02T00:00:00.000Z"),
            ("%REQ(:SCHEME)%", "https"),
        ] {
            assert_eq!(line(format, &entry), format!("{expected}\n"), "{format}");
        }
        let text = line("json", &entry);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["downstream_tls_version"], "TLSv1.3");
        let uris = "spiffe://td/ns/web/sa/front,https://b";
        assert_eq!(value["downstream_peer_uri_san"], uris);
    }

    #[test]
    fn an_entry_without_a_clients_certificate_says_nothing_of_one() {
        let anonymous = TlsFacts {
            peer: None,
            ..secured()
        };
        let format = "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_URI_SAN% \
                      %DOWNSTREAM_PEER_CERT_V_END%";
        let tls = AccessEntry {
            downstream_tls: Some(&anonymous),
            ..sample()
        };
        assert_eq!(line(format, &tls), "TLSv1.3 - -\n");
        assert_eq!(line(format, &sample()), "- - -\n");
        let keys = |entry| {
            let value: serde_json::Value = serde_json::from_str(&line("json", entry)).unwrap();
            value.as_object().unwrap().len() - JSON.len()
        };
        assert_eq!((keys(&tls), keys(&sample())), (1, 0));
    }

    #[test]
    fn a_handshake_that_failed_says_why() {
        let entry = AccessEntry {
            downstream_failure: "the client's certificate has \"expired\"",
            ..sample()
        };
        let text = line("%DOWNSTREAM_TRANSPORT_FAILURE_REASON%", &entry);
        assert_eq!(
            text,
            "the\\x20client's\\x20certificate\\x20has\\x20'expired'\n"
        );
        let value: serde_json::Value = serde_json::from_str(&line("json", &entry)).unwrap();
        let words = "the client's certificate has \"expired\"";
        assert_eq!(value["downstream_transport_failure_reason"], words);
    }

    #[test]
    fn nothing_that_a_client_sends_can_forge_a_line_or_a_column() {
        let evil = "a\" 200 -\r\n[2026] \"GET \u{85}\u{2028}\\x22";
        let entry = AccessEntry {
            path: evil,
            method: evil,
            authority: evil.as_bytes(),
            user_agent: evil.as_bytes(),
            xff: evil.as_bytes(),
            request_id: evil.as_bytes(),
            requested_server_name: evil,
            details: evil,
            upstream_failure: evil,
            route_name: evil,
            ..sample()
        };
        let text = line("text", &entry);
        assert!(text.ends_with('\n') && text.matches('\n').count() == 1);
        assert!(
            text.bytes()
                .all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte))
        );
        assert_eq!(
            text.matches('"').count(),
            line("text", &sample()).matches('"').count()
        );
        assert_eq!(line("json", &entry).matches('\n').count(), 1);
        // Outside quotes a space separates, so it is escaped there; inside it is only a space.
        let agent = AccessEntry {
            user_agent: b"a b",
            ..sample()
        };
        assert_eq!(
            line("%REQ(User-Agent)% \"%REQ(User-Agent)%\"", &agent),
            "a\\x20b \"a b\"\n"
        );
    }

    #[test]
    fn a_custom_format_takes_headers_lengths_and_alternatives() {
        let format = AccessFormat::parse(
            "%% %REQ(X-NONE?X-Tenant):3% %REQ(X-TENANT)% %RESP(Content-Type)% %RESP(X)% \
             %REQ(X-ENVOY-ORIGINAL-PATH)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        )
        .unwrap();
        let headers = Fields::from_iter([
            ("x-tenant", "alpine"),
            ("x-envoy-original-path", "/forged"),
            ("content-type", "text/plain"),
        ]);
        let entry = AccessEntry {
            request_headers: &format.capture_request(&headers),
            response_headers: &format.capture_response(&headers),
            ..sample()
        };
        let mut out = Vec::new();
        format.write(&mut out, &entry);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "% alp alpine text/plain - - 127.0.0.1\n"
        );
    }

    #[test]
    fn a_format_that_cannot_be_used_is_refused_with_the_operator_named() {
        for (format, part) in [
            ("%RESPONSE_CODE% %NO_SUCH%", "%NO_SUCH%, which is not known"),
            ("%response_code%", "%response_code%"),
            ("a %RESPONSE_CODE", "byte 2"),
            ("%START_TIME(%s)%", "START_TIME("),
            ("%REQ%", "name of a header"),
            ("%REQ(X):%", "name of a header"),
            ("%REQ(a b)%", "name of a header"),
            ("envoy", "\"envoy\" is not known"),
        ] {
            let text = AccessFormat::parse(format).unwrap_err().to_string();
            assert!(text.contains(part), "{format}: {text}");
        }
    }
}
