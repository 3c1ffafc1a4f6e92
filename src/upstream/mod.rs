//! A warm connection to one named destination.
//!
//! Owns: endpoints, their health, pools, connections.
//! Never: reads a route.
//! Called by: proxy (`Upstream::send`, `Upstream::open_stream`), publish (makes and retires upstreams), admin (`endpoints`).

mod adapt;
mod balance;
mod beside;
mod body;
mod connect;
mod connection;
mod core;
mod destination;
mod dial;
mod discover;
mod echo;
mod error;
mod hold;
mod http1;
mod http2;
mod lane;
mod life;
mod own;
mod pool;
mod quota;
mod resolve;
mod seam;
mod source;
mod stream;
mod transport;
#[expect(
    clippy::module_inception,
    reason = "the file is named for the one type it holds"
)]
mod upstream;
mod wire;

#[cfg(test)]
mod tests;

pub use beside::dial_beside;
pub use body::{RequestBody, ResponseBody};
pub use error::{
    BodyError, Closed, ConnectFailure, DnsFailure, DnsProblem, Limit, NoEndpoint, Stage,
    UpstreamError,
};
pub use own::OwnAddrs;
pub use resolve::Resolver;
pub use seam::{
    Answer, Ask, Duplex, EndpointStatus, SendFailure, Switched, UpstreamContext, UpstreamTls,
    switched,
};
pub use stream::{OpenStream, StreamFailure};
pub use upstream::Upstream;
