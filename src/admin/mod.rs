//! The admin port: readiness, metrics, what is loaded; and the status port, which may face the
//! network.
//!
//! Owns: their listeners on the cold thread.
//! Never: prints a key.
//! Called by: app.

mod page;
mod server;
mod state;
mod status;
mod view;
mod view_entrance;
mod view_stream;

pub use server::{serve, serve_status};
pub use state::{AdminState, Command, EndpointHealth, Inside, ReloadReport, UpstreamHealth};
pub use status::StatusState;
pub use view::{HostView, RefusedView, RoutesView, RuleView, UpstreamView};
pub use view_entrance::EntranceView;
pub use view_stream::StreamView;
