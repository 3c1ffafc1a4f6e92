//! `sortie capture` against the kernel: what it prints, what it applies, and what is left.

use crate::harness::Namespace;

/// Flags that ask for every kind of rule.
const WIDE: &[&str] = &[
    "--ipv6=on",
    "--interception=TPROXY",
    "--outbound-ranges=10.0.0.0/8,10.16.0.0/12,192.0.2.1,fd00::/8,fd00:1::/35",
    "--exclude-outbound-ranges=10.1.0.0/16,10.2.0.0/15,::/0",
    "--outbound-ports=99",
    "--exclude-outbound-ports=53,3306",
    "--inbound-ports=80,443",
    "--exclude-inbound-ports=22,15020",
    "--exclude-interfaces=eth9",
    "--virtual-interfaces=tap0,tap1",
    "--uid=3,4",
];

#[test]
fn c10_what_is_applied_is_what_is_printed_and_what_nft_lists() {
    for flags in [&["--ipv6=on"][..], &["--ipv6=off"], WIDE] {
        let (Some(by_nft), Some(by_us)) = (Namespace::new(), Namespace::new()) else {
            return;
        };
        let text = by_nft.captured(&[&["print"], flags].concat());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        by_nft.shell(&format!("nft -f {}", file.path().display()));
        by_us.captured(&[&["apply"], flags].concat());
        assert_eq!(by_us.rules(), by_nft.rules());
        let printed: String = text
            .lines()
            .filter(|line| !line.starts_with("add table") && !line.starts_with("delete table"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(by_us.rules(), printed);
    }
}

#[test]
fn c10_to_apply_twice_is_to_apply_once_and_to_remove_leaves_nothing() {
    let Some(host) = Namespace::new() else { return };
    host.captured(&[&["apply"], WIDE].concat());
    let once = host.rules();
    host.captured(&[&["apply"], WIDE].concat());
    assert_eq!(host.rules(), once);
    host.captured(&["remove"]);
    assert_eq!(host.rules(), "");
    host.captured(&["remove"]);
}
