//! One document to one object of [`Manifests`], or the reasons why it is refused.
//!
//! Owns: which kind goes to which file, `List` and JSON, kinds that are ignored (K10, K11, U4).
//! Never: looks at a second object.
//! Called by: load, once for each document that has a `kind` or an `apiVersion`.

use std::sync::Arc;

use super::Manifests;
use super::kinds::{self, KindSpec, Role};
use super::manifests::RefusedObject;
use super::mesh::MeshConfig;
use super::meta::Meta;
use super::reading::{self, Reading};
use crate::config::cursor::{At, Source};
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::config::document::Document;
use crate::config::format::quote;
use crate::config::node::{Entry, Node, Scalar, Value};
use crate::config::options::LoadOptions;
use crate::model::Refused;

/// Reads `document`, after all that came before it.
pub fn read(
    document: &Document,
    options: &LoadOptions,
    manifests: &mut Manifests,
    out: &mut Diagnostics,
) {
    let mut reader = Reader {
        source: &document.source,
        options,
        manifests,
        out,
    };
    reader.document(&document.root);
}

struct Reader<'a> {
    source: &'a Source,
    options: &'a LoadOptions,
    manifests: &'a mut Manifests,
    out: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn document(&mut self, root: &Node) {
        let at = At::root(self.source, root);
        let (kind, version) = (at.text("kind"), at.text("apiVersion"));
        let (Some(kind), Some(version)) = (kind, version) else {
            return self.half_told(&at, kind, version);
        };
        let items_of = kind.strip_suffix("List");
        let listed = |of: &&str| of.is_empty() || at.has("items") && kinds::is_known(of);
        if let Some(items_of) = items_of.filter(listed) {
            return self.list(&at, items_of, version);
        }
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        match kinds::role(group, version, kind) {
            Role::Known(spec) => self.known(root, spec),
            Role::Ignored => self.manifests.ignore(kind, at.place()),
            Role::Unsupported(kind) => self.unsupported(&at, kind),
            Role::Mistyped(advice) => self.mistyped(&at, kind, &advice),
        }
    }

    /// Items of a `List`, one by one. Those of a `ServiceList` need not say that they are Services.
    fn list(&mut self, at: &At<'_>, kind: &str, version: &str) {
        let items = at.key("items");
        let Some(items) = items.filter(|items| matches!(items.node().value, Value::List(_))) else {
            let problem = "the List has no items, and what they would govern is not known";
            let advice = "write the objects as a list under items, or remove the document";
            let code = Code::SchemaError;
            let wrong = at.wrong_key("items", code, problem.to_owned(), advice);
            return self.out.push(wrong);
        };
        for item in items.items() {
            let told = kind.is_empty() || item.has("kind") || item.has("apiVersion");
            match told {
                true => self.document(item.node()),
                false => self.document(&labelled(item.node(), kind, version)),
            }
        }
    }

    /// What governs it cannot be told, and so nothing may be served.
    fn half_told(&mut self, at: &At<'_>, kind: Option<&str>, version: Option<&str>) {
        let (key, problem, advice) = match (kind, version) {
            (Some(kind), None) => (
                "apiVersion",
                format!("the document of kind {} has no apiVersion", quote(kind)),
                "write apiVersion: networking.istio.io/v1, or whichever it is",
            ),
            (None, Some(version)) => (
                "kind",
                format!(
                    "the document with apiVersion {} has no kind",
                    quote(version)
                ),
                "write kind: VirtualService, or whichever it is",
            ),
            _ => (
                "kind",
                "the document has neither kind nor apiVersion as text".to_owned(),
                "write both, or leave both out in a document of sortie's own",
            ),
        };
        self.out
            .push(at.wrong_key(key, Code::SchemaError, problem, advice));
    }

    /// A kind that is refused as a whole (U3).
    fn unsupported(&mut self, at: &At<'_>, kind: &'static str) {
        let meta = reading::meta(at, kind, true, self.manifests.next(), self.options);
        let mut r = Reading::new(&meta, self.options, self.out);
        let version = at.text("apiVersion").unwrap_or_default();
        let problem = format!(
            "sortie does not support {kind} of {version}, and what is left without it is not what \
             was meant"
        );
        let advice = "remove it, or run with --lenient to have it ignored";
        r.strict(at.wrong_key("kind", Code::Unsupported, problem, advice));
        let refused = r.into_refused();
        self.refuse(at, meta, refused);
    }

    /// Probably a kind that is read, whose loss would go unnoticed: what it governs is not known.
    fn mistyped(&mut self, at: &At<'_>, kind: &str, advice: &str) {
        let version = at.text("apiVersion").unwrap_or_default();
        let problem = format!("there is no kind {} in {}", quote(kind), quote(version));
        self.out
            .push(at.wrong_key("kind", Code::SchemaError, problem, advice));
    }

    fn known(&mut self, root: &Node, spec: &'static KindSpec) {
        let root = reading::normalised(with_spec(root), spec.table);
        let at = At::root(self.source, &root);
        let order = self.manifests.next();
        let meta = reading::meta(&at, spec.kind, spec.namespaced, order, self.options);
        let mut r = Reading::new(&meta, self.options, self.out);
        reading::check(&at, spec.table, &mut r);
        reading::check_meta(&at, &mut r);
        once(&at, &meta, &mut r, self.manifests);
        object(&at, &meta, &mut r, self.manifests);
        if spec.kind == "ConfigMap" && is_of_mesh(&meta, self.options) {
            let mesh = reading::mesh_of_config_map(&root, self.source, &mut r);
            set_mesh(&mut self.manifests.mesh, mesh, &r);
        }
        let refused = r.into_refused();
        self.refuse(&at, meta, refused);
    }

    fn refuse(&mut self, at: &At<'_>, meta: Meta, refused: Option<Refused>) {
        let Some(refused) = refused else { return };
        match reading::governs(at, &meta, self.options) {
            Some(governs) => self.manifests.refused.push(RefusedObject {
                inbound: reading::governs_inbound(at, &meta, self.options),
                addresses: reading::claimed_addresses(at, &meta),
                ports: reading::claimed_ports(at, &meta),
                on_gateways: reading::on_gateways(at, &meta, self.options),
                meta,
                refused,
                governs,
            }),
            None => self.out.push(unknown_hosts(at, &meta)),
        }
    }
}

/// Two objects of one name are one object to Istio, and which of them it is cannot be told.
fn once(at: &At<'_>, meta: &Meta, r: &mut Reading<'_>, all: &mut Manifests) {
    let object = Arc::clone(&r.object);
    match all.seen.get(&object) {
        Some(first) => {
            let problem = format!("the object stands twice; the first is at {first}");
            let advice = "keep one of the two, or give them different names";
            r.strict(at.wrong(Code::Twice, problem, advice));
        }
        None => {
            all.seen.insert(object, meta.place.clone());
        }
    }
}

/// What was understood of an object goes to its list, unless it is refused.
fn object(at: &At<'_>, meta: &Meta, r: &mut Reading<'_>, all: &mut Manifests) {
    let meta = meta.clone();
    match meta.kind {
        "ServiceEntry" => keep(
            &mut all.service_entries,
            reading::service_entry(at, meta, r),
            r,
        ),
        "VirtualService" => {
            keep(
                &mut all.virtual_services,
                reading::virtual_service(at, meta, r),
                r,
            );
        }
        "DestinationRule" => {
            keep(
                &mut all.destination_rules,
                reading::destination_rule(at, meta, r),
                r,
            );
        }
        "WorkloadEntry" => keep(
            &mut all.workload_entries,
            reading::workload_entry(at, meta, r),
            r,
        ),
        // Kept, and empty, where it is refused: S3 and S4 must not look elsewhere.
        "Secret" => {
            let secret = reading::secret(at, meta, r);
            all.secrets.push(secret);
        }
        "ConfigMap" => {
            let map = reading::config_map(at, meta, r);
            all.config_maps.push(map);
        }
        "Service" => keep(&mut all.services, reading::service(at, meta, r), r),
        "Endpoints" => keep(&mut all.endpoints, reading::endpoints(at, &meta, r), r),
        "EndpointSlice" => keep(&mut all.endpoints, reading::slice(at, meta, r), r),
        "Namespace" => keep(&mut all.namespaces, [meta], r),
        "ServiceAccount" => keep(&mut all.service_accounts, [meta], r),
        "Gateway" => keep(&mut all.gateways, reading::gateway(at, meta, r), r),
        "Sidecar" => keep(&mut all.sidecars, reading::sidecar(at, meta, r), r),
        "PeerAuthentication" => {
            keep(
                &mut all.peer_authentications,
                reading::peer_authentication(at, meta, r),
                r,
            );
        }
        "Policy" | "MeshPolicy" => {
            keep(
                &mut all.legacy_policies,
                reading::legacy_policy(at, meta, r),
                r,
            );
        }
        "Pod" => keep(&mut all.pods, reading::pod(at, meta, r), r),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => {
            keep(&mut all.pods, reading::template(at, meta), r);
        }
        "IstioOperator" => set_mesh(&mut all.mesh, reading::mesh_of_operator(at), r),
        _ => {}
    }
}

/// K7: the ConfigMap `istio` of the root namespace.
fn is_of_mesh(meta: &Meta, options: &LoadOptions) -> bool {
    let facts = &options.facts;
    let ours =
        meta.namespace == facts.root_namespace || &meta.namespace == facts.default_namespace();
    meta.name.as_ref() == "istio" && ours
}

/// The last one counts.
fn set_mesh(mesh: &mut Option<MeshConfig>, found: Option<MeshConfig>, r: &Reading<'_>) {
    if r.refused().is_none() && found.is_some() {
        *mesh = found;
    }
}

fn keep<T>(list: &mut Vec<T>, objects: impl IntoIterator<Item = T>, r: &Reading<'_>) {
    if r.refused().is_none() {
        list.extend(objects);
    }
}

/// A `spec` that is left out, or has no value, is an empty one.
fn with_spec(root: &Node) -> Node {
    let mut root = root.clone();
    let empty = |at| Node {
        at,
        value: Value::Map(Vec::new()),
    };
    let at = root.at;
    if let Value::Map(entries) = &mut root.value {
        match entries
            .iter_mut()
            .find(|entry| entry.key.as_ref() == "spec")
        {
            Some(entry) if entry.value.is_null() => entry.value = empty(entry.key_at),
            Some(_) => {}
            None => entries.push(Entry {
                key: "spec".into(),
                key_at: at,
                value: empty(at),
            }),
        }
    }
    root
}

/// The node as a document of this kind.
fn labelled(node: &Node, kind: &str, version: &str) -> Node {
    let mut node = node.clone();
    let at = node.at;
    let entry = |key: &str, text: &str| Entry {
        key: key.into(),
        key_at: at,
        value: Node {
            at,
            value: Value::Scalar(Scalar {
                text: text.into(),
                plain: false,
            }),
        },
    };
    if let Value::Map(entries) = &mut node.value {
        entries.push(entry("kind", kind));
        entries.push(entry("apiVersion", version));
    }
    node
}

fn unknown_hosts(at: &At<'_>, meta: &Meta) -> Diagnostic {
    let problem = format!("{meta} is refused, and which hosts it governs cannot be told");
    let advice = "correct it, or remove the document";
    at.wrong(Code::SchemaError, problem, advice)
}

/// What one file of these documents says, and what is wrong with it, a line each.
#[cfg(test)]
pub fn read_text(text: &str, options: &LoadOptions) -> (Manifests, Vec<String>) {
    let parsed = crate::config::yaml::parse(text);
    assert_eq!(parsed.mistakes, [], "{text}");
    let (mut manifests, mut out) = (Manifests::default(), Diagnostics::new());
    for root in parsed.documents {
        let source = Source {
            file: "a.yaml".into(),
            folder: std::path::PathBuf::new(),
        };
        let document = Document {
            source,
            root,
            left: Vec::new(),
        };
        read(&document, options, &mut manifests, &mut out);
    }
    manifests.report_ignored(&mut out);
    let said = out.iter().map(ToString::to_string).collect();
    (manifests, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank, namespace: shop}
spec:
  hosts: [api.bank.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8443}
  endpoints:
  - address: 10.1.1.4
";
    const RULE: &str = "
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: bank, namespace: shop}
spec:
  host: api.bank.example
  trafficPolicy:
    port_level_settings:
    - port: {number: 80}
      tls: {mode: MUTUAL, credential_name: bank, sni: api.bank.example}
";
    const SERVICE: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: bank, namespace: shop}
spec:
  hosts: [api.bank.example]
  http:
  - match: [{uri: {prefix: /v1}, headers: {x-a: {exact: b}}}]
    timeout: 1.5s
    route:
    - destination: {host: api.bank.example, port: {number: 80}, subset: v1}
";

    fn read_all(text: &str) -> Manifests {
        let (manifests, said) = read_text(text, &LoadOptions::default());
        assert_eq!(said, Vec::<String>::new(), "{text}");
        manifests
    }

    #[test]
    fn k11_a_list_without_a_list_of_items_is_refused_and_an_empty_one_is_not() {
        for text in ["item:\n- kind: Secret", "items: {kind: Secret}", "items:"] {
            let text = format!("apiVersion: v1\nkind: List\n{text}\n");
            let (_, said) = read_text(&text, &LoadOptions::default());
            assert_eq!(said.len(), 1, "{text}");
            let words = "the List has no items, and what they would govern is not known; write the";
            assert!(said[0].contains("error[IST0106]"), "{said:?}");
            assert!(said[0].contains(words), "{said:?}");
        }
        let empty = "apiVersion: v1\nkind: List\nitems: []\n";
        assert!(read_all(empty).seen.is_empty());
    }

    #[test]
    fn k1_the_three_kinds_of_a_route_are_read_in_every_version() {
        for version in ["v1alpha3", "v1beta1", "v1"] {
            let text = [ENTRY, "---", RULE, "---", SERVICE].concat();
            let text = text
                .replace("io/v1alpha3", "io/v1")
                .replace("io/v1beta1", "io/v1")
                .replace("io/v1", &format!("io/{version}"));
            let all = read_all(&text);
            assert_eq!(all.service_entries[0].endpoints.len(), 1);
            assert_eq!(all.virtual_services[0].http.len(), 1);
            let policy = all.destination_rules[0].policy.as_ref().unwrap();
            let tls = policy.ports[0].policy.tls.as_ref().unwrap();
            assert_eq!(tls.credential_name.as_ref().unwrap().value, "bank");
            assert_eq!(&*all.service_entries[0].meta.namespace, "shop");
        }
    }
}
