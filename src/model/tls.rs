//! Whether and how TLS is spoken to an upstream, and which material it needs.
//!
//! Owns: [`TlsPolicy`], [`CredentialSpec`].
//! Never: reads a certificate.
//! Called by: config (makes it), certs (loads the material), tls (speaks it).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::host::Host;

/// Whether an upstream is spoken to in TLS (ISTIO.md T1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TlsPolicy {
    /// Plaintext, asked for in so many words.
    Disable,
    /// TLS; with a client certificate where the credential has one.
    Tls(Box<TlsSpec>),
}

/// How TLS is spoken to an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsSpec {
    /// Files of certificate, key, CA and CRL.
    pub credential: CredentialSpec,
    /// SNI and the expected name; `None`: the request's host after rewriting (ISTIO.md T6).
    pub server_name: Option<Host>,
    /// Any one must be in the certificate, instead of the server name (T7 b, T8).
    pub subject_alt_names: Vec<String>,
    /// The request's host must be in the certificate besides (X9). Not beside a `server_name`,
    /// where sessions do not tell one host from another.
    pub also_host: bool,
    /// The name that the certificate must have, where that is not the server name that is sent.
    pub expected_name: Option<Host>,
    /// What is offered by ALPN (T11).
    pub alpn: AlpnOffer,
    /// TLS records from the application are wrapped in TLS once more (D8).
    pub allow_tls_in_tls: bool,
    /// What a wrong name means, be it configured (`subject_alt_names`) or implied. Whoever follows
    /// Istio says [`NameCheck::Enforce`] where Istio checks a name (T7 b, c), [`NameCheck::Warn`]
    /// where it does not and there is one to compare with (T7 d), [`NameCheck::Off`] otherwise.
    pub name_check: NameCheck,
    /// False only where the configuration says so in so many words: no chain, no name (T7 a).
    pub verify_chain: bool,
    /// The least version.
    pub min_version: TlsVersion,
}

impl TlsSpec {
    /// TLS with every default, with this credential.
    pub fn new(credential: CredentialSpec) -> Self {
        TlsSpec {
            credential,
            server_name: None,
            subject_alt_names: Vec::new(),
            also_host: false,
            expected_name: None,
            alpn: AlpnOffer::Http,
            allow_tls_in_tls: false,
            name_check: NameCheck::Enforce,
            verify_chain: true,
            min_version: TlsVersion::Tls12,
        }
    }
}

/// What a certificate with another name means (ISTIO.md T7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NameCheck {
    /// The handshake fails. The default.
    #[default]
    Enforce,
    /// Logged and counted.
    Warn,
    /// Not looked at.
    Off,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// The files that make up one credential. Equal specs are one resource and one watch (R1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialSpec {
    /// Certificate chain and key, both or neither.
    pub identity: Option<IdentitySource>,
    /// Who vouches for the server.
    pub ca: CaSource,
    /// Revoked certificates.
    pub crl: Option<CrlSource>,
}

/// A credential, and what its certificate is shown to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialUse {
    /// What it is made of.
    pub spec: CredentialSpec,
    /// Whom it is shown to.
    pub uses: Uses,
}

/// Whom a certificate of ours is shown to; it may be both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Servers: we are their client.
    pub client: bool,
    /// Clients: we are their server.
    pub server: bool,
}

impl Uses {
    /// To servers alone.
    pub const CLIENT: Uses = Uses {
        client: true,
        server: false,
    };
    /// To clients alone.
    pub const SERVER: Uses = Uses {
        client: false,
        server: true,
    };

    /// Whoever either names.
    pub fn and(self, other: Uses) -> Uses {
        Uses {
            client: self.client || other.client,
            server: self.server || other.server,
        }
    }
}

/// What nobody says more of is shown to servers.
impl From<CredentialSpec> for CredentialUse {
    fn from(spec: CredentialSpec) -> Self {
        CredentialUse {
            spec,
            uses: Uses::CLIENT,
        }
    }
}

/// Where our certificate chain and its key come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentitySource {
    /// Two files: chain, key.
    Files(PathBuf, PathBuf),
    /// A Secret (ISTIO.md S3).
    Secret(SecretRef),
}

/// Where the trust anchors come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CaSource {
    /// The operating system's store (`file-root:system`, ISTIO.md T9).
    System,
    /// A PEM bundle.
    File(PathBuf),
    /// A Secret or ConfigMap (ISTIO.md S4).
    Secret(SecretRef),
    /// Nowhere: nothing is verified, which the configuration says in so many words (T7 a).
    Nothing,
}

/// Where revocation lists come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CrlSource {
    /// A PEM file.
    File(PathBuf),
    /// The key `crl` or `ca.crl` of the Secret that has the CA, where it is there (ISTIO.md S4).
    Secret(SecretRef),
}

/// A Secret by its name (ISTIO.md S1, S2), wherever its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretRef {
    /// `kubernetes://ns/name` or `configmap://ns/name`, without a namespace where that is the
    /// proxy's own: the name of the resource (B12).
    pub resource: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The document of that name among the manifests; it wins over a folder.
    pub document: Option<Arc<SecretData>>,
    /// The document NAME-cacert (S4).
    pub ca_document: Option<Arc<SecretData>>,
    /// Folders of mounted Secrets, `ROOT/NAMESPACE/NAME/KEY` or `ROOT/NAME/KEY`, in that order.
    pub folders: Arc<[PathBuf]>,
}

/// The content of a Secret document: its keys and their bytes, wiped when dropped (R19).
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretData(pub BTreeMap<String, SecretBytes>);

/// Bytes that are wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretBytes(pub Zeroizing<Vec<u8>>);

impl Hash for SecretBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_slice().hash(state);
    }
}

impl PartialOrd for SecretBytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SecretBytes {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_slice().cmp(other.0.as_slice())
    }
}

impl fmt::Debug for SecretData {
    /// The keys alone: the bytes are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is offered by ALPN (ISTIO.md T11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AlpnOffer {
    /// What the choice of HTTP version allows: `h2`, `http/1.1`, or both. The native default.
    #[default]
    Http,
    /// Nothing for HTTP/1, `h2` for HTTP/2: Istio's SIMPLE and MUTUAL.
    Http2Only,
    /// `istio-http/1.1, istio, http/1.1`, or `istio-h2, istio, h2`: ISTIO_MUTUAL.
    Istio,
}

impl CredentialSpec {
    /// Certificate and key, where they are files.
    pub fn identity_files(&self) -> Option<(&PathBuf, &PathBuf)> {
        match &self.identity {
            Some(IdentitySource::Files(certificate, key)) => Some((certificate, key)),
            Some(IdentitySource::Secret(_)) | None => None,
        }
    }

    /// The revocation list, where it is a file.
    pub fn crl_file(&self) -> Option<&PathBuf> {
        match &self.crl {
            Some(CrlSource::File(path)) => Some(path),
            Some(CrlSource::Secret(_)) | None => None,
        }
    }
}

impl CredentialSpec {
    /// The same without the content of Secret documents: what names it, and what others than the
    /// certs room may keep (R19).
    pub fn without_documents(&self) -> CredentialSpec {
        CredentialSpec {
            identity: self.identity.as_ref().map(|identity| match identity {
                IdentitySource::Secret(secret) => {
                    IdentitySource::Secret(secret.without_documents())
                }
                IdentitySource::Files(..) => identity.clone(),
            }),
            ca: match &self.ca {
                CaSource::Secret(secret) => CaSource::Secret(secret.without_documents()),
                other => other.clone(),
            },
            crl: self.crl.as_ref().map(|crl| match crl {
                CrlSource::Secret(secret) => CrlSource::Secret(secret.without_documents()),
                CrlSource::File(_) => crl.clone(),
            }),
        }
    }

    /// Every Secret that it is made of.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let identity = match &self.identity {
            Some(IdentitySource::Secret(secret)) => Some(secret),
            Some(IdentitySource::Files(..)) | None => None,
        };
        let ca = match &self.ca {
            CaSource::Secret(secret) => Some(secret),
            CaSource::System | CaSource::File(_) | CaSource::Nothing => None,
        };
        let crl = match &self.crl {
            Some(CrlSource::Secret(secret)) => Some(secret),
            Some(CrlSource::File(_)) | None => None,
        };
        identity.into_iter().chain(ca).chain(crl)
    }
}

impl SecretRef {
    /// How the name of a Secret ends that holds a CA alone (ISTIO.md S4).
    pub const CA_SUFFIX: &str = "-cacert";

    fn without_documents(&self) -> SecretRef {
        SecretRef {
            document: None,
            ca_document: None,
            ..self.clone()
        }
    }

    /// True for `configmap://ns/name`, which holds a CA alone (S1).
    pub fn is_config_map(&self) -> bool {
        self.resource.starts_with("configmap://")
    }

    /// What its CA is called in tables (B12): `kubernetes://name-cacert`.
    pub fn ca_resource(&self) -> Cow<'_, str> {
        match self.is_config_map() || self.name.ends_with(SecretRef::CA_SUFFIX) {
            true => Cow::Borrowed(&self.resource),
            false => Cow::Owned(format!("{}{}", self.resource, SecretRef::CA_SUFFIX)),
        }
    }
}

impl fmt::Display for IdentitySource {
    /// What messages call it: the certificate's file, or the Secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentitySource::Files(certificate, _) => certificate.display().fmt(f),
            IdentitySource::Secret(secret) => f.write_str(&secret.resource),
        }
    }
}

impl fmt::Display for CrlSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CrlSource::File(path) => path.display().fmt(f),
            CrlSource::Secret(secret) => f.write_str(&secret.ca_resource()),
        }
    }
}
