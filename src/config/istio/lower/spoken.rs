//! What is spoken to one port and subset: as a rule says, or as automatic mutual TLS infers.
//!
//! Owns: what is said of it, once for each place, and what becomes of it without an identity (T16).
//! Never: makes the TLS settings themselves (that is `client_tls`).
//! Called by: clusters.

use std::collections::HashSet;
use std::sync::Arc;

use super::auto_mtls::Servers;
use super::client_tls::{Context, Decided};
use super::credential::NO_IDENTITY;
use super::dangling::{self, Failed};
use super::registry::{Endpoint, Known};
use super::report;
use super::traffic::Said;
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::config::istio::destination_rule::TlsSettings;
use crate::config::istio::service_entry::ServicePort;
use crate::model::{Place, UpstreamSpec};

/// One port and subset of a service, with its endpoints.
pub struct Serving<'a> {
    pub known: &'a Known,
    /// Where the port stands among the service's.
    pub at: usize,
    pub port: &'a ServicePort,
    pub subset: &'a str,
    pub endpoints: &'a [&'a Endpoint],
}

/// What was said once, and is not said again of the same place.
#[derive(Default)]
pub struct Once(HashSet<(Code, Place)>);

impl Once {
    /// Says it, the first time.
    pub fn say(&mut self, finding: Diagnostic, out: &mut Diagnostics) {
        let place = Place {
            file: Arc::clone(&finding.file),
            line: finding.line,
        };
        if self.0.insert((finding.code, place)) {
            out.push(finding);
        }
    }
}
/// TLS as a DestinationRule asks for it, and what there is to say of it.
pub fn explicit(
    context: &Context<'_>,
    said: Said<'_, TlsSettings>,
) -> (Result<Decided, String>, Vec<Diagnostic>) {
    let object = said.rule.meta.object();
    let place = &said.value.place;
    let mut findings = Vec::new();
    if let Some(secret) = context.credentials.missing(said.value) {
        findings.push(dangling::missing_secret(&secret, &object, place));
    }
    let decided = context.explicit(said);
    match &decided {
        Ok(decided) => findings.extend(decided.findings.iter().map(|finding| {
            let (code, place, problem, advice) = finding;
            report::at(&object, place, *code, problem.clone(), advice.as_str())
        })),
        Err(reason) => {
            let identity = reason == NO_IDENTITY;
            findings.push(dangling::unusable(reason, identity, &object, place));
        }
    }
    let decided = decided.map_err(|reason| format!("{place}: {object}: {reason}"));
    (decided, findings)
}

/// T13, P4: what is inferred where no DestinationRule says anything of TLS.
pub fn automatic(
    servers: &Servers<'_>,
    context: &Context<'_>,
    serving: &Serving<'_>,
    spec: &mut UpstreamSpec,
    said: &mut Once,
    out: &mut Diagnostics,
) -> Result<Option<Decided>, Failed> {
    let known = context.known;
    if !context.mesh.auto_mtls {
        return Ok(None);
    }
    let Some(inferred) = servers.infer(known, serving.at, serving.port, serving.endpoints) else {
        return Ok(None);
    };
    let why = "its workloads have sidecars, and automatic mutual TLS speaks TLS to them";
    let host = &known.host;
    let code = Code::NoMeshIdentity;
    match context.automatic(inferred.by) {
        Ok(decided) => {
            for (endpoint, plaintext) in spec.endpoints.iter_mut().zip(inferred.plaintext) {
                endpoint.plaintext = plaintext;
            }
            Ok(Some(decided))
        }
        Err(reason) if context.options.lenient && !inferred.strict && reason == NO_IDENTITY => {
            let problem = format!("{host}: {why}, but {NO_IDENTITY}");
            let advice = "until then plaintext is sent: its servers permit it, and --lenient \
                          allows it";
            let finding = report::at(&known.object, &known.place, code, problem, advice);
            said.say(finding, out);
            Ok(None)
        }
        Err(reason) => {
            let problem = format!("{host}: {why}, but {reason}");
            let advice = "or write a DestinationRule with \"tls: {mode: DISABLE}\" if plaintext is \
                          meant; until then requests fail";
            let finding = report::at(&known.object, &known.place, code, problem.clone(), advice);
            said.say(finding, out);
            Err(Failed::unhealthy(problem))
        }
    }
}
