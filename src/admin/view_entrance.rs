//! What `/routes` shows of the ways in: inbound ports and gateway servers.
//!
//! Owns: [`EntranceView`], one row of that part of the page.
//! Never: shows a key, or decides who comes in (that is listener).
//! Called by: view.

use serde::{Deserialize, Serialize};

use crate::model::{
    CaSource, Carries, ClientCertificates, DownstreamTls, EntranceAt, EntranceSpec, ServerTlsSpec,
};

/// One way in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntranceView {
    /// Unique: `inbound|80`.
    pub name: String,
    /// `inbound` or `gateway`.
    pub kind: String,
    /// The application's port, or the Gateway's `port.number`; `None`: every other port.
    pub port: Option<u16>,
    /// The server names that it is for; empty: clear text, or any.
    pub server_names: Vec<String>,
    /// `disable`, `strict`, `permissive` or `pass through`.
    pub tls: String,
    /// Whether clients show a certificate: `unasked`, `optional`, `required`; empty without TLS.
    #[serde(default)]
    pub clients: String,
    /// `http`, `bytes`, or `either`.
    pub carries: String,
    /// Our certificate, as `/certs` calls it.
    #[serde(default)]
    pub certificate: Option<String>,
    /// Whom clients must be vouched for by.
    #[serde(default)]
    pub client_ca: Option<String>,
    /// Why nobody gets in.
    #[serde(default)]
    pub unavailable: Option<String>,
    /// The object that says it, where it is one of Istio's or Kubernetes'.
    #[serde(default)]
    pub object: Option<String>,
    /// `file:line`.
    pub place: String,
}

impl EntranceView {
    /// `unavailable`: why TLS cannot be spoken there now.
    pub(super) fn new(spec: &EntranceSpec, unavailable: Option<String>) -> EntranceView {
        let (kind, port, names) = match &spec.at {
            EntranceAt::Inbound(port) => ("inbound", *port, &[][..]),
            EntranceAt::Gateway(port, names) => ("gateway", Some(port.number), names.as_slice()),
        };
        let broken = spec.broken.as_deref().map(str::to_owned);
        let tls = spec.tls.spec();
        let clients = match tls.map(|tls| tls.clients) {
            None => "",
            Some(ClientCertificates::Unasked) => "unasked",
            Some(ClientCertificates::Optional) => "optional",
            Some(ClientCertificates::Required) => "required",
        };
        EntranceView {
            name: spec.name.to_string(),
            kind: kind.to_owned(),
            port,
            server_names: names.iter().map(ToString::to_string).collect(),
            tls: policy(&spec.tls).to_owned(),
            clients: clients.to_owned(),
            carries: match spec.carries {
                Carries::Http => "http",
                Carries::Opaque => "bytes",
                Carries::Either => "either",
            }
            .to_owned(),
            certificate: tls.and_then(certificate),
            client_ca: tls.and_then(client_ca),
            unavailable: broken.or(unavailable),
            object: spec.object.as_deref().map(str::to_owned),
            place: spec.place.to_string(),
        }
    }

    /// True where a request for `host`, in normal form, could come in by it.
    pub(super) fn concerns(spec: &EntranceSpec, host: &str) -> bool {
        let mut hosts = spec.hosts.iter().flat_map(|entry| &entry.hosts);
        let named = match &spec.at {
            EntranceAt::Inbound(_) => true,
            EntranceAt::Gateway(_, names) => names.iter().any(|name| name.matches(host)),
        };
        named || hosts.any(|name| name.matches(host))
    }
}

fn policy(tls: &DownstreamTls) -> &'static str {
    match tls {
        DownstreamTls::Disable => "disable",
        DownstreamTls::Strict(_) => "strict",
        DownstreamTls::Permissive(_) => "permissive",
        DownstreamTls::PassThrough { mesh_only: false } => "pass through",
        DownstreamTls::PassThrough { mesh_only: true } => "pass through (mesh)",
    }
}

fn certificate(tls: &ServerTlsSpec) -> Option<String> {
    tls.credential.identity.as_ref().map(ToString::to_string)
}

fn client_ca(tls: &ServerTlsSpec) -> Option<String> {
    match &tls.credential.ca {
        CaSource::Nothing => None,
        CaSource::System => Some("system".to_owned()),
        CaSource::File(path) => Some(path.display().to_string()),
        CaSource::Secret(secret) => Some(secret.ca_resource().into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        CredentialSpec, EntranceHeaders, GatewayPort, HostPattern, IdentitySource, Place, Reasons,
    };

    pub(in crate::admin) fn gateway(tls: DownstreamTls) -> EntranceSpec {
        let port = GatewayPort {
            bind: None,
            number: 443,
        };
        EntranceSpec {
            name: "gateway|443|default/egress|https".into(),
            at: EntranceAt::Gateway(port, vec![HostPattern::parse("*.bank.example").unwrap()]),
            tls,
            carries: Carries::Http,
            hosts: Vec::new(),
            streams: Vec::new(),
            headers: EntranceHeaders::gateway(),
            service: None,
            broken: None,
            object: Some("Gateway default/egress".into()),
            reasons: Reasons::default(),
            place: Place {
                file: "gw.yaml".into(),
                line: 7,
            },
        }
    }

    #[test]
    fn a_gateway_server_is_shown_with_its_names_certificate_and_ca() {
        let credential = CredentialSpec {
            identity: Some(IdentitySource::Files("a.crt".into(), "a.key".into())),
            ca: CaSource::File("ca.crt".into()),
            crl: None,
        };
        let spec = ServerTlsSpec::new(credential, ClientCertificates::Required);
        let view = EntranceView::new(&gateway(DownstreamTls::Strict(Box::new(spec))), None);
        assert_eq!((view.kind.as_str(), view.port), ("gateway", Some(443)));
        assert_eq!(
            (view.tls.as_str(), view.clients.as_str()),
            ("strict", "required")
        );
        assert_eq!(view.server_names, ["*.bank.example"]);
        assert_eq!(view.certificate.as_deref(), Some("a.crt"));
        assert_eq!(view.client_ca.as_deref(), Some("ca.crt"));
        assert_eq!(view.place, "gw.yaml:7");
    }

    #[test]
    fn why_nobody_gets_in_is_shown_and_a_refused_document_comes_first() {
        let mut spec = gateway(DownstreamTls::Disable);
        let late = || Some("a.crt is missing".to_owned());
        assert_eq!(EntranceView::new(&spec, late()).unavailable, late());
        assert_eq!(EntranceView::new(&spec, None).unavailable, None);
        spec.broken = Some("Gateway default/egress was refused".into());
        let shown = EntranceView::new(&spec, late()).unavailable;
        assert_eq!(shown.as_deref(), Some("Gateway default/egress was refused"));
    }
}
