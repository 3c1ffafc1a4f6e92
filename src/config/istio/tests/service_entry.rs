//! What a ServiceEntry must have, and what contradicts itself in it.

use super::*;

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
