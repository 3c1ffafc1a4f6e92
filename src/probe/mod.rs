//! The application's own probes and hooks, asked on the kubelet's behalf (ISTIO.md I8).
//!
//! Owns: what they are, and how each is asked.
//! Never: decides who may ask (that is admin), or says more than whether the application is well.
//! Called by: admin (asks), cli and app (make them).

mod call;
mod grpc;
mod http;
mod read;
mod spec;

pub use call::{Prober, Verdict};
pub use read::{ProbeError, read};
pub use spec::{AppProbe, AppProbes, Kind};
