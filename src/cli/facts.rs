//! Flags that say who this proxy is and how strictly documents are read (ISTIO.md Z1, X12).
//!
//! Owns: the flags, their `SORTIE_*` variables, label files, and where a mesh identity is looked for.
//! Never: reads a certificate.
//! Called by: every command that loads configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use crate::config::LoadOptions;
use crate::model::{MeshIdentity, NameCheck, ProxyFacts, Role, UnknownHosts};

/// Bytes of a label file: Kubernetes allows 256 KiB of annotations, and labels are fewer.
const MAX_LABEL_FILE: u64 = 1 << 20;

/// Flags on the meaning of Istio manifests.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Istio manifests")]
pub struct FactsArgs {
    /// Beside one application, or alone for many
    #[arg(
        long,
        value_name = "ROLE",
        env = "SORTIE_ROLE",
        default_value = "sidecar"
    )]
    pub role: RoleArg,
    /// Take connections for the application beside sortie, redirected to ADDR, or addressed to it
    /// in place of APP; repeatable
    #[arg(
        long,
        value_name = "ADDR[=APP]",
        env = "SORTIE_INBOUND",
        value_delimiter = ',',
        value_parser = inbound
    )]
    pub inbound: Vec<(SocketAddr, Option<SocketAddr>)>,
    /// Where Gateway servers without `bind` listen [default: every address]
    #[arg(long, value_name = "IP", env = "SORTIE_GATEWAY_BIND")]
    pub gateway_bind: Option<IpAddr>,
    /// Serve a Gateway's port NUMBER on PORT, as a Service's targetPort does; repeatable
    #[arg(
        long,
        value_name = "NUMBER=PORT",
        env = "SORTIE_GATEWAY_PORTS",
        value_delimiter = ',',
        value_parser = gateway_port
    )]
    pub gateway_port: Vec<(u16, u16)>,
    /// The proxy's namespace [default: default]
    #[arg(long, value_name = "NS", env = "SORTIE_NAMESPACE")]
    pub namespace: Option<String>,
    /// The namespace of objects that name none [default: the proxy's]
    #[arg(long, value_name = "NS", env = "SORTIE_DEFAULT_NAMESPACE")]
    pub default_namespace: Option<String>,
    /// Labels of the proxy's pod: k=v,k=v
    #[arg(long, value_name = "K=V", env = "SORTIE_LABELS", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// The same as a downward-API file: lines of key="value"
    #[arg(long, value_name = "FILE", env = "SORTIE_LABELS_FILE")]
    pub labels_file: Option<PathBuf>,
    /// The proxy's service account
    #[arg(long, value_name = "NAME", env = "SORTIE_SERVICE_ACCOUNT")]
    pub service_account: Option<String>,
    /// The trust domain of mesh identities [default: cluster.local]
    #[arg(long, value_name = "DOMAIN", env = "SORTIE_TRUST_DOMAIN")]
    pub trust_domain: Option<String>,
    /// Where mesh-wide objects live [default: istio-system]
    #[arg(long, value_name = "NS", env = "SORTIE_ROOT_NAMESPACE")]
    pub root_namespace: Option<String>,
    /// What cluster-local names end in [default: cluster.local]
    #[arg(long, value_name = "DOMAIN", env = "SORTIE_CLUSTER_DOMAIN")]
    pub cluster_domain: Option<String>,
    /// Mounted Secrets, DIR/[NAMESPACE/]NAME/KEY, for credentialName; repeatable
    #[arg(
        long,
        value_name = "DIR",
        env = "SORTIE_CREDENTIALS",
        value_delimiter = ','
    )]
    pub credentials: Vec<PathBuf>,
    /// The mesh identity for ISTIO_MUTUAL: cert-chain.pem, key.pem, root-cert.pem in DIR, or a
    /// mounted TLS Secret such as cert-manager's: tls.crt, tls.key, ca.crt
    /// [default: where Istio puts it, if it is there]
    #[arg(long, value_name = "DIR", env = "SORTIE_IDENTITY")]
    pub identity: Option<PathBuf>,
    /// What answers of inbound and gateway listeners say for Server; empty: what the upstream says
    /// [default: istio-envoy]
    #[arg(long, value_name = "TEXT", env = "SORTIE_SERVER_HEADER", value_parser = server_header)]
    pub server_header: Option<String>,
    /// Unknown and unsupported fields are warnings where Istio would ignore them
    #[arg(long, env = "SORTIE_LENIENT")]
    pub lenient: bool,
    /// What a server certificate with another name means, everywhere [default: enforce for native
    /// documents, warn where Istio checks no name]
    #[arg(long, value_name = "HOW", env = "SORTIE_NAME_CHECK")]
    pub name_check: Option<Check>,
    /// What becomes of unknown destinations, whatever the documents say
    #[arg(long, value_name = "POLICY", env = "SORTIE_OUTBOUND_POLICY")]
    pub outbound_policy: Option<Policy>,
    /// Applications may speak TLS through a port where sortie adds TLS
    #[arg(long, env = "SORTIE_ALLOW_TLS_IN_TLS")]
    pub allow_tls_in_tls: bool,
}

/// The values of `--role` (ISTIO.md X13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Beside one application.
    #[default]
    Sidecar,
    /// Alone: nothing is captured, and the mesh identity is a gateway's.
    Gateway,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Sidecar => Role::Sidecar,
            RoleArg::Gateway => Role::Gateway,
        }
    }
}

fn inbound(text: &str) -> Result<(SocketAddr, Option<SocketAddr>), String> {
    let address = |text: &str| {
        let parsed = text.parse::<SocketAddr>();
        parsed.map_err(|_| format!("\"{text}\" is no address with a port, such as 127.0.0.1:8080"))
    };
    match text.split_once('=') {
        Some((at, to)) => Ok((address(at)?, Some(address(to)?))),
        None => Ok((address(text)?, None)),
    }
}

fn server_header(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match plain && text.len() <= 256 {
        true => Ok(text.to_owned()),
        false => Err("a header has at most 256 printable ASCII characters here".to_owned()),
    }
}

fn gateway_port(text: &str) -> Result<(u16, u16), String> {
    let pair = text.split_once('=').and_then(|(number, port)| {
        let number = number.parse().ok().filter(|number| *number > 0)?;
        Some((number, port.parse().ok()?))
    });
    pair.ok_or_else(|| format!("\"{text}\" is not NUMBER=PORT, such as 443=8443"))
}

/// The values of `--name-check` (ISTIO.md T7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// As Istio: not looked at where it does not look.
    Istio,
    /// As Istio, logged and counted.
    Warn,
    /// The handshake fails.
    Enforce,
}

/// The values of `--outbound-policy` (ISTIO.md X15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Answer 502, or close.
    RegistryOnly,
    /// Forward in plaintext to where the client meant to go.
    AllowAny,
}

impl From<Policy> for UnknownHosts {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::RegistryOnly => UnknownHosts::Refuse,
            Policy::AllowAny => UnknownHosts::PassThrough,
        }
    }
}

impl FactsArgs {
    /// What the flags say, label files read and the mesh identity looked for.
    ///
    /// # Errors
    /// In words: the flag, what came and what was expected.
    pub fn options(&self) -> Result<LoadOptions, String> {
        let facts = self.facts()?;
        Ok(LoadOptions {
            facts: Arc::new(facts),
            lenient: self.lenient,
            name_check: self.name_check.map(|check| match check {
                Check::Istio => NameCheck::Off,
                Check::Warn => NameCheck::Warn,
                Check::Enforce => NameCheck::Enforce,
            }),
            unknown_hosts: self.outbound_policy.map(UnknownHosts::from),
            mesh_listeners: false,
            inbound: self.inbound.clone(),
            server_header: self.server_header.as_deref().map(Arc::from),
            gateway_bind: self.gateway_bind,
            gateway_ports: self.gateway_port.iter().copied().collect(),
            allow_tls_in_tls: self.allow_tls_in_tls,
        })
    }

    fn facts(&self) -> Result<ProxyFacts, String> {
        let default = ProxyFacts::default();
        let label =
            |flag, text: &Option<String>| text.as_deref().map(|t| namespace(flag, t)).transpose();
        let mut labels = match &self.labels_file {
            Some(file) => read_labels(file)?,
            None => BTreeMap::new(),
        };
        for text in &self.labels {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| format!("--labels: \"{text}\" is not key=value"))?;
            labels.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        let text = |given: &Option<String>, otherwise: Arc<str>| {
            given.as_deref().map_or(otherwise, Arc::from)
        };
        Ok(ProxyFacts {
            role: self.role.into(),
            namespace: label("--namespace", &self.namespace)?.unwrap_or(default.namespace),
            default_namespace: label("--default-namespace", &self.default_namespace)?,
            labels,
            service_account: self.service_account.as_deref().map(Arc::from),
            trust_domain: text(&self.trust_domain, default.trust_domain),
            root_namespace: label("--root-namespace", &self.root_namespace)?
                .unwrap_or(default.root_namespace),
            cluster_domain: text(&self.cluster_domain, default.cluster_domain),
            identity: self.identity(),
            mounted_identity: self.identity.is_none() && mounted("CLIENT").is_some(),
            server_identity: self.server_identity(),
            credentials: self.credentials.as_slice().into(),
        })
    }

    /// ISTIO.md T14, T16: said, or found where Istio puts it.
    fn identity(&self) -> Option<MeshIdentity> {
        if let Some(folder) = &self.identity {
            let found = in_folder(folder, &[ISTIO, GKE, SECRET]);
            return Some(found.unwrap_or_else(|| named(folder, ISTIO)));
        }
        if let Some(mounted) = mounted("CLIENT") {
            return Some(mounted);
        }
        PLACES
            .iter()
            .find_map(|folder| in_folder(Path::new(folder), &[ISTIO, GKE]))
    }

    /// What inbound connections are shown, unless `--identity` says it for both sides.
    fn server_identity(&self) -> Option<MeshIdentity> {
        match self.identity {
            Some(_) => None,
            None => mounted("SERVER"),
        }
    }
}

/// T14: files that variables of this side, CLIENT or SERVER, point at.
fn mounted(side: &str) -> Option<MeshIdentity> {
    pointed_at(side, |name| std::env::var_os(name))
}

fn pointed_at(side: &str, value: impl Fn(&str) -> Option<OsString>) -> Option<MeshIdentity> {
    let variable = |what| {
        let value = value(&format!("ISTIO_META_TLS_{side}_{what}"));
        value.filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    let ca = variable("ROOT_CERT");
    Some(MeshIdentity {
        certificate: variable("CERT_CHAIN")?,
        key: variable("KEY")?,
        ca: ca.unwrap_or_else(|| PathBuf::from("/etc/certs/root-cert.pem")),
    })
}

/// Where an identity is looked for, in this order (T16).
const PLACES: [&str; 2] = ["/etc/certs", "/var/run/secrets/workload-spiffe-credentials"];
/// Chain, key, root: Istio's names, GKE's, and those of a Secret of type kubernetes.io/tls. The last
/// only in a folder that somebody names: in `/etc/certs` they are a client certificate for one host.
const ISTIO: [&str; 3] = ["cert-chain.pem", "key.pem", "root-cert.pem"];
const GKE: [&str; 3] = ["certificates.pem", "private_key.pem", "ca_certificates.pem"];
const SECRET: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

fn in_folder(folder: &Path, names: &[[&str; 3]]) -> Option<MeshIdentity> {
    let mut all = names.iter().map(|names| named(folder, *names));
    all.find(|found| found.certificate.exists() && found.key.exists())
}

fn named(folder: &Path, [certificate, key, ca]: [&str; 3]) -> MeshIdentity {
    MeshIdentity {
        certificate: folder.join(certificate),
        key: folder.join(key),
        ca: folder.join(ca),
    }
}

/// A DNS label, as every namespace is one.
fn namespace(flag: &str, text: &str) -> Result<Arc<str>, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    match (1..=63).contains(&text.len()) && text.bytes().all(plain) && edges {
        true => Ok(text.into()),
        false => Err(format!(
            "{flag}: \"{text}\" is no namespace; expected 1 to 63 of a-z, 0-9 and -"
        )),
    }
}

fn read_labels(file: &Path) -> Result<BTreeMap<String, String>, String> {
    let fail = |why: String| format!("--labels-file {}: {why}", file.display());
    let meta = std::fs::metadata(file).map_err(|error| fail(error.to_string()))?;
    if !meta.is_file() || meta.len() > MAX_LABEL_FILE {
        return Err(fail(format!(
            "expected a file of at most {MAX_LABEL_FILE} bytes"
        )));
    }
    let text = std::fs::read_to_string(file).map_err(|error| fail(error.to_string()))?;
    let mut labels = BTreeMap::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let pair = line.split_once('=').and_then(|(key, quoted)| {
            // The downward API quotes as Go does; of its escapes JSON knows those that labels need.
            let value: String = serde_json::from_str(quoted.trim()).ok()?;
            Some((key.trim().to_owned(), value))
        });
        let Some((key, value)) = pair else {
            return Err(fail(format!("line {}: expected key=\"value\"", number + 1)));
        };
        labels.insert(key, value);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z1_every_fact_has_its_default() {
        let options = FactsArgs::default().options().unwrap();
        let facts = ProxyFacts {
            identity: options.facts.identity.clone(),
            ..ProxyFacts::default()
        };
        assert_eq!(*options.facts, facts);
        assert_eq!(&**options.facts.default_namespace(), "default");
    }

    #[test]
    fn x12_a_label_file_is_read_as_the_downward_api_writes_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "app=\"curl\"\nnote=\"a\\\"b\"\n").unwrap();
        let args = FactsArgs {
            labels_file: Some(file.path().to_owned()),
            labels: vec!["app=sleep".to_owned()],
            ..FactsArgs::default()
        };
        let labels = &args.options().unwrap().facts.labels;
        assert_eq!(labels["app"], "sleep", "the flag wins");
        assert_eq!(labels["note"], "a\"b");
    }

    #[test]
    fn a_label_file_with_another_line_is_refused_with_its_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "app=\"curl\"\napp: curl\n").unwrap();
        let args = FactsArgs {
            labels_file: Some(file.path().to_owned()),
            ..FactsArgs::default()
        };
        let error = args.options().unwrap_err();
        assert!(error.ends_with("line 2: expected key=\"value\""), "{error}");
    }

    #[test]
    fn a_namespace_that_cannot_be_one_is_refused() {
        let args = FactsArgs {
            namespace: Some("My_Namespace".to_owned()),
            ..FactsArgs::default()
        };
        let error = args.options().unwrap_err();
        assert!(
            error.starts_with("--namespace: \"My_Namespace\""),
            "{error}"
        );
    }

    #[test]
    fn t16_an_identity_is_found_under_each_set_of_names() {
        let said = |folder: &Path| {
            let args = FactsArgs {
                identity: Some(folder.to_owned()),
                ..FactsArgs::default()
            };
            args.options().unwrap().facts.identity.clone().unwrap()
        };
        for names in [ISTIO, GKE, SECRET] {
            let folder = tempfile::tempdir().unwrap();
            let yet = said(folder.path()).certificate;
            assert!(yet.ends_with("cert-chain.pem"), "it may yet come");
            for name in names {
                std::fs::write(folder.path().join(name), "").unwrap();
            }
            assert_eq!(said(folder.path()), named(folder.path(), names));
        }
    }

    #[test]
    fn t16_half_a_set_is_not_taken_and_istios_names_win() {
        let folder = tempfile::tempdir().unwrap();
        let there = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        there("tls.crt");
        let all = [ISTIO, GKE, SECRET];
        assert_eq!(in_folder(folder.path(), &all), None);
        there("tls.key");
        let secret = Some(named(folder.path(), SECRET));
        assert_eq!(in_folder(folder.path(), &all), secret);
        assert_eq!(
            in_folder(folder.path(), &[ISTIO, GKE]),
            None,
            "a host's, not the mesh's"
        );
        there("cert-chain.pem");
        there("key.pem");
        let istio = Some(named(folder.path(), ISTIO));
        assert_eq!(in_folder(folder.path(), &all), istio);
    }

    #[test]
    fn t14_variables_point_at_the_files_of_either_side() {
        let said = |name: &str| match name {
            "ISTIO_META_TLS_SERVER_CERT_CHAIN" => Some("/s/chain".into()),
            "ISTIO_META_TLS_SERVER_KEY" => Some("/s/key".into()),
            "ISTIO_META_TLS_CLIENT_CERT_CHAIN" => Some("/c/chain".into()),
            // Set, and empty: not said.
            "ISTIO_META_TLS_CLIENT_KEY" => Some(OsString::new()),
            _ => None,
        };
        let server = pointed_at("SERVER", said).unwrap();
        let files = [&server.certificate, &server.key, &server.ca];
        let expected = ["/s/chain", "/s/key", "/etc/certs/root-cert.pem"];
        assert_eq!(files, expected.map(Path::new));
        assert_eq!(pointed_at("CLIENT", said), None);
    }
}
