//! Gateway: the ports that a proxy opens for clients, their hosts and certificates (ISTIO.md G).
//!
//! Owns: [`Gateway`], [`Server`], [`ServerTls`].
//! Never: decides which proxy it is for (that is `lower::gateways`).
//! Called by: read, lower.

use std::net::IpAddr;
use std::sync::Arc;

use super::meta::{Labels, Meta, Written};
use crate::model::{HostPattern, Place, TlsVersion};

/// A Gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub meta: Meta,
    /// Labels that the proxy must have; empty: every gateway (G1).
    pub selector: Labels,
    pub servers: Vec<Server>,
}

/// One of `servers`.
#[derive(Clone, Debug)]
pub struct Server {
    /// `port.number`.
    pub number: u16,
    /// `port.name`: no two of one Gateway have the same.
    pub port_name: Arc<str>,
    /// `None`: where gateways listen by default.
    pub bind: Option<IpAddr>,
    /// At least one, unless the Gateway was refused.
    pub hosts: Vec<Written<ServerHost>>,
    pub kind: ServerKind,
    pub place: Place,
}

/// `host`, `ns/host`, `./host` or `*/host` (G2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHost {
    /// Of which VirtualServices; `None`: every namespace's. `.` was replaced by the Gateway's own.
    pub namespace: Option<Arc<str>>,
    pub host: HostPattern,
    /// As written.
    pub text: Arc<str>,
}

/// What becomes of a server's connections (G3).
#[derive(Clone, Debug)]
pub enum ServerKind {
    /// HTTP in the clear; where `httpsRedirect` was written, if it was (G10).
    Http(Option<Place>),
    /// Bytes in the clear.
    Tcp,
    /// TLS that ends here, and HTTP in it.
    Https(Box<ServerTls>),
    /// TLS that ends here, and bytes in it.
    Tls(Box<ServerTls>),
    /// TLS that does not end here: to where a VirtualService says, by the server name.
    PassThrough,
    /// TLS that does not end here: to the service of the mesh that the server name says.
    AutoPassThrough,
}

/// TLS that ends here.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub mode: ServerMode,
    pub certificates: Certificates,
    /// `caCertificates`.
    pub ca_file: Option<String>,
    /// `caCertCredentialName` (S4).
    pub ca_name: Option<Written<String>>,
    pub ca_crl: Option<String>,
    /// Any one must be in the client's certificate (G6).
    pub subject_alt_names: Vec<String>,
    /// SHA-256 of the client's public key.
    pub spki_pins: Vec<[u8; 32]>,
    /// SHA-256 of the client's certificate.
    pub hash_pins: Vec<[u8; 32]>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    /// As OpenSSL calls them (X10).
    pub cipher_suites: Vec<Arc<str>>,
    pub place: Place,
}

/// `tls.mode`, where TLS ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMode {
    Simple,
    Mutual,
    OptionalMutual,
    IstioMutual,
}

/// What a server shows to its clients (G5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// The mesh identity.
    Mesh,
    /// Files of chain and key, at least one pair.
    Files(Vec<(String, String)>),
    /// `credentialName`, or each of `credentialNames`.
    Names(Vec<Written<String>>),
}

impl Gateway {
    /// Namespace and name, as VirtualServices refer to it (V2).
    pub fn key(&self) -> (&str, &str) {
        (&self.meta.namespace, &self.meta.name)
    }
}

impl ServerHost {
    /// True where VirtualServices of this namespace may have it.
    pub fn is_for(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

impl ServerKind {
    /// True where clients speak TLS, whoever ends it.
    pub fn is_secure(&self) -> bool {
        match self {
            ServerKind::Http(_) | ServerKind::Tcp => false,
            ServerKind::Https(_)
            | ServerKind::Tls(_)
            | ServerKind::PassThrough
            | ServerKind::AutoPassThrough => true,
        }
    }
}

impl ServerMode {
    /// What it is called in documents.
    pub fn name(self) -> &'static str {
        match self {
            ServerMode::Simple => "SIMPLE",
            ServerMode::Mutual => "MUTUAL",
            ServerMode::OptionalMutual => "OPTIONAL_MUTUAL",
            ServerMode::IstioMutual => "ISTIO_MUTUAL",
        }
    }
}
