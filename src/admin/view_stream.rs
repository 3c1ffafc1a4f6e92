//! What `/routes` shows of connections that carry no plain HTTP.
//!
//! Owns: [`StreamView`], one row of that part of the page.
//! Never: decides where a connection goes (that is `route`).
//! Called by: view.

use serde::{Deserialize, Serialize};

use crate::model::{StreamMatch, StreamRoute};

/// Where connections of one kind go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamView {
    /// `tls`, `tcp`, or `other`: bytes of a port without a protocol that are neither.
    pub kind: String,
    /// `None`: any.
    pub port: Option<u16>,
    /// The entrance that it is for; `None`: the mesh's listeners.
    #[serde(default)]
    pub entrance: Option<String>,
    /// What a ClientHello must ask for; empty but for `tls`.
    pub names: Vec<String>,
    /// Networks that it must go to; empty: any.
    pub destinations: Vec<String>,
    /// Networks that the client must be in; empty: any.
    pub sources: Vec<String>,
    /// To where, bytes untouched.
    pub target: String,
    /// As in `%ROUTE_NAME%`.
    pub name: Option<String>,
    /// `file:line`.
    pub place: String,
}

impl StreamView {
    /// `target`: its upstreams in words.
    pub(super) fn new(route: &StreamRoute, target: String) -> StreamView {
        let (kind, names, destinations) = match &route.on {
            StreamMatch::Tls {
                names,
                destinations,
            } => ("tls", names.as_slice(), destinations),
            StreamMatch::Tcp { destinations } => ("tcp", &[][..], destinations),
            StreamMatch::Sniffed { destinations } => ("other", &[][..], destinations),
        };
        StreamView {
            kind: kind.to_owned(),
            port: route.port,
            entrance: None,
            names: texts(names),
            destinations: texts(destinations),
            sources: texts(&route.sources),
            target,
            name: route.name.as_deref().map(str::to_owned),
            place: route.place.to_string(),
        }
    }

    /// True where a connection for `host`, in normal form, could be one of these: TLS by its name,
    /// bytes by the host of an upstream, which Istio's names end in.
    pub(super) fn concerns(route: &StreamRoute, host: &str) -> bool {
        match &route.on {
            StreamMatch::Tls { names, .. } => names.iter().any(|name| name.matches(host)),
            StreamMatch::Tcp { .. } | StreamMatch::Sniffed { .. } => {
                let mut to = route.to.iter();
                to.any(|one| one.upstream.rsplit('|').next() == Some(host))
            }
        }
    }
}

fn texts<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}
