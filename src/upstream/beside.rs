//! A connection to the application beside us, for whoever asks how it is.
//!
//! Owns: nothing.
//! Never: reaches another machine's application unless it is told its address, or ourselves.
//! Called by: probe.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::dial::{DialProblem, dial};
use super::error::UpstreamError;
use super::own::OwnAddrs;
use crate::model::{DialSource, EndpointAddr};

/// Connects, from 127.0.0.6 or ::6 where capturing rules would take the connection otherwise
/// (ISTIO.md P13). The caller keeps the deadline.
///
/// # Errors
/// [`UpstreamError::Loop`] where the address is one of ours, [`UpstreamError::Connect`].
pub async fn dial_beside(address: SocketAddr, own: &OwnAddrs) -> Result<TcpStream, UpstreamError> {
    let endpoint = EndpointAddr(address);
    let dialed = dial(endpoint, None, DialSource::Inbound.into(), own).await;
    match dialed {
        Ok(dialed) => Ok(dialed.stream),
        Err(error) => Err(match error.problem {
            DialProblem::Loop => UpstreamError::Loop { endpoint },
            DialProblem::Failed(failure) => UpstreamError::Connect { endpoint, failure },
        }),
    }
}
