//! What one document alone is refused for, and what is said of it, word for word.
//!
//! Rows of a document's `spec` and of all that is said of it: `LINE:COLUMN: severity[CODE] ...`,
//! without the file and the object, which the first test looks at.

#![allow(clippy::too_many_lines, reason = "tables of rows")]

use super::manifests::{Governs, Manifests};
use super::read::read_text;
use crate::config::options::LoadOptions;
use crate::model::{HostPattern, ProxyFacts};

type Rows<'a> = &'a [(&'a str, &'a [&'a str])];

fn document(kind: &str, spec: &str) -> String {
    let version = match kind {
        "PeerAuthentication" => "security.istio.io/v1",
        "Policy" => "authentication.istio.io/v1alpha1",
        "Service" => "v1",
        _ => "networking.istio.io/v1",
    };
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: n, namespace: ns}}\nspec:\n{spec}"
    )
}

fn read(kind: &str, spec: &str, options: &LoadOptions) -> (Manifests, Vec<String>) {
    let (all, said) = read_text(&document(kind, spec), options);
    let object = format!("{kind} ns/n: ");
    let short = |line: String| line.replacen("a.yaml:", "", 1).replacen(&object, "", 1);
    (all, said.into_iter().map(short).collect())
}

/// Each is refused, and is not among those that were read.
fn refuses(kind: &str, rows: Rows<'_>) {
    for (spec, expected) in rows {
        let (all, said) = read(kind, spec, &LoadOptions::default());
        assert_eq!(said, *expected, "{spec}");
        let read = all.counts().map(|(_, count)| count).sum::<usize>();
        let fatal = said.iter().any(|line| line.contains("cannot be told"));
        assert_eq!(
            (read, all.refused.len()),
            (0, usize::from(!fatal)),
            "{spec}"
        );
    }
}

/// Each is read, and what is odd about it is said.
fn keeps(kind: &str, rows: Rows<'_>) {
    for (spec, expected) in rows {
        let (all, said) = read(kind, spec, &LoadOptions::default());
        assert_eq!(said, *expected, "{spec}");
        let read = all.counts().map(|(_, count)| count).sum::<usize>();
        assert_eq!((read, all.refused.len()), (1, 0), "{spec}");
    }
}

fn lenient() -> LoadOptions {
    LoadOptions {
        lenient: true,
        ..LoadOptions::default()
    }
}

#[test]
fn u1_a_message_names_file_place_object_and_path() {
    let spec = "host: a.b\ntrafficPolicy:\n  tls:\n    mode: SIMPLE\n    clientCert: x";
    let text = document("DestinationRule", spec);
    let (_, said) = read_text(&text, &LoadOptions::default());
    assert_eq!(
        said,
        [
            "a.yaml:9:7: error[IST0106] DestinationRule ns/n: unknown field \
             spec.trafficPolicy.tls.clientCert (did you mean clientCertificate?)"
        ]
    );
}

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

#[test]
fn k1_to_k11_each_document_is_read_refused_or_ignored_and_never_lost() {
    let one = |version: &str, kind: &str| {
        read_text(
            &format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: n}}\n"),
            &LoadOptions::default(),
        )
    };
    for (version, kind) in [
        ("route.openshift.io/v1", "Route"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("batch/v1", "Job"),
        ("networking.istio.io/v1alpha3", "WorkloadGroup"),
        ("telemetry.istio.io/v1", "Telemetry"),
        ("serving.knative.dev/v1", "Service"),
    ] {
        let (all, said) = one(version, kind);
        assert_eq!(
            said,
            [format!(
                "a.yaml:1: warning[SRT0510] 1 document of kind {kind} means nothing to sortie"
            )]
        );
        assert!(all.refused.is_empty());
    }
    for (version, kind) in [
        ("security.istio.io/v1", "AuthorizationPolicy"),
        ("security.istio.io/v1beta1", "RequestAuthentication"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("gateway.networking.k8s.io/v1beta1", "HTTPRoute"),
    ] {
        let (all, said) = one(version, kind);
        assert_eq!(all.refused.len(), 1, "{kind}");
        assert_eq!(
            said,
            [format!(
                "a.yaml:2:1: error[SRT0508] {kind} default/n: kind: sortie does not support {kind} of \
                 {version}, and what is left without it is not what was meant; remove it, or run with --lenient \
                 to have it ignored"
            )]
        );
    }
    for (version, kind, advice) in [
        (
            "networking.istio.io/v1alpha5",
            "VirtualService",
            "write apiVersion: networking.istio.io/v1",
        ),
        (
            "networking.istio.io",
            "DestinationRule",
            "write apiVersion: networking.istio.io/v1",
        ),
        (
            "istio.io/v1",
            "DestinationRule",
            "write apiVersion: networking.istio.io/v1",
        ),
        (
            "networking.istio.io/v1",
            "DestinationRules",
            "did you mean kind: DestinationRule?",
        ),
        ("v2", "Secret", "write apiVersion: v1"),
        ("v1", "Services", "did you mean kind: Service?"),
    ] {
        let (_, said) = one(version, kind);
        assert_eq!(
            said,
            [format!(
                "a.yaml:2:1: error[IST0106] there is no kind {kind:?} in {version:?}; {advice}"
            )]
        );
    }
}

#[test]
fn ignored_documents_are_counted_by_kind() {
    let one = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: n}\n---\n";
    let (_, said) = read_text(&one.repeat(3), &LoadOptions::default());
    assert_eq!(
        said,
        ["a.yaml:1: warning[SRT0510] 3 documents of kind Job mean nothing to sortie"]
    );
}

#[test]
fn an_object_that_stands_twice_is_refused() {
    let text = document("DestinationRule", "host: a.b\n");
    let (all, said) = read_text(
        &[text.as_str(), &text].join("---\n"),
        &LoadOptions::default(),
    );
    assert_eq!((all.destination_rules.len(), all.refused.len()), (1, 1));
    assert_eq!(
        said,
        [
            "a.yaml:7:1: error[SRT0201] DestinationRule ns/n: the object stands twice; the first is \
             at a.yaml:1; keep one of the two, or give them different names"
        ]
    );
    // The same name in another namespace is another object.
    let other = text.replace("namespace: ns", "namespace: other");
    let (all, said) = read_text(&[text, other].join("---\n"), &LoadOptions::default());
    assert_eq!((all.destination_rules.len(), said.len()), (2, 0));
}

#[test]
fn a_list_is_unwrapped_and_json_is_yaml() {
    let text = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "b"}}]}]}"#;
    let (all, said) = read_text(text, &LoadOptions::default());
    assert_eq!(said, Vec::<String>::new());
    assert_eq!((all.namespaces.len(), all.service_accounts.len()), (1, 1));
    assert!(all.namespaces[0].order < all.service_accounts[0].order);
}

#[test]
fn a_list_of_one_kind_is_unwrapped_and_its_items_are_documents() {
    let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRuleList\nitems:\n\
                - {metadata: {name: a}, spec: {host: a.b}}\n\
                - {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n";
    let (all, said) = read_text(text, &LoadOptions::default());
    assert_eq!(said, Vec::<String>::new());
    assert_eq!((all.destination_rules.len(), all.namespaces.len()), (1, 1));
    let text = "apiVersion: v1\nkind: List\nitems: [5]\n";
    let (_, said) = read_text(text, &LoadOptions::default());
    assert!(
        said[0].contains("the document has neither kind nor apiVersion"),
        "{said:?}"
    );
}

#[test]
fn z1_an_object_without_a_namespace_has_the_default_one() {
    let text = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: n}\n";
    let (all, _) = read_text(text, &LoadOptions::default());
    assert_eq!(&*all.service_accounts[0].namespace, "default");
    let facts = ProxyFacts {
        default_namespace: Some("shop".into()),
        ..ProxyFacts::default()
    };
    let options = LoadOptions {
        facts: std::sync::Arc::new(facts),
        ..LoadOptions::default()
    };
    let (all, _) = read_text(text, &options);
    assert_eq!(&*all.service_accounts[0].namespace, "shop");
}

#[test]
fn k7_mesh_configuration_is_read_from_both_places_and_told_by_its_lines() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
               data:\n  mesh: |-\n    trustDomain: td\n    outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n";
    let (all, said) = read_text(map, &LoadOptions::default());
    assert_eq!(said, Vec::<String>::new());
    let mesh = all.mesh.unwrap();
    assert_eq!(mesh.trust_domain.as_deref(), Some("td"));
    assert_eq!(
        mesh.outbound,
        Some(super::sidecar::OutboundMode::RegistryOnly)
    );

    let (all, said) = read_text(&map.replace("Traffic", "Trafic"), &LoadOptions::default());
    assert_eq!(
        said,
        [
            "a.yaml:7: error[IST0106] ConfigMap istio-system/istio: unknown field \
             data.mesh.outboundTraficPolicy (did you mean outboundTrafficPolicy?)"
        ]
    );
    assert!(all.mesh.is_none() && all.refused[0].governs == Governs::Unknown);

    let operator = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: i}\n\
                    spec: {profile: demo, meshConfig: {enableAutoMtls: false}}\n";
    let (all, said) = read_text(operator, &LoadOptions::default());
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(all.mesh.unwrap().auto_mtls, Some(false));

    // Another ConfigMap of that name is none of the mesh's.
    let other = map.replace("istio-system", "shop");
    assert!(read_text(&other, &LoadOptions::default()).0.mesh.is_none());
}

#[test]
fn a_secret_is_decoded_and_one_that_cannot_be_is_empty() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n\
                data: {a: aGk=, b: aGk=}\nstringData: {b: plain}\n";
    let (all, said) = read_text(text, &LoadOptions::default());
    assert_eq!(said, Vec::<String>::new());
    let data = &all.secrets[0].data.0;
    assert_eq!(data["a"].0.as_slice(), b"hi");
    assert_eq!(data["b"].0.as_slice(), b"plain", "stringData wins");
    let (all, said) = read_text(
        &text.replace("{a: aGk=", "{a: '!'"),
        &LoadOptions::default(),
    );
    assert_eq!(
        said,
        [
            "a.yaml:4:11: error[IST0106] Secret default/s: data.a: the value is not base64; encode it \
             with base64, or write it under stringData"
        ]
    );
    // It stands in the way of every other Secret that S4 would look at instead.
    assert!(all.secrets[0].data.0.is_empty() && all.refused.len() == 1);
}

#[test]
fn p6_peers_of_a_legacy_policy_have_istios_meaning() {
    use super::peer_authentication::MtlsMode::{Disable, Permissive, Strict};
    for (spec, mode) in [
        ("targets: [{name: x}]", Disable),
        ("targets: [{name: x}]\npeers: [{mtls: }]", Strict),
        ("targets: [{name: x}]\npeers: [{mtls: {}}]", Strict),
        (
            "targets: [{name: x}]\npeers: [{mtls: {mode: STRICT}}]",
            Strict,
        ),
        (
            "targets: [{name: x}]\npeers: [{mtls: {mode: PERMISSIVE}}]",
            Permissive,
        ),
        (
            "targets: [{name: x}]\npeers: [{mtls: {allowTls: true}}]",
            Permissive,
        ),
    ] {
        let (all, _) = read("Policy", spec, &LoadOptions::default());
        assert_eq!(all.legacy_policies[0].mode, mode, "{spec}");
    }
}

#[test]
fn e8_the_protocol_of_a_port_is_told_by_its_protocol_its_name_and_its_number() {
    use super::service_entry::Protocol::{Grpc, GrpcWeb, Http, Http2, Sniff, Tcp, Tls, Udp};
    for (port, protocol) in [
        ("{port: 80}", Sniff),
        ("{port: 80, name: http}", Http),
        ("{port: 80, name: http-web}", Http),
        ("{port: 80, name: http2-x}", Http2),
        ("{port: 80, name: grpc}", Grpc),
        ("{port: 80, name: grpc-web}", GrpcWeb),
        ("{port: 443, name: https}", Tls),
        ("{port: 443, name: tls-x}", Tls),
        ("{port: 80, name: web}", Sniff),
        ("{port: 3306, name: db}", Tcp),
        ("{port: 80, name: tcp, appProtocol: http}", Http),
        ("{port: 80, appProtocol: kubernetes.io/h2c}", Http2),
        ("{port: 80, appProtocol: kubernetes.io/ws}", Http),
        ("{port: 80, appProtocol: kubernetes.io/wss}", Tls),
        ("{port: 80, name: http, appProtocol: example.com/x}", Http),
        ("{port: 53, name: dns, protocol: UDP}", Udp),
    ] {
        let (all, said) = read(
            "Service",
            &format!("ports: [{port}]"),
            &LoadOptions::default(),
        );
        assert_eq!(said, Vec::<String>::new());
        assert_eq!(all.services[0].ports[0].protocol, protocol, "{port}");
    }
}

#[test]
fn both_spellings_and_all_ways_of_numbers_are_read() {
    let spec = "hosts: [a.b]\nresolution: 2\nlocation: '1'\n\
                ports: [{number: '8080', name: http, target_port: 1}]\nexport_to: ['.']";
    let (all, said) = read("ServiceEntry", spec, &LoadOptions::default());
    assert_eq!(said, Vec::<String>::new());
    let entry = &all.service_entries[0];
    assert_eq!(entry.resolution, super::service_entry::EntryResolution::Dns);
    assert_eq!(entry.location, super::service_entry::Location::Internal);
    let port = &entry.ports[0];
    assert_eq!(port.number, 8080);
    assert_eq!(
        port.target,
        Some(super::service_entry::TargetPort::Number(1))
    );
    assert!(entry.export_to.is_visible_in("ns") && !entry.export_to.is_visible_in("x"));
}

#[test]
fn keys_of_labels_are_nobodys_spelling() {
    let spec = "host: a.b\nsubsets: [{name: v1, labels: {a_b: c, ab: d}}]";
    let (all, said) = read("DestinationRule", spec, &LoadOptions::default());
    assert_eq!(said, Vec::<String>::new());
    let labels = &all.destination_rules[0].subsets[0].labels;
    assert_eq!((labels["a_b"].as_str(), labels["ab"].as_str()), ("c", "d"));
}

#[test]
fn u1_an_unknown_field_of_a_service_entry_is_named_with_its_place() {
    refuses(
        "ServiceEntry",
        &[
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nhost: x",
                &["7:3: error[IST0106] unknown field spec.host (did you mean hosts?)"],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nendpoints: [{address: 1.2.3.4, port: 80}]\nresolution: STATIC",
                &[
                    "7:34: error[IST0106] unknown field spec.endpoints[0].port (did you mean ports?)",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http, portocol: HTTP}]",
                &[
                    "6:36: error[IST0106] unknown field spec.ports[0].portocol (did you mean protocol?)",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nzone: 1",
                &[
                    "7:3: error[IST0106] unknown field spec.zone; the fields here are hosts, addresses, ports, location, resolution, endpoints, workloadSelector, exportTo, subjectAltNames",
                ],
            ),
        ],
    );
}

#[test]
fn u1_an_unknown_field_of_a_virtual_service_is_named_with_its_place() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c, subst: v1}}]",
                &[
                    "7:37: error[IST0106] unknown field spec.http[0].route[0].destination.subst (did you mean subset?)",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  timeOut: 1s",
                &["8:5: error[IST0106] unknown field spec.http[0].timeOut (did you mean timeout?)"],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{uri: {perfix: /}}]",
                &[
                    "8:20: error[IST0106] unknown field spec.http[0].match[0].uri.perfix (did you mean prefix?)",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  \"a b\": 1",
                &[
                    "8:5: error[IST0106] unknown field spec.http[0][\"a b\"]; the fields here are name, match, route, redirect, directResponse, delegate, rewrite, timeout, retries, fault, mirror, mirrors, mirrorPercent, mirrorPercentage, corsPolicy, headers",
                ],
            ),
        ],
    );
}

#[test]
fn u1_an_unknown_field_of_a_destination_rule_is_named_with_its_place() {
    refuses(
        "DestinationRule",
        &[
            (
                "host: a.b\ntrafficPolicy:\n  tls:\n    mode: SIMPLE\n    clientCert: x",
                &[
                    "9:7: error[IST0106] unknown field spec.trafficPolicy.tls.clientCert (did you mean clientCertificate?)",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, sniHost: y}}",
                &[
                    "6:39: error[IST0106] unknown field spec.trafficPolicy.tls.sniHost (did you mean sni?)",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {outlierDetection: {consecutive5xErrors: 1}}",
                &[
                    "6:38: error[IST0106] unknown field spec.trafficPolicy.outlierDetection.consecutive5xErrors (did you mean consecutive5xxErrors?)",
                ],
            ),
            (
                "host: a.b\nsubset: [{name: v1}]",
                &["6:3: error[IST0106] unknown field spec.subset (did you mean subsets?)"],
            ),
        ],
    );
}

#[test]
fn both_spellings_of_one_field_are_an_error() {
    refuses(
        "VirtualService",
        &[(
            "hosts: [a.b]\ntls:\n- match: [{sni_hosts: [a.b], sniHosts: [a.b]}]\n  route: [{destination: {host: c}}]",
            &[
                "7:14: error[IST0106] spec.tls[0].match[0].sni_hosts: sni_hosts and sniHosts are the same field; keep one of the two",
            ],
        )],
    );
}

#[test]
fn u5_a_value_of_another_kind_is_an_error() {
    refuses(
        "ServiceEntry",
        &[
            (
                "hosts: a.b\nports: [{number: 80, name: http}]",
                &[
                    "5:10: error[IST0106] spec.hosts: text stands here; write a list, of which each item is a text",
                ],
            ),
            (
                "hosts: [5]\nports: [{number: 80, name: http}]",
                &[
                    "5:11: error[IST0106] spec.hosts[0]: a number stands here, and text is expected; put it in quotes",
                    "1:1: error[IST0106] ServiceEntry ns/n is refused, and which hosts it governs cannot be told; correct it, or remove the document",
                ],
            ),
            (
                "hosts: [a.b]\nports: {number: 80}",
                &[
                    "6:10: error[IST0106] spec.ports: a mapping stands here; write a list, of which each item is a mapping with the fields number, name, protocol, targetPort",
                ],
            ),
            (
                "hosts: [a.b]\nports: [80]",
                &[
                    "6:11: error[IST0106] spec.ports[0]: a number stands here; write a mapping with the fields number, name, protocol, targetPort",
                    "6:11: error[IST0106] spec.ports[0].number: the port has no number; write number: 443 or whichever it is",
                    "6:11: error[IST0106] spec.ports[0].name: the port has no name; write a name such as https or http-web",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: [DNS]",
                &[
                    "7:15: error[IST0106] spec.resolution: a list stands here; write one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nendpoints: [{address: 1.2.3.4, labels: {a: 1}}]\nresolution: STATIC",
                &[
                    "7:46: error[IST0106] spec.endpoints[0].labels.a: a number stands here, and text is expected; put it in quotes",
                ],
            ),
        ],
    );
}

#[test]
fn u5_an_enumeration_takes_its_words_and_numbers_alone() {
    refuses(
        "ServiceEntry",
        &[
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: DSN",
                &[
                    "7:15: error[IST0106] spec.resolution: \"DSN\" is not allowed here; did you mean DNS? Allowed: one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: 9",
                &[
                    "7:15: error[IST0106] spec.resolution: \"9\" is not allowed here; write one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nlocation: true",
                &[
                    "7:13: error[IST0106] spec.location: \"true\" is not allowed here; write one of MESH_EXTERNAL, MESH_INTERNAL",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: dns",
                &[
                    "7:15: error[IST0106] spec.resolution: \"dns\" is not allowed here; did you mean DNS? Allowed: one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS",
                ],
            ),
        ],
    );
}

#[test]
fn u5_a_duration_is_whole_milliseconds_with_a_unit() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  timeout: 5",
                &[
                    "8:14: error[IST0106] spec.http[0].timeout: the duration \"5\" has no unit; write 3s for seconds or 250ms for milliseconds",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  timeout: 5 s",
                &[
                    "8:14: error[IST0106] spec.http[0].timeout: \"5 s\" is not a duration; write a duration such as 250ms, 1.5s or 1m, or 0s",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  timeout: 1.5ms",
                &[
                    "8:14: error[IST0106] spec.http[0].timeout: \"1.5ms\" is finer than a millisecond; write a duration such as 250ms, 1.5s or 1m, or 0s",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  timeout: -1s",
                &[
                    "8:14: error[IST0106] spec.http[0].timeout: \"-1s\" is not a duration; write a duration such as 250ms, 1.5s or 1m, or 0s",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  timeout: 9000h",
                &[
                    "8:14: error[IST0106] spec.http[0].timeout: \"9000h\" is more than a year; write a duration such as 250ms, 1.5s or 1m, or 0s",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  retries: {attempts: 1, perTryTimeout: 0s}",
                &[
                    "8:43: error[IST0106] spec.http[0].retries.perTryTimeout: \"0s\" is under 1ms; write a duration such as 250ms, 1.5s or 1m, at least 1ms",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  retries: {attempts: 1, perTryTimeout: 100us}",
                &[
                    "8:43: error[IST0106] spec.http[0].retries.perTryTimeout: \"100us\" is finer than a millisecond; write a duration such as 250ms, 1.5s or 1m, at least 1ms",
                ],
            ),
        ],
    );
}

#[test]
fn u5_a_number_has_its_bounds() {
    refuses(
        "DestinationRule",
        &[
            (
                "host: a.b\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}",
                &[
                    "6:58: error[IST0106] spec.trafficPolicy.connectionPool.tcp.maxConnections: \"-1\" is not a whole number; write a whole number from 0 to 2147483647",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: 3000000000}}}",
                &[
                    "6:58: error[IST0106] spec.trafficPolicy.connectionPool.tcp.maxConnections: \"3000000000\" is too large; write a whole number from 0 to 2147483647",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: many}}}",
                &[
                    "6:58: error[IST0106] spec.trafficPolicy.connectionPool.tcp.maxConnections: \"many\" is not a whole number; write a whole number from 0 to 2147483647",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}",
                &[
                    "6:58: error[IST0106] spec.trafficPolicy.outlierDetection.maxEjectionPercent: \"101\" is too large; write a whole number from 0 to 100",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: \"true\"}}",
                &[
                    "6:59: error[IST0106] spec.trafficPolicy.tls.insecureSkipVerify: \"true\" is neither true nor false; write true or false, without quotes",
                ],
            ),
        ],
    );
}

#[test]
fn u5_what_a_service_entry_must_have_is_missed() {
    refuses(
        "ServiceEntry",
        &[
            (
                "ports: [{number: 80, name: http}]",
                &[
                    "5:3: error[IST0106] spec.hosts: a ServiceEntry needs at least one host; write hosts: [name.example.com]",
                    "1:1: error[IST0106] ServiceEntry ns/n is refused, and which hosts it governs cannot be told; correct it, or remove the document",
                ],
            ),
            (
                "hosts: []",
                &[
                    "5:3: error[IST0106] spec.hosts: a ServiceEntry needs at least one host; write hosts: [name.example.com]",
                    "5:3: warning[IST0133] spec: there are no ports, so nothing leads to its hosts; write ports with number, name and protocol",
                    "1:1: error[IST0106] ServiceEntry ns/n is refused, and which hosts it governs cannot be told; correct it, or remove the document",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{name: http}]",
                &[
                    "6:11: error[IST0106] spec.ports[0].number: the port has no number; write number: 443 or whichever it is",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80}]",
                &[
                    "6:11: error[IST0106] spec.ports[0].name: the port has no name; write a name such as https or http-web",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: STATIC\nendpoints: [{ports: {http: 1}}]",
                &[
                    "8:15: error[IST0106] spec.endpoints[0].address: the endpoint has no address; write an IP address or a host name",
                ],
            ),
        ],
    );
}

#[test]
fn e6_ports_and_hosts_of_a_service_entry_are_sound() {
    refuses(
        "ServiceEntry",
        &[
            (
                "hosts: [\"*\"]\nports: [{number: 80, name: http}]",
                &[
                    "5:11: error[IST0106] spec.hosts[0]: \"*\" alone is every host; write *.suffix or a whole name",
                ],
            ),
            (
                "hosts: [\"*x.com\"]\nports: [{number: 80, name: http}]",
                &[
                    "5:11: error[IST0106] spec.hosts[0]: \"*x.com\" is not a host: a wildcard is \"*\" or \"*.suffix\"; a star elsewhere means nothing; write a host name, \"*.suffix\" or \"*\"",
                    "1:1: error[IST0106] ServiceEntry ns/n is refused, and which hosts it governs cannot be told; correct it, or remove the document",
                ],
            ),
            (
                "hosts: [a/b]\nports: [{number: 80, name: http}]",
                &[
                    "5:11: error[IST0106] spec.hosts[0]: \"a/b\" is not a host: the character '/' cannot stand in a host name; write the host alone, without scheme and path",
                    "1:1: error[IST0106] ServiceEntry ns/n is refused, and which hosts it governs cannot be told; correct it, or remove the document",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 0, name: http}]",
                &[
                    "6:20: error[IST0106] spec.ports[0].number: \"0\" is not a port; write a port from 1 to 65535",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 65536, name: http}]",
                &[
                    "6:20: error[IST0106] spec.ports[0].number: \"65536\" is not a port; write a port from 1 to 65535",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: a}, {number: 80, name: b}]",
                &[
                    "6:35: error[IST0106] spec.ports[1].number: port 80 stands twice; the first is at line 6; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: a}, {number: 81, name: a}]",
                &[
                    "6:47: error[IST0106] spec.ports[1].name: two ports are called \"a\"; give each port its own name",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: HTTP_X}]",
                &[
                    "6:30: error[IST0106] spec.ports[0].name: \"HTTP_X\" is not a DNS label; write at most 63 lower-case letters, digits and \"-\", none of these at an end",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http, protocol: HTTPX}]",
                &[
                    "6:36: error[IST0106] spec.ports[0].protocol: \"HTTPX\" is not a protocol; write one of HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, MYSQL, REDIS, UDP, or leave it out to tell by the first bytes",
                ],
            ),
        ],
    );
}

#[test]
fn e3_endpoints_fit_the_resolution() {
    refuses(
        "ServiceEntry",
        &[
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nendpoints: [{address: 1.2.3.4}]",
                &[
                    "7:3: error[IST0106] spec.endpoints: endpoints mean nothing with resolution NONE: the original address is used; write resolution: STATIC or DNS",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: STATIC\nendpoints: [{address: x.y}]",
                &[
                    "8:3: error[IST0106] spec.endpoints: resolution STATIC needs IP addresses, and an endpoint is a name; write resolution: DNS, or the address",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: DNS\nendpoints: [{address: \"unix:///x\"}]",
                &[
                    "8:3: error[IST0106] spec.endpoints: unix:// is no name to look up; write resolution: STATIC",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: DNS_ROUND_ROBIN\nendpoints: [{address: x.y}, {address: z.y}]",
                &[
                    "8:3: error[IST0106] spec.endpoints: DNS_ROUND_ROBIN has one endpoint at most; write resolution: DNS, or keep one",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: STATIC\nendpoints: [{address: 1.2.3.4}]\nworkloadSelector: {labels: {a: b}}",
                &[
                    "9:3: error[IST0106] spec.workloadSelector: endpoints and workloadSelector both say where the service is; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: DYNAMIC_DNS",
                &[
                    "7:3: error[IST0106] spec.resolution: DYNAMIC_DNS is for wildcard hosts alone; write resolution: DNS",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: DNS\naddresses: [10.0.0.0/8]",
                &[
                    "8:3: error[IST0106] spec.addresses: a network can stand here only with resolution NONE or STATIC; write single addresses",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\naddresses: [x]",
                &[
                    "7:15: error[IST0106] spec.addresses[0]: \"x\" is not an IP address or a network; write it as 10.1.2.3 or 10.1.0.0/16",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: STATIC\nendpoints: [{address: 1.2.3.4, ports: {https: 1}}]",
                &[
                    "8:3: error[IST0106] spec.endpoints: an endpoint has a port \"https\" that the ServiceEntry does not declare; write a name of spec.ports",
                ],
            ),
            (
                "hosts: [\"*.b\"]\nports: [{number: 80, name: http}]\nresolution: DNS",
                &[
                    "7:3: error[IST0106] spec.resolution: a wildcard host cannot be looked up, and there are no endpoints; write endpoints, or resolution: DYNAMIC_DNS to look up each request's host",
                ],
            ),
            (
                "hosts: [\"*.b\"]\nports: [{number: 80, name: http}]\nresolution: DYNAMIC_DNS\nendpoints: [{address: x.y}]",
                &[
                    "7:3: error[IST0106] spec.resolution: with DYNAMIC_DNS the request's own host is looked up, and endpoints are given; write resolution: DNS, or leave the endpoints out",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: a}, {number: 81, name: b}]\nresolution: STATIC\nendpoints: [{address: \"unix:///x\"}]",
                &[
                    "8:3: error[IST0106] spec.endpoints: a unix:// endpoint serves one port, and several are declared; write one port, or one ServiceEntry for each",
                ],
            ),
            (
                "hosts: [a.b, c.d]\nports: [{number: 80, name: tcp, protocol: TCP}]\nresolution: DNS",
                &[
                    "5:3: error[IST0106] spec.hosts: port 80 is TCP, where connections name no host, and there are several hosts; write one ServiceEntry for each host, or resolution: NONE",
                ],
            ),
        ],
    );
}

#[test]
fn h5_export_to_says_one_thing() {
    refuses(
        "ServiceEntry",
        &[
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nexportTo: [\".\", \"*\"]",
                &[
                    "7:13: error[IST0106] spec.exportTo: \"*\" stands beside others; \"*\" is every namespace: write it alone",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nexportTo: [\"~\", a]",
                &[
                    "7:13: error[IST0106] spec.exportTo: \"~\" stands beside others; \"~\" is no namespace: write it alone",
                ],
            ),
            (
                "hosts: [a.b]\nports: [{number: 80, name: http}]\nexportTo: [a, a]",
                &["7:13: error[IST0106] spec.exportTo: \"a\" stands twice; keep one of the two"],
            ),
        ],
    );
}

#[test]
fn u5_what_a_virtual_service_must_have_is_missed() {
    refuses(
        "VirtualService",
        &[
            (
                "gateways: [mesh]\nhttp:\n- route: [{destination: {host: c}}]",
                &[
                    "5:3: error[IST0106] spec.hosts: gateways are named, and no host; write hosts: [name]",
                    "1:1: error[IST0106] VirtualService ns/n is refused, and which hosts it governs cannot be told; correct it, or remove the document",
                ],
            ),
            (
                "hosts: [a.b]",
                &[
                    "5:3: error[IST0106] spec: there is none of http, tls and tcp; write http: with at least one route",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: []",
                &[
                    "5:3: error[IST0106] spec: there is none of http, tls and tcp; write http: with at least one route",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{}]",
                &[
                    "6:10: error[IST0106] spec.http[0]: there is none of route, redirect and directResponse; write route: with at least one destination",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{route: []}]",
                &[
                    "6:10: error[IST0106] spec.http[0]: there is none of route, redirect and directResponse; write route: with at least one destination",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{route: [{}]}]",
                &[
                    "6:19: error[IST0106] spec.http[0].route[0].destination: there is no destination; write destination: {host: name}",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{route: [{destination: {}}]}]",
                &[
                    "6:33: error[IST0106] spec.http[0].route[0].destination.host: the destination has no host; write host: name.ns.svc.cluster.local",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{route: [{destination: {host: c, port: {}}}]}]",
                &[
                    "6:49: error[IST0106] spec.http[0].route[0].destination.port.number: the port has no number; write port: {number: 443}",
                ],
            ),
        ],
    );
}

#[test]
fn u5_hosts_of_a_virtual_service_do_not_overlap() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [\"*\"]\nhttp:\n- route: [{destination: {host: c}}]",
                &[
                    "5:11: error[IST0106] spec.hosts[0]: \"*\" would take every host of the mesh; name the hosts, or name a gateway under gateways",
                ],
            ),
            (
                "hosts: [a.b, a.b]\nhttp:\n- route: [{destination: {host: c}}]",
                &[
                    "5:16: error[IST0106] spec.hosts[1]: \"a.b\" overlaps with a host before it; keep the wider of the two",
                ],
            ),
            (
                "hosts: [a.b, \"*.b\"]\nhttp:\n- route: [{destination: {host: c}}]",
                &[
                    "5:16: error[IST0106] spec.hosts[1]: \"*.b\" overlaps with a host before it; keep the wider of the two",
                ],
            ),
            (
                "hosts: [a, a.ns.svc.cluster.local]\nhttp:\n- route: [{destination: {host: c}}]",
                &[
                    "5:14: error[IST0106] spec.hosts[1]: \"a.ns.svc.cluster.local\" overlaps with a host before it; keep the wider of the two",
                ],
            ),
            (
                "hosts: [\"*.x.b\", \"*.b\"]\nhttp:\n- route: [{destination: {host: c}}]",
                &[
                    "5:20: error[IST0106] spec.hosts[1]: \"*.b\" overlaps with a host before it; keep the wider of the two",
                ],
            ),
        ],
    );
}

#[test]
fn x8_a_route_has_one_action_and_what_goes_with_it() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  redirect: {uri: /}",
                &[
                    "8:5: error[IST0106] spec.http[0].redirect: redirect cannot stand beside route; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  directResponse: {status: 200}",
                &[
                    "8:5: error[IST0106] spec.http[0].directResponse: directResponse cannot stand beside route; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{redirect: {uri: /}, rewrite: {uri: /}}]",
                &[
                    "6:31: error[IST0106] spec.http[0].rewrite: rewrite means nothing beside redirect; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{redirect: {uri: /}, fault: {abort: {httpStatus: 500, percentage: {value: 1}}}}]",
                &[
                    "6:31: error[IST0106] spec.http[0].fault: fault means nothing beside redirect; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{directResponse: {status: 200}, rewrite: {uri: /}}]",
                &[
                    "6:42: error[IST0106] spec.http[0].rewrite: rewrite means nothing beside directResponse; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{directResponse: {status: 200}, fault: {abort: {httpStatus: 500, percentage: {value: 1}}}}]",
                &[
                    "6:42: error[IST0106] spec.http[0].fault: fault means nothing beside directResponse; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  mirror: {host: x}\n  mirrors: [{destination: {host: y}}]",
                &[
                    "8:5: error[IST0106] spec.http[0].mirror: mirror and mirrors both say who gets a copy; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{delegate: {name: x}}]",
                &[
                    "6:11: error[SRT0508] spec.http[0].delegate: sortie does not support this field, and what is left without it is not what was meant; write the routes of the delegate into this VirtualService",
                ],
            ),
        ],
    );
}

#[test]
fn v10_of_several_destinations_one_has_a_weight() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp: [{route: [{destination: {host: c}}, {destination: {host: d}, weight: 0}]}]",
                &[
                    "6:11: error[IST0106] spec.http[0].route: the weights of the destinations add up to 0; write weight: 1 or more at one of them",
                ],
            ),
            (
                "hosts: [a.b]\ntcp: [{route: [{destination: {host: c}}, {destination: {host: d}, weight: 0}]}]",
                &[
                    "6:10: error[IST0106] spec.tcp[0].route: the weights of the destinations add up to 0; write weight: 1 or more at one of them",
                ],
            ),
        ],
    );
}

#[test]
fn v15_a_redirect_says_something_and_has_its_status() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp: [{redirect: {}}]",
                &[
                    "6:21: error[IST0106] spec.http[0].redirect: the redirect does not say where to; write uri, authority, scheme or port",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{redirect: {redirectCode: 302}}]",
                &[
                    "6:21: error[IST0106] spec.http[0].redirect: the redirect does not say where to; write uri, authority, scheme or port",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{redirect: {uri: /, redirectCode: 304}}]",
                &[
                    "6:30: error[IST0106] spec.http[0].redirect.redirectCode: 304 is not the status of a redirect; write 301, 302, 303, 307 or 308",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{redirect: {scheme: ftp}}]",
                &[
                    "6:22: error[IST0106] spec.http[0].redirect.scheme: \"ftp\" is not a scheme that sortie knows; write http or https",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{redirect: {port: 1, derivePort: FROM_REQUEST_PORT}}]",
                &[
                    "6:31: error[IST0106] spec.http[0].redirect.derivePort: \"derivePort\" cannot stand beside \"port\"; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{redirect: {uri: a}}]",
                &[
                    "6:27: error[IST0106] spec.http[0].redirect.uri: the path \"a\" does not begin with \"/\"; write \"/a\"",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{redirect: {authority: \"a b\"}}]",
                &[
                    "6:33: error[IST0106] spec.http[0].redirect.authority: \"a b\" is not host or host:port: the character ' ' cannot stand in a host name; write a host, or host:port, without scheme and path",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{directResponse: {}}]",
                &[
                    "6:27: error[IST0106] spec.http[0].directResponse.status: the answer has no status; write status: 200 or another",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{directResponse: {status: 99}}]",
                &[
                    "6:28: error[IST0106] spec.http[0].directResponse.status: 99 is not a status to answer with; write one from 200 to 599",
                ],
            ),
            (
                "hosts: [a.b]\nhttp: [{directResponse: {status: 200, body: {bytes: \"!\"}}}]",
                &[
                    "6:48: error[IST0106] spec.http[0].directResponse.body.bytes: the body is not base64; encode it, or write it under string",
                ],
            ),
        ],
    );
}

#[test]
fn v9_a_match_compiles_and_names_ordinary_headers() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{uri: {regex: \"(\"}}]",
                &[
                    "8:27: error[SRT0107] spec.http[0].match[0].uri.regex: \"(\" is not a regular expression: unclosed group; write RE2 syntax: no look-around, no back-references",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{uri: {regex: \"*\"}}]",
                &[
                    "8:27: error[SRT0107] spec.http[0].match[0].uri.regex: \"*\" is not a regular expression: repetition operator missing expression; write RE2 syntax: no look-around, no back-references",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{uri: {regex: \"(x{999}){999}\"}}]",
                &[
                    "8:27: error[SRT0107] spec.http[0].match[0].uri.regex: the regular expression needs more than 983040 bytes once compiled; repeat less: {1000} makes a thousand copies",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{uri: {exact: /a, prefix: /b}}]",
                &[
                    "8:31: error[IST0106] spec.http[0].match[0].uri.prefix: \"prefix\" cannot stand beside \"exact\"; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{headers: {\":path\": {exact: /a}}}]",
                &[
                    "8:24: error[SRT0108] spec.http[0].match[0].headers[\":path\"]: \":path\" is not an ordinary header; write uri: in the match",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{headers: {Host: {exact: a}}}]",
                &[
                    "8:24: error[SRT0108] spec.http[0].match[0].headers.Host: \"Host\" is not an ordinary header; write authority: in the match",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{headers: {X-a: {exact: b}, x-A: {}}}]",
                &[
                    "8:41: error[IST0106] spec.http[0].match[0].headers.x-A: \"x-A\" is the same header as \"X-a\"; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{headers: {\"@request.auth.claims.sub\": {exact: b}}}]",
                &[
                    "8:24: error[SRT0508] spec.http[0].match[0].headers[\"@request.auth.claims.sub\"]: sortie does not check request tokens, so a condition on their claims never holds; match on a header instead",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{port: 0}]",
                &[
                    "8:20: error[IST0106] spec.http[0].match[0].port: \"0\" is not a port; write a port from 1 to 65535",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{queryParams: {a: {regex: \"(\"}}}]",
                &[
                    "8:39: error[SRT0107] spec.http[0].match[0].queryParams.a.regex: \"(\" is not a regular expression: unclosed group; write RE2 syntax: no look-around, no back-references",
                ],
            ),
        ],
    );
}

#[test]
fn v11_a_rewrite_says_one_thing() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  rewrite: {}",
                &[
                    "8:14: error[IST0106] spec.http[0].rewrite: the rewrite says nothing; write uri, authority or uriRegexRewrite",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  rewrite: {uri: a}",
                &[
                    "8:20: error[IST0106] spec.http[0].rewrite.uri: the path \"a\" does not begin with \"/\"; write \"/a\"",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}",
                &[
                    "8:15: error[IST0106] spec.http[0].rewrite.uri: uri and uriRegexRewrite both say what becomes of the path; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  rewrite: {uriRegexRewrite: {match: \"(\", rewrite: b}}",
                &[
                    "8:40: error[SRT0107] spec.http[0].rewrite.uriRegexRewrite.match: \"(\" is not a regular expression: unclosed group; write RE2 syntax: no look-around, no back-references",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  rewrite: {uriRegexRewrite: {rewrite: b}}",
                &[
                    "8:32: error[IST0106] spec.http[0].rewrite.uriRegexRewrite.match: there is nothing to look for; write match: with a regular expression",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  rewrite: {authority: \"a b\"}",
                &[
                    "8:26: error[IST0106] spec.http[0].rewrite.authority: \"a b\" is not host or host:port: the character ' ' cannot stand in a host name; write a host, or host:port, without scheme and path",
                ],
            ),
        ],
    );
}

#[test]
fn x8_the_authority_is_set_once() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  rewrite: {authority: x}\n  headers: {request: {set: {Host: y}}}",
                &[
                    "9:37: error[IST0106] spec.http[0].headers.request.set.Host: headers.request.set and rewrite.authority both set the authority; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: {request: {set: {host: x}, add: {\":authority\": y}}}",
                &[
                    "8:61: error[IST0106] spec.http[0].headers.request.add[\":authority\"]: headers.request.add and headers.request.set both set the authority; keep one of the two",
                ],
            ),
        ],
    );
}

#[test]
fn v12_what_istio_drops_from_a_rules_headers_is_dropped_and_said() {
    const ROUTE: &str = "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: ";
    for (headers, at, name) in [
        (
            "{request: {set: {\":path\": /}}}",
            "request.set[\":path\"]",
            ":path",
        ),
        ("{response: {set: {host: x}}}", "response.set.host", "host"),
        ("{request: {remove: [host]}}", "request.remove[0]", "host"),
    ] {
        let spec = format!("{ROUTE}{headers}");
        let (all, said) = read("VirtualService", &spec, &LoadOptions::default());
        let [line] = said.as_slice() else {
            panic!("{said:?}");
        };
        assert!(line.contains("warning[IST0133]"), "{line}");
        let words = format!("spec.http[0].headers.{at}: \"{name}\" is not changed here");
        assert!(line.contains(&words), "{line}");
        let route = &all.virtual_services[0].http[0];
        assert_eq!(route.request_headers, Default::default());
        assert_eq!(route.response_headers, Default::default());
    }
}

#[test]
fn v12_headers_that_a_rule_may_not_write_are_refused() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: {request: {add: {content-length: \"1\"}}}",
                &[
                    "8:31: error[SRT0108] spec.http[0].headers.request.add.content-length: a rule may not change \"content-length\": it says where the body ends; a rule that changes it lets requests be smuggled; leave it out",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: {request: {add: {\"a b\": c}}}",
                &[
                    "8:31: error[IST0106] spec.http[0].headers.request.add[\"a b\"]: \"a b\" is not a header name; write letters, digits and \"-\", such as x-version",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: {request: {set: {x: \"%FOO%\"}}}",
                &[
                    "8:34: error[IST0106] spec.http[0].headers.request.set.x: the value has the operator \"%FOO%\", which is not known; write one of the access log's operators, or %% for the sign itself",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: {request: {set: {x: \"50%\"}}}",
                &[
                    "8:34: error[IST0106] spec.http[0].headers.request.set.x: the value has a % at byte 2 without an end; write %% for the sign itself",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: {request: {set: {x: \"%REQ()%\"}}}",
                &[
                    "8:34: error[IST0106] spec.http[0].headers.request.set.x: the value has \"%REQ()%\"; the operator takes a header, as in %REQ(X?Y):Z%; correct it, or write %% for the sign itself",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: {request: {set: {x: \"%PROTOCOL(a)%\"}}}",
                &[
                    "8:34: error[IST0106] spec.http[0].headers.request.set.x: the value has \"%PROTOCOL(a)%\"; this operator takes no argument; correct it, or write %% for the sign itself",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: {request: {set: {x: \"a\\nb\"}}}",
                &[
                    "8:34: error[IST0106] spec.http[0].headers.request.set.x: the value has a line break, control or non-ASCII character; write visible ASCII characters and spaces",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: {request: {set: {x: a, X: b}}}",
                &[
                    "8:37: error[IST0106] spec.http[0].headers.request.set.X: \"X\" stands twice, in different spelling; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  headers: {request: {set: {x: 1}}}",
                &[
                    "8:34: error[IST0106] spec.http[0].headers.request.set.x: a number stands here, and text is expected; put it in quotes",
                ],
            ),
        ],
    );
}

#[test]
fn v14_retries_say_what_is_known() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  retries: {attempts: 0, retryOn: 5xx}",
                &[
                    "8:28: error[IST0106] spec.http[0].retries.retryOn: retryOn means nothing: attempts is 0, and nothing is tried again; write attempts: 2 or more, or leave it out",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  retries: {attempts: 0, perTryTimeout: 1s}",
                &[
                    "8:28: error[IST0106] spec.http[0].retries.perTryTimeout: perTryTimeout means nothing: attempts is 0, and nothing is tried again; write attempts: 2 or more, or leave it out",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  retries: {perTryTimeout: 1s}",
                &[
                    "8:15: error[IST0106] spec.http[0].retries.perTryTimeout: perTryTimeout means nothing: attempts is 0, and nothing is tried again; write attempts: 2 or more, or leave it out",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  retries: {attempts: 2, retryOn: \"5xx,resett\"}",
                &[
                    "8:37: error[IST0106] spec.http[0].retries.retryOn: \"resett\" is nothing to retry on; did you mean reset?",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  retries: {attempts: 2, retryOn: \"99\"}",
                &[
                    "8:37: error[IST0106] spec.http[0].retries.retryOn: \"99\" is nothing to retry on; write a status, or one of 5xx, gateway-error, reset, reset-before-request, connect-failure, envoy-ratelimited, retriable-4xx, refused-stream, retriable-status-codes, retriable-headers, http3-post-connect-failure, cancelled, deadline-exceeded, internal, resource-exhausted, unavailable",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  retries: {attempts: -1}",
                &[
                    "8:25: error[IST0106] spec.http[0].retries.attempts: \"-1\" is not a whole number; write a whole number from 0 to 2147483647",
                ],
            ),
        ],
    );
}

#[test]
fn v16_a_fault_says_what_and_with_which_status() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  fault: {}",
                &[
                    "8:12: error[IST0106] spec.http[0].fault: the fault says nothing; write delay or abort, or leave it out",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  fault: {delay: {percentage: {value: 1}}}",
                &[
                    "8:20: error[IST0106] spec.http[0].fault.delay.fixedDelay: the delay says no time; write fixedDelay: 5s",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  fault: {abort: {percentage: {value: 1}}}",
                &[
                    "8:20: error[IST0106] spec.http[0].fault.abort.httpStatus: the abort says no status; write httpStatus: 503, or grpcStatus: UNAVAILABLE",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  fault: {abort: {httpStatus: 99, percentage: {value: 1}}}",
                &[
                    "8:21: error[IST0106] spec.http[0].fault.abort.httpStatus: 99 is not a status to answer with; write one from 200 to 599",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  fault: {abort: {grpcStatus: FOO, percentage: {value: 1}}}",
                &[
                    "8:21: error[IST0106] spec.http[0].fault.abort.grpcStatus: \"FOO\" is not a status of gRPC; write one of OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  fault: {abort: {httpStatus: 500, grpcStatus: OK, percentage: {value: 1}}}",
                &[
                    "8:38: error[IST0106] spec.http[0].fault.abort.grpcStatus: \"grpcStatus\" cannot stand beside \"httpStatus\"; keep one of the two",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  fault: {abort: {httpStatus: 500, percentage: {value: 101}}}",
                &[
                    "8:58: error[IST0106] spec.http[0].fault.abort.percentage.value: \"101\" is not from 0 to 100; write a number from 0 to 100",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  fault: {delay: {exponentialDelay: 1s, percentage: {value: 1}}}",
                &[
                    "8:21: error[SRT0508] spec.http[0].fault.delay.exponentialDelay: sortie does not support this field, and what is left without it is not what was meant; write fixedDelay; Istio never built this one",
                    "8:20: error[IST0106] spec.http[0].fault.delay.fixedDelay: the delay says no time; write fixedDelay: 5s",
                ],
            ),
        ],
    );
}

#[test]
fn v17_a_tls_route_names_server_names_of_the_hosts() {
    refuses(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\ntls: [{route: [{destination: {host: c}}]}]",
                &[
                    "6:9: error[IST0106] spec.tls[0].match: a tls route needs a match; write match: with sniHosts: [name]",
                ],
            ),
            (
                "hosts: [a.b]\ntls: [{match: [{port: 1}], route: [{destination: {host: c}}]}]",
                &[
                    "6:18: error[IST0106] spec.tls[0].match[0].sniHosts: a tls match needs sniHosts; write sniHosts: [name]",
                ],
            ),
            (
                "hosts: [a.b]\ntls: [{match: [{sniHosts: [x]}], route: [{destination: {host: c}}]}]",
                &[
                    "6:30: error[IST0106] spec.tls[0].match[0].sniHosts[0]: \"x\" is not among the hosts of the VirtualService; write it under spec.hosts as well",
                ],
            ),
            (
                "hosts: [a.b]\ntls: [{match: [{sniHosts: [\"*.b\"]}], route: [{destination: {host: c}}]}]",
                &[
                    "6:30: error[IST0106] spec.tls[0].match[0].sniHosts[0]: \"*.b\" is not among the hosts of the VirtualService; write it under spec.hosts as well",
                ],
            ),
            (
                "hosts: [a.b]\ntls: [{match: [{sniHosts: [a.b]}]}]",
                &[
                    "6:9: error[IST0106] spec.tls[0].route: there is no destination; write route: with at least one destination",
                ],
            ),
            (
                "hosts: [a.b]\ntcp: [{match: [{destinationSubnets: [10.0.0.0/33]}], route: [{destination: {host: c}}]}]",
                &[
                    "6:40: error[IST0106] spec.tcp[0].match[0].destinationSubnets[0]: \"10.0.0.0/33\" is not an IP address or a network; write it as 10.1.2.3 or 10.1.0.0/16",
                ],
            ),
        ],
    );
}

#[test]
fn u5_what_a_destination_rule_must_have_is_missed() {
    refuses(
        "DestinationRule",
        &[
            (
                "trafficPolicy: {tls: {mode: SIMPLE}}",
                &[
                    "5:3: error[IST0106] spec.host: a DestinationRule needs a host; write host: name.ns.svc.cluster.local",
                    "1:1: error[IST0106] DestinationRule ns/n is refused, and which hosts it governs cannot be told; correct it, or remove the document",
                ],
            ),
            (
                "host: \"\"",
                &[
                    "5:3: error[IST0106] spec.host: a DestinationRule needs a host; write host: name.ns.svc.cluster.local",
                    "1:1: error[IST0106] DestinationRule ns/n is refused, and which hosts it governs cannot be told; correct it, or remove the document",
                ],
            ),
            (
                "host: a b",
                &[
                    "5:9: error[IST0106] spec.host: \"a b\" is not a host: the character ' ' cannot stand in a host name; write a host name, \"*.suffix\" or \"*\"",
                    "1:1: error[IST0106] DestinationRule ns/n is refused, and which hosts it governs cannot be told; correct it, or remove the document",
                ],
            ),
            (
                "host: a.b\nsubsets: [{labels: {a: b}}]",
                &[
                    "6:13: error[IST0106] spec.subsets[0].name: the subset has no name; write name: v1 or whatever routes call it",
                ],
            ),
            (
                "host: a.b\nsubsets: [{name: v1}, {name: v1}]",
                &[
                    "6:26: error[IST0106] spec.subsets[1].name: two subsets are called \"v1\"; the first is at line 6; give each subset its own name",
                ],
            ),
            (
                "host: a.b\nsubsets: [{name: V_1}]",
                &[
                    "6:20: error[IST0106] spec.subsets[0].name: \"V_1\" is not a DNS label; write at most 63 lower-case letters, digits and \"-\", none of these at an end",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {}",
                &[
                    "6:18: error[IST0106] spec.trafficPolicy: the traffic policy says nothing; write tls, loadBalancer, connectionPool or outlierDetection, or leave it out",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {portLevelSettings: [{tls: {mode: SIMPLE}}]}",
                &[
                    "6:39: error[IST0106] spec.trafficPolicy.portLevelSettings[0].port: the entry names no port; write port: {number: 443}, a service port",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {portLevelSettings: [{port: {number: 80}}]}",
                &[
                    "6:39: error[IST0106] spec.trafficPolicy.portLevelSettings[0]: the entry says nothing but its port; write tls, loadBalancer, connectionPool or outlierDetection, or leave it out",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}, {port: {number: 80}, tls: {mode: DISABLE}}]}",
                &[
                    "6:83: error[IST0106] spec.trafficPolicy.portLevelSettings[1].port: port 80 stands twice; keep one of the two",
                ],
            ),
            (
                "host: a.b\nworkloadSelector: {matchLabels: {a: b}}\nexportTo: [\"*\"]",
                &[
                    "7:3: error[IST0106] spec.exportTo: a rule with a workloadSelector is for its own namespace alone; write exportTo: [\".\"], or leave it out",
                ],
            ),
        ],
    );
}

#[test]
fn t2_mutual_needs_a_certificate_of_ours() {
    refuses(
        "DestinationRule",
        &[
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: MUTUAL}}",
                &[
                    "6:24: error[SRT0205] spec.trafficPolicy.tls.clientCertificate: MUTUAL needs a certificate of ours, and there is no clientCertificate; write clientCertificate and privateKey, or credentialName",
                    "6:24: error[SRT0205] spec.trafficPolicy.tls.privateKey: MUTUAL needs a certificate of ours, and there is no privateKey; write clientCertificate and privateKey, or credentialName",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /a}}",
                &[
                    "6:24: error[SRT0205] spec.trafficPolicy.tls.privateKey: MUTUAL needs a certificate of ours, and there is no privateKey; write clientCertificate and privateKey, or credentialName",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: MUTUAL, credentialName: \"\"}}",
                &[
                    "6:24: error[SRT0205] spec.trafficPolicy.tls.clientCertificate: MUTUAL needs a certificate of ours, and there is no clientCertificate; write clientCertificate and privateKey, or credentialName",
                    "6:24: error[SRT0205] spec.trafficPolicy.tls.privateKey: MUTUAL needs a certificate of ours, and there is no privateKey; write clientCertificate and privateKey, or credentialName",
                ],
            ),
        ],
    );
}

#[test]
fn t3_one_block_says_in_one_way_where_certificates_are() {
    refuses(
        "DestinationRule",
        &[
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: MUTUAL, credentialName: x, clientCertificate: /a}}",
                &[
                    "6:58: error[SRT0205] spec.trafficPolicy.tls.clientCertificate: credentialName and clientCertificate both say where certificates are; keep one of the two",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: x, caCertificates: /a}}",
                &[
                    "6:58: error[SRT0205] spec.trafficPolicy.tls.caCertificates: credentialName and caCertificates both say where certificates are; keep one of the two",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: x, caCrl: /a}}",
                &[
                    "6:58: error[SRT0205] spec.trafficPolicy.tls.caCrl: credentialName and caCrl both say where certificates are; keep one of the two",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: /a}}",
                &[
                    "6:65: error[SRT0205] spec.trafficPolicy.tls.caCertificates: insecureSkipVerify checks nothing, and caCertificates says what to check; keep one of the two",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}}",
                &[
                    "6:65: error[SRT0205] spec.trafficPolicy.tls.subjectAltNames: insecureSkipVerify checks nothing, and subjectAltNames says what to check; keep one of the two",
                ],
            ),
        ],
    );
}

#[test]
fn x7_mesh_identity_and_other_certificates_exclude_each_other() {
    refuses(
        "DestinationRule",
        &[
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL, credentialName: x}}",
                &[
                    "6:45: error[SRT0205] spec.trafficPolicy.tls.credentialName: ISTIO_MUTUAL uses the mesh identity, and credentialName is given; leave it out, or write mode: MUTUAL",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL, caCertificates: /a}}",
                &[
                    "6:45: error[SRT0205] spec.trafficPolicy.tls.caCertificates: ISTIO_MUTUAL uses the mesh identity, and caCertificates is given; leave it out, or write mode: MUTUAL",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true, credentialName: x}}",
                &[
                    "6:65: error[SRT0205] spec.trafficPolicy.tls.credentialName: insecureSkipVerify checks nothing, and with SIMPLE credentialName is the CA to check with; keep one of the two",
                ],
            ),
        ],
    );
}

#[test]
fn a_tls_block_without_mode_or_value_is_never_plaintext() {
    refuses(
        "DestinationRule",
        &[
            (
                "host: a.b\ntrafficPolicy: {tls: {sni: a.b}}",
                &[
                    "6:24: error[SRT0205] spec.trafficPolicy.tls.mode: tls without a mode is DISABLE to Istio: plaintext; write mode: SIMPLE, MUTUAL or ISTIO_MUTUAL, or DISABLE where plaintext is meant",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {}}",
                &[
                    "6:24: error[SRT0205] spec.trafficPolicy.tls.mode: tls without a mode is DISABLE to Istio: plaintext; write mode: SIMPLE, MUTUAL or ISTIO_MUTUAL, or DISABLE where plaintext is meant",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy:\n  tls:",
                &[
                    "7:5: error[IST0106] spec.trafficPolicy.tls: it has no value; write a mapping with the fields mode, clientCertificate, privateKey, caCertificates, caCrl, credentialName, subjectAltNames, sni, insecureSkipVerify, or leave the field out",
                    "7:5: error[SRT0205] spec.trafficPolicy.tls.mode: tls without a mode is DISABLE to Istio: plaintext; write mode: SIMPLE, MUTUAL or ISTIO_MUTUAL, or DISABLE where plaintext is meant",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: }}",
                &[
                    "6:25: error[IST0106] spec.trafficPolicy.tls.mode: it has no value; write one of DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL, or leave the field out",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: MTLS}}",
                &[
                    "6:31: error[IST0106] spec.trafficPolicy.tls.mode: \"MTLS\" is not allowed here; write one of DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, caCertificates: }}",
                &[
                    "6:39: error[IST0106] spec.trafficPolicy.tls.caCertificates: it has no value; write a text, or leave the field out",
                ],
            ),
        ],
    );
}

#[test]
fn s1_a_credential_name_has_one_of_its_forms() {
    refuses(
        "DestinationRule",
        &[
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: \"a/b\"}}",
                &[
                    "6:55: error[IST0106] spec.trafficPolicy.tls.credentialName: \"a/b\" does not name a credential; write the name of a Secret, or kubernetes://namespace/name",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: \"kubernetes://\"}}",
                &[
                    "6:55: error[IST0106] spec.trafficPolicy.tls.credentialName: \"kubernetes://\" does not name a credential; write kubernetes://namespace/name",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: \"configmap://x\"}}",
                &[
                    "6:55: error[IST0106] spec.trafficPolicy.tls.credentialName: \"configmap://x\" does not name a credential; write the namespace and the name after it: configmap://namespace/name",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: \"kubernetes-gateway://x\"}}",
                &[
                    "6:55: error[IST0106] spec.trafficPolicy.tls.credentialName: \"kubernetes-gateway://x\" does not name a credential; write the namespace and the name after it: configmap://namespace/name",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: \"vault://x\"}}",
                &[
                    "6:55: error[IST0106] spec.trafficPolicy.tls.credentialName: \"vault://x\" does not name a credential; write the name of a Secret, kubernetes://namespace/name or configmap://namespace/name",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: \"a b\"}}",
                &[
                    "6:55: error[IST0106] spec.trafficPolicy.tls.credentialName: \"a b\" does not name a credential; write the name of a Secret, or kubernetes://namespace/name",
                ],
            ),
        ],
    );
}

#[test]
fn u3_what_would_change_the_bytes_or_the_way_is_refused() {
    refuses(
        "DestinationRule",
        &[
            (
                "host: a.b\ntrafficPolicy: {tunnel: {targetHost: x, targetPort: 1}}",
                &[
                    "6:19: error[SRT0508] spec.trafficPolicy.tunnel: sortie does not support this field, and what is left without it is not what was meant; it changes the bytes on the wire: remove it, and route to a proxy that does it",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {proxyProtocol: {version: V1}}",
                &[
                    "6:19: error[SRT0508] spec.trafficPolicy.proxyProtocol: sortie does not support this field, and what is left without it is not what was meant; it changes the bytes on the wire: remove it, and route to a proxy that does it",
                ],
            ),
        ],
    );
}

#[test]
fn u5_a_gateway_has_servers_with_ports_hosts_and_certificates() {
    refuses(
        "Gateway",
        &[
            (
                "selector: {a: b}",
                &[
                    "5:3: error[IST0106] spec.servers: a Gateway needs at least one server; write servers: with port and hosts",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{hosts: [x]}]",
                &[
                    "6:13: error[IST0106] spec.servers[0].port: the server has no port; write port: {number: 443, name: https, protocol: HTTPS}",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 80, name: http, protocol: HTTP}}]",
                &[
                    "6:13: error[IST0106] spec.servers[0].hosts: the server has no hosts; write hosts: [\"*\"] for every host",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 80, protocol: HTTP}, hosts: [x]}]",
                &[
                    "6:20: error[IST0106] spec.servers[0].port.name: the port has no name; write a name such as https",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [x]}, {port: {number: 81, name: a, protocol: HTTP}, hosts: [x]}]",
                &[
                    "6:73: error[IST0106] spec.servers[1].port: two ports are called \"a\"; give each port its own name",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x]}]",
                &[
                    "6:13: error[IST0106] spec.servers[0].tls: a server of protocol HTTPS needs tls; write tls: {mode: SIMPLE, credentialName: NAME}",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTP}, hosts: [x], tls: {mode: SIMPLE, credentialName: x}}]",
                &[
                    "6:72: error[IST0106] spec.servers[0].tls: a server of protocol HTTP speaks no TLS; write protocol: HTTPS, or tls: {httpsRedirect: true}",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: FTP}, hosts: [x]}]",
                &[
                    "6:14: error[IST0106] spec.servers[0].port: \"FTP\" is not a protocol of a gateway; write one of HTTP, HTTPS, GRPC, HTTP2, TCP, TLS",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: SIMPLE}}]",
                &[
                    "6:79: error[SRT0205] spec.servers[0].tls.mode: SIMPLE needs a certificate, and none is named; write credentialName, or serverCertificate and privateKey",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: SIMPLE, credentialName: x, serverCertificate: /a}}]",
                &[
                    "6:79: error[SRT0205] spec.servers[0].tls.mode: certificates are named in more than one way; write credentialName, or serverCertificate and privateKey",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: SIMPLE, serverCertificate: /a}}]",
                &[
                    "6:78: error[SRT0205] spec.servers[0].tls.privateKey: privateKey is missing beside the other; write the file of it",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: TLS}, hosts: [x], tls: {mode: MUTUAL, serverCertificate: /a, privateKey: /b}}]",
                &[
                    "6:76: error[SRT0205] spec.servers[0].tls.caCertificates: MUTUAL checks clients, and no CA is named; write caCertificates",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: TLS}, hosts: [x], tls: {mode: ISTIO_MUTUAL, credentialName: x}}]",
                &[
                    "6:97: error[SRT0205] spec.servers[0].tls.credentialName: ISTIO_MUTUAL uses the mesh identity, and credentialName is given; leave it out",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: TLS}, hosts: [x], tls: {mode: SIMPLE, credentialName: x, caCrl: /c}}]",
                &[
                    "6:110: error[SRT0205] spec.servers[0].tls.caCrl: caCrl has no use: credentialName brings its own; leave it out",
                ],
            ),
        ],
    );
}

#[test]
fn u5_a_gateways_addresses_pins_versions_and_suites_must_be_ones() {
    refuses(
        "Gateway",
        &[
            (
                "selector: {a: b}\nservers: [{port: {number: 80, name: a, protocol: HTTP}, bind: \"unix:///run/x\", hosts: [x]}]",
                &[
                    "6:65: error[SRT0508] spec.servers[0].bind: \"unix:///run/x\" is a Unix socket, and sortie listens on TCP alone; write an IP address, or leave bind out",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 80, name: a, protocol: HTTP}, bind: here, hosts: [x]}]",
                &[
                    "6:65: error[IST0106] spec.servers[0].bind: \"here\" is not an IP address; write an address of this machine, or leave bind out",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [/x]}]",
                &[
                    "6:67: error[IST0106] spec.servers[0].hosts[0]: \"/x\" has no namespace before the slash; write a name, *.suffix or *, perhaps behind namespace/",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: MUTUAL, credentialName: c, maxProtocolVersion: TLSV1_1}}]",
                &[
                    "6:112: error[IST0106] spec.servers[0].tls.maxProtocolVersion: TLSV1_1 is not spoken, and nothing above it is allowed; write TLSV1_2 or TLSV1_3",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: MUTUAL, credentialName: c, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}}]",
                &[
                    "6:112: error[IST0106] spec.servers[0].tls.minProtocolVersion: the least version is above the greatest; write the lesser one here",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: MUTUAL, credentialName: c, verifyCertificateSpki: [AAAA]}}]",
                &[
                    "6:136: error[IST0106] spec.servers[0].tls.verifyCertificateSpki[0]: \"AAAA\" is not a SHA-256 hash; write the 32 bytes in base64, 44 characters",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: MUTUAL, credentialName: c, verifyCertificateHash: [\"0:1\"]}}]",
                &[
                    "6:136: error[IST0106] spec.servers[0].tls.verifyCertificateHash[0]: \"0:1\" is not a SHA-256 hash; write 64 hexadecimal digits, with colons between pairs or without",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: MUTUAL, credentialName: c, cipherSuites: [AES128-SHA]}}]",
                &[
                    "6:112: error[IST0106] spec.servers[0].tls.cipherSuites: no suite is left: the TLS library does not have \"AES128-SHA\"; write some of ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-ECDSA-AES128-GCM-SHA256, ECDHE-ECDSA-CHACHA20-POLY1305, ECDHE-RSA-AES256-GCM-SHA384, ECDHE-RSA-AES128-GCM-SHA256, ECDHE-RSA-CHACHA20-POLY1305",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: SIMPLE, tlsCertificates: [{serverCertificate: /a}]}}]",
                &[
                    "6:111: error[SRT0205] spec.servers[0].tls.tlsCertificates[0].privateKey: the pair has no privateKey; write the file of it",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: ISTIO_MUTUAL, caCertCredentialName: x}}]",
                &[
                    "6:99: error[SRT0205] spec.servers[0].tls.caCertCredentialName: ISTIO_MUTUAL uses the mesh identity, and caCertCredentialName is given; leave it out",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: SIMPLE, credentialName: \"a/b\"}}]",
                &[
                    "6:109: error[IST0106] spec.servers[0].tls.credentialName: \"a/b\" does not name a credential; write the name of a Secret, or kubernetes://namespace/name",
                ],
            ),
        ],
    );
}

#[test]
fn u2_what_of_a_gateway_has_no_effect_is_told() {
    keeps(
        "Gateway",
        &[
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS, targetPort: 8443}, hosts: [x], tls: {mode: SIMPLE, credentialName: c}}]",
                &[
                    "6:60: warning[IST0133] spec.servers[0].port.targetPort: targetPort has no effect: the port of the gateway's Service decides; leave it out, or run with --gateway-port",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: MUTUAL, credentialName: c, minProtocolVersion: TLSV1_0}}]",
                &[
                    "6:112: warning[IST0133] spec.servers[0].tls.minProtocolVersion: TLSV1_0 is not spoken: TLSV1_2 is the least; write TLSV1_2, or leave it out",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: SIMPLE, credentialName: c, subjectAltNames: [a.b]}}]",
                &[
                    "6:112: warning[IST0133] spec.servers[0].tls.subjectAltNames: subjectAltNames has no effect: SIMPLE asks clients for no certificate; leave it out",
                ],
            ),
            (
                "selector: {a: b}\nservers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [x], tls: {mode: MUTUAL, credentialName: c, caCertificates: /x}}]",
                &[
                    "6:112: warning[IST0133] spec.servers[0].tls.caCertificates: caCertificates has no effect: the CA comes with the credential; leave it out",
                ],
            ),
        ],
    );
}

#[test]
fn x8_a_sidecar_says_something_about_hosts_with_namespaces() {
    refuses(
        "Sidecar",
        &[
            (
                "{}",
                &[
                    "5:3: error[IST0106] spec: the Sidecar says nothing; write egress with hosts, or outboundTrafficPolicy",
                ],
            ),
            (
                "workloadSelector: {labels: {a: b}}",
                &[
                    "5:3: error[IST0106] spec: the Sidecar says nothing; write egress with hosts, or outboundTrafficPolicy",
                ],
            ),
            (
                "egress: [{}]",
                &[
                    "5:12: error[IST0106] spec.egress[0].hosts: there are no hosts; write hosts: [\"*/*\"] for all, or [\"~/*\"] for none",
                ],
            ),
            (
                "egress: [{hosts: [x]}]",
                &[
                    "5:21: error[IST0106] spec.egress[0].hosts[0]: \"x\" has no namespace; write namespace/host, ./host for its own, or */host for all",
                ],
            ),
            (
                "egress: [{hosts: [/x]}]",
                &[
                    "5:21: error[IST0106] spec.egress[0].hosts[0]: \"/x\" has no namespace; write namespace/host, ./host for its own, or */host for all",
                ],
            ),
            (
                "egress: [{hosts: [\"*/*x\"]}]",
                &[
                    "5:21: error[IST0106] spec.egress[0].hosts[0]: \"*x\" is not a host: a wildcard is \"*\" or \"*.suffix\"; a star elsewhere means nothing; write a name, *.suffix or * behind the slash",
                ],
            ),
            (
                "outboundTrafficPolicy: {mode: REGISTRYONLY}",
                &[
                    "5:33: error[IST0106] spec.outboundTrafficPolicy.mode: \"REGISTRYONLY\" is not allowed here; did you mean REGISTRY_ONLY? Allowed: one of REGISTRY_ONLY, ALLOW_ANY, ALLOW_ANY_DYNAMIC_DNS",
                ],
            ),
            (
                "outboundTrafficPolicy: {egressProxy: {host: a}}",
                &[
                    "5:27: error[SRT0508] spec.outboundTrafficPolicy.egressProxy: sortie does not support this field, and what is left without it is not what was meant; write a VirtualService and a ServiceEntry for the hosts that the proxy is for",
                ],
            ),
        ],
    );
}

#[test]
fn p2_ports_of_a_peer_authentication_need_a_workload() {
    refuses(
        "PeerAuthentication",
        &[
            (
                "mtls: {mode: STRICTT}",
                &[
                    "5:16: error[IST0106] spec.mtls.mode: \"STRICTT\" is not allowed here; did you mean STRICT? Allowed: one of UNSET, DISABLE, PERMISSIVE, STRICT",
                ],
            ),
            (
                "mtls:",
                &[
                    "5:3: error[IST0106] spec.mtls: it has no value; write a mapping with the fields mode, or leave the field out",
                ],
            ),
            (
                "portLevelMtls: {80: {mode: STRICT}}",
                &[
                    "5:3: error[IST0106] spec.portLevelMtls: ports have modes of their own, and no workload is selected; write selector: {matchLabels: {app: NAME}}",
                ],
            ),
            (
                "selector: {matchLabels: {a: b}}\nportLevelMtls: {}",
                &[
                    "6:18: error[IST0106] spec.portLevelMtls: portLevelMtls says nothing; write a port and a mode, or leave it out",
                ],
            ),
            (
                "selector: {matchLabels: {a: b}}\nportLevelMtls: {x: {mode: STRICT}}",
                &[
                    "6:19: error[IST0106] spec.portLevelMtls.x: \"x\" is not a port; write a workload port, 1 to 65535",
                ],
            ),
            (
                "mtls: {mod: STRICT}",
                &["5:10: error[IST0106] unknown field spec.mtls.mod (did you mean mode?)"],
            ),
        ],
    );
}

#[test]
fn p6_what_a_legacy_policy_cannot_mean_here_is_refused() {
    refuses(
        "Policy",
        &[
            (
                "peers: [{mtls: {}}]",
                &[
                    "5:3: error[IST0106] spec: without targets it must be called default, not \"n\"; write metadata.name: default, or targets",
                ],
            ),
            (
                "targets: [{}]\npeers: [{mtls: {}}]",
                &[
                    "5:13: error[IST0106] spec.targets[0].name: the target has no name; write the short name of a Service",
                ],
            ),
            (
                "targets: [{name: x}]\npeers: [{}]",
                &[
                    "6:11: error[IST0106] spec.peers[0]: the peer says nothing; write mtls: {mode: STRICT}",
                ],
            ),
            (
                "targets: [{name: x}]\npeers: [{jwt: {issuer: x}}]",
                &[
                    "6:12: error[SRT0508] spec.peers[0].jwt: sortie does not support this field, and what is left without it is not what was meant; sortie does not check request tokens: remove it",
                ],
            ),
            (
                "targets: [{name: x}]\norigins: [{jwt: {issuer: x}}]",
                &[
                    "6:3: error[SRT0508] spec.origins: sortie does not support this field, and what is left without it is not what was meant; sortie does not check request tokens: remove it",
                ],
            ),
            (
                "targets: [{name: x, labels: {a: b}}]",
                &[
                    "5:23: error[SRT0508] spec.targets[0].labels: sortie does not support this field, and what is left without it is not what was meant; write a PeerAuthentication with a selector",
                ],
            ),
        ],
    );
}

#[test]
fn a_service_that_cannot_be_read_is_refused() {
    refuses(
        "Service",
        &[
            (
                "ports: [{port: 0}]",
                &[
                    "5:18: error[IST0106] spec.ports[0].port: \"0\" is not a port; write a port from 1 to 65535",
                ],
            ),
            (
                "ports: [{name: http}]",
                &[
                    "5:11: error[IST0106] spec.ports[0].port: the port has no number; write port: 80 or whichever it is",
                ],
            ),
            (
                "clusterIP: x",
                &[
                    "5:14: error[IST0106] spec.clusterIP: \"x\" is not an IP address; write the address, or None for a headless Service",
                ],
            ),
            (
                "type: ExternalName",
                &[
                    "5:3: error[IST0106] spec.externalName: type: ExternalName needs a name; write externalName: name.example.com",
                ],
            ),
            (
                "type: ExternalName\nexternalName: a b",
                &[
                    "6:17: error[IST0106] spec.externalName: \"a b\" is not a host: the character ' ' cannot stand in a host name; write a host name or IP address",
                ],
            ),
            (
                "ports: [{port: 80, targetPort: 99999}]",
                &[
                    "5:34: error[IST0106] spec.ports[0].targetPort: 99999 is not a port; write a port from 1 to 65535, or its name",
                ],
            ),
            (
                "selector: {a: 1}",
                &[
                    "5:17: error[IST0106] spec.selector.a: a number stands here, and text is expected; put it in quotes",
                ],
            ),
        ],
    );
}

#[test]
fn u2_fields_without_effect_are_said_once() {
    keeps(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  corsPolicy: {allowOrigins: [{exact: \"*\"}]}",
                &[
                    "8:5: warning[SRT0507] spec.http[0].corsPolicy: sortie reads this field and does not follow it; sortie adds no CORS headers; let the upstream answer preflight requests",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{statPrefix: x}]",
                &[
                    "8:14: warning[SRT0507] spec.http[0].match[0].statPrefix: sortie reads this field and does not follow it; metrics have the labels of the destination; leave it out",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  retries: {attempts: 1, retryRemoteLocalities: true}",
                &[
                    "8:28: warning[SRT0507] spec.http[0].retries.retryRemoteLocalities: sortie reads this field and does not follow it; endpoints of every locality are tried anyway; leave it out",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  retries: {attempts: 1, retryOn: \"reset-before-request\"}",
                &[
                    "8:37: warning[SRT0507] spec.http[0].retries.retryOn: sortie does not retry on reset-before-request; leave it out; connect-failure and reset come near to it",
                ],
            ),
        ],
    );
}

#[test]
fn what_is_odd_is_said_and_kept() {
    keeps(
        "VirtualService",
        &[
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  mirror: {host: x}\n  mirrorPercent: 10",
                &[
                    "9:5: warning[IST0133] spec.http[0].mirrorPercent: mirrorPercent is deprecated; write mirrorPercentage: {value: 10}",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  fault: {abort: {httpStatus: 500}}",
                &[
                    "8:20: warning[IST0133] spec.http[0].fault.abort: without a percentage it never happens; write percentage: {value: 100} for every request",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  fault: {delay: {fixedDelay: 1s}}",
                &[
                    "8:20: warning[IST0133] spec.http[0].fault.delay: without a percentage it never happens; write percentage: {value: 100} for every request",
                ],
            ),
            (
                "hosts: [a.b]\nhttp:\n- route: [{destination: {host: c}}]\n  match: [{gateways: [mesh], sourceLabels: {a: b}}]",
                &[
                    "8:32: warning[IST0131] spec.http[0].match[0].sourceLabels: sourceLabels has no effect beside gateways; leave one of the two out",
                ],
            ),
            (
                "hosts: [1.2.3.4]\ntls: [{match: [{sniHosts: [1.2.3.4]}], route: [{destination: {host: c}}]}]",
                &[
                    "6:30: warning[IST0133] spec.tls[0].match[0].sniHosts[0]: \"1.2.3.4\" is an address, and no client sends one as server name; write the name that clients send, or a tcp route",
                ],
            ),
            (
                "http:\n- route: [{destination: {host: c}}]",
                &[
                    "5:3: warning[IST0133] spec: there are no hosts: it serves only as a delegate, and sortie does not follow delegates; write hosts: [name], or remove the document",
                ],
            ),
        ],
    );
}

#[test]
fn what_is_odd_in_a_destination_rule_is_said_and_kept() {
    keeps(
        "DestinationRule",
        &[
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: DISABLE, sni: x}}",
                &[
                    "6:40: warning[IST0133] spec.trafficPolicy.tls.sni: sni has no effect with mode: DISABLE; leave it out, or write mode: MUTUAL",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, clientCertificate: /a}}",
                &[
                    "6:39: warning[IST0133] spec.trafficPolicy.tls.clientCertificate: clientCertificate has no effect with mode: SIMPLE; leave it out, or write mode: MUTUAL",
                ],
            ),
            (
                "host: a.b\ntrafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}",
                &[
                    "6:34: warning[SRT0507] spec.trafficPolicy.loadBalancer.consistentHash: sortie reads this field and does not follow it; the endpoints are taken in turn; write simple: ROUND_ROBIN, LEAST_REQUEST or RANDOM",
                ],
            ),
            (
                "host: a.b\nworkloadSelector: {matchLabels: {}}",
                &[
                    "6:21: warning[IST0133] spec.workloadSelector: the selector is empty: it selects every workload of its namespace; write labels, or leave the selector out",
                ],
            ),
        ],
    );
}
