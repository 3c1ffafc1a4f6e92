//! `sortie capture` against the kernel: what it prints, what it applies, and what is left.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::harness::{Namespace, eventually, told};

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
    "--virtual-interfaces=tap0,vnet+",
    "--uid=3,4",
];
const PLAIN: &[&str] = &["--ipv6=on"];
const IPTABLES: &str = "--backend=iptables";

fn with<'a>(first: &[&'a str], flags: &[&'a str]) -> Vec<&'a str> {
    [first, flags].concat()
}

/// Everything that a capture may leave: rules, addresses, routing rules and routes.
fn state(host: &Namespace) -> String {
    let others = host.shell(
        "for table in 'ip sortie' 'ip6 sortie' 'inet firewall'; do nft list table $table \
         2>/dev/null; done; ip -br addr show lo; ip rule; ip -6 rule; ip route show table all; ip \
         -6 route show table all",
    );
    // When it was saved, and the counters of the built-in chains, are not of the state. nft would
    // show the same rules, and chains in the order in which they were made.
    let tables = host.shell("iptables-save; ip6tables-save");
    let kept = |line: &&str| line.starts_with("-A") || line.contains(" - [");
    let rules: Vec<&str> = tables.lines().filter(kept).collect();
    others + &rules.join("\n")
}

/// `-I CHAIN 1 ...` as iptables-save tells it.
fn appended(line: &str) -> String {
    match line.strip_prefix("-I ") {
        None => line.to_owned(),
        Some(rest) => {
            let mut words = rest.splitn(3, ' ');
            let (chain, _, rest) = (words.next(), words.next(), words.next());
            format!("-A {} {}", chain.unwrap(), rest.unwrap())
        }
    }
}

#[test]
fn c10_what_is_applied_is_what_is_printed_and_what_nft_lists() {
    for flags in [PLAIN, &["--ipv6=off"], WIDE] {
        let (Some(by_nft), Some(by_us)) = (Namespace::new(), Namespace::new()) else {
            return;
        };
        let text = by_nft.captured(&with(&["print"], flags));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        by_nft.shell(&format!("nft -f {}", file.path().display()));
        by_us.captured(&with(&["apply"], flags));
        assert_eq!(by_us.rules(), by_nft.rules());
        let printed: String = text
            .lines()
            .filter(|line| {
                !["add table", "delete table", "#"]
                    .iter()
                    .any(|one| line.starts_with(one))
            })
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(by_us.rules(), printed);
    }
}

#[test]
fn c10_what_iptables_saves_is_what_is_printed_for_it() {
    for flags in [PLAIN, WIDE] {
        let Some(host) = Namespace::new() else { return };
        host.captured(&with(&["apply", IPTABLES], flags));
        for (save, format) in [
            ("iptables-save", "--format=iptables"),
            ("ip6tables-save", "--format=ip6tables"),
        ] {
            // A chain after another: iptables has an order of its own for chains, not for rules.
            let of = |text: &str| {
                let mut rules: Vec<String> = text
                    .lines()
                    .filter(|line| line.starts_with(['-', '*']))
                    .map(appended)
                    .collect();
                let chain = |rule: &String| rule.split(' ').nth(1).map(str::to_owned);
                for table in rules.split_mut(|line| line.starts_with('*')) {
                    table.sort_by_key(chain);
                }
                rules
            };
            let printed = host.captured(&with(&["print", format], flags));
            assert_eq!(of(&host.shell(save)), of(&printed), "{save}");
        }
        host.captured(&with(&["check", IPTABLES], flags));
    }
}

#[test]
fn c10_to_apply_twice_is_to_apply_once_and_to_remove_leaves_nothing() {
    for backend in ["--backend=nftables", IPTABLES] {
        let Some(host) = Namespace::new() else { return };
        // iptables' own tables, which it makes when it is first asked.
        host.shell("iptables -t nat -S; iptables -t mangle -S; ip6tables -t nat -S; ip6tables -t mangle -S");
        let before = state(&host);
        let first = host.captured(&with(&["apply", backend], WIDE));
        assert!(first.starts_with("applied: "), "{first}");
        let once = state(&host);
        assert_ne!(once, before);
        assert!(
            first.contains("IPv4 and IPv6")
                && first.contains("(TPROXY: sortie run --interception=TPROXY"),
            "{first}"
        );
        let second = host.captured(&with(&["apply", backend], WIDE));
        assert!(second.starts_with("already applied"), "{second}");
        assert_eq!(state(&host), once, "{backend}");
        host.captured(&with(&["check", backend], WIDE));
        assert_eq!(host.captured(&["remove"]), "removed\n");
        assert_eq!(state(&host), before, "{backend}");
        let none = host.captured(&["remove"]);
        assert_eq!(none, "nothing was there to be removed\n");
    }
}

#[test]
fn c4_a_capture_takes_the_place_of_the_one_before() {
    for backend in ["--backend=nftables", IPTABLES] {
        let (Some(host), Some(fresh)) = (Namespace::new(), Namespace::new()) else {
            return;
        };
        host.captured(&with(&["apply", backend], WIDE));
        host.captured(&with(&["apply", backend], PLAIN));
        fresh.captured(&with(&["apply", backend], PLAIN));
        assert_eq!(state(&host), state(&fresh), "{backend}");
    }
}

#[test]
fn c10_what_others_have_set_survives() {
    let Some(host) = Namespace::new() else { return };
    host.shell(
        "nft add table inet firewall; nft add chain inet firewall input '{ type filter hook input \
         priority 0; }'; nft add rule inet firewall input tcp dport 23 drop; iptables -t nat -A \
         OUTPUT -p tcp --dport 99 -j RETURN; iptables -t nat -N OTHER; ip6tables -t mangle -A \
         PREROUTING -j ACCEPT; ip rule add fwmark 7 lookup 77; ip -6 addr add fd00::5/128 dev lo",
    );
    let before = state(&host);
    for backend in ["--backend=nftables", IPTABLES] {
        host.captured(&with(&["apply", backend], WIDE));
        for theirs in ["tcp dport 23 drop", "dport 99", ":OTHER", "fd00::5"] {
            assert!(state(&host).contains(theirs), "{backend} {theirs}");
        }
        host.captured(&["remove"]);
        let after = state(&host);
        // iptables keeps its own empty tables, once it has made them.
        for line in before.lines() {
            assert!(after.contains(line), "{backend} {line}");
        }
        assert!(!after.contains("ISTIO"), "{backend} {after}");
    }
}

#[test]
fn c10_check_names_what_is_missing_and_what_is_extra() {
    let Some(host) = Namespace::new() else { return };
    let (code, out, _) = host.capture(&with(&["check"], PLAIN));
    assert_eq!(code, 1);
    assert!(
        out.starts_with("missing  chain ip sortie PREROUTING\n"),
        "{out}"
    );
    assert!(out.contains("missing  address ::6/128 on lo\n"), "{out}");
    host.captured(&with(&["apply"], PLAIN));
    host.captured(&with(&["check"], PLAIN));
    let line = "nft --handle list chain ip sortie ISTIO_OUTPUT | sed -n 's/.*skuid 1337 return.*# handle //p'";
    let handle = host.shell(line);
    host.shell(&format!(
        "nft delete rule ip sortie ISTIO_OUTPUT handle {handle}"
    ));
    host.shell("nft add rule ip6 sortie ISTIO_INBOUND tcp dport 22 return");
    let (code, out, _) = host.capture(&with(&["check"], PLAIN));
    let expected = "missing  ip sortie ISTIO_OUTPUT: meta skuid 1337 return\n\
                    extra    ip6 sortie ISTIO_INBOUND: tcp dport 22 return\n";
    assert_eq!((code, &*out), (1, expected));
    let (code, out, _) = host.capture(&with(&["check", "--json"], PLAIN));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 1);
    assert_eq!(json["applied"], false);
    assert_eq!(
        json["extra"][0],
        "ip6 sortie ISTIO_INBOUND: tcp dport 22 return"
    );
    // The same rules in another order are other rules.
    host.captured(&with(&["apply"], PLAIN));
    host.shell("nft insert rule ip sortie ISTIO_OUTPUT jump ISTIO_REDIRECT");
    let line = "nft --handle list chain ip sortie ISTIO_OUTPUT | sed -n 's/.*jump ISTIO_REDIRECT # handle //p' | tail -1";
    let handle = host.shell(line);
    host.shell(&format!(
        "nft delete rule ip sortie ISTIO_OUTPUT handle {handle}"
    ));
    let (code, out, _) = host.capture(&with(&["check"], PLAIN));
    assert_eq!(
        (code, &*out),
        (
            1,
            "missing  ip sortie ISTIO_OUTPUT: the order of its rules\n"
        )
    );
}

#[test]
fn c10_without_the_capability_one_line_says_what_to_do() {
    let Some(host) = Namespace::new() else { return };
    for privileges in [
        &["--bounding-set=-net_admin", "--inh-caps=-net_admin"][..],
        &[
            "--reuid=1000",
            "--clear-groups",
            "--inh-caps=+dac_read_search",
            "--ambient-caps=+dac_read_search",
        ],
    ] {
        for arguments in [
            &["apply", "--ipv6=on"][..],
            &["apply", "--ipv6=on", IPTABLES],
            &["apply", "--interception=TPROXY"],
            &["check"],
            &["remove"],
        ] {
            let mut command = host.command("setpriv");
            command
                .args(privileges)
                .arg(crate::harness::PROGRAM)
                .arg("capture")
                .args(arguments);
            let (code, out, error) = told(command.output().unwrap());
            assert_eq!((code, &*out), (1, ""), "{arguments:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
            assert!(
                error.contains("capability NET_ADMIN") && error.contains("--cap-add"),
                "{error}"
            );
        }
    }
    assert_eq!(host.rules(), "");
    // To print and to try needs nothing.
    let mut command = host.user(1000, crate::harness::PROGRAM);
    let (code, out, _) = told(
        command
            .args(["capture", "apply", "--dry-run"])
            .output()
            .unwrap(),
    );
    assert_eq!((code, out), (0, host.captured(&["print"])));
}

#[test]
fn c10_where_the_rules_are_refused_what_went_before_is_taken_back() {
    let Some(host) = Namespace::new() else { return };
    let before = state(&host);
    // A table of our name that a running process owns: nobody else may change it.
    let mut owner = host
        .command("nft")
        .arg("-i")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = owner.stdin.take().unwrap();
    pipe.write_all(b"add table ip sortie { flags owner; }\n")
        .unwrap();
    eventually("the table is there", || {
        host.rules().contains("sortie").then_some(())
    });
    let (code, out, error) = host.capture(&with(&["apply"], WIDE));
    assert_eq!((code, &*out), (1, ""), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("its table went with it", || {
        (state(&host) == before).then_some(())
    });
    host.captured(&with(&["apply"], WIDE));
}

#[test]
fn c10_where_ipv6_fails_after_ipv4_was_set_ipv4_is_put_back() {
    let Some(host) = Namespace::new() else { return };
    host.captured(&["apply", IPTABLES, "--ipv6=off", "--inbound-ports=80"]);
    let before = state(&host);
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("ip6tables-restore");
    std::fs::write(&broken, "#!/bin/sh\necho 'no such table' >&2\nexit 2\n").unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = host.command(crate::harness::PROGRAM);
    command
        .args(["capture", "apply", IPTABLES])
        .args(WIDE)
        .env("PATH", path);
    let (code, out, error) = told(command.output().unwrap());
    assert_eq!((code, &*out), (1, ""));
    assert_eq!(
        error,
        "sortie capture: ip6tables-restore failed: no such table\n"
    );
    assert_eq!(state(&host), before);
}

#[test]
fn c10_two_captures_at_once_are_refused() {
    let Some(host) = Namespace::new() else { return };
    host.captured(&["apply", IPTABLES]);
    let before = state(&host);
    let (code, _, error) = host.capture(&["apply"]);
    assert_eq!(code, 1);
    assert!(error.contains("with sortie capture remove"), "{error}");
    assert_eq!(state(&host), before);
    host.captured(&["remove"]);
    // What istio-iptables has left, as it leaves it.
    host.shell("iptables -t nat -N ISTIO_OUTPUT; iptables -t nat -A OUTPUT -j ISTIO_OUTPUT");
    for backend in ["--backend=nftables", IPTABLES] {
        let (code, _, error) = host.capture(&["apply", backend]);
        assert_eq!(code, 1);
        assert!(error.contains("another capture is in place"), "{error}");
    }
}

#[test]
fn c8_what_contradicts_itself_is_named_and_nothing_is_applied() {
    let Some(host) = Namespace::new() else { return };
    for (flags, expected) in [
        (&["-p=15006"][..], "are both 15006"),
        (&["-z=15021"], "--inbound-port is 15021"),
        (
            &["-b=80,81", "-d=81"],
            "port 81 is in --inbound-ports and in --exclude-inbound-ports",
        ),
        (
            &["-q=90", "-o=90"],
            "port 90 is in --outbound-ports and in --exclude-outbound-ports",
        ),
        (
            &["-i=10.0.0.0/8", "-x=10.0.0.0/8"],
            "10.0.0.0/8 is in --outbound-ranges",
        ),
        (&["-b=80,15006"], "--inbound-ports has 15006"),
        (&["-u=", "-g="], "--uid and --gid are both empty"),
        (&["-c=tap0", "-k=tap0"], "interface tap0"),
    ] {
        let (code, out, error) = host.capture(&with(&["apply"], flags));
        assert_eq!((code, &*out), (64, ""), "{flags:?}: {error}");
        assert!(error.contains(expected), "{flags:?}: {error}");
    }
    assert_eq!(host.rules(), "");
    // Root's own traffic is let go, and is told so.
    let (code, _, error) = host.capture(&["apply", "-u=0", "-m=TPROXY"]);
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("warning: --uid has 0"), "{error}");
}

#[test]
fn c9_where_nothing_is_to_be_captured_nothing_is_done() {
    let Some(host) = Namespace::new() else { return };
    let before = state(&host);
    for command in ["apply", "check"] {
        // Without root, and without anything that could be asked.
        let mut nobody = host.user(1000, crate::harness::PROGRAM);
        nobody.args(["capture", command, "--interception=NONE"]);
        let (code, out, error) = told(nobody.output().unwrap());
        assert_eq!((code, &*error), (0, ""));
        assert!(
            out.starts_with("interception is NONE: nothing is to be captured"),
            "{out}"
        );
    }
    assert_eq!(state(&host), before);
    // The text takes away what was there, as every text does.
    let (code, out, _) = host.capture(&["print", "--interception=none"]);
    assert_eq!(code, 0);
    assert!(
        !out.contains("chain") && out.contains("delete table ip6 sortie"),
        "{out}"
    );
}

#[test]
fn c3_ipv6_is_captured_before_there_is_an_address_of_it() {
    let Some(host) = Namespace::new() else { return };
    host.captured(&["apply"]);
    assert!(host.rules().contains("table ip6 sortie"));
    assert!(host.shell("ip -6 addr show lo").contains("::6/128"));
    let said = host.captured(&["apply", "--ipv6=off"]);
    assert!(said.contains("IPv4;"), "{said}");
    assert!(!host.rules().contains("ip6"));
}

#[test]
fn c3_where_the_loopback_has_no_ipv6_what_goes_out_by_it_is_captured_all_the_same() {
    let Some(host) = Namespace::new() else { return };
    host.shell("echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6");
    for mode in ["--interception=REDIRECT", "--interception=TPROXY"] {
        let (code, _, error) = host.capture(&["apply", mode]);
        assert_eq!(code, 0, "{error}");
        assert!(error.contains("IPv6 is off on the loopback"), "{error}");
        assert!(host.rules().contains("table ip6 sortie"));
        host.captured(&["check", mode]);
    }
}

#[test]
fn c10_what_stands_before_our_rules_is_named_and_apply_goes_first() {
    let Some(host) = Namespace::new() else { return };
    host.captured(&["apply", IPTABLES]);
    host.shell("iptables -t nat -I OUTPUT 1 -p tcp --dport 80 -j ACCEPT");
    let (code, out, _) = host.capture(&["check", IPTABLES]);
    assert_eq!(code, 1);
    assert!(
        out.contains("--dport 80 -j ACCEPT: it stands before ours"),
        "{out}"
    );
    host.captured(&["apply", IPTABLES]);
    host.captured(&["check", IPTABLES]);
    let rules = host.shell("iptables -t nat -S OUTPUT");
    let line = |words: &str| rules.lines().position(|line| line.contains(words)).unwrap();
    assert!(line("ISTIO_OUTPUT") < line("--dport 80"), "{rules}");
}

#[test]
fn c4_a_routing_rule_of_anothers_stays() {
    let Some(host) = Namespace::new() else { return };
    host.shell("ip rule add pref 50 fwmark 1337 lookup 133");
    host.captured(&["apply", "--interception=TPROXY"]);
    assert!(
        host.shell("ip rule")
            .contains("1337:\tfrom all fwmark 0x539 lookup 133")
    );
    host.captured(&["remove"]);
    let left = host.shell("ip rule");
    assert!(
        left.contains("50:\tfrom all fwmark 0x539") && !left.contains("1337:"),
        "{left}"
    );
}

#[test]
fn c10_where_the_loopback_is_down_it_is_said_and_nothing_is_left() {
    let Some(host) = Namespace::new() else { return };
    host.shell("ip link set lo down");
    let before = state(&host);
    let (code, _, error) = host.capture(&["apply", "--interception=TPROXY"]);
    assert_eq!(code, 1);
    assert!(error.contains("ip link set lo up"), "{error}");
    assert_eq!(state(&host), before);
}

#[test]
fn c2_the_variables_of_a_service_that_is_called_as_we_are_mean_nothing() {
    let Some(host) = Namespace::new() else { return };
    let mut command = host.command(crate::harness::PROGRAM);
    command.args(["capture", "print"]);
    for name in ["SORTIE_OUTBOUND_PORT", "SORTIE_INBOUND_PORT"] {
        command.env(name, "tcp://10.96.0.7:80");
    }
    let (code, out, error) = told(command.output().unwrap());
    assert_eq!((code, out), (0, host.captured(&["print"])), "{error}");
}
