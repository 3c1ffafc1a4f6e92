//! What one probe asks.
//!
//! Owns: [`AppProbe`], checked when made.
//! Never: reads text (that is `read`), or asks (that is `call`).
//! Called by: the rest of this room.

use std::collections::BTreeMap;
use std::time::Duration;

use ::http::header::{HeaderName, HeaderValue};

/// Every probe by its path at the status port, such as `/app-health/web/livez`.
pub type AppProbes = BTreeMap<String, AppProbe>;

/// One probe or hook of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppProbe {
    /// How it asks.
    pub kind: Kind,
    /// For the whole of it.
    pub timeout: Duration,
}

/// How a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A GET.
    Http {
        /// From 1.
        port: u16,
        /// With its query; begins with `/`, and holds nothing that a request line may not.
        path: String,
        /// Over TLS, whatever certificate is shown: the kubelet looks at none either.
        tls: bool,
        /// What `Host` says, where it is neither the address nor one of `headers`.
        host: Option<HeaderValue>,
        /// In place of those that the kubelet sends; an empty `User-Agent` or `Accept` takes it out.
        headers: Vec<(HeaderName, HeaderValue)>,
    },
    /// A connection, and not a byte.
    Tcp {
        /// From 1.
        port: u16,
    },
    /// `grpc.health.v1.Health/Check` in clear text.
    Grpc {
        /// From 1.
        port: u16,
        /// The name of the service; empty: the server as a whole.
        service: String,
    },
}
