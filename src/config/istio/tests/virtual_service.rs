//! What a VirtualService must have, and what contradicts itself in it.

use super::*;

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
