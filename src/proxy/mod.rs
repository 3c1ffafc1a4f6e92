//! One request, one answer; or one connection whose bytes are not ours.
//!
//! Owns: the story of a request, every answer that sortie makes itself, and the story of a
//! connection that carries no HTTP.
//! Never: opens a connection (that is `upstream`).
//! Called by: listener.

mod admission;
mod alarm;
mod answer;
mod arrival;
mod body;
mod changes;
mod client_cert;
mod clock;
mod connection;
mod context;
mod control;
mod crowd;
mod destination;
mod downstream;
mod entering;
mod error;
mod fault;
mod foresee;
mod forward;
mod grpc;
mod guarded;
pub mod headers;
mod http1;
mod http2;
mod identity;
mod lot;
mod mirror;
mod normal_path;
mod ready;
mod received;
mod record;
mod refusal;
mod relay;
mod request_id;
mod retire;
mod retry;
mod seldom;
mod send;
mod serve;
mod socket;
mod stream;
mod stream_record;
pub mod strict;
mod tee;
mod tunnel;
mod work;

pub use admission::{Admission, Before, Inside, Said, admit, before, has_entrances, inside};
pub use alarm::Alarm;
pub use arrival::{FirstStep, carries_http, first_step};
pub use context::{PassThrough, ProxyContext};
pub use destination::{as_written, destination_of};
pub use downstream::{Arrived, Downstream, Hello, Opaque, Protocol};
pub use foresee::{Entered, Foreseen, Spoken, enter, foresee, not_here, tls_in_tls};
pub use lot::{Lot, PATIENCE, Resume, can_park};
pub use mirror::Mirrors;
pub use refusal::Refusal;
pub use serve::serve;
pub use socket::Socket;
pub use stream::{refuse, stream};
