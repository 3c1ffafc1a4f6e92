//! Any text as a document of sortie's own.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie::config::{LoadOptions, load_text};

fuzz_target!(|text: &str| {
    // A document of Istio's has these two, and is the other target's.
    if !text.contains("kind") && !text.contains("apiVersion") {
        let _ = load_text("fuzz.yaml", text, &LoadOptions::default());
    }
});
