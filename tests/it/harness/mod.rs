//! What the tests stand on: certificates, real peers on both sides, and sortie between them.
//!
//! Every peer binds port 0 and says where it is; nothing sleeps where it can wait for a fact.

mod cell;
mod client;
mod eventually;
mod lab;
mod load;
mod needs;
mod nginx;
mod origin;
mod pki;
mod pod;
mod process;
mod script;
mod sortie;

pub use cell::{Cell, Inmate};
pub use client::{Ended, Wire, chunked, curl, get, h2};
pub use eventually::{eventually, within};
pub use lab::Lab;
pub use load::Load;
pub use needs::{needs, skip};
pub use nginx::Nginx;
pub use origin::Origin;
pub use pki::{Authority, Identity, Kind};
pub use pod::{Inside, Pod};
pub use process::{PROGRAM, Process, free_address, program};
pub use script::Step;
pub use sortie::Sortie;
