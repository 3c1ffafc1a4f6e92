//! Secret and ConfigMap: credentials and CA bundles by name (ISTIO.md S).
//!
//! Owns: these kinds, their bytes decoded.
//! Never: picks a key of them (that is `certs`).
//! Called by: read, lower.

use std::sync::Arc;

use super::meta::Meta;
use crate::model::SecretData;

/// A Secret; `stringData` wins over `data`.
#[derive(Clone, Debug)]
pub struct Secret {
    pub meta: Meta,
    pub data: Arc<SecretData>,
}

/// A ConfigMap; `binaryData` decoded, `data` as it is.
#[derive(Clone, Debug)]
pub struct ConfigMap {
    pub meta: Meta,
    pub data: Arc<SecretData>,
}
