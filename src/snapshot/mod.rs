//! The wall between the halves: all that the hot half believes, and the one pointer to it.
//!
//! Owns: [`Snapshot`], immutable; [`SnapshotCell`], swapped whole; [`Entrances`].
//! Never: builds one (that is `publish::build`).
//! Called by: proxy and listener (`load`), publish (`publish`), admin (shows it).

mod cell;
mod entrance;

pub use cell::{Held, Snapshot, SnapshotCell};
pub use entrance::{Entrance, EntranceKey, EntranceTls, Entrances, ServerSide};
