//! `sortie drain`: the pod is about to end.
//!
//! Owns: its flag.
//! Never: waits for the drain.
//! Called by: cli.
//!
//! Why: as the preStop hook of a native sidecar, which is told to end only after the application
//! (ISTIO.md I6, I13). A kubelet's own hook can neither POST nor reach a pod's loopback.

use std::process::ExitCode;
use std::time::Duration;

use super::client::{self, Ask};
use super::readiness::ADMIN;

/// Tell the proxy to let nobody new in
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The proxy is not ready any more; the application may call out until SIGTERM \
                        ends the proxy."
)]
pub struct Args {
    /// The admin port of the proxy
    #[arg(long, value_name = "ADDR", env = "SORTIE_ADMIN", default_value = ADMIN)]
    admin: String,
}

/// For the answer, which does not wait for the drain.
const PATIENCE: Duration = Duration::from_secs(5);

/// 0 once the drain has begun, 1 where nobody could be told.
pub fn run(args: &Args) -> ExitCode {
    let ask = Ask {
        method: "POST",
        address: &args.admin,
        path: "/drain",
    };
    match client::ask(&ask, PATIENCE) {
        Ok(reply) if reply.status == 200 => ExitCode::SUCCESS,
        Ok(reply) => {
            let words = reply.body.lines().next().unwrap_or_default();
            let (at, status) = (&args.admin, reply.status);
            eprintln!("sortie: the admin port {at} answered {status}: {words}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("sortie: {error}");
            ExitCode::FAILURE
        }
    }
}
