//! The validated configuration: what every front end lowers its documents to.
//!
//! Owns: listeners, hosts with their rules, upstreams, TLS policies, where credentials come from.
//! Never: refers to YAML, to Istio, or to a file that it does not merely name.
//! Called by: config (makes it), publish (builds a snapshot of it), upstream and tls (their part).
//!
//! Why defaults live here: two front ends must not disagree on what silence means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::entrance::EntranceSpec;
use super::facts::ProxyFacts;
use super::group::HostRoutes;
use super::listener::ListenerSpec;
use super::stream::StreamRoute;
use super::tls::{CredentialSpec, CredentialUse, TlsPolicy, Uses};
use super::upstream::UpstreamSpec;

/// Bytes that one compiled regular expression may take: what loads must also compile when built.
pub const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// All that a set of documents says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Listeners named in documents; flags add to them.
    pub listeners: Vec<ListenerSpec>,
    /// Named destinations. Names are unique.
    pub upstreams: Vec<UpstreamSpec>,
    /// The routing table, in the order it was written.
    pub hosts: Vec<HostRoutes>,
    /// Connections that carry no plain HTTP, in the order they are tried (ISTIO.md V17, V18).
    pub streams: Vec<StreamRoute>,
    /// What inbound and gateway listeners lead to. Names are unique.
    pub entrances: Vec<EntranceSpec>,
    /// Why no Gateway document opens a listener here, in words; `None` where one does, or where this
    /// proxy is no gateway.
    pub no_gateway: Option<Arc<str>>,
    /// What becomes of a host that no entry names, on a listener that clients address.
    pub unknown_hosts: UnknownHosts,
    /// The same on a listener of captured connections, and of what is not HTTP (ISTIO.md O1, X15).
    pub unknown_captured: UnknownHosts,
    /// The access log that the mesh configuration asks for; a flag wins (ISTIO.md K7, B6).
    pub access_log: Option<AccessLogSpec>,
    /// True where any of it came from manifests.
    pub from_manifests: bool,
    /// Who this proxy is, for metrics (ISTIO.md Z1, B2).
    pub facts: Arc<ProxyFacts>,
    /// What was turned away. What it governs is in the table all the same, and fails (X1).
    pub refused: Vec<Refused>,
    /// How certificate rotation behaves.
    pub rotation: Rotation,
    /// Bounds on what a client may hold.
    pub limits: Limits,
}

/// A document that was turned away while the others are served (ISTIO.md X1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Kind, namespace and name: `DestinationRule ns/name`.
    pub object: Arc<str>,
    /// Where it begins, or where its mistake is.
    pub place: Place,
    /// What is wrong with it.
    pub reason: Arc<str>,
}

/// `FILE:LINE: KIND ns/name was refused: what is wrong`.
impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Refused {
            object,
            place,
            reason,
        } = self;
        write!(f, "{place}: {object} was refused: {reason}")
    }
}

/// Where the access log goes, and how its lines look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogSpec {
    /// A path, `/dev/stdout` among them.
    pub file: String,
    /// `text`, `json`, or a format string of Envoy's operators.
    pub format: String,
    /// Where it was written.
    pub place: Place,
}

/// Where in the documents a thing was written, for every message about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Line, from 1. 0 where a flag said it.
    pub line: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

impl Place {
    /// So many lines further down in the same file.
    pub fn below(&self, lines: u32) -> Place {
        Place {
            file: Arc::clone(&self.file),
            line: self.line.saturating_add(lines),
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Place {
            file: "command line".into(),
            line: 0,
        }
    }
}

/// What becomes of a host that the table does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownHosts {
    /// 502 (ISTIO.md O2). The default.
    #[default]
    Refuse,
    /// Forward in plaintext to where the client meant to go. Opt-in.
    PassThrough,
}

/// Certificate rotation (ISTIO.md R9 to R17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Every file is read again this often, whatever the watch says (R9).
    pub poll: Duration,
    /// A busy connection of an old identity is retired after this; the default is the lesser of
    /// 1 h and the old leaf's end less 60 s (R16).
    pub max_connection_age: Duration,
    /// What becomes of requests under an expired certificate of ours (R17).
    pub on_expired: OnExpired,
}

impl Default for Rotation {
    fn default() -> Self {
        Rotation {
            poll: Duration::from_secs(10),
            max_connection_age: Duration::from_secs(3600),
            on_expired: OnExpired::Fail,
        }
    }
}

/// What an expired certificate of ours means (R17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnExpired {
    /// 503 UF with the reason: the peer would refuse it anyway.
    #[default]
    Fail,
    /// It is offered all the same.
    Use,
}

/// Bounds on what a client may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Downstream connections of the whole process; over it, accepting pauses.
    pub max_connections: usize,
    /// Bytes of a request head; over it: 431.
    pub max_head_bytes: usize,
    /// Headers of a request; over it: 431.
    pub max_headers: usize,
    /// From a head's first byte to its last.
    pub head_timeout: Duration,
    /// A connection without a request is closed after this.
    pub idle_timeout: Duration,
    /// A body that moves no byte in either direction for this long ends the request.
    pub stream_idle_timeout: Duration,
    /// HTTP/2 streams of one connection at once.
    pub max_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 65_536,
            max_head_bytes: 64 * 1024,
            max_headers: 100,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
            stream_idle_timeout: Duration::from_secs(300),
            max_streams: 256,
        }
    }
}

impl Config {
    /// Every credential that an upstream or an entrance names, each once.
    pub fn credentials(&self) -> Vec<CredentialUse> {
        let upstreams = self.upstreams.iter().filter_map(|one| match &one.tls {
            TlsPolicy::Disable => None,
            TlsPolicy::Tls(tls) => Some((&tls.credential, Uses::CLIENT)),
        });
        let entrances = self.entrances.iter().filter_map(|one| one.tls.spec());
        let entrances = entrances.flat_map(|tls| std::iter::once(&tls.credential).chain(&tls.more));
        let entrances = entrances.map(|spec| (spec, Uses::SERVER));
        let mut all: BTreeMap<&CredentialSpec, Uses> = BTreeMap::new();
        for (spec, uses) in upstreams.chain(entrances) {
            let known = all.entry(spec).or_default();
            *known = known.and(uses);
        }
        all.into_iter()
            .map(|(spec, uses)| CredentialUse {
                spec: spec.clone(),
                uses,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::entrance::{
        Carries, ClientCertificates, DownstreamTls, EntranceAt, EntranceHeaders, ServerTlsSpec,
    };
    use super::super::tls::{CaSource, IdentitySource, TlsSpec};
    use super::*;

    fn credential(name: &str) -> CredentialSpec {
        CredentialSpec {
            identity: Some(IdentitySource::Files(name.into(), "key".into())),
            ca: CaSource::System,
            crl: None,
        }
    }

    fn upstream(name: &str) -> UpstreamSpec {
        UpstreamSpec {
            tls: TlsPolicy::Tls(Box::new(TlsSpec::new(credential(name)))),
            ..UpstreamSpec::new(name)
        }
    }

    fn entrance(name: &str, more: &str) -> EntranceSpec {
        let mut tls = ServerTlsSpec::new(credential(name), ClientCertificates::Required);
        tls.more.push(credential(more));
        EntranceSpec {
            name: name.into(),
            at: EntranceAt::Inbound(None),
            tls: DownstreamTls::Permissive(Box::new(tls)),
            carries: Carries::Either,
            hosts: Vec::new(),
            streams: Vec::new(),
            headers: EntranceHeaders::inbound(),
            service: None,
            broken: None,
            object: None,
            reasons: Default::default(),
            place: Place::default(),
        }
    }

    #[test]
    fn a_credential_is_named_once_with_all_who_see_its_certificate() {
        let config = Config {
            upstreams: vec![upstream("both"), upstream("client"), upstream("both")],
            entrances: vec![entrance("both", "server"), entrance("server", "server")],
            ..Config::default()
        };
        let expected = [
            ("both", Uses::CLIENT.and(Uses::SERVER)),
            ("client", Uses::CLIENT),
            ("server", Uses::SERVER),
        ];
        let expected = expected.map(|(name, uses)| CredentialUse {
            spec: credential(name),
            uses,
        });
        assert_eq!(config.credentials(), expected);
    }
}
