//! What a request's head becomes when it comes in by an entrance, before it is routed.
//!
//! Owns: the order of the changes (ISTIO.md G12, P16, B10), and what of them is made once for all
//! requests of a connection.
//! Never: looks at the host, or believes what an unknown proxy says of a client.
//! Called by: `proxy::forward`, `proxy::serve` (makes an [`Entering`] for each connection).

use bytes::Bytes;
use http::HeaderValue;
use http::header::{HeaderName, SERVER};
use http::uri::{PathAndQuery, Uri};

use super::client_cert;
use super::connection::Connection;
use super::normal_path::{self, PathError};
use super::record::{REQUEST_ID, XFF};
use super::request_id;
use crate::message::{Fields, Known, RequestHead};
use crate::model::{EntranceHeaders, PeerAddr};
use crate::snapshot::Entrance;
use crate::tls::AcceptFacts;

pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What is done with the heads of one connection.
pub(super) struct Entering {
    rules: EntranceHeaders,
    /// The client's address.
    peer: HeaderValue,
    /// `https` where TLS ends here.
    scheme: HeaderValue,
    /// What the client's certificate says; `None` where it showed none.
    client_cert: Option<HeaderValue>,
    /// Who answers.
    server: Option<HeaderValue>,
}

impl Entering {
    /// By `rules`, for a connection of `peer`; `secured`: what was agreed in TLS that ends here.
    pub(super) fn new(
        rules: &EntranceHeaders,
        PeerAddr(peer): PeerAddr,
        secured: Option<&AcceptFacts>,
    ) -> Self {
        // An address is always a value.
        let address = peer.ip().to_canonical().to_string();
        let peer = HeaderValue::try_from(address);
        let server = rules.server.as_deref().map(HeaderValue::from_str);
        Entering {
            peer: peer.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            scheme: HeaderValue::from_static(match secured {
                Some(_) => "https",
                None => "http",
            }),
            client_cert: secured.and_then(|facts| client_cert::element(facts, rules.details)),
            server: server.and_then(Result::ok),
            rules: rules.clone(),
        }
    }

    /// True where it was made by these rules: a reload may have changed them.
    pub(super) fn is_by(&self, rules: &EntranceHeaders) -> bool {
        self.rules == *rules
    }

    /// Changes a request's head.
    ///
    /// # Errors
    /// The path has no normal form (400); the head is then as it came.
    pub(super) fn request(&self, parts: &mut RequestHead) -> Result<(), PathError> {
        let rules = &self.rules;
        if rules.normal_path {
            normalise(&mut parts.uri)?;
        }
        let headers = &mut parts.headers;
        if rules.forwarded {
            append(headers, XFF, &self.peer);
        }
        let believed = !rules.forwarded || rules.trusted_hops > 0;
        if !believed || !headers.has(Known::ForwardedProto) {
            headers.insert(FORWARDED_PROTO, self.scheme.clone());
        }
        if rules.request_id
            && !headers.has(Known::RequestId)
            && let Some(id) = request_id::make()
        {
            headers.insert(REQUEST_ID, id);
        }
        client_cert::apply(rules.client_cert, self.client_cert.as_ref(), headers);
        Ok(())
    }

    /// Who answers, where the entrance has a word for it (ISTIO.md B10).
    pub(super) fn server(&self) -> Option<&HeaderValue> {
        self.server.as_ref()
    }
}

/// What is remembered of a request's entering.
pub(super) struct Entered {
    /// The `Server` of its answer; `None`: what the upstream says.
    pub(super) server: Option<HeaderValue>,
    /// The request is one that can be routed; else 400.
    pub(super) fit: Result<(), PathError>,
}

/// Changes the head of a request that came in by `entrance`; of mesh traffic nothing is changed.
pub(super) fn enter(
    connection: &Connection,
    entrance: Option<&Entrance>,
    parts: &mut RequestHead,
) -> Entered {
    let Some(rules) = entrance.map(|entrance| &entrance.spec.headers) else {
        return Entered {
            server: None,
            fit: Ok(()),
        };
    };
    let mut apply = |entering: &Entering| Entered {
        fit: entering.request(parts),
        server: entering.server().cloned(),
    };
    match &connection.entering {
        Some(entering) if entering.is_by(rules) => apply(entering),
        _ => {
            let secured = connection.secured.as_deref();
            apply(&Entering::new(rules, connection.peer, secured))
        }
    }
}

/// Says in an answer's head who gave it.
pub(super) fn sign(server: Option<&HeaderValue>, headers: &mut Fields) {
    if let Some(server) = server {
        headers.insert(SERVER, server.clone());
    }
}

/// Adds to a list, which is on one line from then on (RFC 9110 section 5.3).
fn append(headers: &mut Fields, name: HeaderName, last: &HeaderValue) {
    let mut all = Vec::new();
    for value in headers.get_all(&name).filter(|value| !value.is_empty()) {
        all.extend_from_slice(value.as_bytes());
        all.push(b',');
    }
    let all = match all.is_empty() {
        true => last.clone(),
        false => {
            all.extend_from_slice(last.as_bytes());
            // Values joined by a comma are a value. Were they none, ours alone is the safe one.
            HeaderValue::from_maybe_shared(Bytes::from(all)).unwrap_or_else(|_| last.clone())
        }
    };
    headers.insert(name, all);
}

/// Gives a request's path its normal form; query and authority stay as they are.
fn normalise(uri: &mut Uri) -> Result<(), PathError> {
    let Some(mut path) = normal_path::normal(uri.path())? else {
        return Ok(());
    };
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    // Nothing but what may stand in a path is left, so neither can fail.
    let path = PathAndQuery::try_from(path).map_err(|_| PathError::Escape)?;
    parts.path_and_query = Some(path);
    *uri = Uri::from_parts(parts).map_err(|_| PathError::Escape)?;
    Ok(())
}

/// On the way into the mesh: the application spoke plain HTTP, whatever the next hop is secured by
/// (as Envoy's outbound side says it).
pub(super) fn say_scheme(headers: &mut Fields) {
    if !headers.has(Known::ForwardedProto) {
        headers.append(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::model::{ForwardClientCert, TlsVersion};
    use crate::tls::Alpn;

    fn facts() -> AcceptFacts {
        AcceptFacts {
            version: TlsVersion::Tls13,
            cipher: "TLS_AES_128_GCM_SHA256",
            alpn: Alpn::Http1,
            resumed: false,
            server_name: None,
            ours: None,
            our_subject: "".into(),
            client: None,
        }
    }

    fn gateway(trusted_hops: u32) -> EntranceHeaders {
        EntranceHeaders {
            trusted_hops,
            ..EntranceHeaders::gateway()
        }
    }

    fn peer() -> PeerAddr {
        PeerAddr("[::ffff:192.0.2.7]:4711".parse().unwrap())
    }

    /// What becomes of a request for `path` with these headers.
    fn entered(
        rules: &EntranceHeaders,
        secure: bool,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<RequestHead, PathError> {
        let facts = facts();
        let entering = Entering::new(rules, peer(), secure.then_some(&facts));
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut head = RequestHead::from(parts);
        entering.request(&mut head).map(|()| head)
    }

    fn all<'a>(parts: &'a RequestHead, name: &'a str) -> Vec<&'a str> {
        let values = parts.headers.get_all(name);
        values.map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn g12_a_gateway_appends_the_clients_address_to_what_came() {
        for (came, expected) in [
            (&[][..], "192.0.2.7"),
            (&["10.0.0.1"][..], "10.0.0.1,192.0.2.7"),
            (
                &["10.0.0.1, 10.0.0.2", "10.0.0.3"],
                "10.0.0.1, 10.0.0.2,10.0.0.3,192.0.2.7",
            ),
            (&[""], "192.0.2.7"),
        ] {
            let headers: Vec<_> = came.iter().map(|v| ("x-forwarded-for", *v)).collect();
            let parts = entered(&gateway(0), false, "/", &headers).unwrap();
            assert_eq!(all(&parts, "x-forwarded-for"), [expected]);
        }
    }

    #[test]
    fn g12_a_sidecar_leaves_the_addresses_alone() {
        let rules = EntranceHeaders::inbound();
        let parts = entered(&rules, true, "/", &[("x-forwarded-for", "10.0.0.1")]).unwrap();
        assert_eq!(all(&parts, "x-forwarded-for"), ["10.0.0.1"]);
        let parts = entered(&rules, true, "/", &[]).unwrap();
        assert!(all(&parts, "x-forwarded-for").is_empty());
    }

    #[test]
    fn g12_a_gateway_says_how_the_client_spoke_whatever_that_claims() {
        for (secure, expected) in [(true, "https"), (false, "http")] {
            for came in [&[][..], &["https"], &["http", "https"]] {
                let headers: Vec<_> = came.iter().map(|v| ("x-forwarded-proto", *v)).collect();
                let parts = entered(&gateway(0), secure, "/", &headers).unwrap();
                assert_eq!(all(&parts, "x-forwarded-proto"), [expected]);
            }
        }
    }

    #[test]
    fn g10_a_trusted_proxy_is_believed_how_the_client_spoke() {
        let https = [("x-forwarded-proto", "https")];
        let parts = entered(&gateway(1), false, "/", &https).unwrap();
        assert_eq!(all(&parts, "x-forwarded-proto"), ["https"]);
        let parts = entered(&gateway(1), false, "/", &[]).unwrap();
        assert_eq!(all(&parts, "x-forwarded-proto"), ["http"]);
    }

    #[test]
    fn g12_a_sidecar_says_how_its_client_spoke_only_where_nobody_did() {
        let rules = EntranceHeaders::inbound();
        let http = [("x-forwarded-proto", "http")];
        let parts = entered(&rules, true, "/", &http).unwrap();
        assert_eq!(all(&parts, "x-forwarded-proto"), ["http"]);
        let parts = entered(&rules, true, "/", &[]).unwrap();
        assert_eq!(all(&parts, "x-forwarded-proto"), ["https"]);
    }

    #[test]
    fn b10_a_request_without_an_id_gets_one_and_another_keeps_its_own() {
        let rules = EntranceHeaders::inbound();
        let parts = entered(&rules, false, "/", &[]).unwrap();
        assert_eq!(all(&parts, "x-request-id")[0].len(), 36);
        let parts = entered(&rules, false, "/", &[("x-request-id", "7")]).unwrap();
        assert_eq!(all(&parts, "x-request-id"), ["7"]);
        let none = EntranceHeaders {
            request_id: false,
            ..rules
        };
        let parts = entered(&none, false, "/", &[]).unwrap();
        assert!(all(&parts, "x-request-id").is_empty());
    }

    #[test]
    fn g12_the_path_is_made_normal_and_the_query_left_alone() {
        let rules = EntranceHeaders::gateway();
        for (path, expected) in [
            ("/a/../b?c=/../%2e", "/b?c=/../%2e"),
            ("/%61?", "/a?"),
            ("http://a.example:81/x/./y?z", "http://a.example:81/x/y?z"),
            ("/a%2Fb", "/a%2Fb"),
        ] {
            let parts = entered(&rules, false, path, &[]).unwrap();
            assert_eq!(parts.uri, expected);
        }
        let as_it_is = EntranceHeaders {
            normal_path: false,
            ..rules
        };
        let parts = entered(&as_it_is, false, "/a/../b", &[]).unwrap();
        assert_eq!(parts.uri, "/a/../b");
    }

    #[test]
    fn g12_a_path_without_a_normal_form_is_refused() {
        let rules = EntranceHeaders::gateway();
        let refused = entered(&rules, false, "/a%00", &[]).map(|_| ());
        assert_eq!(refused, Err(PathError::Null));
    }

    #[test]
    fn p16_a_client_without_a_certificate_cannot_bring_one_in_a_header() {
        let forged = [("x-forwarded-client-cert", "Hash=1")];
        for rules in [EntranceHeaders::inbound(), EntranceHeaders::gateway()] {
            for secure in [false, true] {
                let parts = entered(&rules, secure, "/", &forged).unwrap();
                assert!(all(&parts, "x-forwarded-client-cert").is_empty());
            }
        }
        let always = EntranceHeaders {
            client_cert: ForwardClientCert::AlwaysForwardOnly,
            ..EntranceHeaders::gateway()
        };
        let parts = entered(&always, false, "/", &forged).unwrap();
        assert_eq!(all(&parts, "x-forwarded-client-cert"), ["Hash=1"]);
    }

    #[test]
    fn b10_an_answer_names_the_entrances_server_or_the_upstreams() {
        let mut headers = Fields::new();
        headers.append(SERVER, HeaderValue::from_static("nginx"));
        let silent = EntranceHeaders {
            server: None,
            ..EntranceHeaders::gateway()
        };
        sign(Entering::new(&silent, peer(), None).server(), &mut headers);
        assert_eq!(headers.get(&SERVER).unwrap(), "nginx");
        sign(
            Entering::new(&gateway(0), peer(), None).server(),
            &mut headers,
        );
        assert_eq!(headers.get_all(&SERVER).count(), 1);
        assert_eq!(headers.get(&SERVER).unwrap(), "istio-envoy");
    }

    #[test]
    fn a_reload_that_changes_the_rules_is_noticed() {
        let entering = Entering::new(&gateway(0), peer(), None);
        assert!(entering.is_by(&gateway(0)) && !entering.is_by(&gateway(1)));
    }

    #[test]
    fn what_an_application_spoke_is_said_on_the_way_into_the_mesh_unless_it_says_so_itself() {
        let mut headers = Fields::new();
        say_scheme(&mut headers);
        assert_eq!(headers.get(&FORWARDED_PROTO).unwrap(), "http");
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        say_scheme(&mut headers);
        assert_eq!(headers.get(&FORWARDED_PROTO).unwrap(), "https");
    }
}
