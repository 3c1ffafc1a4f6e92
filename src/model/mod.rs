//! The words that every room shares: addresses, hosts, destinations and the validated configuration.
//!
//! Owns: plain values, parsed once and therefore always normal.
//! Never: opens a file or a socket, or imports anything of ours.
//! Called by: every room.

mod addr;
mod capture;
mod cipher;
mod config;
mod destination;
mod entrance;
mod facts;
mod group;
mod hash;
mod host;
mod listener;
mod rule;
mod stream;
mod tls;
mod upstream;

pub use addr::{EndpointAddr, ListenAddr, OriginalDst, PeerAddr};
pub use capture::{
    CaptureSpec, Chosen, Interception, LOCAL_PORTS, ListError, Listed, PROXY_ID, TUNNEL_PORT, list,
};
pub use cipher::{TLS12_CIPHER_SUITES, known_cipher_suite};
pub use config::{
    AccessLogSpec, Config, Limits, OnExpired, Place, REGEX_SIZE_LIMIT, Refused, Rotation,
    UnknownHosts,
};
pub use destination::{AuthorityError, Destination};
pub use entrance::{
    Carries, ClientCertDetails, ClientCertificates, DownstreamTls, EntranceAt, EntranceHeaders,
    EntranceSpec, ForwardClientCert, ServerAlpn, ServerTlsSpec,
};
pub use facts::{MeshIdentity, ProxyFacts, Role};
pub use group::{HostRoutes, Hosts, Rules};
pub use hash::{ByName, NameMap, NamePlaces};
pub use host::{Host, HostError, HostPattern};
pub use listener::{GatewayPort, ListenerKind, ListenerSpec};
pub use rule::{
    Abort, Action, Fault, HeaderMatch, HeaderOps, HeaderText, MatchSpec, Mirror, PathRewrite,
    QueryMatch, Redirect, RedirectPath, RedirectPort, Respond, Retries, RetryOn, Rewrite, RuleSpec,
    Share, StringMatch, Weighted,
};
pub use stream::{StreamMatch, StreamRoute};
pub use tls::{
    AlpnOffer, CaSource, CredentialSpec, CredentialUse, CrlSource, IdentitySource, NameCheck,
    SecretBytes, SecretData, SecretRef, TlsPolicy, TlsSpec, TlsVersion, Uses,
};
pub use upstream::{
    Balance, Broken, BrokenKind, DialSource, EndpointSpec, HttpChoice, Outlier, PoolLimits, Reason,
    Reasons, Resolution, ServiceLabels, UpstreamSpec,
};
