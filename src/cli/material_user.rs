//! Who uses a credential: an upstream, or an entrance; and how messages speak of them.
//!
//! Owns: [`User`].
//! Never: reads a file.
//! Called by: `cli::material`.

use std::sync::Arc;

use crate::config::{Code, Diagnostic};
use crate::model::{Config, CredentialSpec, EntranceSpec, Place, Reason, TlsPolicy, UpstreamSpec};

/// Who uses a credential.
#[derive(Clone, Copy)]
pub enum User<'a> {
    /// To show it to a server.
    Upstream(&'a UpstreamSpec),
    /// To show it to clients.
    Entrance(&'a EntranceSpec),
}

/// Everybody with each of their credentials.
pub fn users(config: &Config) -> impl Iterator<Item = (User<'_>, &CredentialSpec)> {
    let upstreams = config.upstreams.iter().filter_map(|one| match &one.tls {
        TlsPolicy::Disable => None,
        TlsPolicy::Tls(tls) => Some((User::Upstream(one), &tls.credential)),
    });
    let entrances = config.entrances.iter().flat_map(|one| {
        let all = one.tls.spec().into_iter();
        let all = all.flat_map(|tls| std::iter::once(&tls.credential).chain(&tls.more));
        all.map(move |spec| (User::Entrance(one), spec))
    });
    upstreams.chain(entrances)
}

impl<'a> User<'a> {
    /// What it cannot do without.
    pub fn until(self) -> &'static str {
        match self {
            User::Upstream(_) => "until then the upstream answers 503",
            User::Entrance(_) => "until then nobody gets in there by TLS",
        }
    }

    /// A finding about its `key`, which is `certificate`, `key`, `ca`, `crl` or nothing.
    pub fn about(self, key: &str, code: Code, problem: String, advice: String) -> Diagnostic {
        match self {
            User::Upstream(spec) => of_upstream(spec, key, code, problem, advice),
            User::Entrance(spec) => {
                let reason = decided(&spec.reasons.0, key);
                let object = spec
                    .object
                    .as_ref()
                    .or(reason.map(|(reason, _)| &reason.object));
                let place = reason.map_or(&spec.place, |(_, place)| place);
                let (field, problem) = match object {
                    Some(_) => {
                        let problem = format!("{problem}, for {}", spec.name);
                        (said_as(key, SERVER).to_owned(), problem)
                    }
                    None => (format!("entrances[\"{}\"].tls", spec.name), problem),
                };
                Diagnostic {
                    object: object.cloned(),
                    ..at(place, field, code, problem, advice)
                }
            }
        }
    }
}

fn of_upstream(
    spec: &UpstreamSpec,
    key: &str,
    code: Code,
    problem: String,
    advice: String,
) -> Diagnostic {
    let name = &spec.name;
    if let Some((reason, place)) = decided(&spec.reasons.0, key) {
        let problem = format!("{problem}, for the upstream {name}");
        let field = match reason.what {
            "credential" | "ca" => said_as(key, CLIENT).to_owned(),
            _ => String::new(),
        };
        return Diagnostic {
            object: Some(Arc::clone(&reason.object)),
            ..at(place, field, code, problem, advice)
        };
    }
    let field = match key {
        "" => format!("upstreams[\"{name}\"].tls"),
        key => format!("upstreams[\"{name}\"].tls.{key}"),
    };
    at(&spec.place, field, code, problem, advice)
}

/// The object that has the word on this part of its TLS; `None` for native documents.
fn decided<'a>(reasons: &'a [Reason], key: &str) -> Option<(&'a Reason, &'a Place)> {
    let part = match key {
        "certificate" | "key" => "credential",
        "ca" | "crl" => "ca",
        _ => "tls",
    };
    let of = |what: &str| {
        let mut reasons = reasons.iter();
        reasons.find(|reason| reason.what == what && reason.place.is_some())
    };
    // A mesh identity is the command line's; then the object that asks for it has the word.
    let reason = of(part).or_else(|| of("tls")).or_else(|| of("policy"))?;
    Some((reason, reason.place.as_ref()?))
}

/// Names of certificate, key, CA and CRL.
type Names = [&'static str; 4];

/// In a DestinationRule (ISTIO.md 1.2).
const CLIENT: Names = [
    "tls.clientCertificate",
    "tls.privateKey",
    "tls.caCertificates",
    "tls.caCrl",
];
/// In a Gateway.
const SERVER: Names = [
    "tls.serverCertificate",
    "tls.privateKey",
    "tls.caCertificates",
    "tls.caCrl",
];

fn said_as(key: &str, [certificate, private, ca, crl]: Names) -> &'static str {
    match key {
        "certificate" => certificate,
        "key" => private,
        "ca" => ca,
        "crl" => crl,
        _ => "tls",
    }
}

/// A finding at a place.
pub fn at(place: &Place, field: String, code: Code, problem: String, advice: String) -> Diagnostic {
    Diagnostic {
        file: Arc::clone(&place.file),
        line: place.line,
        column: 0,
        field,
        object: None,
        code,
        severity: code.severity(),
        problem,
        advice,
    }
}
