//! The promises of sortie, one file each, kept against real peers on the wire.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used
)]

mod harness;

mod admin;
mod capture;
mod captured;
mod captured_hosts;
mod cli;
mod compose;
mod demo;
mod drain;
mod entering;
mod errors;
mod exec;
mod explain;
mod gateways;
mod inbound;
mod inbound_told;
mod inject;
mod install;
mod istio_credentials;
mod istio_endpoints;
mod istio_large;
mod limits;
mod loops;
mod malformed;
mod manifest_commands;
mod mtls;
mod mtls_matrix;
mod opaque;
mod openssl;
mod pooling;
mod proxy_forms;
mod refused;
mod reload_certs;
mod reload_config;
mod routing;
mod rules;
mod seeds;
mod seeds_hops;
mod seeds_mesh;
mod slow;
mod sni;
mod status;
mod streaming;
mod tproxy;
mod wait;
mod webhook;
