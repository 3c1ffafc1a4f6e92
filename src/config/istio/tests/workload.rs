//! Sidecars, PeerAuthentications, legacy policies and Services: what is refused.

use super::*;

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
