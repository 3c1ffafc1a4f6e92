//! What a Gateway must have, and what of it has no effect.

use super::*;

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
