//! A gateway: what its configuration asks of the cluster, and then its documents.
//!
//! Owns: ports and Secrets as the configuration names them, the bound of a ConfigMap.
//! Never: reads a file.
//! Called by: cli.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::gateway_documents::Gateway;
use super::gateway_settings::{Clients, GatewaySettings};
use super::ports::{self, Port};
use super::yaml;
use crate::config::{Inspected, LoadOptions};
use crate::model::{
    CaSource, Config, CrlSource, IdentitySource, MeshIdentity, ProxyFacts, Role, SecretRef,
};

/// Bytes of all keys and values of a ConfigMap (Kubernetes' `MaxSecretSize`).
pub const MOST: usize = 1 << 20;
/// Where things are in the container.
pub(super) const CONFIG: &str = "/etc/sortie/config";
pub(super) const CREDENTIALS: &str = "/etc/sortie/credentials";
pub(super) const IDENTITY: &str = "/etc/sortie/identity";

/// A file of the configuration.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// Its name without folders.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// What the cluster must give a gateway.
#[derive(Debug, Default)]
pub struct Needs {
    ports: Vec<Port>,
    credentials: Vec<String>,
    /// For the person who installs it, in words: files and Secrets that it will lack.
    pub warnings: Vec<String>,
}

/// How the configuration will be read in the pod.
pub fn load_options(namespace: &str, settings: &GatewaySettings) -> LoadOptions {
    let default = ProxyFacts::default();
    let mut labels = settings.labels.clone();
    labels.insert("istio".to_owned(), settings.istio.clone());
    let file = |name: &str| Path::new(IDENTITY).join(name);
    let trust_domain = settings.trust_domain.as_deref().map(Arc::from);
    LoadOptions {
        facts: Arc::new(ProxyFacts {
            role: Role::Gateway,
            namespace: namespace.into(),
            labels,
            service_account: Some(settings.workload.name.as_str().into()),
            trust_domain: trust_domain.unwrap_or(default.trust_domain),
            identity: settings.identity.as_ref().map(|_| MeshIdentity {
                certificate: file("cert-chain.pem"),
                key: file("key.pem"),
                ca: file("root-cert.pem"),
            }),
            credentials: [PathBuf::from(CREDENTIALS)].into(),
            ..ProxyFacts::default()
        }),
        mesh_listeners: !settings.listen.is_empty(),
        ..LoadOptions::default()
    }
}

/// What the cluster must give a gateway of these settings. `inspected`: its configuration, read
/// with [`load_options`]; `None` where it is in a ConfigMap that exists.
///
/// # Errors
/// Every reason, in words, why it could not work: no port, ports that conflict, keys in the open.
pub fn needs(
    namespace: &str,
    settings: &GatewaySettings,
    files: &[ConfigFile],
    inspected: Option<&Inspected>,
) -> Result<Needs, Vec<String>> {
    let mut problems = Vec::new();
    let mut found = Needs::default();
    if let Some(inspected) = inspected {
        problems.extend(not_for_a_config_map(files, inspected));
        found.ports = ports::of(&inspected.config);
        found.secrets(namespace, settings, &inspected.config);
        found.files(settings, &inspected.config);
    }
    if let Some(ports) = &settings.ports {
        found.ports = by_hand(ports, &found.ports);
    }
    if let Some(credentials) = &settings.credentials {
        found.credentials.clone_from(credentials);
    }
    found.ports.extend(settings.listen.iter().cloned());
    problems.extend(ports::conflicts(&found.ports));
    if settings.clients == Clients::Auto && settings.service_type == "ClusterIP" {
        found.warn(format!(
            "only pods of namespace {namespace} may call it: whoever may, acts with its \
             certificates; let others in with --set networkPolicy.clients=cluster, or labels of \
             namespaces"
        ));
    }
    if found.ports.is_empty() {
        problems.push(no_port(settings, inspected));
    }
    match problems.is_empty() {
        true => Ok(found),
        false => Err(problems),
    }
}

/// Every document, as YAML.
pub fn gateway(
    namespace: &str,
    settings: &GatewaySettings,
    files: &[ConfigFile],
    needs: &Needs,
) -> String {
    let gateway = Gateway {
        namespace,
        settings,
        files,
        ports: &needs.ports,
        credentials: &needs.credentials,
    };
    yaml::documents(&gateway.documents())
}

/// Said ports are opened by whatever the configuration opens them with.
fn by_hand(said: &[Port], found: &[Port]) -> Vec<Port> {
    let opened = |port: &Port| {
        let same = found.iter().find(|one| one.number == port.number);
        same.map_or(port.opened, |one| one.opened)
    };
    let each = said.iter().map(|port| Port {
        opened: opened(port),
        ..port.clone()
    });
    each.collect()
}

fn no_port(settings: &GatewaySettings, inspected: Option<&Inspected>) -> String {
    let none = inspected.and_then(|inspected| inspected.config.no_gateway.as_deref());
    let why = match (inspected, none) {
        (None, _) => "of a ConfigMap that exists nothing is known here".to_owned(),
        (Some(_), Some(why)) => why.to_owned(),
        (Some(_), None) => format!(
            "the configuration opens none for pods with the label istio={}",
            settings.istio
        ),
    };
    format!(
        "there is no port to serve: {why}; say --set ports=https:443, or --set listen=8080 for \
         plain HTTP"
    )
}

/// Names and sizes that a ConfigMap has no room for, and Secrets, which have no place in it.
fn not_for_a_config_map(files: &[ConfigFile], inspected: &Inspected) -> Vec<String> {
    let mut problems = Vec::new();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let ends = |name: &str| {
        [".yaml", ".yml", ".json"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let mut names = BTreeSet::new();
    for ConfigFile { name, .. } in files {
        if !name.bytes().all(plain) || name.len() > 253 || name.starts_with('.') {
            problems.push(format!(
                "{name}: a key of a ConfigMap has letters, digits, -, _ and . alone; rename it"
            ));
        }
        if !ends(name) {
            problems.push(format!("{name}: its name must end in .yaml, .yml or .json"));
        }
        if !names.insert(name) {
            problems.push(format!("{name}: two files have this name; rename one"));
        }
    }
    let size: usize = files
        .iter()
        .map(|file| file.name.len() + file.text.len())
        .sum();
    if size > MOST {
        problems.push(format!(
            "--config: {size} bytes are more than the {MOST} that a ConfigMap holds; leave out \
             what this gateway does not need, or mount it in another way"
        ));
    }
    let secrets = inspected.objects.iter().find(|(kind, _)| *kind == "Secret");
    if let Some((_, count)) = secrets {
        problems.push(format!(
            "--config: {count} documents of kind Secret would be in clear sight in a ConfigMap; \
             take them out and apply them by themselves: Secrets of the gateway's namespace that \
             credentialName names are mounted"
        ));
    }
    problems
}

impl Needs {
    /// S2: every Secret by its name; those of other namespaces cannot be mounted.
    fn secrets(&mut self, namespace: &str, settings: &GatewaySettings, config: &Config) {
        let mut all: Vec<&SecretRef> = Vec::new();
        let credentials = config.credentials();
        for one in &credentials {
            all.extend(one.spec.secrets());
        }
        let mut names = BTreeSet::new();
        for secret in all {
            let name = secret.name.to_string();
            if secret.is_config_map() || *secret.namespace != *namespace {
                self.warn(format!(
                    "{} is no Secret of namespace {namespace}, so it is not mounted; copy it \
                     there, or mount it with --set mounts=NAME:{CREDENTIALS}/{}/{name}",
                    secret.resource, secret.namespace
                ));
            } else {
                names.insert(name);
            }
        }
        if settings.credentials.is_none() {
            self.credentials = names.into_iter().collect();
        }
    }

    /// Files that the configuration names and no volume brings.
    fn files(&mut self, settings: &GatewaySettings, config: &Config) {
        let mounted = settings.mounts.iter().map(|(_, path)| path.as_str());
        let identity = settings.identity.iter().map(|_| IDENTITY);
        let folders: Vec<&str> = mounted.chain(identity).collect();
        let brought = |path: &Path| folders.iter().any(|folder| path.starts_with(folder));
        let credentials = config.credentials();
        for one in &credentials {
            let mut paths: Vec<&Path> = Vec::new();
            if let Some(IdentitySource::Files(certificate, key)) = &one.spec.identity {
                paths.extend([certificate.as_path(), key.as_path()]);
            }
            if let CaSource::File(path) = &one.spec.ca {
                paths.push(path);
            }
            if let Some(CrlSource::File(path)) = &one.spec.crl {
                paths.push(path);
            }
            for path in paths.into_iter().filter(|path| !brought(path)) {
                let folder = path.parent().unwrap_or(path).display();
                self.warn(format!(
                    "nothing in the pod is at {}; put it into a Secret and mount it: --set \
                     mounts=SECRET:{folder}",
                    path.display()
                ));
            }
        }
    }

    fn warn(&mut self, words: String) {
        if !self.warnings.contains(&words) {
            self.warnings.push(words);
        }
    }
}
