//! Tells the linker to lay side by side what every sidecar runs: its start, one request, and waiting.
//!
//! Owns: the linker script made of `link/order.txt`, and how relocations are written, for optimised
//! builds on Linux.
//! Never: decides what is in the binary; a line that fits nothing changes nothing.
//! Called by: cargo. The list is made by `link/order`.
//!
//! Why: the kernel maps a binary in pieces of 64 KiB. Code that runs is about a tenth of all, and
//! spread evenly it makes nearly every piece resident: 8 MB, in every pod.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

const LIST: &str = "link/order.txt";
/// Set by `link/order`, to the file in which the linker says where it put what; the list is not used then.
const MAP: &str = "SORTIE_LINK_MAP";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={LIST}");
    println!("cargo:rerun-if-env-changed={MAP}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|is| is == value);
    // What is not optimised has other functions, and is linked often.
    if is("OPT_LEVEL", "0") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    // musl's own start-up code knows them; `.cargo/config.toml` asks for them there.
    if is("CARGO_CFG_TARGET_ENV", "gnu") && knows_packed_relocations() {
        println!("cargo:rustc-link-arg-bin=sortie=-Wl,-z,pack-relative-relocs");
    }
    if let Ok(map) = env::var(MAP) {
        println!("cargo:rustc-link-arg-bin=sortie=-Wl,-Map={map}");
        return;
    }
    let (Ok(list), Some(out)) = (fs::read_to_string(LIST), env::var_os("OUT_DIR")) else {
        return;
    };
    let path = Path::new(&out).join("order.ld");
    if fs::write(&path, script(&list)).is_ok() {
        println!("cargo:rustc-link-arg-bin=sortie=-Wl,-T,{}", path.display());
    }
}

/// Relocations in a few kilobytes instead of 24 bytes each, all of which the start reads. The C library
/// that this is built with must know them (glibc 2.36), as a program asks for no older one at run time.
fn knows_packed_relocations() -> bool {
    let same =
        env::var("HOST").is_ok_and(|host| env::var("TARGET").is_ok_and(|target| host == target));
    let version = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let version = version.ok().and_then(|text| {
        let (major, minor) = text.strip_prefix("glibc ")?.split_once('.')?;
        Some((number(major)?, number(minor)?))
    });
    same && version.is_some_and(|version| version >= (2, 36))
}

/// A line of the list is a function's name. Assembly and the C library have no sections by function: there it is
/// the name of an object file.
fn script(list: &str) -> String {
    let mut text = String::from("SECTIONS {\n  .text_first : {\n");
    for line in list.lines() {
        let _ = match line.strip_prefix("file ") {
            Some(file) => writeln!(text, "    *{file}(.text)"),
            None => writeln!(text, "    *(.text.{line})"),
        };
    }
    text.push_str("  }\n}\nINSERT BEFORE .text;\n");
    text
}
