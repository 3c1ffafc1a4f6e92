//! What all objects mean together, for this one proxy: registry, policies, routes.
//!
//! Owns: one file for each step, and what they share.
//! Never: reads a document again, or a file.
//! Called by: load.

mod analysis;
mod annotations;
mod auto_mtls;
mod client_tls;
mod clusters;
mod credential;
mod dangling;
mod endpoints;
mod entries;
mod gateway_ports;
mod gateway_routes;
mod gateway_say;
mod gateway_streams;
mod gateway_tls;
mod gateways;
mod host_index;
mod inbound;
mod inbound_ingress;
mod inbound_ports;
mod inbound_refused;
mod inbound_say;
mod mtls_analysis;
mod names;
mod outbound;
mod owners;
mod plaintext;
mod policy;
mod reasons;
mod refusals;
mod registry;
mod report;
mod routes;
mod routes_claims;
mod routes_hosts;
mod routes_names;
mod routes_reach;
mod routes_rules;
mod routes_say;
mod scope;
mod services;
mod settings;
mod spoken;
mod steps;
mod streams;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod traffic;
mod workloads;

pub use steps::lower;
