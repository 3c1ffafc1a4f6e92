//! Files to a validated configuration, or every reason why not.
//!
//! Owns: documents, diagnostics, the schema.
//! Never: opens a socket or reads a certificate.
//! Called by: publish, cli.
