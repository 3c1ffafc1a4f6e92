//! One thread, one current-thread runtime, its own accept loops and its own pools.
//!
//! Owns: the thread.
//! Never: shares a lock with another worker.
//! Called by: app.
