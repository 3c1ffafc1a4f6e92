//! A connection arrives: where it was going, and what it speaks.
//!
//! Owns: bound sockets and their accept loops.
//! Never: reads a request (that is `proxy`).
//! Called by: worker.
