//! Kubernetes manifests that run sortie, ready for `kubectl apply`: `sortie install`.
//!
//! Owns: the documents, the settings that change them, and how they are written as YAML.
//! Never: talks to an API server, or prints a key.
//! Called by: cli (`sortie install`).

mod gateway;
mod gateway_documents;
mod gateway_settings;
mod injector;
mod injector_settings;
mod parts;
mod ports;
mod setting;
mod words;
mod yaml;

pub use gateway::{ConfigFile, MOST, gateway, load_options, needs};
pub use gateway_settings::{GATEWAY, GatewaySettings};
pub use injector::injector;
pub use injector_settings::{INJECTOR, InjectorSettings};
pub use setting::{Key, fill};
