//! What all requests of one client connection share.
//!
//! Owns: the facts of the connection and the handles of its worker.
//! Never: changes, but for the control that the socket shares.
//! Called by: `proxy::serve` (makes it), `forward`, `record`, `tunnel` (read it).

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::context::ProxyContext;
use super::control::Control;
use super::entering::Entering;
use super::identity::Identity;
use crate::model::{ListenerKind, OriginalDst, PeerAddr};
use crate::snapshot::EntranceKey;
use crate::tls::{AcceptFacts, ServerTls};

/// One client connection.
pub(super) struct Connection {
    pub(super) context: Arc<ProxyContext>,
    pub(super) control: Arc<Control>,
    pub(super) peer: PeerAddr,
    pub(super) local: SocketAddr,
    pub(super) kind: ListenerKind,
    pub(super) original_dst: Option<OriginalDst>,
    /// The client's address, where the application is to see that and not ours (TPROXY).
    pub(super) shown: Option<IpAddr>,
    /// The entrance that it came in by; `None`: the mesh's plain side.
    pub(super) entrance: Option<EntranceKey>,
    /// What was agreed with the client in TLS that ends here.
    pub(super) secured: Option<Arc<AcceptFacts>>,
    /// What it was agreed by; holds no key.
    pub(super) made_with: Option<Weak<ServerTls>>,
    /// What becomes of its requests' heads at the entrance.
    pub(super) entering: Option<Entering>,
    /// Who the client is, for those who look from outside.
    pub(super) identity: Identity,
    /// A body that moves no byte for this long ends its request.
    pub(super) stream_idle: Duration,
    /// Let go with the last of its requests: a tunnel outlives the HTTP on its connection.
    pub(super) held: Box<dyn Any + Send + Sync>,
}
