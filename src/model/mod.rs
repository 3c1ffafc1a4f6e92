//! The words that every room shares: addresses, hosts, destinations and the validated configuration.
//!
//! Owns: plain values, parsed once and therefore always normal.
//! Never: opens a file or a socket, or imports anything of ours.
//! Called by: every room.

mod addr;
mod config;
mod destination;
mod host;

pub use addr::{EndpointAddr, ListenAddr, OriginalDst, PeerAddr};
pub use config::{
    Action, Balance, CaSource, Config, CredentialSpec, EndpointSpec, HeaderMatch, HeaderOps,
    HostRoutes, HttpChoice, Limits, ListenerKind, ListenerSpec, MatchSpec, NameCheck, OnExpired,
    Outlier, PathRewrite, Place, PoolLimits, REGEX_SIZE_LIMIT, Redirect, Resolution, Respond,
    Retries, RetryOn, Rewrite, Rotation, RuleSpec, StringMatch, TlsPolicy, TlsSpec, TlsVersion,
    UnknownHosts, UpstreamSpec, Weighted,
};
pub use destination::{AuthorityError, Destination};
pub use host::{Host, HostError, HostPattern};
