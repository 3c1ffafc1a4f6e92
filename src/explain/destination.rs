//! One destination: the upstream behind it, how it is spoken to, and what comes of it.
//!
//! Owns: which document decided each of these, from the upstream's reasons.
//! Never: resolves or connects.
//! Called by: `explain::request`.

use std::net::{IpAddr, SocketAddr};

use super::answer::{Branch, Outcome, Step};
use super::request::Known;
use super::security;
use super::words;
use crate::model::{
    Balance, BrokenKind, EndpointSpec, Reason, Resolution, TlsPolicy, UpstreamSpec,
};
use crate::proxy;
use crate::telemetry::rfc3339_seconds;
use crate::upstream::{EndpointStatus, Upstream, UpstreamTls};

/// So many endpoints are listed; the others are counted.
const MOST_LISTED: usize = 8;

/// Where a request is sent.
pub(super) struct Target<'a> {
    /// The upstream's name.
    pub(super) upstream: &'a str,
    /// `100%`.
    pub(super) share: String,
    /// The host after rewriting, or the server name of the client's TLS.
    pub(super) host: Option<&'a str>,
    /// What is sent.
    pub(super) bytes: Bytes,
    /// Where the client meant to go: for upstreams that connect there.
    pub(super) meant: &'a str,
}

/// What is sent to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    /// Requests.
    Http,
    /// TLS of the client's own.
    Tls,
    /// Anything else.
    Other,
}

/// What becomes of requests that are sent there.
pub(super) fn branch(target: &Target<'_>, known: &Known<'_>) -> Branch {
    let mut branch = Branch {
        upstream: target.upstream.to_owned(),
        share: target.share.clone(),
        ..Branch::default()
    };
    // The snapshot keeps an upstream whose document only moved; the places are the configuration's.
    let written = known.config.upstreams.iter();
    let written = written
        .clone()
        .find(|spec| spec.name.as_ref() == target.upstream);
    let built = known.snapshot.upstreams.get(target.upstream);
    let Some(spec) = written.or_else(|| built.map(|built| built.spec())) else {
        branch.outcome = Outcome::failed(503, "NC", "there is no such upstream");
        return branch;
    };
    branch.steps.push(destination(spec, target));
    if let Some(broken) = &spec.broken {
        let flag = match broken.kind {
            BrokenKind::NoCluster => "NC",
            BrokenKind::Unhealthy => "UH",
        };
        branch.steps.extend(spec.reasons.0.iter().map(given));
        branch.outcome = Outcome::failed(503, flag, broken.reason.as_ref());
        return branch;
    }
    let mut decided = vec![("endpoints", endpoints(spec, target))];
    decided.extend(match (target.bytes, &spec.tls) {
        (Bytes::Http, _) => security::decisions(spec, target.host),
        (_, TlsPolicy::Disable) => vec![("tls", "none is added".to_owned())],
        (_, TlsPolicy::Tls(_)) => security::decisions(spec, None),
    });
    // What documents decided before there was an endpoint to speak of: policy, subset.
    let covered = |reason: &&Reason| decided.iter().any(|(what, _)| *what == reason.what);
    let others = spec.reasons.0.iter().filter(|reason| !covered(reason));
    branch.steps.extend(others.map(given));
    branch
        .steps
        .extend(decided.into_iter().map(|(what, how)| step(spec, what, how)));
    branch.steps.extend(connection(spec));
    if let Some(built) = built {
        branch.steps.extend(resolved(&built.endpoints()));
        branch.steps.extend(shown(built));
    }
    branch.outcome = outcome(spec, built.map(AsRef::as_ref), target, known);
    branch
}

fn destination(spec: &UpstreamSpec, target: &Target<'_>) -> Step {
    let name = match cluster(&spec.name) {
        Some((host, port, "")) => format!("{host} port {port}"),
        Some((host, port, subset)) => format!("{host} port {port}, subset {subset}"),
        None => spec.name.to_string(),
    };
    let share = match target.share.as_str() {
        "100%" => String::new(),
        share => format!("{share} to "),
    };
    let endpoints = |reason: &&Reason| reason.what == "endpoints";
    let object = spec.reasons.0.iter().find(endpoints);
    let object = object.map(|reason| reason.object.as_ref());
    Step::new("destination", format!("{share}{name}")).by(object, Some(&spec.place))
}

/// Host, port and subset of `outbound|PORT|SUBSET|HOST`.
fn cluster(name: &str) -> Option<(&str, &str, &str)> {
    let mut parts = name.strip_prefix("outbound|")?.splitn(3, '|');
    let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
    Some((host, port, subset))
}

/// A decision of ours, with the document that is behind it.
fn step(spec: &UpstreamSpec, what: &'static str, how: String) -> Step {
    let reasons = &spec.reasons.0;
    let Some(reason) = reasons.iter().find(|reason| reason.what == what) else {
        // A native document says everything at one place; elsewhere nobody said it.
        let place = reasons.is_empty().then_some(&spec.place);
        return Step::new(what, how).by(None, place);
    };
    // Who asked for the mode is not in the policy: `ISTIO_MUTUAL, by automatic mutual TLS`.
    let how = match (what, reason.how.split_once(", ")) {
        ("tls", Some((_, why))) => format!("{how}, {why}"),
        ("tls", None) if spec.tls == TlsPolicy::Disable => format!("{}: {how}", reason.how),
        _ => how,
    };
    Step::new(what, how).by(Some(&reason.object), reason.place.as_ref())
}

/// A decision that only documents know of.
fn given(reason: &Reason) -> Step {
    Step::new(reason.what, reason.how.clone()).by(Some(&reason.object), reason.place.as_ref())
}

fn endpoints(spec: &UpstreamSpec, target: &Target<'_>) -> String {
    let port = |port: Option<u16>| port.map_or(String::new(), |port| format!(", but port {port}"));
    match spec.resolution {
        Resolution::Static => format!("{} (STATIC)", listed(&spec.endpoints)),
        Resolution::Dns => format!("{} (DNS)", listed(&spec.endpoints)),
        Resolution::DnsOne => format!("{} (DNS, one address at a time)", listed(&spec.endpoints)),
        Resolution::OriginalDst { port: other } => {
            format!("{}{} (NONE)", target.meant, port(other))
        }
        Resolution::RequestHost { port: other } => {
            let host = target
                .host
                .map_or("the server name".to_owned(), str::to_owned);
            format!("{host}, looked up{} (DYNAMIC_DNS)", port(other))
        }
    }
}

fn listed(endpoints: &[EndpointSpec]) -> String {
    let weighted = endpoints.iter().any(|endpoint| endpoint.weight != 1);
    let one = |endpoint: &EndpointSpec| {
        let mut text = match endpoint.host.ip() {
            Some(IpAddr::V6(ip)) => format!("[{ip}]:{}", endpoint.port),
            _ => format!("{}:{}", endpoint.host, endpoint.port),
        };
        if weighted {
            text.push_str(&format!(" weight {}", endpoint.weight));
        }
        if endpoint.plaintext {
            text.push_str(" in plaintext");
        }
        text
    };
    let mut text = endpoints
        .iter()
        .take(MOST_LISTED)
        .map(one)
        .collect::<Vec<_>>()
        .join(", ");
    match endpoints.len() {
        0 => text.push_str("none"),
        n if n > MOST_LISTED => text.push_str(&format!(" and {} more", n - MOST_LISTED)),
        _ => {}
    }
    text
}

/// What is not as it is by default.
fn connection(spec: &UpstreamSpec) -> Option<Step> {
    let default = UpstreamSpec::new("");
    let mut parts = Vec::new();
    if spec.connect_timeout != default.connect_timeout {
        parts.push(format!(
            "connected within {}",
            words::duration(spec.connect_timeout)
        ));
    }
    // Among one endpoint there is no choice.
    let several = spec.endpoints.len() > 1 || spec.endpoints.iter().any(|e| e.host.ip().is_none());
    if spec.balance != default.balance && several {
        parts.push(match spec.balance {
            Balance::RoundRobin => "addresses in turn".to_owned(),
            Balance::LeastRequest => "the less busy of two addresses".to_owned(),
            Balance::Random => "addresses by chance".to_owned(),
        });
    }
    let most = spec.pool.max_connections;
    if most != default.pool.max_connections && most < usize::MAX {
        parts.push(format!("at most {most} connections"));
    }
    (!parts.is_empty()).then(|| Step::new("connection", parts.join(", ")))
}

/// Addresses as a running proxy knows them now.
fn resolved(endpoints: &[EndpointStatus]) -> Option<Step> {
    let one = |endpoint: &EndpointStatus| match endpoint.ejected_for {
        Some(left) => format!("{} shunned for {} s more", endpoint.address, left.as_secs()),
        None => endpoint.address.to_string(),
    };
    let is_name =
        |name: &str| name.parse::<IpAddr>().is_err() && name.parse::<SocketAddr>().is_err();
    let named = endpoints.iter().any(|e| is_name(&e.name));
    let shunned = endpoints.iter().any(|e| e.ejected_for.is_some());
    let all: Vec<String> = endpoints.iter().take(MOST_LISTED).map(one).collect();
    ((named || shunned) && !all.is_empty()).then(|| Step::new("addresses", all.join(", ")))
}

/// Whose certificate is shown, and until when.
fn shown(upstream: &Upstream) -> Option<Step> {
    let UpstreamTls::Tls(client) = upstream.tls() else {
        return None;
    };
    let leaf = &client.credential().identity.as_ref()?.leaf;
    let words = format!(
        "{}, serial {}, until {}",
        leaf.called(),
        leaf.serial,
        rfc3339_seconds(leaf.not_after)
    );
    Some(Step::new("certificate", words))
}

fn outcome(
    spec: &UpstreamSpec,
    built: Option<&Upstream>,
    target: &Target<'_>,
    known: &Known<'_>,
) -> Outcome {
    let word = match (target.bytes, &spec.tls) {
        (Bytes::Http, _) => security::word(spec).to_owned(),
        (_, TlsPolicy::Disable) => "bytes as they come".to_owned(),
        (_, TlsPolicy::Tls(_)) => format!("bytes in {}", security::word(spec)),
    };
    if target.bytes == Bytes::Tls
        && let Some((flag, words)) = built.and_then(proxy::tls_in_tls)
    {
        return Outcome::closed(&flag, words);
    }
    let to = match spec.resolution {
        Resolution::OriginalDst { .. } | Resolution::RequestHost { .. } => endpoints(spec, target),
        Resolution::Static | Resolution::Dns | Resolution::DnsOne => listed(&spec.endpoints),
    };
    let mut words = match spec.endpoints.len() {
        0 | 1 => format!("{word} to {to}"),
        _ => format!("{word} to one of {to}"),
    };
    if let Some(UpstreamTls::Unavailable(reason)) = built.map(Upstream::tls) {
        if !known.files_are_elsewhere || matches!(spec.tls, TlsPolicy::Disable) {
            return Outcome::failed(503, "UH", reason.clone());
        }
        words.push_str(&format!("; not from this machine, though: {reason}"));
    }
    Outcome::served(words)
}
