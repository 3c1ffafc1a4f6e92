//! What is said where a piece of a cluster is not there (ISTIO.md V10, D7, IST0101).
//!
//! Owns: [`Failed`], and the words for each thing that is missing.
//! Never: keeps an upstream.
//! Called by: clusters, endpoints.

use std::sync::Arc;

use super::clusters::Referrer;
use super::policy::Merged;
use super::registry::{Known, Registry};
use super::report;
use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::istio::manifests::RefusedObject;
use crate::model::{BrokenKind, Host, HostPattern, Place};

/// Why there is no upstream, how that shows, and what is said of it.
pub struct Failed {
    pub kind: BrokenKind,
    pub reason: String,
    pub finding: Option<Box<Diagnostic>>,
}

impl Failed {
    /// 503 UH, and said elsewhere.
    pub fn unhealthy(reason: String) -> Failed {
        Failed {
            kind: BrokenKind::Unhealthy,
            reason,
            finding: None,
        }
    }

    /// 503 NC, and IST0101 at the one who refers to it.
    fn dangling(problem: String, advice: &str, referrer: &Referrer) -> Failed {
        let reason = format!("{problem} ({} at {})", referrer.object, referrer.place);
        let code = Code::ReferenceNotFound;
        let finding = report::at(&referrer.object, &referrer.place, code, problem, advice);
        Failed {
            kind: BrokenKind::NoCluster,
            reason,
            finding: Some(Box::new(finding)),
        }
    }
}

/// V10: nobody declares the host.
pub fn unknown_host(host: &str, referrer: &Referrer, registry: &Registry) -> Failed {
    if let Some(wild) = registry.find(host) {
        let problem = format!(
            "the destination {host} is declared by no document of its own; {} at {} covers it with \
             {}, which a destination does not reach",
            wild.object, wild.place, wild.host
        );
        let advice = "declare the host in a ServiceEntry, or name the wildcard itself";
        return Failed::dangling(problem, advice, referrer);
    }
    let problem = format!("the destination {host} is not a service that this proxy sees");
    let advice = "declare it in a ServiceEntry or Service, export it to this proxy's namespace, or \
                  correct the name";
    Failed::dangling(problem, advice, referrer)
}

/// V10: the service has no such port.
pub fn unknown_port(known: &Known, port: u16, referrer: &Referrer) -> Failed {
    let ports: Vec<String> = known
        .ports
        .iter()
        .map(|one| one.number.to_string())
        .collect();
    let problem = format!(
        "{} has no port {port}: {} at {} declares {}",
        known.host,
        known.object,
        known.place,
        match ports.is_empty() {
            true => "none".to_owned(),
            false => ports.join(", "),
        }
    );
    Failed::dangling(
        problem,
        "name one of its ports, or declare this one",
        referrer,
    )
}

/// D7: no rule for the host has such a subset.
pub fn unknown_subset(
    host: &HostPattern,
    merged: Option<&Merged<'_>>,
    subset: &str,
    referrer: &Referrer,
) -> Failed {
    let names = merged.into_iter().flat_map(|merged| &merged.subsets);
    let names: Vec<&str> = names.map(|(subset, _)| subset.name.as_ref()).collect();
    let whose = match merged {
        None => format!("no DestinationRule for {host} applies to this proxy"),
        Some(merged) if names.is_empty() => {
            format!("{} at {} has no subsets", merged.meta, merged.meta.place)
        }
        Some(merged) => {
            let (meta, place) = (merged.meta, &merged.meta.place);
            format!("{meta} at {place} has {}", names.join(", "))
        }
    };
    let problem = format!("{host} has no subset {subset:?}: {whose}");
    let advice = "declare the subset in a DestinationRule for this host, or correct the name";
    Failed::dangling(problem, advice, referrer)
}

/// X1: why nothing that a refused object governs is served.
pub fn turned_away(object: &RefusedObject) -> String {
    let refused = &object.refused;
    let (place, name) = (&refused.place, &refused.object);
    format!("{place}: {name} was refused: {}", refused.reason)
}

/// IST0101 for a Secret that nothing can have.
pub fn missing_secret(secret: &str, object: &Arc<str>, place: &Place) -> Diagnostic {
    let problem = format!(
        "{secret}, which credentialName names, is not among the documents, and there is no folder \
         of mounted Secrets"
    );
    let advice = "load its document too, or name the folder with --credentials; until then requests \
                  fail";
    report::at(object, place, Code::ReferenceNotFound, problem, advice)
}

/// A `tls` block that no connection can be made with.
pub fn unusable(reason: &str, identity: bool, object: &Arc<str>, place: &Place) -> Diagnostic {
    let code = match identity {
        true => Code::NoMeshIdentity,
        false => Code::ReferenceNotFound,
    };
    let advice = "until then requests fail";
    report::at(object, place, code, reason.to_owned(), advice)
}

/// A cluster-local name that no document declares.
pub fn looked_up(host: &Host, port: u16, referrer: &Referrer) -> Diagnostic {
    let problem = format!(
        "{host} is declared in no document; as it has the form of a Service's name, it is looked \
         up by DNS and dialled at port {port}"
    );
    let advice = "load the Service's document too, and its ports, labels and accounts are known";
    let code = Code::ReferenceNotFound;
    Diagnostic {
        severity: crate::config::diagnostic::Severity::Warning,
        ..report::at(&referrer.object, &referrer.place, code, problem, advice)
    }
}
