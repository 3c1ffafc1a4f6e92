//! Applies the rules and takes them back: all or nothing, and twice is once.
//!
//! Owns: the order of the steps, and what is undone where one fails.
//! Never: prints.
//! Called by: cli (`sortie capture apply`, `remove`).

use rustix::io::Errno;

use super::rules::Ruleset;
use super::socket::{Socket, SocketError};
use super::wire::Batch;

/// Why the rules are not there, or not gone.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// CAP_NET_ADMIN is missing.
    #[error(
        "the capability NET_ADMIN is missing: run as root, or give the container \
         securityContext.capabilities.add: [NET_ADMIN] (docker: --cap-add NET_ADMIN)"
    )]
    NotPermitted,
    /// The kernel refused something.
    #[error("{about}: {source}{hint}")]
    Refused {
        /// What.
        about: String,
        /// Why.
        source: SocketError,
        /// What to do, if that is known.
        hint: &'static str,
    },
}

impl ApplyError {
    pub(super) fn new(about: impl Into<String>, source: SocketError) -> ApplyError {
        let errno = match source {
            SocketError::Refused { errno, .. } | SocketError::Io(errno) => Some(errno),
            _ => None,
        };
        let hint = match errno {
            Some(Errno::PERM | Errno::ACCESS) => return ApplyError::NotPermitted,
            Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT) => {
                ": this kernel lacks a part of nf_tables (nft_redir, nft_nat, nft_ct; nft_tproxy \
                 for TPROXY): load it on the host, or use --backend=iptables"
            }
            _ => "",
        };
        ApplyError::Refused {
            about: about.into(),
            source,
            hint,
        }
    }
}

/// Sets these rules in place of what was set before.
///
/// # Errors
/// What was refused; nothing has changed then.
pub fn apply(rulesets: &[Ruleset]) -> Result<(), ApplyError> {
    let socket = Socket::netfilter().map_err(|error| ApplyError::new("nf_tables", error))?;
    let batch = Batch::replacing(rulesets);
    batch
        .send(&socket)
        .map_err(|(about, error)| ApplyError::new(about, error))
}

/// Takes away all that was ever applied.
///
/// # Errors
/// What was refused.
pub fn remove() -> Result<(), ApplyError> {
    apply(&[])
}
