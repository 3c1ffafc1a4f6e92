//! One file per subcommand: its arguments and a few lines that call the rooms below.
//!
//! Owns: the command line, exit codes, and how tables look.
//! Never: does work that a room below could do.
//! Called by: main.

pub mod capture;
pub mod certs;
pub mod check;
mod client;
mod command;
pub mod completions;
pub mod demo;
pub mod drain;
pub mod exec;
pub mod explain;
pub mod facts;
pub mod inject;
mod inject_settings;
pub mod install;
mod material;
mod material_user;
mod origin;
mod proxy_args;
mod readiness;
mod replace;
pub mod routes;
pub mod run;
mod sarif;
pub mod schema;
mod table;
pub mod wait;
mod ward;
pub mod webhook;

pub use command::{command, main};
