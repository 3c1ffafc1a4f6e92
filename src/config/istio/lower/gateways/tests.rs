//! From Gateway documents to listeners and entrances, rule by rule.

use super::super::testing::Lab;
use crate::model::*;

mod certificates;
mod ports;
mod refused;
mod routes;
mod streams;

/// A service outside, in clear text on port 80.
const BANK: &str = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec:
  hosts: [bank.example, shop.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: DNS
";

fn gateway(name: &str, servers: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{istio: edge}}\n  servers:\n{servers}"
    )
}

fn vs(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {{{spec}}}\n"
    )
}

/// An `http` rule for everything to `host`, port 80.
fn to(host: &str) -> String {
    format!("http: [{{route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]}}]")
}

const HTTP: &str = "port: {number: 80, name: http, protocol: HTTP}";
const HTTPS: &str = "port: {number: 443, name: https, protocol: HTTPS}";

fn server(port: &str, hosts: &str, tls: &str) -> String {
    let tls = match tls {
        "" => String::new(),
        tls => format!(", tls: {{{tls}}}"),
    };
    format!("  - {{{port}, hosts: [{hosts}]{tls}}}\n")
}

/// A gateway with the label `istio: edge` in the namespace `default`.
fn lab(texts: &[&str]) -> Lab {
    Lab::new(&texts.concat()).identity().facts(|facts| {
        facts.role = Role::Gateway;
        facts.labels.insert("istio".into(), "edge".into());
    })
}

/// Each entrance: `name [names] tls`, then a line for each of its rules and streams.
fn entrances(lab: &Lab) -> Vec<String> {
    let (config, _) = lab.config();
    config.entrances.iter().flat_map(lines).collect()
}

fn lines(entrance: &EntranceSpec) -> Vec<String> {
    let names = match &entrance.at {
        EntranceAt::Gateway(_, names) => names.iter().map(ToString::to_string).collect(),
        EntranceAt::Inbound(_) => vec!["inbound".to_owned()],
    };
    let tls = match &entrance.tls {
        DownstreamTls::Disable => "clear".to_owned(),
        DownstreamTls::Strict(spec) => format!("{:?}", spec.clients),
        DownstreamTls::Permissive(_) => "permissive".to_owned(),
        DownstreamTls::PassThrough { mesh_only } => format!("pass through, mesh {mesh_only}"),
    };
    let mut lines = vec![format!("{} [{}] {tls}", entrance.name, names.join(" "))];
    for group in &entrance.hosts {
        assert_eq!(group.port, None, "the port was decided while lowering");
        let hosts: Vec<String> = group.hosts.iter().map(ToString::to_string).collect();
        let hosts = hosts.join(",");
        lines.extend(group.rules.iter().map(|rule| {
            let matches: Vec<String> = rule.matches.iter().map(path).collect();
            format!("  {hosts} {}> {}", matches.concat(), action(&rule.action))
        }));
    }
    for stream in &entrance.streams {
        let on = match &stream.on {
            StreamMatch::Tls { names, .. } => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                names.join(",")
            }
            StreamMatch::Tcp { destinations } => format!("bytes{destinations:?}"),
            StreamMatch::Sniffed { .. } => "sniffed".to_owned(),
        };
        lines.push(format!("  {on} > {}", shares(&stream.to)));
    }
    if let Some(broken) = &entrance.broken {
        lines.push(format!("  broken: {broken}"));
    }
    lines
}

fn path(on: &MatchSpec) -> String {
    match &on.path {
        Some(StringMatch::Exact(text)) => format!("={text} "),
        Some(StringMatch::Prefix(text)) => format!("{text}* "),
        Some(StringMatch::Regex(text)) => format!("~{text} "),
        None => "any ".to_owned(),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::Forward(to) => shares(to),
        Action::Redirect(to) => format!("{} {}", to.status, to.scheme.as_deref().unwrap()),
        Action::Respond(respond) => respond.status.to_string(),
    }
}

fn shares(to: &[Weighted]) -> String {
    let names: Vec<&str> = to.iter().map(|one| one.upstream.as_ref()).collect();
    names.join(" ")
}

fn listeners(lab: &Lab) -> Vec<String> {
    let (config, _) = lab.config();
    let line = |one: &ListenerSpec| match one.kind {
        ListenerKind::Gateway(port) => format!("{} {}", one.address, port.number),
        other => format!("{} {other:?}", one.address),
    };
    config.listeners.iter().map(line).collect()
}

fn said(lab: &Lab, code: &str) -> Vec<String> {
    let (_, said) = lab.config();
    let wanted = format!("[{code}]");
    said.into_iter()
        .filter(|line| line.contains(&wanted))
        .collect()
}

/// The TLS of the only entrance.
#[track_caller]
fn tls(lab: &Lab) -> ServerTlsSpec {
    let (config, said) = lab.config();
    let [entrance] = &config.entrances[..] else {
        panic!("{:?} {said:?}", config.entrances)
    };
    assert_eq!(entrance.broken, None);
    entrance.tls.spec().unwrap().clone()
}

#[test]
fn p16_g10_the_mesh_configuration_says_what_becomes_of_headers() {
    let mesh = |config: &str| {
        format!(
            "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {{name: mesh}}\n\
             spec: {{meshConfig: {{defaultConfig: {{{config}}}}}}}\n"
        )
    };
    let headers = |config: &str| {
        let lab = lab(&[&mesh(config), &gateway("edge", &server(HTTP, "'*'", ""))]);
        let (config, said) = lab.config();
        assert_eq!(said, Vec::<String>::new());
        config.entrances[0].headers.clone()
    };
    assert_eq!(headers("concurrency: 2"), EntranceHeaders::gateway());
    let topology =
        "gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: APPEND_FORWARD}";
    assert_eq!(
        headers(topology),
        EntranceHeaders {
            trusted_hops: 2,
            client_cert: ForwardClientCert::AppendForward,
            ..EntranceHeaders::gateway()
        }
    );
    let own = "proxyHeaders: {forwardedClientCert: SANITIZE, setCurrentClientCertDetails: {chain: \
               true, dns: false}, requestId: {disabled: true}, server: {value: edge}}";
    assert_eq!(
        headers(&format!("{topology}, {own}")),
        EntranceHeaders {
            trusted_hops: 2,
            client_cert: ForwardClientCert::AppendForward,
            request_id: false,
            server: Some("edge".into()),
            ..EntranceHeaders::gateway()
        }
    );
    let (registry, _) = Lab::new(&mesh(&format!("{topology}, {own}"))).registry();
    assert_eq!(
        registry.scope.mesh.headers.inbound(),
        EntranceHeaders {
            client_cert: ForwardClientCert::Sanitize,
            details: ClientCertDetails {
                subject: true,
                chain: true,
                uri: true,
                ..ClientCertDetails::default()
            },
            request_id: false,
            server: Some("edge".into()),
            ..EntranceHeaders::inbound()
        }
    );
}
