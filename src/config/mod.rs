//! Files to a validated configuration, or every reason why not.
//!
//! Owns: documents, diagnostics, the schema.
//! Never: opens a socket or reads a certificate.
//! Called by: publish, cli.

mod diagnostic;
mod load;
mod schema;

pub use diagnostic::{Code, Diagnostic, Diagnostics, MAX_DIAGNOSTICS, Severity};
pub use load::{Loaded, load};
pub use schema::schema;
