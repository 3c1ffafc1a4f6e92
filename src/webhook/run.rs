//! The webhook as a whole: what it needs, its start, its end.
//!
//! Owns: [`Options`], the order of start and drain.
//! Never: reads a flag or a signal.
//! Called by: cli.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use super::certificate::Files;
use super::certificate::Keeper;
use super::counts::Counts;
use super::exchange::Hook;
use super::status::Shown;
use super::{server, status};
use crate::drain::Drain;
use crate::inject::Settings;
use crate::telemetry::Status;

/// What a webhook needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the API server calls.
    pub listen: SocketAddr,
    /// Readiness and metrics; `None`: nowhere.
    pub status: Option<SocketAddr>,
    /// Its certificate.
    pub files: Files,
    /// What is injected.
    pub settings: Settings,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct RunError {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// A webhook that answers.
pub struct Running {
    /// Where the API server calls.
    pub listen: SocketAddr,
    /// Readiness and metrics.
    pub status: Option<SocketAddr>,
    drain: Drain,
    server: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

/// Binds, reads the certificate and answers from then on. That there is no certificate yet is no
/// error: it is then not ready.
///
/// # Errors
/// An address cannot be had.
pub async fn start(options: Options) -> Result<Running, RunError> {
    let (counts, state, drain) = (Arc::new(Counts::default()), Status::new(), Drain::new());
    let listener = bind(options.listen).await?;
    let plain = match options.status {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let address = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
    let listen = address(&listener, options.listen);
    let shown_at = plain.as_ref().zip(options.status);
    let shown_at = shown_at.map(|(listener, asked)| address(listener, asked));
    let keeper = Keeper::new(options.files, Arc::clone(&state), Arc::clone(&counts));
    let hook = Arc::new(Hook::new(options.settings, Arc::clone(&counts)));
    let current = keeper.current();
    let mut others = vec![tokio::spawn(keeper.keep())];
    if let Some(plain) = plain {
        let shown = Shown {
            status: state,
            counts,
            drain: drain.clone(),
        };
        others.push(tokio::spawn(status::serve(plain, Arc::new(shown))));
    }
    let server = tokio::spawn(server::serve(listener, hook, current, drain.clone()));
    Ok(Running {
        listen,
        status: shown_at,
        drain,
        server,
        others,
    })
}

impl Running {
    /// Takes no new connection, answers what was asked, and ends; after `most` whatever is left is
    /// cut off, and this is false.
    pub async fn stop(mut self, most: Duration) -> bool {
        self.drain.start();
        let whole = tokio::time::timeout(most, &mut self.server).await.is_ok();
        self.server.abort();
        self.others.iter().for_each(JoinHandle::abort);
        whole
    }
}

/// Every address of both families, where there are both.
async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    let bound = match TcpListener::bind(address).await {
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && is_v4_only(&error) => {
            let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            TcpListener::bind(any).await
        }
        bound => bound,
    };
    bound.map_err(|source| RunError { address, source })
}

/// A kernel without IPv6 knows neither the family nor the address.
fn is_v4_only(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::Unsupported, io::ErrorKind::AddrNotAvailable];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(97)
}
