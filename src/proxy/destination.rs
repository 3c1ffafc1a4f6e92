//! Which destination a request asks for.
//!
//! Owns: the rules of authority, absolute form and Host (RFC 9112 section 3.2), direct and captured.
//! Never: looks at the table.
//! Called by: `proxy::forward`, `proxy::stream`.

use http::uri::Scheme;
use http::{Method, Version};

use super::error::ProxyError;
use crate::message::{Known, RequestHead};
use crate::model::{Destination, ListenerKind, OriginalDst, Resolution};
use crate::route;
use crate::upstream::Upstream;

/// The port that a request means when it names none.
const HTTP_PORT: u16 = 80;

/// The same for `explain`; the status and the words of the answer where there is no destination.
///
/// # Errors
/// Where the request itself is refused.
pub fn destination_of(
    parts: &RequestHead,
    kind: ListenerKind,
    original_dst: Option<OriginalDst>,
) -> Result<Destination<'_>, (u16, String)> {
    learn(parts, kind, original_dst).map_err(|error| (error.verdict().status, error.to_string()))
}

/// Reads the destination. On a captured connection the port is the original destination's: the
/// Host chooses among the names on that port, and where there is no Host the address is the name.
pub(super) fn learn<'a>(
    parts: &'a RequestHead,
    kind: ListenerKind,
    original_dst: Option<OriginalDst>,
) -> Result<Destination<'a>, ProxyError> {
    if parts.method == Method::CONNECT {
        return Err(ProxyError::Connect);
    }
    let asks_for_tls = parts
        .uri
        .scheme()
        .is_some_and(|scheme| *scheme == Scheme::HTTPS);
    // Who is one proxy further behind TLS that ended at an entrance may say so.
    if asks_for_tls && parts.version < Version::HTTP_2 && !is_entrance(kind) {
        return Err(ProxyError::BadRequest(
            "the request asks for https:// in absolute form; ask for http:// and sortie adds TLS"
                .to_owned(),
        ));
    }
    let authority = authority(parts)?;
    let destination = match (authority, kind, original_dst) {
        // Whatever the port is that the client knows it by (ISTIO.md G11, V8).
        (Some(text), ListenerKind::Gateway(port), _) => Destination {
            port: port.number,
            ..read(text, port.number)?
        },
        (Some(text), _, None) => read(text, HTTP_PORT)?,
        (Some(text), _, Some(OriginalDst(address))) => {
            let mut destination = read(text, address.port())?;
            destination.port = address.port();
            destination
        }
        (None, _, Some(OriginalDst(address))) => Destination {
            host: address.ip().to_canonical().to_string().into(),
            port: address.port(),
        },
        (None, _, None) => {
            return Err(ProxyError::BadRequest(
                "the request names no host: send a Host header".to_owned(),
            ));
        }
    };
    match (kind, original_dst) {
        (ListenerKind::Capture, None) => Err(ProxyError::NotRedirected),
        _ => Ok(destination),
    }
}

/// The destination as the client wrote it, for what it is sent back to: the port is that of its
/// authority, wherever an entrance is bound (ISTIO.md G10, G11).
pub fn as_written<'a>(
    parts: &'a RequestHead,
    scheme: route::Scheme,
    learnt: &'a Destination<'_>,
) -> Destination<'a> {
    let text = authority(parts).ok().flatten();
    let written = text.and_then(|text| Destination::parse(text, scheme.default_port()).ok());
    written.unwrap_or_else(|| Destination {
        host: learnt.host.as_ref().into(),
        port: learnt.port,
    })
}

/// The name by which an upstream without endpoints may look for one. A gateway has no original
/// destination to go to, and must not go wherever its clients say instead (ISTIO.md E2).
pub(super) fn looked_up<'a>(kind: ListenerKind, upstream: &Upstream, host: &'a str) -> &'a str {
    match (kind, upstream.spec().resolution) {
        (ListenerKind::Gateway(_), Resolution::OriginalDst { .. }) => "",
        _ => host,
    }
}

fn is_entrance(kind: ListenerKind) -> bool {
    matches!(kind, ListenerKind::Inbound(_) | ListenerKind::Gateway(_))
}

fn read(text: &str, default_port: u16) -> Result<Destination<'_>, ProxyError> {
    Destination::parse(text, default_port)
        .map_err(|error| ProxyError::BadRequest(format!("the host \"{text}\": {error}")))
}

/// The authority of the target wins over Host (RFC 9112 section 3.2.2).
fn authority(parts: &RequestHead) -> Result<Option<&str>, ProxyError> {
    let mut hosts = parts.headers.get_all(Known::Host);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(ProxyError::BadRequest(
            "there are two Host headers".to_owned(),
        ));
    }
    if let Some(authority) = parts.uri.authority() {
        return Ok(Some(authority.as_str()));
    }
    match host {
        None => Ok(None),
        Some(value) => match value.to_str() {
            Some("") => Ok(None),
            Some(text) => Ok(Some(text)),
            None => Err(ProxyError::BadRequest(
                "the Host header is not text".to_owned(),
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, host: &[&str]) -> RequestHead {
        let mut request = http::Request::builder().uri(uri);
        for host in host {
            request = request.header("host", *host);
        }
        request.body(()).unwrap().into_parts().0.into()
    }

    #[test]
    fn a_direct_request_goes_to_its_host_and_port_80_where_it_names_none() {
        let parts = parts("/x", &["Bank.example"]);
        let got = learn(&parts, ListenerKind::Direct, None).unwrap();
        assert_eq!(got.to_string(), "bank.example:80");
    }

    #[test]
    fn an_absolute_form_wins_over_the_host_header() {
        let parts = parts("http://bank.example:8080/x", &["other.example"]);
        let got = learn(&parts, ListenerKind::Direct, None).unwrap();
        assert_eq!(got.to_string(), "bank.example:8080");
    }

    #[test]
    fn a_captured_request_goes_to_the_original_port_whatever_its_host_says() {
        let parts = parts("/", &["bank.example:9999"]);
        let dst = Some(OriginalDst("10.0.0.1:80".parse().unwrap()));
        let got = learn(&parts, ListenerKind::Capture, dst).unwrap();
        assert_eq!(got.to_string(), "bank.example:80");
    }

    #[test]
    fn a_captured_connection_that_was_not_redirected_goes_nowhere() {
        let parts = parts("/", &["bank.example"]);
        let got = learn(&parts, ListenerKind::Capture, None);
        assert!(matches!(got, Err(ProxyError::NotRedirected)));
    }

    #[test]
    fn a_request_without_or_with_two_hosts_is_refused() {
        for hosts in [&[][..], &["a", "b"][..], &["a b"][..], &["u@h"][..]] {
            let parts = parts("/", hosts);
            let got = learn(&parts, ListenerKind::Direct, None);
            assert!(matches!(got, Err(ProxyError::BadRequest(_))), "{hosts:?}");
        }
    }
}
