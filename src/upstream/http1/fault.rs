//! Why an exchange broke off.
//!
//! Owns: [`Fault`], with its words.
//! Never: says whose fault it is (that is `connection`).
//! Called by: the rest of this folder, `connection`.

use std::io;
use std::sync::Arc;

use crate::upstream::error::BodyError;

/// Why an exchange broke off.
#[derive(Debug, thiserror::Error)]
pub(in crate::upstream) enum Fault {
    /// The answer's head, or the framing of its body, is not HTTP.
    #[error("{0}")]
    Malformed(&'static str),
    /// The connection ended within the answer, or before it.
    #[error("{0}")]
    Ended(&'static str),
    /// The connection broke.
    #[error("connection error: {0}")]
    Io(#[source] io::Error),
    /// The request's body failed, or is not as long as it was said to be.
    #[error("{0}")]
    Body(#[source] Arc<BodyError>),
}

impl Fault {
    /// The request's body is not what was announced.
    pub(super) fn of_body(words: &'static str) -> Fault {
        Fault::Body(Arc::new(BodyError::Client(words.into())))
    }
}
