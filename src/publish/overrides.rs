//! What a configuration meets outside its files: flags, and the sockets that it asks for.
//!
//! Owns: how flags are laid over documents, and the seam to whoever opens listeners.
//! Never: opens one.
//! Called by: `publish::reload`, app.

use crate::model::{Config, ListenerKind, ListenerSpec, Role};

/// What the command line adds to the files.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Listeners of `--listen` and `--capture`.
    pub listeners: Vec<ListenerSpec>,
    /// Where manifests are served from if neither a flag nor a file names a listener.
    pub fallback: Option<ListenerSpec>,
}

impl Overrides {
    /// Lays the flags over `config`.
    pub fn apply(&self, config: &mut Config) {
        config.listeners.extend(self.listeners.iter().cloned());
        // A gateway has no captured traffic, and what Gateway documents open is not the mesh's side
        // of a sidecar (ISTIO.md X13).
        let of_gateway = |one: &ListenerSpec| matches!(one.kind, ListenerKind::Gateway(_));
        let sidecar = config.from_manifests && config.facts.role == Role::Sidecar;
        if sidecar && config.listeners.iter().all(of_gateway) {
            config.listeners.extend(self.fallback.clone());
        }
    }
}

/// Opens and closes listeners, in two steps, so that a port that is taken refuses the whole change
/// before anything has moved.
pub trait Sockets: Send {
    /// Binds what is new. Nothing is served yet.
    ///
    /// # Errors
    /// Every address that cannot be bound, in words; then everything is as it was.
    fn prepare(&mut self, wanted: &[ListenerSpec]) -> Result<(), Vec<String>>;

    /// Serves what is new, and closes what is no longer wanted.
    fn commit(&mut self);
}
