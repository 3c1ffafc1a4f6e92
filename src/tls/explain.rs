//! A failed handshake in words: which check, what was expected, what came, what to do.
//!
//! Owns: [`HandshakeError`] and [`HandshakeReason`].
//! Never: verifies anything.
//! Called by: `tls::connect`.

use std::fmt;

/// Why a handshake failed. `Display` is one line in words.
#[derive(Debug)]
pub struct HandshakeError {
    /// The reason as a class, for metrics and for the decision to try again.
    pub reason: HandshakeReason,
}

/// The classes of handshake failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeReason {
    /// The certificate is for another name.
    San,
    /// The connection ended.
    Closed,
}

impl HandshakeReason {
    /// A word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            HandshakeReason::San => "san",
            HandshakeReason::Closed => "closed",
        }
    }

    /// True where a check failed and would fail again, so that nothing is retried (ISTIO.md X5).
    pub fn is_check(self) -> bool {
        self != HandshakeReason::Closed
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.label())
    }
}

impl std::error::Error for HandshakeError {}
