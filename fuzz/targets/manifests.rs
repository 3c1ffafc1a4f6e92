//! Any text as a document of Istio's or Kubernetes'.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie::config::{LoadOptions, load_text};

fuzz_target!(|text: &str| {
    for lenient in [false, true] {
        let options = LoadOptions {
            lenient,
            ..LoadOptions::default()
        };
        let _ = load_text("fuzz.yaml", text, &options);
    }
});
