//! How documents are found, told apart and spelled.

use super::*;

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
        Some(super::super::sidecar::OutboundMode::RegistryOnly)
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
    use super::super::peer_authentication::MtlsMode::{Disable, Permissive, Strict};
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
    use super::super::service_entry::Protocol::{Grpc, GrpcWeb, Http, Http2, Sniff, Tcp, Tls, Udp};
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
    assert_eq!(
        entry.resolution,
        super::super::service_entry::EntryResolution::Dns
    );
    assert_eq!(
        entry.location,
        super::super::service_entry::Location::Internal
    );
    let port = &entry.ports[0];
    assert_eq!(port.number, 8080);
    assert_eq!(
        port.target,
        Some(super::super::service_entry::TargetPort::Number(1))
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
