//! sortie gives plain HTTP applications mutual TLS: plain HTTP in, mTLS out.
//!
//! # The house in one minute
//! ```text
//!    COLD HALF: decides                            HOT HALF: serves (one copy per core, nothing shared but the snapshot)
//!
//!                                                  listener   a connection arrives, plain or TLS, captured or direct
//!    files --> config --\                             v
//!                        >--> publish --> snapshot <-- proxy   one request, one answer
//!    files --> certs  --/             (one pointer)    v
//!                                                  route      where does it go?
//!                                                      v
//!                                                  upstream   a warm connection to that place
//!                                                      v
//!                                                  tls        the handshake
//! ```
//! Four sentences that stay true; `tests/architecture.rs` checks the first two.
//! 1. Nobody imports upwards. In the hot half the arrow of data and the arrow of imports are the
//!    same arrow.
//! 2. The hot half never imports the cold half (config, certs, publish). They meet at one wall,
//!    [`snapshot`]. It is a crate of its own (`hot.rs`), so that the compiler says so too.
//! 3. Only two rooms hold anything that changes while requests run: [`snapshot`] (one pointer) and
//!    [`upstream`] (connections, addresses, recent failures). All else is immutable, counters aside.
//! 4. One request sees one snapshot, from its first byte to its last.
//!
//! Outbound, inbound and gateway are not three programs. A listener has an address and a way to learn
//! the destination; an entrance adds a downstream TLS policy and a route table of its own; an upstream
//! has endpoints and an upstream TLS policy. A sidecar's outbound side is a plain listener and mutual
//! upstreams; its inbound side is permissive entrances and a plain upstream; an egress gateway is
//! mutual on both.
//!
//! # Rooms, floor by floor
//! - 0 [`model`] the shared words; [`drain`] one shutdown signal; [`watch`] "a path changed";
//!   [`scratch`] one receive buffer per thread; [`message`] a message's head; [`http2`] HTTP/2's bodies; [`telemetry`] log, metrics, access log. Cold: [`inject`] a pod in, a pod with a sidecar out;
//!   [`capture`] the kernel's rules that lead traffic to the proxy.
//! - 1 [`tls`] credentials, verification, the handshake and why it failed. Cold: [`config`], files
//!   to a validated configuration; [`install`] manifests that run sortie in Kubernetes.
//! - 2 [`upstream`] endpoints, pools, connections. Cold: [`certs`], files to credentials.
//! - 3 [`route`] the table. 4 [`snapshot`] the wall: all tables, and the entrances, which say who
//!   comes in by an inbound or gateway listener. Cold: [`publish`] builds and swaps.
//! - 5 [`proxy`] one request, one answer. 6 [`listener`] sockets; [`worker`] one thread each.
//!   [`explain`] asks the tables why; [`probe`] asks how the application is.
//! - 7 [`admin`] its own port. Cold: [`webhook`] sidecars for new pods, when Kubernetes asks.
//!   8 [`app`] wiring; [`cli`] one file per command; `main`.

pub mod admin;
pub mod app;
pub mod capture;
pub mod certs;
pub mod cli;
pub mod config;
pub mod explain;
pub mod inject;
pub mod install;
pub mod probe;
pub mod publish;
pub mod watch;
pub mod webhook;

// The hot half is a crate of its own (`hot.rs` says why). Unit tests and documentation see one house.
#[cfg(not(any(test, doc)))]
pub use hot::{
    drain, http2, listener, message, model, proxy, route, scratch, snapshot, telemetry, tls,
    upstream, worker,
};

#[cfg(any(test, doc))]
pub mod drain;
#[cfg(any(test, doc))]
pub mod http2;
#[cfg(any(test, doc))]
pub mod listener;
#[cfg(any(test, doc))]
pub mod message;
#[cfg(any(test, doc))]
pub mod model;
#[cfg(any(test, doc))]
pub mod proxy;
#[cfg(any(test, doc))]
pub mod route;
#[cfg(any(test, doc))]
pub mod scratch;
#[cfg(any(test, doc))]
pub mod snapshot;
#[cfg(any(test, doc))]
pub mod telemetry;
#[cfg(any(test, doc))]
pub mod tls;
#[cfg(any(test, doc))]
pub mod upstream;
#[cfg(any(test, doc))]
pub mod worker;
