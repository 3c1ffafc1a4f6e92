//! Any bytes as the first message of a TLS client, as they come: in pieces.

#![no_main]
#![allow(dead_code, missing_docs)]

use libfuzzer_sys::fuzz_target;
use sortie::{model, proxy};

#[path = "../../src/listener/hello.rs"]
mod hello;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let mut pieces = hello::HelloReader::default();
    let mut end = 0;
    let in_pieces = loop {
        end = (end + usize::from(piece).max(1)).min(bytes.len());
        match pieces.read(&bytes[..end]) {
            Ok(None) if end < bytes.len() => {}
            read => break read.map(|hello| hello.is_some()).map_err(|_| ()),
        }
    };
    let whole = hello::HelloReader::default().read(bytes);
    // However it is cut, a hello that was read in pieces is read at once as well.
    if in_pieces == Ok(true) {
        assert!(matches!(whole, Ok(Some(_))));
    }
});
