//! The decision for what comes in by a gateway's port or for the application beside us.
//!
//! Owns: the words for entrances: which one, who gets in, with which certificate it is met.
//! Never: decides who comes in (that is `proxy::admission`, by way of `proxy::foresee`).
//! Called by: `explain::request`.

use std::net::{IpAddr, SocketAddr};

use super::answer::{Explanation, Outcome, Step};
use super::question::{Door, Question, Speaks};
use super::request::{Known, Tables, request};
use super::{security, stream};
use crate::model::{
    Carries, ClientCertificates, Config, DownstreamTls, EntranceAt, EntranceSpec, GatewayPort,
    ListenerKind, OriginalDst, PeerAddr, ServerTlsSpec, TlsVersion,
};
use crate::proxy::{self, Arrived, Entered, Spoken};
use crate::route::Scheme;
use crate::snapshot::Entrance;
use crate::telemetry::rfc3339_seconds;
use crate::tls::CertFacts;

/// Explains what comes in there.
pub(super) fn steps(question: &Question, door: Door, known: &Known<'_>, it: &mut Explanation) {
    let arrived = match arrived(question, door, known.config) {
        Ok(arrived) => arrived,
        Err(words) => {
            it.outcome = Outcome::closed("NR", words);
            return;
        }
    };
    let name = question.host.parse::<IpAddr>().is_err();
    let spoken = match question.speaks {
        Speaks::Http => Spoken::Http,
        Speaks::Tls => Spoken::Tls(name.then_some(question.host.as_str())),
        Speaks::Tcp => Spoken::Other,
    };
    match proxy::enter(known.snapshot, &arrived, spoken) {
        Entered::Http(entrance) => {
            let spec = written(entrance, known.config);
            it.steps.extend(described(spec, entrance));
            if let Some(reason) = &spec.broken {
                it.outcome = Outcome::failed(503, "UH", reason.as_ref());
                return;
            }
            let tables = Tables {
                table: &entrance.table,
                groups: &spec.hosts,
                scheme: match question.speaks {
                    Speaks::Tls => Scheme::Https,
                    Speaks::Http | Speaks::Tcp => Scheme::Http,
                },
                kind: arrived.kind,
                original_dst: arrived.original_dst,
                entrance: Some(entrance),
            };
            request(question, &tables, known, it);
        }
        Entered::Stream(entrance, target) => {
            let spec = written(entrance, known.config);
            it.steps.extend(described(spec, entrance));
            stream::route(question, (target, false), &spec.streams, known, it);
        }
        Entered::Refuse(entrance, flag, words) => {
            let described = entrance.map(|entrance| {
                let spec = written(entrance, known.config);
                described(spec, entrance)
            });
            it.steps.extend(described.into_iter().flatten());
            it.outcome = Outcome::closed(&flag, words);
        }
    }
}

/// What the client of a gateway or of the application would look like.
fn arrived(question: &Question, door: Door, config: &Config) -> Result<Arrived, String> {
    let peer = PeerAddr(SocketAddr::new(question.from, 0));
    match door {
        Door::Inbound(port) => {
            let here = SocketAddr::new(question.from, port);
            let to = question.original_dst.unwrap_or(OriginalDst(here));
            Ok(Arrived {
                kind: ListenerKind::Inbound(None),
                original_dst: Some(OriginalDst(SocketAddr::new(to.0.ip(), port))),
                local: SocketAddr::new(question.from, 0),
                peer,
            })
        }
        Door::Gateway(number) => {
            let ports = config.entrances.iter().filter_map(gateway_port);
            let mut fit = ports.clone().filter(|port| port.number == number);
            // The one that listens where gateways do by default, if there are several.
            let Some(port) = fit.clone().find(|port| port.bind.is_none()).or(fit.next()) else {
                return Err(no_such(number, ports));
            };
            Ok(Arrived {
                kind: ListenerKind::Gateway(port),
                original_dst: None,
                local: SocketAddr::new(question.from, number),
                peer,
            })
        }
    }
}

fn gateway_port(spec: &EntranceSpec) -> Option<GatewayPort> {
    match &spec.at {
        EntranceAt::Gateway(port, _) => Some(*port),
        EntranceAt::Inbound(_) => None,
    }
}

fn no_such(number: u16, ports: impl Iterator<Item = GatewayPort>) -> String {
    let mut known: Vec<u16> = ports.map(|port| port.number).collect();
    known.sort_unstable();
    known.dedup();
    let known: Vec<String> = known.iter().map(ToString::to_string).collect();
    match known.is_empty() {
        true => "this proxy serves no Gateway: none selects its labels (--labels)".to_owned(),
        false => format!(
            "no Gateway that this proxy serves has port {number}; there are {}",
            known.join(", ")
        ),
    }
}

/// The snapshot keeps no hosts of it, and places may have moved.
fn written<'a>(entrance: &'a Entrance, config: &'a Config) -> &'a EntranceSpec {
    let mut specs = config.entrances.iter();
    let found = specs.find(|spec| spec.name == entrance.spec.name);
    found.unwrap_or(&entrance.spec)
}

/// Which one, who gets in, and with which certificate it is met.
fn described(spec: &EntranceSpec, entrance: &Entrance) -> Vec<Step> {
    let object = spec.object.as_deref();
    let inside = match spec.carries {
        Carries::Http => "HTTP",
        Carries::Opaque => "bytes that are not read",
        Carries::Either => "HTTP or other bytes",
    };
    let which = match &spec.at {
        EntranceAt::Inbound(Some(port)) => format!("the application's port {port}, {inside}"),
        EntranceAt::Inbound(None) => format!("a port that nobody declares, {inside}"),
        EntranceAt::Gateway(_, names) if names.is_empty() => format!("clear text, {inside}"),
        EntranceAt::Gateway(_, names) => {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            format!("server for {}, {inside}", names.join(", "))
        }
    };
    let mut all = vec![Step::new("entrance", which).by(object, Some(&spec.place))];
    let step = |what, how: String| {
        let reason = spec.reasons.0.iter().find(|reason| reason.what == what);
        match reason {
            Some(reason) => Step::new(what, how).by(Some(&reason.object), reason.place.as_ref()),
            None => Step::new(what, how).by(object, Some(&spec.place)),
        }
    };
    all.push(step("tls", mode(&spec.tls)));
    if let Some(tls) = spec.tls.spec() {
        all.push(step(
            "credential",
            security::identity(tls.credential.identity.as_ref()),
        ));
        all.push(step("clients", clients(tls)));
        if tls.clients != ClientCertificates::Unasked {
            all.push(step("ca", security::authority(&tls.credential)));
        }
    }
    all.extend(leaf(entrance).map(certificate));
    all
}

fn mode(tls: &DownstreamTls) -> String {
    let words = match tls {
        DownstreamTls::Disable => "DISABLE: clear text",
        DownstreamTls::Strict(_) => "TLS alone; clear text is reset",
        DownstreamTls::Permissive(_) => "PERMISSIVE: the TLS of sidecars, and clear text",
        DownstreamTls::PassThrough { mesh_only: false } => "passed through by its server name",
        DownstreamTls::PassThrough { mesh_only: true } => {
            "the TLS of sidecars, passed through by its server name"
        }
    };
    match tls.spec() {
        Some(spec) if spec.min_version == TlsVersion::Tls13 => format!("{words}, 1.3 at least"),
        _ => words.to_owned(),
    }
}

fn clients(tls: &ServerTlsSpec) -> String {
    let mut words = match tls.clients {
        ClientCertificates::Unasked => return "are not asked for a certificate".to_owned(),
        ClientCertificates::Optional => "may show a certificate, which must be good".to_owned(),
        ClientCertificates::Required => "must show a certificate".to_owned(),
    };
    if !tls.trust_domains.is_empty() {
        words.push_str(&format!(" of {}", tls.trust_domains.join(" or ")));
    }
    if !tls.subject_alt_names.is_empty() {
        words.push_str(&format!(
            " that names {}",
            tls.subject_alt_names.join(" or ")
        ));
    }
    let pins = tls.spki_pins.len() + tls.hash_pins.len();
    if pins > 0 {
        words.push_str(&format!(", pinned to {pins}"));
    }
    words
}

fn leaf(entrance: &Entrance) -> Option<CertFacts> {
    match entrance.tls.server()? {
        crate::snapshot::ServerSide::Ready(server) => server.leaf().cloned(),
        crate::snapshot::ServerSide::Unavailable(_) => None,
    }
}

fn certificate(leaf: CertFacts) -> Step {
    let subject = leaf.called();
    let until = rfc3339_seconds(leaf.not_after);
    Step::new(
        "certificate",
        format!("{subject}, serial {}, until {until}", leaf.serial),
    )
}
