//! What is odd or without effect: said, and the object is kept.

use super::*;

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
