//! Certificates of a DestinationRule: files, `credentialName`, the mesh identity (ISTIO.md S, T9).
//!
//! Owns: the forms of `credentialName` (S1), whose namespace counts (S2), what a mode takes (S6).
//! Never: opens a file or looks into a Secret (that is `certs`).
//! Called by: client_tls, auto_mtls.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::istio::Manifests;
use crate::config::istio::destination_rule::{TlsMode, TlsSettings};
use crate::model::{
    CaSource, CredentialSpec, CrlSource, IdentitySource, MeshIdentity, ProxyFacts, SecretData,
    SecretRef,
};

/// What keeps an upstream without a mesh identity from TLS (T16).
pub const NO_IDENTITY: &str = "a mesh identity is needed, and none was given: name the folder of \
                               cert-chain.pem, key.pem and root-cert.pem with --identity";

/// The forms of `credentialName` (S1).
const FORMS: &str = "write NAME, kubernetes://NAME, kubernetes://NAMESPACE/NAME, \
                     configmap://NAMESPACE/NAME or builtin://";

/// Secrets and ConfigMaps by name.
pub struct Credentials<'a> {
    secrets: HashMap<(&'a str, &'a str), &'a Arc<SecretData>>,
    config_maps: HashMap<(&'a str, &'a str), &'a Arc<SecretData>>,
    facts: &'a ProxyFacts,
}

/// What `credentialName` means.
enum Named {
    Secret(SecretRef),
    /// A CA bundle, and nothing else.
    ConfigMap(SecretRef),
    /// The mesh identity.
    Builtin,
}

impl<'a> Credentials<'a> {
    /// Those of `manifests`; the first document of a name counts.
    pub fn new(manifests: &'a Manifests, facts: &'a ProxyFacts) -> Credentials<'a> {
        let mut secrets = HashMap::new();
        for secret in &manifests.secrets {
            let key = (secret.meta.namespace.as_ref(), secret.meta.name.as_ref());
            secrets.entry(key).or_insert(&secret.data);
        }
        let mut config_maps = HashMap::new();
        for map in &manifests.config_maps {
            let key = (map.meta.namespace.as_ref(), map.meta.name.as_ref());
            config_maps.entry(key).or_insert(&map.data);
        }
        Credentials {
            secrets,
            config_maps,
            facts,
        }
    }

    /// The mesh identity, whole (T14, T16).
    ///
    /// # Errors
    /// In words, where there is none.
    pub fn mesh(&self) -> Result<CredentialSpec, String> {
        match &self.facts.identity {
            Some(identity) => Ok(mesh(identity)),
            None => Err(NO_IDENTITY.to_owned()),
        }
    }

    /// What `tls` names, in its mode.
    ///
    /// # Errors
    /// In words, where it can never be had: the upstream fails closed with them.
    pub fn of(&self, tls: &TlsSettings) -> Result<CredentialSpec, String> {
        if tls.mode == TlsMode::IstioMutual {
            return self.mesh();
        }
        let mut spec = match &tls.credential_name {
            Some(name) => self.named(&name.value, tls.mode)?,
            None => files(tls)?,
        };
        if tls.insecure_skip_verify {
            (spec.ca, spec.crl) = (CaSource::Nothing, None);
        }
        Ok(spec)
    }

    /// Chain, key, CA and revoked clients of a Gateway's server (G5, S3, S4).
    ///
    /// # Errors
    /// In words, where it can never be had: the server fails closed with them.
    pub fn of_server(&self, name: &str) -> Result<CredentialSpec, String> {
        match self.parse(name)? {
            Named::Secret(secret) => Ok(CredentialSpec {
                identity: Some(IdentitySource::Secret(secret.clone())),
                crl: Some(CrlSource::Secret(secret.clone())),
                ca: CaSource::Secret(secret),
            }),
            Named::ConfigMap(_) => Err(format!(
                "credentialName {name:?} is a ConfigMap, which has a CA alone, and a server needs \
                 a certificate and key: name a Secret"
            )),
            Named::Builtin => self.mesh(),
        }
    }

    /// The CA that `caCertCredentialName` names, with the revoked clients beside it (S4).
    ///
    /// # Errors
    /// As [`Credentials::of_server`].
    pub fn ca_of_server(&self, name: &str) -> Result<(CaSource, Option<CrlSource>), String> {
        match self.parse(name)? {
            Named::Secret(secret) => Ok((
                CaSource::Secret(secret.clone()),
                Some(CrlSource::Secret(secret)),
            )),
            Named::ConfigMap(map) => Ok((CaSource::Secret(map), None)),
            Named::Builtin => self.mesh().map(|mesh| (mesh.ca, mesh.crl)),
        }
    }

    /// The Secret that `tls` names, where neither a document nor a folder can have it (IST0101).
    pub fn missing(&self, tls: &TlsSettings) -> Option<String> {
        self.nowhere(&tls.credential_name.as_ref()?.value)
    }

    /// The Secret that `name` means, where neither a document nor a folder can have it.
    pub fn nowhere(&self, name: &str) -> Option<String> {
        let (kind, secret) = match self.parse(name).ok()? {
            Named::Secret(secret) => ("Secret", secret),
            Named::ConfigMap(secret) => ("ConfigMap", secret),
            Named::Builtin => return None,
        };
        let documents = secret.document.is_some() || secret.ca_document.is_some();
        let nowhere = !documents && secret.folders.is_empty();
        nowhere.then(|| format!("{kind} {}/{}", secret.namespace, secret.name))
    }

    fn named(&self, text: &str, mode: TlsMode) -> Result<CredentialSpec, String> {
        let pair = mode == TlsMode::Mutual;
        match self.parse(text)? {
            Named::Secret(secret) => Ok(CredentialSpec {
                identity: pair.then(|| IdentitySource::Secret(secret.clone())),
                crl: Some(CrlSource::Secret(secret.clone())),
                ca: CaSource::Secret(secret),
            }),
            Named::ConfigMap(_) if pair => Err(format!(
                "credentialName {text:?} is a ConfigMap, which has a CA alone, and mode MUTUAL \
                 needs a certificate and key: name a Secret, or write mode SIMPLE"
            )),
            Named::ConfigMap(map) => Ok(CredentialSpec {
                identity: None,
                ca: CaSource::Secret(map),
                crl: None,
            }),
            Named::Builtin => {
                let mut mesh = self.mesh()?;
                mesh.identity = mesh.identity.filter(|_| pair);
                Ok(mesh)
            }
        }
    }

    fn parse(&self, text: &str) -> Result<Named, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("kubernetes", text),
        };
        let malformed = || format!("credentialName {text:?} cannot be read: {FORMS}");
        let (namespace, name) = match rest.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, rest),
        };
        let plain = !name.is_empty() && !name.contains(['/', ':']) && namespace != Some("");
        let named = || plain.then_some(()).ok_or_else(malformed);
        match scheme {
            "kubernetes" => {
                named()?;
                self.secret(text, namespace, name)
            }
            "kubernetes-gateway" | "configmap" if namespace.is_none() => Err(format!(
                "credentialName {text:?} has no namespace: write {scheme}://NAMESPACE/NAME"
            )),
            "kubernetes-gateway" => {
                named()?;
                self.secret(text, namespace, name)
            }
            "configmap" => {
                named()?;
                let namespace = namespace.unwrap_or_default();
                Ok(Named::ConfigMap(self.config_map(namespace, name)))
            }
            "builtin" if rest.is_empty() => Ok(Named::Builtin),
            "sds" => Err(format!(
                "credentialName {text:?} asks an external provider, which sortie does not: name a \
                 Secret, or files with clientCertificate, privateKey and caCertificates"
            )),
            "invalid" => Err(format!("credentialName {text:?} is meant to fail")),
            _ => Err(malformed()),
        }
    }

    /// S2: the proxy's own namespace, whatever that of the DestinationRule.
    fn secret(&self, text: &str, namespace: Option<&str>, name: &str) -> Result<Named, String> {
        let own = &self.facts.namespace;
        if let Some(other) = namespace.filter(|namespace| *namespace != own.as_ref()) {
            return Err(format!(
                "credentialName {text:?} is in namespace {other:?}, and a proxy reads the Secrets \
                 of its own namespace {own:?} alone: put the Secret there, or run the proxy with \
                 --namespace {other}"
            ));
        }
        let document = |name: &str| {
            let found = self.secrets.get(&(own.as_ref(), name));
            found.map(|data| Arc::clone(data))
        };
        Ok(Named::Secret(SecretRef {
            resource: format!("kubernetes://{name}").into(),
            namespace: Arc::clone(own),
            name: name.into(),
            document: document(name),
            ca_document: document(&format!("{name}-cacert")),
            folders: Arc::clone(&self.facts.credentials),
        }))
    }

    /// CA bundles are public, and so every namespace's ConfigMaps may be named.
    fn config_map(&self, namespace: &str, name: &str) -> SecretRef {
        let found = self.config_maps.get(&(namespace, name));
        SecretRef {
            resource: format!("configmap://{namespace}/{name}").into(),
            namespace: namespace.into(),
            name: name.into(),
            document: found.map(|data| Arc::clone(data)),
            ca_document: None,
            folders: Arc::clone(&self.facts.credentials),
        }
    }
}

/// The mesh identity's files, whole.
pub fn mesh(identity: &MeshIdentity) -> CredentialSpec {
    CredentialSpec {
        identity: Some(IdentitySource::Files(
            identity.certificate.clone(),
            identity.key.clone(),
        )),
        ca: CaSource::File(identity.ca.clone()),
        crl: None,
    }
}

/// T2, T9: the files that a block names.
fn files(tls: &TlsSettings) -> Result<CredentialSpec, String> {
    let identity = match (tls.mode, &tls.client_certificate, &tls.private_key) {
        (TlsMode::Mutual, Some(certificate), Some(key)) => Some(IdentitySource::Files(
            PathBuf::from(certificate),
            PathBuf::from(key),
        )),
        (TlsMode::Mutual, _, _) => {
            return Err(
                "mode MUTUAL needs clientCertificate and privateKey, or credentialName".to_owned(),
            );
        }
        (TlsMode::Disable | TlsMode::Simple | TlsMode::IstioMutual, _, _) => None,
    };
    Ok(CredentialSpec {
        identity,
        ca: match &tls.ca_certificates {
            // Istio's word for the operating system's store (`file-root:system`, T9).
            Some(path) if path == "system" => CaSource::System,
            Some(path) => CaSource::File(PathBuf::from(path)),
            None => CaSource::System,
        },
        crl: tls
            .ca_crl
            .as_ref()
            .map(|path| CrlSource::File(PathBuf::from(path))),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::config::istio::lower::testing::{Lab, Told};
    use crate::model::{CaSource, CrlSource, IdentitySource, SecretRef};

    const SECRETS: &str = "---
apiVersion: v1
kind: Secret
metadata: {name: both}
stringData: {tls.crt: c, tls.key: k, ca.crt: a}
---
apiVersion: v1
kind: Secret
metadata: {name: pair}
stringData: {tls.crt: c, tls.key: k}
---
apiVersion: v1
kind: Secret
metadata: {name: pair-cacert}
stringData: {cacert: a}
---
apiVersion: v1
kind: Secret
metadata: {name: far, namespace: far}
stringData: {tls.crt: c, tls.key: k, ca.crt: a}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: bundle, namespace: far}
data: {cacert: a}
";

    fn lab(tls: &str) -> Lab {
        Lab::new(&format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a}}
spec: {{hosts: [a.example], ports: [{{number: 443, name: p, protocol: HTTPS}}], resolution: DNS}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec: {{host: a.example, trafficPolicy: {{tls: {{{tls}}}}}}}
{SECRETS}"
        ))
        .identity()
    }

    fn told(tls: &str) -> Told {
        lab(tls).refer("a.example", 443, "")
    }

    fn identity(told: &Told) -> &SecretRef {
        match told.tls().credential.identity.as_ref() {
            Some(IdentitySource::Secret(secret)) => secret,
            other => panic!("{other:?}"),
        }
    }

    fn ca(told: &Told) -> &SecretRef {
        match &told.tls().credential.ca {
            CaSource::Secret(secret) => secret,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn s1_the_forms_of_a_secrets_name_are_one_resource() {
        for name in [
            "both",
            "kubernetes://both",
            "kubernetes://default/both",
            "kubernetes-gateway://default/both",
        ] {
            let told = told(&format!("mode: MUTUAL, credentialName: '{name}'"));
            let secret = identity(&told);
            assert_eq!(&*secret.resource, "kubernetes://both", "{name}");
            assert_eq!((&*secret.namespace, &*secret.name), ("default", "both"));
            assert!(secret.document.is_some(), "{name}");
            assert_eq!(ca(&told), secret);
            assert_eq!(told.said("IST0101"), Vec::<&str>::new());
        }
    }

    #[test]
    fn s1_what_cannot_be_had_fails_closed_with_the_reason() {
        for (name, reason) in [
            ("invalid://", "is meant to fail"),
            ("sds://x", "asks an external provider"),
        ] {
            let told = told(&format!("mode: SIMPLE, credentialName: '{name}'"));
            let start = "Unhealthy: t.yaml:9: DestinationRule default/a: credentialName";
            let start = format!("{start} \"{name}\" {reason}");
            assert!(told.broken().starts_with(&start), "{}", told.broken());
            assert_eq!(told.said("IST0101").len(), 1, "{name}");
        }
    }

    #[test]
    fn s1_a_name_that_cannot_be_read_refuses_its_rule() {
        for name in [
            "kubernetes-gateway://x",
            "configmap://x",
            "what://x",
            "kubernetes://a/b/c",
            "a/b",
        ] {
            let told = told(&format!("mode: SIMPLE, credentialName: '{name}'"));
            let start = "Unhealthy: t.yaml:9: DestinationRule default/a";
            assert!(
                told.broken().starts_with(start),
                "{name}: {}",
                told.broken()
            );
        }
    }

    #[test]
    fn s2_a_secret_of_another_namespace_is_refused() {
        let told = told("mode: MUTUAL, credentialName: 'kubernetes://far/far'");
        assert_eq!(
            told.broken(),
            "Unhealthy: t.yaml:9: DestinationRule default/a: credentialName \
             \"kubernetes://far/far\" is in namespace \"far\", and a proxy reads the Secrets of \
             its own namespace \"default\" alone: put the Secret there, or run the proxy with \
             --namespace far"
        );
    }

    #[test]
    fn s2_the_namespace_is_the_proxys_and_not_the_rules() {
        let lab = lab("mode: MUTUAL, credentialName: far").facts(|facts| {
            facts.namespace = "far".into();
            facts.default_namespace = Some("default".into());
        });
        // The rule is found in the service's namespace, and its Secret in the proxy's.
        let told = lab.refer("a.example", 443, "");
        assert_eq!(&*identity(&told).namespace, "far");
        assert!(identity(&told).document.is_some());
    }

    #[test]
    fn s4_the_document_name_cacert_is_attached() {
        let told = told("mode: MUTUAL, credentialName: pair");
        assert!(ca(&told).document.is_some() && ca(&told).ca_document.is_some());
        let crl = told.tls().credential.crl.clone();
        assert_eq!(crl, Some(CrlSource::Secret(ca(&told).clone())));
    }

    #[test]
    fn s6_simple_takes_the_ca_alone_and_skipping_verification_drops_it() {
        let simple = told("mode: SIMPLE, credentialName: both");
        assert!(simple.tls().credential.identity.is_none());
        assert_eq!(&*ca(&simple).name, "both");
        let skipped = told("mode: MUTUAL, credentialName: both, insecureSkipVerify: true");
        assert_eq!(&*identity(&skipped).name, "both");
        assert_eq!(skipped.tls().credential.ca, CaSource::Nothing);
        assert_eq!(skipped.tls().credential.crl, None);
    }

    #[test]
    fn a_config_map_is_a_ca_bundle_and_no_pair() {
        let simple = told("mode: SIMPLE, credentialName: 'configmap://far/bundle'");
        assert_eq!(&*ca(&simple).resource, "configmap://far/bundle");
        assert!(ca(&simple).document.is_some());
        let mutual = told("mode: MUTUAL, credentialName: 'configmap://far/bundle'");
        assert!(
            mutual
                .broken()
                .contains("is a ConfigMap, which has a CA alone")
        );
    }

    #[test]
    fn builtin_is_the_mesh_identity() {
        let mutual = told("mode: MUTUAL, credentialName: 'builtin://'");
        let pair = IdentitySource::Files("/id/cert.pem".into(), "/id/key.pem".into());
        assert_eq!(mutual.tls().credential.identity, Some(pair));
        let simple = told("mode: SIMPLE, credentialName: 'builtin://'");
        assert_eq!(simple.tls().credential.identity, None);
        assert_eq!(
            simple.tls().credential.ca,
            CaSource::File("/id/root.pem".into())
        );
    }

    #[test]
    fn ist0101_a_secret_that_nothing_can_have_is_reported_and_a_folder_may_have_it() {
        let missing = told("mode: MUTUAL, credentialName: nowhere");
        assert_eq!(
            missing.said("IST0101"),
            [
                "t.yaml:9: error[IST0101] DestinationRule default/a: Secret default/nowhere, which \
              credentialName names, is not among the documents, and there is no folder of mounted \
              Secrets; load its document too, or name the folder with --credentials; until then \
              requests fail"
            ]
        );
        let lab = lab("mode: MUTUAL, credentialName: nowhere").facts(|facts| {
            facts.credentials = [PathBuf::from("/mnt")].into();
        });
        let told = lab.refer("a.example", 443, "");
        assert_eq!(told.said("IST0101"), Vec::<&str>::new());
        assert_eq!(identity(&told).folders[0], PathBuf::from("/mnt"));
    }

    #[test]
    fn a_revocation_list_by_file_is_kept() {
        let told = told("mode: SIMPLE, caCertificates: /ca.pem, caCrl: /crl.pem");
        let crl = told.tls().credential.crl.clone();
        assert_eq!(crl, Some(CrlSource::File("/crl.pem".into())));
    }
}
