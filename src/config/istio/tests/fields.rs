//! Fields as such: unknown ones, both spellings, values of another kind, words and numbers.

use super::*;

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
