//! Where the lines of a head are, for who reads it next.
//!
//! Owns: [`Lines`], who is told of them as they are found.
//! Never: looks at a byte.
//! Called by: `head` and `field`, which tell; `proxy::http1` listens.

use std::ops::Range;

use crate::message::Plain;

/// Is told where lines are, counted from the first byte of those at hand. A line is told of before it is
/// known that nothing is wrong with it.
pub trait Lines {
    /// The request line.
    fn request(&mut self, line: RequestLine);

    /// A line of a field, which `bytes` begin with.
    fn found(&mut self, at: usize, line: &Plain, bytes: &[u8]);

    /// A line whose parts were not kept.
    fn missed(&mut self);
}

/// Nobody wants to know.
impl Lines for () {
    fn request(&mut self, _line: RequestLine) {}

    fn found(&mut self, _at: usize, _line: &Plain, _bytes: &[u8]) {}

    fn missed(&mut self) {}
}

/// A request line that was whole, with a target in origin form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// Where the method is.
    pub method: Range<usize>,
    /// Where the target is.
    pub target: Range<usize>,
    /// HTTP/1.1, not 1.0.
    pub modern: bool,
}
