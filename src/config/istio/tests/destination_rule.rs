//! What a DestinationRule must have, and what contradicts itself in it.

use super::*;

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
