//! sortie's own documents to a configuration.
//!
//! Owns: the top level of the format, and the order in which its parts are lowered.
//! Never: opens a file.
//! Called by: load, schema.

use crate::model::Config;

use super::cursor::{At, Source};
use super::diagnostic::{Code, Diagnostics};
use super::listeners::{LISTENER, Listeners};
use super::routes::{ROUTE, Routes};
use super::settings::{LIMITS, ROTATION, Settings, UNKNOWN_HOSTS};
use super::shape::{Field, Shape, Table};
use super::upstreams::{UPSTREAM, Upstreams};
use super::validate;
use super::yaml::Node;

/// A whole document.
pub static DOCUMENT: Table = Table::new(
    "document",
    "Configuration of sortie: plain HTTP in, mutual TLS out.",
    &[
        Field::optional(
            "listeners",
            "Addresses on which applications connect; flags add to them.",
            Shape::List(&Shape::Object(&LISTENER)),
        ),
        Field::optional(
            "upstreams",
            "The named destinations.",
            Shape::List(&Shape::Object(&UPSTREAM)),
        ),
        Field::optional(
            "routes",
            "Which host goes where.",
            Shape::List(&Shape::Object(&ROUTE)),
        ),
        Field::optional(
            "unknownHosts",
            "What becomes of a host that no route names.",
            UNKNOWN_HOSTS,
        )
        .default("refuse"),
        Field::optional(
            "rotation",
            "Certificate rotation.",
            Shape::Object(&ROTATION),
        ),
        Field::optional("limits", "Bounds on clients.", Shape::Object(&LIMITS)),
    ],
);

static DOCUMENT_SHAPE: Shape = Shape::Object(&DOCUMENT);

/// One document and its file.
pub struct Document {
    /// The file.
    pub source: Source,
    /// The tree.
    pub root: Node,
}

/// All documents as one configuration. It is of use only where `out` has no error afterwards.
pub fn lower(documents: &[Document], out: &mut Diagnostics) -> Config {
    let (mut listeners, mut settings) = (Listeners::default(), Settings::default());
    let (mut upstreams, mut routes) = (Upstreams::default(), Routes::default());
    let roots = || documents.iter().map(|d| At::root(&d.source, &d.root));
    for root in roots() {
        validate::check(&root, &DOCUMENT_SHAPE, out);
        settings.lower(&root, out);
        each(&root, "listeners", |at| listeners.lower(at, out));
        each(&root, "upstreams", |at| upstreams.lower(at, out));
    }
    // Only now are all names known.
    for root in roots() {
        each(&root, "routes", |at| routes.lower(at, &mut upstreams, out));
    }
    if !out.has_errors() {
        for root in roots() {
            each(&root, "upstreams", |at| upstreams.unused(at, out));
        }
        if let (Some(root), true) = (roots().next(), routes.list.is_empty()) {
            let problem = "there is no route, so that every host is unknown".to_owned();
            let advice = "write routes: [{host: NAME, upstream: NAME}]";
            root.report(out, Code::NoRoutes, problem, advice);
        }
    }
    Config {
        listeners: listeners.list,
        upstreams: upstreams.list,
        hosts: routes.list,
        unknown_hosts: settings.unknown_hosts,
        rotation: settings.rotation,
        limits: settings.limits,
    }
}

fn each(root: &At<'_>, section: &str, mut lower: impl FnMut(&At<'_>)) {
    if let Some(list) = root.key(section) {
        for at in list.items() {
            lower(&at);
        }
    }
}
