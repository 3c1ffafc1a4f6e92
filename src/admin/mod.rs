//! The admin port: readiness, metrics, what is loaded.
//!
//! Owns: its own listener on the cold thread.
//! Never: prints a key.
//! Called by: app.

mod page;
mod server;
mod state;
mod view;
mod view_entrance;
mod view_stream;

pub use server::serve;
pub use state::{AdminState, Command, EndpointHealth, Inside, ReloadReport, UpstreamHealth};
pub use view::{HostView, RefusedView, RoutesView, RuleView, UpstreamView};
pub use view_entrance::EntranceView;
pub use view_stream::StreamView;
