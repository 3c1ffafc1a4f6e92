//! Asks the application, within its time.
//!
//! Owns: [`Prober`], where the application is, and the words of every outcome.
//! Never: leaves a connection behind, or asks a port of our own.
//! Called by: admin.
//!
//! Why the pod's address, dialled from 127.0.0.6: the application sees what it would see of a
//! kubelet, one that listens on loopback alone fails as it would there, and the capturing rules let
//! the connection through (ISTIO.md C2, P13).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, USER_AGENT};
use ::http::{HeaderMap, StatusCode};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::spec::{AppProbe, AppProbes, Kind};
use super::{grpc, http};
use crate::model::{CaSource, CredentialSpec, HttpChoice, NameCheck, OnExpired, TlsSpec, Uses};
use crate::tls::{ClientTls, Credential, CredentialParts, Generation};
use crate::upstream::{self, OwnAddrs};

/// Beyond the time of a probe, for the answer to its asker.
const GRACE: Duration = Duration::from_secs(60);

/// What the asker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The application's, or 502, 503 or 504.
    pub status: StatusCode,
    /// One line.
    pub words: String,
}

impl Verdict {
    pub(super) fn new(status: StatusCode, words: String) -> Verdict {
        Verdict { status, words }
    }

    fn unreachable(words: String) -> Verdict {
        Verdict::new(StatusCode::SERVICE_UNAVAILABLE, words)
    }

    /// The application answered something that is not what it was asked in.
    pub(super) fn garbage(words: String) -> Verdict {
        Verdict::new(StatusCode::BAD_GATEWAY, words)
    }
}

/// Everything that asking takes.
pub struct Prober {
    probes: AppProbes,
    pod: Option<IpAddr>,
    own: OwnAddrs,
    tls: Option<Arc<ClientTls>>,
}

impl Prober {
    /// `pod`: the pod's address; `None`: loopback. `own`: what is never asked.
    pub fn new(probes: AppProbes, pod: Option<IpAddr>, own: OwnAddrs) -> Prober {
        let speaks_tls = |probe: &AppProbe| matches!(probe.kind, Kind::Http { tls: true, .. });
        let tls = probes.values().any(speaks_tls).then(unverified).flatten();
        Prober {
            probes,
            pod: pod.map(|pod| pod.to_canonical()),
            own,
            tls,
        }
    }

    /// The paths that are known and may be told: no hook's, and none with a secret.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let paths = self.probes.keys().map(String::as_str);
        paths.filter(|path| path.starts_with("/app-health/") && path.matches('/').count() == 3)
    }

    /// The longest that an answer can take.
    pub fn patience(&self) -> Duration {
        let longest = self.probes.values().map(|probe| probe.timeout).max();
        longest.unwrap_or_default() + GRACE
    }

    /// Asks the probe at `path`; `None` where there is none. `asker`: the headers of who asks, of
    /// which the application hears User-Agent and Accept.
    pub async fn ask(&self, path: &str, asker: &HeaderMap) -> Option<Verdict> {
        let probe = self.probes.get(path)?;
        let asked = self.call(&probe.kind, asker);
        let verdict = match tokio::time::timeout(probe.timeout, asked).await {
            Ok(Ok(verdict) | Err(verdict)) => verdict,
            Err(_) => Verdict::new(
                StatusCode::GATEWAY_TIMEOUT,
                format!("the application did not answer within {:?}", probe.timeout),
            ),
        };
        tracing::debug!(path, status = verdict.status.as_u16(), "{}", verdict.words);
        Some(verdict)
    }

    async fn call(&self, kind: &Kind, asker: &HeaderMap) -> Result<Verdict, Verdict> {
        match kind {
            Kind::Http {
                port,
                path,
                tls,
                host,
                headers,
            } => {
                let mut sent = HeaderMap::new();
                for name in [USER_AGENT, ACCEPT] {
                    for value in asker.get_all(&name) {
                        sent.append(name.clone(), value.clone());
                    }
                }
                http::replace(&mut sent, headers);
                let target = http::Target {
                    tls: *tls,
                    port: *port,
                    path: path.clone(),
                };
                http::get(self, target, host.clone(), sent).await
            }
            Kind::Tcp { port } => {
                let (_stream, address) = self.dial(*port).await?;
                let words = format!("{address} takes connections");
                Ok(Verdict::new(StatusCode::OK, words))
            }
            Kind::Grpc { port, service } => {
                let (stream, address) = self.dial(*port).await?;
                grpc::check(stream, address, service, asker.get(USER_AGENT)).await
            }
        }
    }

    /// What the application is called in URLs.
    pub(super) fn host(&self) -> IpAddr {
        self.pod.unwrap_or(Ipv4Addr::LOCALHOST.into())
    }

    /// A connection to the application, and where it is.
    pub(super) async fn dial(&self, port: u16) -> Result<(TcpStream, SocketAddr), Verdict> {
        let other = match self.pod {
            Some(_) => None,
            // Nobody said where: then either loopback will do.
            None => Some(IpAddr::from(Ipv6Addr::LOCALHOST)),
        };
        let first = SocketAddr::new(self.host(), port);
        let failed = match upstream::dial_beside(first, &self.own).await {
            Ok(stream) => return Ok((stream, first)),
            Err(error) => Verdict::unreachable(error.to_string()),
        };
        if let Some(ip) = other {
            let second = SocketAddr::new(ip, port);
            if let Ok(stream) = upstream::dial_beside(second, &self.own).await {
                return Ok((stream, second));
            }
        }
        Err(failed)
    }

    /// TLS with the application, unverified.
    pub(super) fn tls(&self) -> Result<&ClientTls, Verdict> {
        let missing = || Verdict::unreachable("TLS could not be set up".to_owned());
        self.tls.as_deref().ok_or_else(missing)
    }
}

/// TLS that looks at no certificate: the kubelet does not either (Kubernetes: "skips certificate
/// verification"), and what is sent is no secret.
fn unverified() -> Option<Arc<ClientTls>> {
    let parts = CredentialParts {
        name: "app-probes".to_owned(),
        identity: None,
        roots: None,
        crls: Vec::new(),
        generation: Generation([0; 32]),
        uses: Uses::CLIENT,
    };
    let credential = Credential::new(parts).ok()?;
    let spec = TlsSpec {
        verify_chain: false,
        name_check: NameCheck::Off,
        ..TlsSpec::new(CredentialSpec {
            identity: None,
            ca: CaSource::Nothing,
            crl: None,
        })
    };
    let credential = Arc::new(credential);
    let tls = ClientTls::new(&spec, HttpChoice::Http1, credential, OnExpired::default());
    tls.map(Arc::new).ok()
}

/// A task that ends with whoever waits for it.
pub(super) struct Driver<T>(pub(super) JoinHandle<T>);

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
