//! What this machine has of IPv6.
//!
//! Owns: how that is found out.
//! Never: changes anything.
//! Called by: cli (`sortie capture`), `routing`.
//!
//! Why the kernel and not the addresses of now: one that comes later, by a router's advertisement or
//! a second network, would otherwise lead past the rules for ever. Rules cost nothing where there is
//! no address.

use std::net::{Ipv6Addr, UdpSocket};

/// EAFNOSUPPORT: the kernel has no such family.
const NO_FAMILY: i32 = 97;
/// Is IPv6 off on the loopback?
const DISABLED: &str = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";

/// True unless the kernel says that it has no IPv6 (C3). In doubt there is.
pub fn has_ipv6() -> bool {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() != Some(NO_FAMILY),
    }
}

/// True unless IPv6 is said to be off on the loopback, which then can have no address of it.
pub fn loopback_has_ipv6() -> bool {
    !std::fs::read_to_string(DISABLED).is_ok_and(|text| is_on(&text))
}

fn is_on(text: &str) -> bool {
    text.trim() == "1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_only_a_one_says_that_ipv6_is_off() {
        assert!(is_on("1\n"));
        assert!(!is_on("0\n"));
        assert!(!is_on(""));
    }

    #[test]
    fn c3_this_kernel_has_ipv6_where_its_loopback_has() {
        let here = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        assert!(has_ipv6() || !here);
    }
}
