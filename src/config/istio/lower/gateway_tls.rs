//! Certificates and client checks of a Gateway's server (ISTIO.md G4 to G7, S1 to S5, P12).
//!
//! Owns: what a mode means for the credential and for clients, and what is said of missing Secrets.
//! Never: opens a file.
//! Called by: gateways.

use std::path::PathBuf;
use std::sync::Arc;

use super::credential::Credentials;
use super::dangling;
use super::gateway_ports::Offer;
use super::report;
use super::scope::Mesh;
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::gateway::{Certificates, ServerKind, ServerMode, ServerTls};
use crate::config::istio::meta::Written;
use crate::model::{
    CaSource, ClientCertificates, CredentialSpec, CrlSource, IdentitySource, SecretData,
    ServerAlpn, ServerTlsSpec,
};

/// Makes TLS settings.
pub struct Maker<'a> {
    credentials: Credentials<'a>,
    mesh: &'a Mesh,
}

/// TLS of one server.
pub enum Secured {
    Ready(Box<ServerTlsSpec>),
    /// It can never be spoken, and this is why: nobody is let in.
    Never(Arc<str>),
}

impl<'a> Maker<'a> {
    pub fn new(credentials: Credentials<'a>, mesh: &'a Mesh) -> Maker<'a> {
        Maker { credentials, mesh }
    }

    /// The settings of one server, with a word about what is missing.
    pub fn make(&self, offer: &Offer<'_>, tls: &ServerTls, out: &mut Diagnostics) -> Secured {
        let alpn = match offer.server.kind {
            ServerKind::Https(_) => ServerAlpn::Http,
            _ => ServerAlpn::None,
        };
        self.settings(offer.gateway.meta.object(), alpn, tls, out)
    }

    /// The same for whoever ends TLS so: `object` says it.
    pub fn settings(
        &self,
        object: Arc<str>,
        alpn: ServerAlpn,
        tls: &ServerTls,
        out: &mut Diagnostics,
    ) -> Secured {
        match self.spec(&object, alpn, tls, out) {
            Ok(spec) => Secured::Ready(Box::new(spec)),
            Err(reason) => {
                let mesh = tls.mode == ServerMode::IstioMutual;
                out.push(dangling::unusable(&reason, mesh, &object, &tls.place));
                Secured::Never(format!("{}: {object}: {reason}", tls.place).into())
            }
        }
    }

    fn spec(
        &self,
        object: &Arc<str>,
        alpn: ServerAlpn,
        tls: &ServerTls,
        out: &mut Diagnostics,
    ) -> Result<ServerTlsSpec, String> {
        let clients = match tls.mode {
            ServerMode::Simple => ClientCertificates::Unasked,
            ServerMode::OptionalMutual => ClientCertificates::Optional,
            ServerMode::Mutual | ServerMode::IstioMutual => ClientCertificates::Required,
        };
        let mut all = self.shown(tls)?.into_iter();
        let Some(mut credential) = all.next() else {
            return Err("it names no certificate".to_owned());
        };
        if clients == ClientCertificates::Unasked {
            (credential.ca, credential.crl) = (CaSource::Nothing, None);
        } else {
            self.trusted(tls, &mut credential)?;
        }
        self.missing(object, tls, &credential, out);
        Ok(ServerTlsSpec {
            more: all.collect(),
            subject_alt_names: tls.subject_alt_names.clone(),
            spki_pins: tls.spki_pins.clone(),
            hash_pins: tls.hash_pins.clone(),
            trust_domains: match tls.mode {
                ServerMode::IstioMutual => self.mesh.trust_domains().collect(),
                _ => Vec::new(),
            },
            alpn,
            min_version: tls.min_version,
            max_version: tls.max_version,
            cipher_suites: tls.cipher_suites.clone(),
            ..ServerTlsSpec::new(credential, clients)
        })
    }

    /// Every chain and key, the first with all that a Secret has beside them.
    fn shown(&self, tls: &ServerTls) -> Result<Vec<CredentialSpec>, String> {
        match &tls.certificates {
            Certificates::Mesh => self.credentials.mesh().map(|mesh| vec![mesh]),
            Certificates::Names(names) => names
                .iter()
                .map(|name| self.credentials.of_server(&name.value))
                .enumerate()
                .map(|(nth, spec)| Ok(if nth == 0 { spec? } else { bare(spec?) }))
                .collect(),
            Certificates::Files(pairs) => {
                let pair = |(certificate, key): &(String, String)| CredentialSpec {
                    identity: Some(IdentitySource::Files(
                        PathBuf::from(certificate),
                        PathBuf::from(key),
                    )),
                    ca: CaSource::Nothing,
                    crl: None,
                };
                Ok(pairs.iter().map(pair).collect())
            }
        }
    }

    /// Who vouches for clients, where it is not the credential's own CA (G6, S4).
    fn trusted(&self, tls: &ServerTls, credential: &mut CredentialSpec) -> Result<(), String> {
        if let Some(name) = &tls.ca_name {
            (credential.ca, credential.crl) = self.credentials.ca_of_server(&name.value)?;
        } else if let (Certificates::Files(_), Some(file)) = (&tls.certificates, &tls.ca_file) {
            credential.ca = match file.as_str() {
                // Istio's word for the operating system's store (T9).
                "system" => CaSource::System,
                file => CaSource::File(PathBuf::from(file)),
            };
        }
        if let Some(file) = &tls.ca_crl {
            credential.crl = Some(CrlSource::File(PathBuf::from(file)));
        }
        match credential.ca {
            CaSource::Nothing => Err("clients are checked, and no CA is named".to_owned()),
            _ => Ok(()),
        }
    }

    /// IST0101 and IST0161 of every Secret that is named.
    fn missing(
        &self,
        object: &Arc<str>,
        tls: &ServerTls,
        credential: &CredentialSpec,
        out: &mut Diagnostics,
    ) {
        let named: &[Written<String>] = match &tls.certificates {
            Certificates::Names(names) => names,
            Certificates::Mesh | Certificates::Files(_) => &[],
        };
        for name in named.iter().chain(&tls.ca_name) {
            if let Some(secret) = self.credentials.nowhere(&name.value) {
                out.push(dangling::missing_secret(&secret, object, &name.place));
            }
        }
        let mut say = |problem: String| {
            let advice = "correct the Secret; until then the handshake fails";
            let code = Code::BadGatewayCredential;
            out.push(report::at(object, &tls.place, code, problem, advice));
        };
        if let Some(IdentitySource::Secret(secret)) = &credential.identity
            && let Some(data) = &secret.document
            && !has_pair(data)
        {
            let (namespace, name) = (&secret.namespace, &secret.name);
            let keys = keys(data);
            say(format!(
                "the Secret {namespace}/{name} has neither cert and key nor tls.crt and tls.key \
                 (S3); found: {keys}"
            ));
        }
        if let CaSource::Secret(secret) = &credential.ca
            && let Some(data) = secret.ca_document.as_ref().or(secret.document.as_ref())
            && !["cacert", "ca.crt"].iter().any(|key| has(data, key))
        {
            let suffix = if secret.ca_document.is_some() {
                "-cacert"
            } else {
                ""
            };
            let (namespace, name) = (&secret.namespace, &secret.name);
            let keys = keys(data);
            say(format!(
                "{namespace}/{name}{suffix} has neither cacert nor ca.crt to check clients with \
                 (S4); found: {keys}"
            ));
        }
    }
}

/// Of the other chains only the identity counts.
fn bare(spec: CredentialSpec) -> CredentialSpec {
    CredentialSpec {
        ca: CaSource::Nothing,
        crl: None,
        ..spec
    }
}

fn has(data: &SecretData, key: &str) -> bool {
    data.0.get(key).is_some_and(|bytes| !bytes.0.is_empty())
}

/// S3.
fn has_pair(data: &SecretData) -> bool {
    let pairs = [("cert", "key"), ("tls.crt", "tls.key")];
    pairs
        .iter()
        .any(|(cert, key)| has(data, cert) && has(data, key))
}

/// The first three, and how many more (S5).
fn keys(data: &SecretData) -> String {
    let all: Vec<&str> = data.0.keys().map(String::as_str).collect();
    match all.len() {
        0 => "nothing".to_owned(),
        1..=3 => all.join(", "),
        more => {
            let first: Vec<&str> = all.iter().take(3).copied().collect();
            format!("{}, and {} more", first.join(", "), more - 3)
        }
    }
}
