//! What is let pass where leniency was asked for, and what a refused object governs.

use super::*;

#[test]
fn lenient_an_unknown_field_is_a_warning_but_never_where_trust_is() {
    let spec = "host: a.b\nfoo: 1\ntrafficPolicy: {tls: {mode: SIMPLE}}";
    let (all, said) = read("DestinationRule", spec, &lenient());
    assert_eq!(all.destination_rules.len(), 1);
    assert!(said[0].starts_with("6:3: warning[IST0106] unknown field spec.foo;"));
    for (kind, spec) in [
        (
            "DestinationRule",
            "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, foo: 1}}",
        ),
        ("PeerAuthentication", "mtls: {mode: STRICT, foo: 1}"),
        (
            "VirtualService",
            "hosts: [a]\nhttp: [{route: [{destination: {host: c, foo: 1}}]}]",
        ),
    ] {
        let (all, said) = read(kind, spec, &lenient());
        assert_eq!(all.refused.len(), 1, "{spec}");
        assert!(said[0].contains("error[IST0106] unknown field"), "{said:?}");
    }
}

#[test]
fn lenient_what_is_not_supported_is_a_warning_and_the_object_is_kept() {
    let spec = "host: a.b\ntrafficPolicy: {proxyProtocol: {version: V1}}";
    let (all, said) = read("DestinationRule", spec, &lenient());
    assert_eq!((all.destination_rules.len(), all.refused.len()), (1, 0));
    assert!(said[0].contains("warning[SRT0508] spec.trafficPolicy.proxyProtocol:"));
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: n}";
    let (all, said) = read_text(policy, &lenient());
    assert!(all.refused.is_empty() && said[0].contains("warning[SRT0508]"));
    // What is wrong stays wrong.
    let (all, _) = read("DestinationRule", "host: a b", &lenient());
    assert!(all.destination_rules.is_empty());
}

#[test]
fn x1_what_a_refused_object_governs_is_told_from_what_can_be_read() {
    let hosts = |list: &[&str]| {
        Governs::Hosts(
            list.iter()
                .map(|host| HostPattern::parse(host).unwrap())
                .collect(),
        )
    };
    for (kind, spec, governs) in [
        (
            "ServiceEntry",
            "hosts: [a.b, '*.c.d']\nfoo: 1",
            hosts(&["a.b", "*.c.d"]),
        ),
        (
            "VirtualService",
            "hosts: [a, b.c]\nfoo: 1",
            hosts(&["a.ns.svc.cluster.local", "b.c"]),
        ),
        (
            "DestinationRule",
            "host: a\nfoo: 1",
            hosts(&["a.ns.svc.cluster.local"]),
        ),
        ("DestinationRule", "host: '*.b'\nfoo: 1", hosts(&["*.b"])),
        ("Service", "ports: [{}]", hosts(&["n.ns.svc.cluster.local"])),
        (
            "PeerAuthentication",
            "foo: 1",
            hosts(&["*.ns.svc.cluster.local"]),
        ),
        ("Gateway", "foo: 1", Governs::Nothing),
        // It is for another namespace than this proxy's.
        ("Sidecar", "foo: 1", Governs::Nothing),
    ] {
        let (all, _) = read(kind, spec, &LoadOptions::default());
        assert_eq!(all.refused[0].governs, governs, "{kind} {spec}");
        assert_eq!(&*all.refused[0].refused.object, format!("{kind} ns/n"));
    }
    let facts = ProxyFacts {
        namespace: "ns".into(),
        ..ProxyFacts::default()
    };
    let options = LoadOptions {
        facts: std::sync::Arc::new(facts),
        ..LoadOptions::default()
    };
    let (all, _) = read("Sidecar", "foo: 1", &options);
    assert_eq!(all.refused[0].governs, Governs::Unknown);
}

#[test]
fn x1_a_refused_workload_fails_the_services_of_its_namespace() {
    for (version, kind) in [("v1", "Pod"), ("apps/v1", "Deployment")] {
        let meta = "{name: n, namespace: ns, labels: [a]}";
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {meta}\nspec: {{}}\n");
        let (all, _) = read_text(&text, &LoadOptions::default());
        let host = HostPattern::parse("*.ns.svc.cluster.local").unwrap();
        assert_eq!(all.refused[0].governs, Governs::Hosts(vec![host]), "{kind}");
    }
}

#[test]
fn x1_what_is_for_other_namespaces_alone_governs_nothing_here() {
    let rest = "hosts: [a.b]\nhost: a.b\nfoo: 1\n";
    for (kind, spec, nothing) in [
        ("VirtualService", "exportTo: [.]", true),
        ("ServiceEntry", "exportTo: [other, '~']", true),
        ("ServiceEntry", "exportTo: [other, default]", false),
        ("ServiceEntry", "exportTo: ['*', other]", false),
        ("ServiceEntry", "exportTo: ['def*']", false),
        ("ServiceEntry", "exportTo: []", false),
        ("DestinationRule", "exportTo: [ns]", true),
    ] {
        let (all, _) = read(kind, &format!("{rest}{spec}"), &LoadOptions::default());
        let governs = &all.refused[0].governs;
        assert_eq!(*governs == Governs::Nothing, nothing, "{kind} {spec}");
    }
}

#[test]
fn lenient_a_tls_block_that_names_something_and_no_mode_is_refused_all_the_same() {
    let tls = |block: &str| format!("host: a.b\ntrafficPolicy: {{tls: {block}}}");
    let (all, said) = read("DestinationRule", &tls("{sni: a.b}"), &lenient());
    assert_eq!((all.destination_rules.len(), all.refused.len()), (0, 1));
    assert!(said[0].contains("error[SRT0205] spec.trafficPolicy.tls.mode: tls without a mode"));
    let (all, said) = read("DestinationRule", &tls("{}"), &lenient());
    assert_eq!((all.destination_rules.len(), all.refused.len()), (1, 0));
    assert!(said[0].contains("warning[SRT0205]"));
}

#[test]
fn x1_a_refused_service_entry_keeps_its_addresses_and_ports_to_itself() {
    let spec = "hosts: [a.b]\nfoo: 1\naddresses: [10.0.0.0/8]\nports: [{number: 9, name: a}]";
    let (all, _) = read("ServiceEntry", spec, &LoadOptions::default());
    assert_eq!(all.refused[0].addresses, ["10.0.0.0/8".parse().unwrap()]);
    assert!(all.refused[0].ports.is_empty());
    let spec = "hosts: [a.b]\nfoo: 1\nports: [{number: 9, name: a}, {number: 80, protocol: HTTP}]";
    let (all, _) = read("ServiceEntry", spec, &LoadOptions::default());
    assert_eq!(all.refused[0].ports, [9]);
}
