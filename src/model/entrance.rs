//! What the connections of an inbound or gateway listener meet: who may come in, and where what
//! they carry goes from there.
//!
//! Owns: [`EntranceSpec`] and its parts: the downstream TLS policy, routes of its own, headers.
//! Never: reads a certificate.
//! Called by: config (makes it), publish (builds it), certs (loads its material), tls (speaks it).
//!
//! Why a route table for each: a request that came in by one server of a gateway must not reach the
//! hosts of another (ISTIO.md G9).

use std::sync::Arc;

use super::config::Place;
use super::group::HostRoutes;
use super::host::HostPattern;
use super::listener::GatewayPort;
use super::stream::StreamRoute;
use super::tls::{CredentialSpec, TlsVersion};
use super::upstream::{Reasons, ServiceLabels};

/// One way in. Envoy: a filter chain.
#[derive(Clone, Debug)]
pub struct EntranceSpec {
    /// Unique, and the same after a reload: `inbound|80`, `gateway|443|ns/name|https`.
    pub name: Arc<str>,
    /// Which connections.
    pub at: EntranceAt,
    /// Whether and how TLS is spoken with clients.
    pub tls: DownstreamTls,
    /// What is inside, once TLS is off.
    pub carries: Carries,
    /// Its routing table for requests.
    pub hosts: Vec<HostRoutes>,
    /// Its routes for what is not HTTP, or not to be looked into.
    pub streams: Vec<StreamRoute>,
    /// What is changed in heads that come in here.
    pub headers: EntranceHeaders,
    /// The service of the application beside us: requests are then reported as its own (`reporter`
    /// is `destination`, ISTIO.md B3). `None` for gateways.
    pub service: Option<Arc<ServiceLabels>>,
    /// Nobody is let in, and this is why: a document that governs it was refused (ISTIO.md X1).
    pub broken: Option<Arc<str>>,
    /// Kind, namespace and name of the document that says it: `Gateway ns/name`.
    pub object: Option<Arc<str>>,
    /// Which document decided what.
    pub reasons: Reasons,
    /// Where it was written.
    pub place: Place,
}

/// Which connections an entrance is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntranceAt {
    /// Those to this port of the application beside us; `None`: to every other one (ISTIO.md P13).
    Inbound(Option<u16>),
    /// Those to this gateway port whose ClientHello names one of these, the most specific first;
    /// `*` fits a client that names none (ISTIO.md G8). No names: clear text.
    Gateway(GatewayPort, Vec<HostPattern>),
}

/// Whether and how TLS is spoken with clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownstreamTls {
    /// Clear text (ISTIO.md P10).
    Disable,
    /// TLS alone: what is not is reset (ISTIO.md P7).
    Strict(Box<ServerTlsSpec>),
    /// The TLS of sidecars, told by its ALPN, and clear text. Other TLS is refused where HTTP is
    /// carried, else passed on as it is (ISTIO.md P8, P9).
    Permissive(Box<ServerTlsSpec>),
    /// TLS that is not ours to end: to a stream by its server name (ISTIO.md G3).
    PassThrough {
        /// Only the TLS of sidecars (AUTO_PASSTHROUGH).
        mesh_only: bool,
    },
}

impl DownstreamTls {
    /// How it is spoken, where it is.
    pub fn spec(&self) -> Option<&ServerTlsSpec> {
        match self {
            DownstreamTls::Strict(spec) | DownstreamTls::Permissive(spec) => Some(spec),
            DownstreamTls::Disable | DownstreamTls::PassThrough { .. } => None,
        }
    }
}

/// How TLS is spoken with clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerTlsSpec {
    /// Our chain and key; who vouches for clients ([`super::CaSource::Nothing`] where none is
    /// asked); revoked clients.
    pub credential: CredentialSpec,
    /// Chains and keys of other kinds, for clients that cannot use the first. Of these only the
    /// identity counts.
    pub more: Vec<CredentialSpec>,
    /// Whether clients show a certificate.
    pub clients: ClientCertificates,
    /// Any one must be in the client's certificate, literally (ISTIO.md G6); empty: any will do.
    pub subject_alt_names: Vec<String>,
    /// SHA-256 of the client's public key, DER (ISTIO.md G6); empty: any.
    pub spki_pins: Vec<[u8; 32]>,
    /// SHA-256 of the client's certificate, DER; empty: any. With `spki_pins` one of either will do.
    pub hash_pins: Vec<[u8; 32]>,
    /// The client's certificate must have a SPIFFE name in one of them (ISTIO.md P12); empty: any.
    pub trust_domains: Vec<Arc<str>>,
    /// What is chosen from by ALPN.
    pub alpn: ServerAlpn,
    /// The least version.
    pub min_version: TlsVersion,
    /// The greatest version.
    pub max_version: TlsVersion,
    /// Of TLS 1.2, as OpenSSL calls them; empty: every suite that there is (ISTIO.md X10).
    pub cipher_suites: Vec<Arc<str>>,
}

impl ServerTlsSpec {
    /// TLS with every default, with this credential.
    pub fn new(credential: CredentialSpec, clients: ClientCertificates) -> Self {
        ServerTlsSpec {
            credential,
            more: Vec::new(),
            clients,
            subject_alt_names: Vec::new(),
            spki_pins: Vec::new(),
            hash_pins: Vec::new(),
            trust_domains: Vec::new(),
            alpn: ServerAlpn::Http,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
        }
    }
}

impl ServerTlsSpec {
    /// True where a client that `other` lets in has shown all that is demanded here, in a version of
    /// TLS that is new enough.
    pub fn demands_no_more_than(&self, other: &ServerTlsSpec) -> bool {
        if self.min_version > other.min_version {
            return false;
        }
        self.clients == ClientCertificates::Unasked
            || (self.clients == other.clients
                && self.credential.ca == other.credential.ca
                && self.credential.crl == other.credential.crl
                && self.subject_alt_names == other.subject_alt_names
                && self.spki_pins == other.spki_pins
                && self.hash_pins == other.hash_pins
                && self.trust_domains == other.trust_domains)
    }
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientCertificates {
    /// They are not asked for one (SIMPLE).
    Unasked,
    /// They may (OPTIONAL_MUTUAL); one that is shown must be good.
    Optional,
    /// They must.
    Required,
}

/// What is chosen from by ALPN (ISTIO.md P11, G7). An offer without any of it is left unanswered,
/// and the handshake goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerAlpn {
    /// `h2`, `http/1.1`.
    Http,
    /// Nothing.
    None,
}

/// What is inside, once TLS is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carries {
    /// HTTP/1 or HTTP/2.
    Http,
    /// Bytes that nobody here reads.
    Opaque,
    /// Whichever it looks like.
    Either,
}

/// What is changed in heads that come in by an entrance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntranceHeaders {
    /// What becomes of `X-Forwarded-Client-Cert` (ISTIO.md P16).
    pub client_cert: ForwardClientCert,
    /// What is told of the client's certificate there, besides `By` and `Hash` (P15).
    pub details: ClientCertDetails,
    /// The client's address is appended to `X-Forwarded-For`, and `X-Forwarded-Proto` is set
    /// (ISTIO.md G12).
    pub forwarded: bool,
    /// Proxies before us whose `X-Forwarded-*` are believed (`numTrustedProxies`, ISTIO.md G10).
    pub trusted_hops: u32,
    /// Dot segments and needless escapes are taken out of paths (ISTIO.md G12).
    pub normal_path: bool,
    /// `X-Request-Id` is made where there is none (ISTIO.md B10).
    pub request_id: bool,
    /// The value of `Server` in answers; `None`: what the upstream says (ISTIO.md B10).
    pub server: Option<Arc<str>>,
}

/// What becomes of `X-Forwarded-Client-Cert` (ISTIO.md P16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForwardClientCert {
    /// Dropped.
    Sanitize,
    /// Passed on if the connection is mutual TLS.
    ForwardOnly,
    /// Appended to if the connection is mutual TLS, else dropped.
    AppendForward,
    /// Replaced if the connection is mutual TLS, else dropped.
    SanitizeSet,
    /// Passed on, whoever sent it.
    AlwaysForwardOnly,
}

/// Which keys are written of a client's certificate (ISTIO.md P15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientCertDetails {
    /// `Subject`.
    pub subject: bool,
    /// `Cert`: the whole certificate.
    pub cert: bool,
    /// `Chain`: the whole chain.
    pub chain: bool,
    /// `DNS`.
    pub dns: bool,
    /// `URI`.
    pub uri: bool,
}

impl EntranceHeaders {
    /// As Istio's sidecars do on the inbound side (ISTIO.md P16, B10).
    pub fn inbound() -> Self {
        EntranceHeaders {
            client_cert: ForwardClientCert::AppendForward,
            details: ClientCertDetails {
                subject: true,
                dns: true,
                uri: true,
                ..ClientCertDetails::default()
            },
            forwarded: false,
            trusted_hops: 0,
            normal_path: true,
            request_id: true,
            server: Some("istio-envoy".into()),
        }
    }

    /// As Istio's gateways do (ISTIO.md G12).
    pub fn gateway() -> Self {
        EntranceHeaders {
            client_cert: ForwardClientCert::SanitizeSet,
            details: ClientCertDetails {
                subject: true,
                cert: true,
                chain: false,
                dns: true,
                uri: true,
            },
            forwarded: true,
            trusted_hops: 0,
            normal_path: true,
            request_id: true,
            server: Some("istio-envoy".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CaSource;

    #[test]
    fn g9_a_server_that_demands_a_newer_tls_demands_more_though_it_asks_for_no_certificate() {
        let credential = CredentialSpec {
            identity: None,
            ca: CaSource::Nothing,
            crl: None,
        };
        let any = ServerTlsSpec::new(credential, ClientCertificates::Unasked);
        let newer = ServerTlsSpec {
            min_version: TlsVersion::Tls13,
            ..any.clone()
        };
        assert!(any.demands_no_more_than(&newer) && any.demands_no_more_than(&any));
        assert!(!newer.demands_no_more_than(&any));
    }
}
