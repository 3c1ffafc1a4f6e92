//! The JSON Schema of the native format.
//!
//! Owns: the schema.
//! Never: says anything that the tables do not say.
//! Called by: cli (`schema`).

use serde_json::Value;

/// The JSON Schema (2020-12) of one native document.
pub fn schema() -> Value {
    serde_json::json!({"$schema": "https://json-schema.org/draft/2020-12/schema"})
}
