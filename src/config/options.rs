//! What a load is told besides its files.
//!
//! Owns: [`LoadOptions`].
//! Never: reads a flag (that is `cli`).
//! Called by: load, istio, publish, cli.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::model::{NameCheck, ProxyFacts, UnknownHosts};

/// What flags say about the meaning of documents.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Who this proxy is (ISTIO.md Z1).
    pub facts: Arc<ProxyFacts>,
    /// What Istio would let pass, or ignore, is a warning (ISTIO.md 1.3, X3).
    pub lenient: bool,
    /// What a wrong name means everywhere; `None`: native documents enforce, Istio's warn (T7).
    pub name_check: Option<NameCheck>,
    /// What becomes of unknown hosts, whatever the documents say (X15).
    pub unknown_hosts: Option<UnknownHosts>,
    /// Flags name listeners of mesh traffic; a sidecar always has one (X13).
    pub mesh_listeners: bool,
    /// Listeners for the application beside us (X14): where, and, where clients address them, to
    /// which address of the application they lead.
    pub inbound: Vec<(SocketAddr, Option<SocketAddr>)>,
    /// Where Gateway documents are served that name no `bind` (X13); `None`: every address.
    pub gateway_bind: Option<IpAddr>,
    /// Where a Gateway's `port.number` is bound, if elsewhere (G11, X13).
    pub gateway_ports: BTreeMap<u16, u16>,
    /// What answers of inbound and gateway listeners say for `Server`; empty: what the upstream says;
    /// `None`: as Istio (B10).
    pub server_header: Option<Arc<str>>,
    /// TLS records from the application may be wrapped in TLS once more (D8).
    pub allow_tls_in_tls: bool,
}
