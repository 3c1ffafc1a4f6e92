//! What a capture redirects, as rules of the kernel's packet filter (ISTIO.md 6.1).
//!
//! Owns: the rules as values, their texts for nftables and iptables, the messages that set them, and
//! the order in which they are applied, taken back and compared.
//! Never: reads a flag or prints; that is `cli::capture`.
//! Called by: cli (`sortie capture`).
//!
//! Why netlink and not a program: the image of an init container holds one file, and one message is
//! all or nothing where two programs are two chances to fail half-way.

mod apply;
mod attr;
mod check;
mod derive;
mod doubt;
mod expression;
mod host;
mod iptables;
mod nftables;
mod programs;
mod routing;
mod rules;
mod socket;
mod tproxy;
mod wire;
mod words;

pub use apply::{ApplyError, Backend, apply, check, remove};
pub use check::Difference;
pub use derive::rules;
pub use doubt::{Conflict, Doubt, conflicts, doubts};
pub use host::{has_ipv6, loopback_has_ipv6};
pub use iptables::text as iptables_text;
pub use nftables::text as nftables_text;
pub use routing::commands;
pub use rules::{Family, Ruleset};
