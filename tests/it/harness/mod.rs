//! What the tests stand on: certificates, real peers on both sides, and sortie between them.
//!
//! Every peer binds port 0 and says where it is; nothing sleeps where it can wait for a fact.

mod capitals;
pub mod captured;
mod cell;
mod client;
mod compose;
mod eventually;
mod front;
mod hosts;
mod hub;
mod kubernetes;
mod lab;
mod load;
mod mesh;
mod needs;
mod nginx;
mod openssl;
mod origin;
mod pki;
mod pod;
mod process;
mod script;
mod seed;
mod sidecar;
mod sortie;

pub use capitals::capitals;
pub use cell::{Cell, Inmate};
pub use client::{Ended, Wire, chunked, curl, get, h2};
pub use compose::{Compose, IMAGE, docker, image};
pub use eventually::{eventually, within};
pub use front::{Front, FrontBuilder};
pub use hosts::{CLIENT, Hosts, Namespace, POD, PROXY, SERVICE, SERVICE_TOO, SOMEBODY, told};
pub use hub::Hub;
pub use kubernetes::{
    kubernetes_mistakes, kubernetes_validate, kubernetes_validate_for, yaml_documents,
};
pub use lab::Lab;
pub use load::Load;
pub use mesh::{Mesh, spiffe};
pub use needs::{needs, skip};
pub use nginx::Nginx;
pub use openssl::{Told, closing, s_client};
pub use origin::Origin;
pub use pki::{Authority, Identity, Kind};
pub use pod::{Inside, Pod};
pub use process::{PROGRAM, Process, free_address, program, signal};
pub use script::Step;
pub use seed::{demanding, fields, seed};
pub use sidecar::{SHOP, Sidecar, WEB, guarded};
pub use sortie::Sortie;
