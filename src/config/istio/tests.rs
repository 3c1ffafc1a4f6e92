//! What one document alone is refused for, and what is said of it, word for word.
//!
//! Rows of a document's `spec` and of all that is said of it: `LINE:COLUMN: severity[CODE] ...`,
//! without the file and the object, which the first test looks at.

#![allow(clippy::too_many_lines, reason = "tables of rows")]

use super::manifests::{Governs, Manifests};
use super::read::read_text;
use crate::config::options::LoadOptions;
use crate::model::{HostPattern, ProxyFacts};

mod destination_rule;
mod documents;
mod fields;
mod gateway;
mod lenient;
mod said;
mod service_entry;
mod virtual_service;
mod workload;

type Rows<'a> = &'a [(&'a str, &'a [&'a str])];

fn document(kind: &str, spec: &str) -> String {
    let version = match kind {
        "PeerAuthentication" => "security.istio.io/v1",
        "Policy" => "authentication.istio.io/v1alpha1",
        "Service" => "v1",
        _ => "networking.istio.io/v1",
    };
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: n, namespace: ns}}\nspec:\n{spec}"
    )
}

fn read(kind: &str, spec: &str, options: &LoadOptions) -> (Manifests, Vec<String>) {
    let (all, said) = read_text(&document(kind, spec), options);
    let object = format!("{kind} ns/n: ");
    let short = |line: String| line.replacen("a.yaml:", "", 1).replacen(&object, "", 1);
    (all, said.into_iter().map(short).collect())
}

/// Each is refused, and is not among those that were read.
fn refuses(kind: &str, rows: Rows<'_>) {
    for (spec, expected) in rows {
        let (all, said) = read(kind, spec, &LoadOptions::default());
        assert_eq!(said, *expected, "{spec}");
        let read = all.counts().map(|(_, count)| count).sum::<usize>();
        let fatal = said.iter().any(|line| line.contains("cannot be told"));
        assert_eq!(
            (read, all.refused.len()),
            (0, usize::from(!fatal)),
            "{spec}"
        );
    }
}

/// Each is read, and what is odd about it is said.
fn keeps(kind: &str, rows: Rows<'_>) {
    for (spec, expected) in rows {
        let (all, said) = read(kind, spec, &LoadOptions::default());
        assert_eq!(said, *expected, "{spec}");
        let read = all.counts().map(|(_, count)| count).sum::<usize>();
        assert_eq!((read, all.refused.len()), (1, 0), "{spec}");
    }
}

fn lenient() -> LoadOptions {
    LoadOptions {
        lenient: true,
        ..LoadOptions::default()
    }
}
