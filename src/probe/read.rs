//! Reads probes as JSON in the shape of Istio's ISTIO_KUBE_APP_PROBERS.
//!
//! Owns: that shape, its bounds, and the words for what is wrong with it.
//! Never: lets a probe pass that could not be asked later.
//! Called by: cli.
//!
//! Why fields that are not known are passed over: the injector copies what Kubernetes' objects hold,
//! and a field that is new there must not keep a pod from starting.

use std::time::Duration;

use ::http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::spec::{AppProbe, AppProbes, Kind};

/// Bytes of the whole: an environment variable has room for 128 KiB on Linux.
const MAX_TEXT: usize = 256 * 1024;
/// Probes.
const MAX_PROBES: usize = 1000;
/// Headers of one probe.
const MAX_HEADERS: usize = 100;
/// What Kubernetes takes where a probe says nothing.
const TIMEOUT: Duration = Duration::from_secs(1);
/// What a hook may take, which has no time of its own: the kubelet ends it with the pod.
const HOOK_TIMEOUT: Duration = Duration::from_secs(600);
/// The longest that a probe may say.
const MAX_TIMEOUT: u64 = 3600;
/// The last word of a path: of a probe, and of a hook.
const LASTS: [(&str, &[&str]); 2] = [
    ("app-health", &["livez", "readyz", "startupz"]),
    ("app-lifecycle", &["prestopz", "poststartz"]),
];

/// What is wrong, with the place.
#[derive(Debug, thiserror::Error)]
#[error("{place}: expected {expected}, got {got}")]
pub struct ProbeError {
    place: String,
    expected: String,
    got: String,
}

/// Reads them all.
///
/// # Errors
/// The first thing that is wrong: where, what was expected, what came.
pub fn read(text: &str) -> Result<AppProbes, ProbeError> {
    if text.len() > MAX_TEXT {
        let expected = format!("at most {MAX_TEXT} bytes");
        return Err(wrong(
            "app probes",
            &expected,
            format!("{} bytes", text.len()),
        ));
    }
    let shape = "JSON such as {\"/app-health/web/livez\": {\"tcpSocket\": {\"port\": 8080}}}";
    let value: Value = serde_json::from_str(text)
        .map_err(|error| wrong("app probes", shape, format!("invalid JSON: {error}")))?;
    let Value::Object(all) = &value else {
        return Err(wrong("app probes", shape, brief(&value)));
    };
    if all.len() > MAX_PROBES {
        let expected = format!("at most {MAX_PROBES} probes");
        return Err(wrong("app probes", &expected, all.len().to_string()));
    }
    let mut probes = AppProbes::new();
    for (path, value) in all {
        let hook = check_path(path)?;
        probes.insert(path.clone(), probe(path, value, hook)?);
    }
    Ok(probes)
}

fn wrong(place: &str, expected: &str, got: String) -> ProbeError {
    ProbeError {
        place: place.to_owned(),
        expected: expected.to_owned(),
        got,
    }
}

/// What came, short enough for a message.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}..", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// What may follow a path, so that only those who know it are answered.
const SECRET: &str = "16 to 128 of A-Z, a-z, 0-9, _ and - behind the last word";

fn is_secret(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (16..=128).contains(&text.len()) && text.bytes().all(plain)
}

/// True where it is a hook's. A hook changes something: a path that ends in a secret keeps
/// everybody but the kubelet, who is told it, from asking.
fn check_path(path: &str) -> Result<bool, ProbeError> {
    let expected = "/app-health/CONTAINER/livez, readyz or startupz, or \
                    /app-lifecycle/CONTAINER/prestopz or poststartz";
    let parts: Vec<&str> = path.split('/').collect();
    let (["", room, container, last] | ["", room, container, last, _]) = parts.as_slice() else {
        return Err(wrong("app probes", expected, format!("{path:?}")));
    };
    if let Some(secret) = parts.get(4)
        && !is_secret(secret)
    {
        return Err(wrong("app probes", SECRET, format!("{path:?}")));
    }
    let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let named = (1..=63).contains(&container.len()) && container.bytes().all(label);
    let known = LASTS
        .iter()
        .any(|(known, lasts)| known == room && lasts.contains(last));
    match named && known {
        true => Ok(*room == "app-lifecycle"),
        false => Err(wrong("app probes", expected, format!("{path:?}"))),
    }
}

fn probe(path: &str, value: &Value, hook: bool) -> Result<AppProbe, ProbeError> {
    let kinds = "an object with one of httpGet, tcpSocket and grpc";
    let fields = value
        .as_object()
        .ok_or_else(|| wrong(path, kinds, brief(value)))?;
    let mut said = ["httpGet", "tcpSocket", "grpc"]
        .into_iter()
        .filter_map(|kind| Some((kind, fields.get(kind).filter(|value| !value.is_null())?)));
    let (Some((name, action)), None) = (said.next(), said.next()) else {
        return Err(wrong(path, kinds, brief(value)));
    };
    let place = format!("{path}: {name}");
    let action = action
        .as_object()
        .ok_or_else(|| wrong(&place, "an object", brief(action)))?;
    let port = port(&place, action)?;
    let kind = match name {
        "httpGet" => http(&place, action, port)?,
        "tcpSocket" => Kind::Tcp { port },
        _ => Kind::Grpc {
            port,
            service: text(&place, action, "service")?
                .unwrap_or_default()
                .to_owned(),
        },
    };
    let timeout = timeout(path, fields, hook)?;
    Ok(AppProbe { kind, timeout })
}

fn timeout(path: &str, fields: &Map<String, Value>, hook: bool) -> Result<Duration, ProbeError> {
    let place = format!("{path}: timeoutSeconds");
    let expected = format!("a number of seconds from 1 to {MAX_TIMEOUT}");
    match fields.get("timeoutSeconds") {
        // Kubernetes takes 0 for "not said".
        None | Some(Value::Null) => {}
        Some(value) if value.as_u64() == Some(0) => {}
        Some(value) => {
            let seconds = value.as_u64().filter(|seconds| *seconds <= MAX_TIMEOUT);
            return seconds
                .map(Duration::from_secs)
                .ok_or_else(|| wrong(&place, &expected, brief(value)));
        }
    }
    Ok(if hook { HOOK_TIMEOUT } else { TIMEOUT })
}

fn port(place: &str, action: &Map<String, Value>) -> Result<u16, ProbeError> {
    let value = action.get("port").unwrap_or(&Value::Null);
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    let number = number.filter(|number| *number > 0);
    let place = format!("{place}.port");
    number.ok_or_else(|| wrong(&place, "a number from 1 to 65535", brief(value)))
}

fn text<'a>(
    place: &str,
    action: &'a Map<String, Value>,
    field: &str,
) -> Result<Option<&'a str>, ProbeError> {
    match action.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(&format!("{place}.{field}"), "text", brief(other))),
    }
}

fn http(place: &str, action: &Map<String, Value>, port: u16) -> Result<Kind, ProbeError> {
    let scheme = text(place, action, "scheme")?.unwrap_or("HTTP");
    let tls = match scheme.to_ascii_uppercase().as_str() {
        "HTTP" => false,
        "HTTPS" => true,
        _ => {
            let place = format!("{place}.scheme");
            return Err(wrong(&place, "HTTP or HTTPS", format!("{scheme:?}")));
        }
    };
    let host = text(place, action, "host")?;
    let host = host.map(|host| {
        let full = match port {
            80 | 443 => host.to_owned(),
            port => format!("{host}:{port}"),
        };
        let place = format!("{place}.host");
        HeaderValue::from_str(&full).map_err(|_| wrong(&place, "a host", format!("{host:?}")))
    });
    Ok(Kind::Http {
        port,
        path: request_target(text(place, action, "path")?.unwrap_or("/")),
        tls,
        host: host.transpose()?,
        headers: headers(place, action)?,
    })
}

/// As the kubelet writes it: from the root, without a fragment, and escaped where it must be.
fn request_target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut target = String::from(if path.starts_with('/') { "" } else { "/" });
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&byte) => target.push(char::from(byte)),
            other => target.push_str(&format!("%{other:02X}")),
        }
    }
    target
}

fn headers(
    place: &str,
    action: &Map<String, Value>,
) -> Result<Vec<(HeaderName, HeaderValue)>, ProbeError> {
    let place = format!("{place}.httpHeaders");
    let list = match action.get("httpHeaders") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_HEADERS => list,
        Some(other) => {
            let expected = format!("a list of at most {MAX_HEADERS} names and values");
            return Err(wrong(&place, &expected, brief(other)));
        }
    };
    let one = |(nth, value): (usize, &Value)| {
        let place = format!("{place}[{nth}]");
        let field = |name| value.get(name).and_then(Value::as_str);
        let name = field("name").and_then(|name| name.parse::<HeaderName>().ok());
        let content = HeaderValue::from_str(field("value").unwrap_or_default()).ok();
        match (name, content) {
            (Some(name), Some(content)) => Ok((name, content)),
            _ => Err(wrong(
                &place,
                "the name and value of a header",
                brief(value),
            )),
        }
    };
    list.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> AppProbe {
        let mut all = read(text).unwrap();
        assert_eq!(all.len(), 1);
        all.pop_first().unwrap().1
    }

    #[test]
    fn i8_an_http_probe_is_read_as_istio_writes_it() {
        let probe = only(
            r#"{"/app-health/web/livez": {"httpGet": {"path": "x y?a=b#c", "port": 8080,
            "scheme": "HTTPS", "host": "shop.example", "httpHeaders": [{"name": "X-A", "value": "1"}],
            "later": true}, "timeoutSeconds": 7}}"#,
        );
        assert_eq!(probe.timeout, Duration::from_secs(7));
        let Kind::Http {
            port,
            path,
            tls,
            host,
            headers,
        } = probe.kind
        else {
            panic!("{:?}", probe.kind);
        };
        assert_eq!((port, path.as_str(), tls), (8080, "/x%20y?a=b", true));
        assert_eq!(host.unwrap(), "shop.example:8080");
        assert_eq!(
            headers,
            [("x-a".parse().unwrap(), HeaderValue::from_static("1"))]
        );
    }

    #[test]
    fn i8_what_is_not_said_is_what_kubernetes_takes() {
        let probe = only(r#"{"/app-health/web/readyz": {"httpGet": {"port": 80}}}"#);
        let kind = Kind::Http {
            port: 80,
            path: "/".into(),
            tls: false,
            host: None,
            headers: Vec::new(),
        };
        assert_eq!((probe.kind, probe.timeout), (kind, TIMEOUT));
        let probe = only(
            r#"{"/app-health/db/startupz": {"tcpSocket": {"port": 5432}, "timeoutSeconds": 0}}"#,
        );
        assert_eq!(
            (probe.kind, probe.timeout),
            (Kind::Tcp { port: 5432 }, TIMEOUT)
        );
        let hook = only(r#"{"/app-lifecycle/a/prestopz": {"grpc": {"port": 1, "service": null}}}"#);
        assert_eq!(hook.timeout, HOOK_TIMEOUT);
        assert_eq!(read("{}").unwrap().len(), 0);
    }

    #[test]
    fn i8_a_path_may_end_in_a_secret_that_is_long_enough() {
        let read_at =
            |path: &str| read(&format!(r#"{{"{path}": {{"tcpSocket": {{"port": 1}}}}}}"#));
        assert!(read_at("/app-lifecycle/web/prestopz/0123456789abcdef").is_ok());
        for short in [
            "",
            "0123456789abcde",
            "0123456789abcde/x",
            "0123456789abcde%",
        ] {
            let error = read_at(&format!("/app-lifecycle/web/prestopz/{short}")).unwrap_err();
            assert!(
                error.to_string().starts_with("app probes: expected "),
                "{error}"
            );
        }
    }

    #[test]
    fn i8_what_is_malformed_is_refused_with_its_path() {
        let get = |inner: &str| format!(r#"{{"/app-health/web/livez": {{"httpGet": {inner}}}}}"#);
        for (text, words) in [
            ("[]".to_owned(), "app probes: expected JSON such as"),
            ("{".to_owned(), "invalid JSON: EOF"),
            (
                r#"{"/app-health/web/other": {"tcpSocket": {"port": 1}}}"#.to_owned(),
                "got \"/app-health/web/other\"",
            ),
            (
                r#"{"/app-health/../livez": {"tcpSocket": {"port": 1}}}"#.to_owned(),
                "got \"/app-health/../livez\"",
            ),
            (
                r#"{"/app-health/web/livez": {"exec": {"command": ["a"]}}}"#.to_owned(),
                "/app-health/web/livez: expected an object with one of httpGet",
            ),
            (
                r#"{"/app-health/web/livez": {"tcpSocket": {"port": 1}, "grpc": {"port": 1}}}"#
                    .to_owned(),
                "expected an object with one of httpGet",
            ),
            (
                get(r#"{"port": "http"}"#),
                "/app-health/web/livez: httpGet.port: expected a number from 1 to 65535, got \"http\"",
            ),
            (
                get("{}"),
                "httpGet.port: expected a number from 1 to 65535, got null",
            ),
            (get(r#"{"port": 65536}"#), "got 65536"),
            (
                get(r#"{"port": 1, "scheme": "FTP"}"#),
                "httpGet.scheme: expected HTTP or HTTPS, got \"FTP\"",
            ),
            (
                get(r#"{"port": 1, "httpHeaders": [{"name": "a b", "value": "c"}]}"#),
                "httpGet.httpHeaders[0]: expected the name and value of a header",
            ),
            (
                get(r#"{"port": 1, "path": 7}"#),
                "httpGet.path: expected text, got 7",
            ),
            (
                r#"{"/app-health/a/livez": {"tcpSocket": {"port": 1}, "timeoutSeconds": -1}}"#
                    .to_owned(),
                "/app-health/a/livez: timeoutSeconds: expected a number of seconds from 1 to 3600",
            ),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let long = format!(r#"{{"a": "{}"}}"#, "x".repeat(MAX_TEXT));
        assert!(
            read(&long)
                .unwrap_err()
                .to_string()
                .contains("at most 262144 bytes")
        );
    }
}
