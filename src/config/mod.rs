//! Files to a validated configuration, or every reason why not.
//!
//! Owns: documents, diagnostics, the schema.
//! Never: opens a socket or reads a certificate.
//! Called by: publish, cli.

mod alike;
mod cursor;
mod diagnostic;
mod document;
mod format;
mod istio;
mod left;
mod listeners;
mod load;
mod matching;
mod native;
pub(crate) mod node;
mod options;
mod parsed;
mod retries;
mod routes;
mod rules;
mod schema;
mod settings;
mod shape;
mod tls;
mod units;
mod upstreams;
mod validate;
pub(crate) mod yaml;

pub use diagnostic::{Code, Diagnostic, Diagnostics, MAX_DIAGNOSTICS, Severity};
pub use load::{
    Inspected, Loaded, files, inspect, load, load_text, read_bytes, read_texts, yaml_mistakes,
};
pub use options::LoadOptions;
pub use schema::schema;
pub(crate) use units::duration;
pub(crate) use validate::did_you_mean;
pub use yaml::MAX_BYTES;
