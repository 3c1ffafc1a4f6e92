//! A warm connection to one named destination.
//!
//! Owns: endpoints, their health, pools, connections.
//! Never: reads a route.
//! Called by: proxy (`Upstream::send`), publish (makes and retires upstreams), admin (`endpoints`).

mod adapt;
mod balance;
mod body;
mod connect;
mod connection;
mod core;
mod dial;
mod discover;
mod error;
mod own;
mod pool;
mod quota;
mod resolve;
#[expect(
    clippy::module_inception,
    reason = "the file is named for the one type it holds"
)]
mod upstream;
mod wire;

pub use body::{RequestBody, ResponseBody};
pub use error::{
    BodyError, Closed, ConnectFailure, DnsFailure, DnsProblem, Limit, NoEndpoint, Stage,
    UpstreamError,
};
pub use own::OwnAddrs;
pub use resolve::Resolver;
pub use upstream::{
    Answer, Ask, EndpointStatus, SendFailure, Upstream, UpstreamContext, UpstreamTls,
};
