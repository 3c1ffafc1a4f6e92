//! What this machine has: is there an IPv6 address to be reached by?
//!
//! Owns: how /proc/net/if_inet6 is read.
//! Never: changes anything.
//! Called by: cli (`sortie capture`).

use std::path::Path;

/// Addresses of this network namespace, one a line.
const ADDRESSES: &str = "/proc/net/if_inet6";

/// True where an interface but the loopback has an address of global scope (C3).
pub fn has_global_ipv6() -> bool {
    let text = std::fs::read_to_string(Path::new(ADDRESSES)).unwrap_or_default();
    text.lines().any(is_global)
}

/// `ADDRESS INDEX PREFIX SCOPE FLAGS NAME`, numbers in hexadecimal; scope 0 is global.
fn is_global(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    matches!(words.as_slice(), [_, _, _, "00", _, name] if *name != "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_an_address_that_others_reach_counts() {
        assert!(is_global(
            "20010db8000000000000000000000001 02 40 00 80     eth0"
        ));
        assert!(is_global(
            "fd53000000000000000000000000000a 02 7e 00 82     eth0"
        ));
    }

    #[test]
    fn c3_neither_link_local_nor_loopback_counts() {
        assert!(!is_global(
            "fe800000000000000000000000000001 02 40 20 80     eth0"
        ));
        assert!(!is_global(
            "00000000000000000000000000000001 01 80 10 80       lo"
        ));
        assert!(!is_global(
            "00000000000000000000000000000006 01 80 00 80       lo"
        ));
        assert!(!is_global("nonsense"));
    }
}
