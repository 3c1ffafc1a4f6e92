//! VirtualService: what becomes of requests and connections to its hosts (ISTIO.md V).
//!
//! Owns: [`VirtualService`] and its routes.
//! Never: looks a destination up (that is `lower::routes`).
//! Called by: read, lower.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::meta::{ExportTo, Labels, Meta, Written};
use crate::model::{
    Fault, HeaderMatch, HeaderOps, HostPattern, PathRewrite, Place, QueryMatch, Redirect, Respond,
    Retries, Share, StringMatch,
};

/// A VirtualService.
#[derive(Clone, Debug)]
pub struct VirtualService {
    pub meta: Meta,
    /// As written: short names are expanded with the object's namespace (H3).
    pub hosts: Vec<Written<String>>,
    /// As written; empty means `mesh` (V1, V2).
    pub gateways: Vec<Written<String>>,
    pub http: Vec<HttpRoute>,
    pub tls: Vec<TlsRoute>,
    pub tcp: Vec<TcpRoute>,
    pub export_to: ExportTo,
}

/// One of `http`.
#[derive(Clone, Debug)]
pub struct HttpRoute {
    pub name: Option<Arc<str>>,
    /// Any one of them; empty: always.
    pub matches: Vec<HttpMatch>,
    pub action: HttpAction,
    pub rewrite_authority: Option<String>,
    pub rewrite_path: Option<PathRewrite>,
    pub timeout: Option<Duration>,
    /// `None`: the default (V14).
    pub retries: Option<Retries>,
    pub fault: Fault,
    pub mirrors: Vec<(Destination, Share)>,
    pub request_headers: HeaderOps,
    pub response_headers: HeaderOps,
    pub place: Place,
}

/// What a route does. A delegate is refused (V19, U3).
#[derive(Clone, Debug)]
pub enum HttpAction {
    Route(Vec<HttpDestination>),
    Redirect(Redirect),
    Respond(Respond),
}

/// A destination of an HTTP route with its share and changes.
#[derive(Clone, Debug)]
pub struct HttpDestination {
    pub destination: Destination,
    pub weight: u32,
    /// `headers.request.set.host` or `add.host` of this destination (V11).
    pub authority: Option<String>,
    pub request_headers: HeaderOps,
    pub response_headers: HeaderOps,
}

/// `destination`.
#[derive(Clone, Debug)]
pub struct Destination {
    /// As written (H3).
    pub host: String,
    pub subset: Option<Arc<str>>,
    pub port: Option<u16>,
    pub place: Place,
}

/// Conditions of one match; all must hold (V8, V9).
#[derive(Clone, Debug)]
pub struct HttpMatch {
    pub name: Option<Arc<str>>,
    pub uri: Option<StringMatch>,
    pub ignore_uri_case: bool,
    pub scheme: Option<StringMatch>,
    pub method: Option<StringMatch>,
    pub authority: Option<StringMatch>,
    /// Those of `withoutHeaders` included.
    pub headers: Vec<(http::HeaderName, HeaderMatch)>,
    pub query: Vec<(String, QueryMatch)>,
    pub on: MatchOn,
    pub place: Place,
}

/// What of a match does not depend on the request: it is decided while lowering (V8).
#[derive(Clone, Debug, Default)]
pub struct MatchOn {
    pub port: Option<u16>,
    /// `None` where not written.
    pub gateways: Option<Vec<Written<String>>>,
    pub source_labels: Labels,
    pub source_namespace: Option<Arc<str>>,
}

/// One of `tls` (V17).
#[derive(Clone, Debug)]
pub struct TlsRoute {
    pub matches: Vec<TlsMatch>,
    pub route: Vec<StreamDestination>,
    pub place: Place,
}

/// Conditions of a TLS match.
#[derive(Clone, Debug)]
pub struct TlsMatch {
    pub sni_hosts: Vec<Written<HostPattern>>,
    pub destinations: Vec<IpNet>,
    pub sources: Vec<IpNet>,
    pub on: MatchOn,
    pub place: Place,
}

/// One of `tcp` (V18); no match: the listener's all.
#[derive(Clone, Debug)]
pub struct TcpRoute {
    pub matches: Vec<TcpMatch>,
    pub route: Vec<StreamDestination>,
    pub place: Place,
}

/// Conditions of a TCP match.
#[derive(Clone, Debug)]
pub struct TcpMatch {
    pub destinations: Vec<IpNet>,
    pub sources: Vec<IpNet>,
    pub on: MatchOn,
    pub place: Place,
}

/// A destination of a TLS or TCP route.
#[derive(Clone, Debug)]
pub struct StreamDestination {
    pub destination: Destination,
    pub weight: u32,
}
