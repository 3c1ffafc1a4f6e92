//! Who is at the other end of a connection, as metrics and the access log tell it.
//!
//! Owns: [`Identity`], made once for each connection.
//! Never: decides who comes in.
//! Called by: `proxy::serve`, `proxy::stream_record` (make it), `proxy::record` (reads it).

use std::sync::Arc;

use super::context::ProxyContext;
use crate::model::TlsVersion;
use crate::snapshot::Entrance;
use crate::telemetry::{Caller, PeerFacts, TlsFacts, UpstreamStats};
use crate::tls::{AcceptFacts, ClientCertificate, San, hex};

/// Who is at the other end.
#[derive(Default)]
pub(super) struct Identity {
    /// What was agreed with the client in TLS that ends here.
    pub(super) tls: Option<Box<TlsFacts>>,
    /// What its requests are counted under instead of their upstreams: it calls the application
    /// beside us (ISTIO.md B3).
    pub(super) reported: Option<Arc<UpstreamStats>>,
}

impl Identity {
    /// Of a connection by `entrance`; `None`: the mesh's plain side, which has none.
    pub(super) fn of(
        context: &ProxyContext,
        entrance: Option<&Entrance>,
        secured: Option<&AcceptFacts>,
    ) -> Self {
        let service = entrance.and_then(|entrance| {
            let service = entrance.spec.service.as_ref()?;
            Some((&entrance.spec.name, service))
        });
        Identity {
            tls: secured.map(|facts| Box::new(tls_facts(facts))),
            reported: service.map(|(name, service)| {
                let metrics = &context.metrics;
                metrics.entrance(name, service, caller(secured))
            }),
        }
    }

    /// The name that the client's TLS asked for; `None` where no TLS ended here.
    pub(super) fn server_name(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.server_name.as_ref())
    }
}

/// Only who showed a certificate has a name, and only to such a client have we (ISTIO.md B3).
fn caller(secured: Option<&AcceptFacts>) -> Caller {
    let mutual = secured.and_then(|facts| Some((facts, facts.client.as_ref()?)));
    mutual.map_or_else(Caller::default, |(facts, client)| Caller {
        mutual: true,
        principal: client.uri().map(Into::into),
        own: facts.ours.as_deref().map(Into::into),
    })
}

fn tls_facts(facts: &AcceptFacts) -> TlsFacts {
    TlsFacts {
        version: match facts.version {
            TlsVersion::Tls12 => "TLSv1.2",
            TlsVersion::Tls13 => "TLSv1.3",
        },
        cipher: facts.cipher,
        server_name: facts.server_name.clone().unwrap_or_default(),
        own_uri: facts.ours.clone().unwrap_or_default(),
        own_subject: facts.our_subject.clone(),
        peer: facts.client.as_deref().map(peer_facts),
    }
}

fn peer_facts(client: &ClientCertificate) -> PeerFacts {
    let facts = &client.facts;
    let (mut uris, mut dns_names, mut ips) = (String::new(), String::new(), String::new());
    for san in &facts.sans {
        match san {
            San::Uri(uri) => join(&mut uris, uri),
            San::Dns(name) => join(&mut dns_names, name),
            San::Ip(ip) => join(&mut ips, &ip.to_string()),
            San::Email(_) => {}
        }
    }
    PeerFacts {
        uris: uris.into(),
        dns_names: dns_names.into(),
        ips: ips.into(),
        subject: facts.subject.as_str().into(),
        issuer: facts.issuer.as_str().into(),
        serial: facts.serial.as_str().into(),
        fingerprint: hex(&client.hash).into(),
        not_before: facts.not_before,
        not_after: facts.not_after,
    }
}

fn join(list: &mut String, one: &str) {
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(one);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Alpn, CertFacts};

    fn facts(sans: Option<Vec<San>>) -> AcceptFacts {
        let client = sans.map(|sans| {
            Arc::new(ClientCertificate {
                facts: CertFacts {
                    subject: "CN=front".into(),
                    issuer: "CN=root".into(),
                    serial: "0aff".into(),
                    sans,
                    not_before: 1,
                    not_after: 2,
                    is_ca: false,
                    version: 3,
                },
                hash: [0xab; 32],
                chain: Vec::new(),
            })
        });
        AcceptFacts {
            version: TlsVersion::Tls12,
            cipher: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            alpn: Alpn::Http1,
            resumed: false,
            server_name: Some("till.example".into()),
            ours: Some("spiffe://td/ns/shop/sa/till".into()),
            our_subject: "CN=till".into(),
            client,
        }
    }

    fn front() -> Vec<San> {
        vec![
            San::Dns("a.example".into()),
            San::Uri("spiffe://td/ns/web/sa/front".into()),
            San::Dns("b.example".into()),
            San::Ip([192, 0, 2, 1].into()),
        ]
    }

    #[test]
    fn b3_a_client_with_a_certificate_is_known_by_its_first_uri() {
        let expected = Caller {
            mutual: true,
            principal: Some("spiffe://td/ns/web/sa/front".into()),
            own: Some("spiffe://td/ns/shop/sa/till".into()),
        };
        assert_eq!(caller(Some(&facts(Some(front())))), expected);
        let nameless = Caller {
            principal: None,
            ..expected
        };
        assert_eq!(caller(Some(&facts(Some(Vec::new())))), nameless);
    }

    #[test]
    fn b3_a_client_without_a_certificate_is_nobody_in_tls_too() {
        assert_eq!(caller(None), Caller::default());
        assert_eq!(caller(Some(&facts(None))), Caller::default());
    }

    #[test]
    fn a_line_can_tell_what_tls_agreed_on_and_what_the_certificate_says() {
        let told = tls_facts(&facts(Some(front())));
        assert_eq!(told.version, "TLSv1.2");
        assert_eq!(&*told.server_name, "till.example");
        assert_eq!(&*told.own_subject, "CN=till");
        let peer = told.peer.unwrap();
        assert_eq!(&*peer.uris, "spiffe://td/ns/web/sa/front");
        assert_eq!(&*peer.dns_names, "a.example,b.example");
        assert_eq!((&*peer.ips, &*peer.serial), ("192.0.2.1", "0aff"));
        assert_eq!(*peer.fingerprint, "ab".repeat(32));
        assert_eq!(tls_facts(&facts(None)).peer, None);
    }
}
