//! Where does it go?
//!
//! Owns: the compiled routing table.
//! Never: changes after it was built.
//! Called by: proxy (find), publish (build).

/// Placeholder of the compiled table.
pub struct RouteTable;
