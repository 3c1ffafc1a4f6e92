//! A warm connection to one named destination.
//!
//! Owns: endpoints, their health, pools, connections.
//! Never: reads a route.
//! Called by: proxy, through its `Upstream`.
