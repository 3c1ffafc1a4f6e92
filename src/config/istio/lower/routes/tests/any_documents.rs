//! Whatever the documents say, what was refused is never served.

use proptest::prelude::*;

use super::*;

const HOSTS: &[&str] = &[
    "a.shop.example",
    "b.shop.example",
    "shop.example",
    "'*.shop.example'",
    "'*.example'",
    "hello",
    "hello.default.svc.cluster.local",
    "hello.default",
];
const PROTOCOLS: &[&str] = &["HTTP", "TLS", "TCP", "UNKNOWN", "HTTP2"];
const PORTS: &[u16] = &[80, 443, 8080];

fn host() -> impl Strategy<Value = &'static str> {
    prop::sample::select(HOSTS)
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(PORTS)
}

/// Kind, two hosts, port, protocol, with a virtual address, with a mistake, for some port alone.
type Told = (u8, &'static str, &'static str, u16, usize, bool, bool, bool);

fn told() -> impl Strategy<Value = Told> {
    let more = (any::<bool>(), prop::bool::weighted(0.2), any::<bool>());
    (0_u8..6, host(), host(), port(), 0..PROTOCOLS.len(), more).prop_map(
        |(kind, a, b, port, protocol, (vip, typo, on))| (kind, a, b, port, protocol, vip, typo, on),
    )
}

fn document(n: usize, told: &Told) -> String {
    let (kind, a, b, port, protocol, vip, typo, on) = *told;
    let typo = if typo { "typo: 1, " } else { "" };
    let head = |group: &str, kind: &str| {
        format!("---\napiVersion: {group}\nkind: {kind}\nmetadata: {{name: n{n}}}\nspec: ")
    };
    let istio = |kind: &str| head("networking.istio.io/v1", kind);
    let protocol = PROTOCOLS[protocol];
    let matched = if on {
        format!("match: [{{port: {port}}}], ")
    } else {
        String::new()
    };
    let to = format!("route: [{{destination: {{host: {b}, port: {{number: {port}}}}}}}]");
    let to = to.replace('*', "c").replace('\'', "");
    match kind {
        0 | 1 => {
            let addresses = if vip { "addresses: [192.0.2.9], " } else { "" };
            format!(
                "{}{{{typo}{addresses}hosts: [{a}], ports: [{{number: {port}, name: p, \
                 protocol: {protocol}}}]}}\n",
                istio("ServiceEntry")
            )
        }
        2 => format!(
            "{}{{{typo}hosts: [{a}], http: [{{{matched}{to}}}]}}\n",
            istio("VirtualService")
        ),
        3 => format!(
            "{}{{{typo}hosts: [{a}], tls: [{{match: [{{sniHosts: [{a}]}}], {to}}}], tcp: \
             [{{{matched}{to}}}]}}\n",
            istio("VirtualService")
        ),
        4 => format!("{}{{{typo}host: {a}}}\n", istio("DestinationRule")),
        _ => format!(
            "{}{{{typo}clusterIP: 192.0.2.9, selector: {{a: b}}, ports: [{{port: {port}, name: \
             http}}]}}\n",
            head("v1", "Service").replace(&format!("n{n}"), "hello")
        ),
    }
}

/// The entry that a request would meet: exact, then the longest wildcard; with its port first.
fn meets<'l>(loaded: &'l Loaded, host: &str, port: u16) -> Option<&'l HostRoutes> {
    let entries = loaded.config.hosts.iter().flat_map(|group| {
        let fitting = group.hosts.iter().filter(|pattern| pattern.matches(host));
        fitting.map(move |pattern| (pattern, group))
    });
    let on_port = entries.filter(|(_, group)| group.port.is_none_or(|on| on == port));
    let best = on_port.max_by_key(|(pattern, group)| {
        let length = match pattern {
            HostPattern::Exact(_) => usize::MAX,
            HostPattern::Suffix(suffix) => suffix.as_str().len(),
            HostPattern::Any => 0,
        };
        (length, group.port)
    });
    best.map(|(_, group)| group)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is declared: no host is there twice, every upstream is there, and what a
    /// refused document governs goes nowhere else.
    #[test]
    fn x1_the_table_is_whole_and_what_is_refused_is_nowhere_served(
        all in prop::collection::vec(told(), 1..9),
        native in prop::option::of((host(), prop::option::of(port()))),
    ) {
        let text: String = all.iter().enumerate().map(|(n, one)| document(n, one)).collect();
        let native = native.map_or(String::new(), |(host, port)| {
            let port = port.map_or(String::new(), |port| format!(", port: {port}"));
            format!(
                "upstreams: [{{name: own, endpoints: ['127.0.0.1:1'], tls: {{mode: \
                 disable}}}}]\nroutes: [{{host: {host}{port}, upstream: own}}]\n"
            )
        });
        let files = [("a.yaml", text.as_str()), ("b.yaml", native.as_str())];
        let files = if native.is_empty() { &files[..1] } else { &files[..] };
        // A mistake of more than one object refuses everything: that is whole as well.
        let Ok(loaded) = load_texts_with(files, &options()) else {
            return Ok(());
        };
        compiles(&loaded);
        let refused = all.iter().filter(|(kind, .., typo, _)| *typo && *kind < 5);
        for (kind, host, ..) in refused {
            let host = host.trim_matches('\'').replace("*.", "deep.");
            let host = match host.as_str() {
                // H3: a ServiceEntry's host is never short.
                "hello" if *kind > 1 => "hello.default.svc.cluster.local",
                host => host,
            };
            for port in PORTS {
                let met = meets(&loaded, host, *port).expect("governed");
                let Action::Forward(to) = &met.rules[0].action else {
                    panic!("it forwards");
                };
                prop_assert!(to[0].upstream.starts_with("refused|"), "{host}: {met:?}");
            }
            for stream in &loaded.config.streams {
                if let StreamMatch::Tls { names, .. } = &stream.on {
                    let broken = stream.to.iter().all(|to| to.upstream.starts_with("refused|"));
                    let names_it = |name: &HostPattern| name.to_string() == host;
                    prop_assert!(broken || !names.iter().any(names_it), "{host}: {stream:?}");
                }
            }
        }
    }
}
