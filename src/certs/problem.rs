//! What is wrong with the files of a credential, in a word and in a sentence.
//!
//! Owns: [`CredentialProblem`] and [`ProblemReason`], whose labels are a public contract.
//! Never: carries a byte of key material.
//! Called by: `certs::store` (makes them), publish and admin (show them).

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

/// Why the files are not, or are no longer, what is served. Shown until the files are whole again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialProblem {
    /// The resource at fault: `file-cert:..`, `file-root:..`, `file-crl:..`, or a Secret's
    /// `kubernetes://..` (ISTIO.md R1, B12).
    pub resource: String,
    /// The file at fault, or the Secret: `secret ns/name`, `secret ns/name[key]`.
    pub file: PathBuf,
    /// One word for metrics and tables.
    pub reason: ProblemReason,
    /// One sentence that names the file.
    pub words: String,
    /// When it was first seen.
    pub since: SystemTime,
}

impl fmt::Display for CredentialProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $words:literal;)*) => {
        /// A problem in one word. The labels are a public contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ProblemReason { $($(#[$doc])* $name,)* }

        impl ProblemReason {
            /// For the metric's label `reason`.
            pub fn label(self) -> &'static str {
                match self { $(ProblemReason::$name => $label,)* }
            }

            /// For people: `reload failed: key mismatch`.
            pub fn words(self) -> &'static str {
                match self { $(ProblemReason::$name => $words,)* }
            }
        }
    };
}

reasons! {
    /// There is no such file.
    Missing = "missing", "file missing";
    /// The system will not let us read it.
    Unreadable = "unreadable", "file unreadable";
    /// A folder, a pipe or a device.
    NotAFile = "not_a_file", "not a file";
    /// Over the bound.
    TooLarge = "too_large", "file too large";
    /// There is no such Secret (ISTIO.md S5).
    SecretMissing = "secret_missing", "secret missing";
    /// The Secret lacks the keys that are asked of it, or they are empty (S5).
    SecretKeys = "secret_keys", "secret without the keys";
    /// It kept changing while it was read.
    Unstable = "unstable", "files kept changing";
    /// The PEM text is broken, cut off or missing.
    Pem = "pem", "broken PEM";
    /// PEM, but of something else.
    WrongKind = "wrong_kind", "wrong kind of PEM";
    /// The key needs a password.
    EncryptedKey = "encrypted_key", "encrypted key";
    /// A certificate of our chain is not X.509.
    BadCertificate = "bad_certificate", "bad certificate";
    /// Key and leaf are of different pairs.
    KeyMismatch = "key_mismatch", "key mismatch";
    /// A key that cannot sign.
    UnsupportedKey = "unsupported_key", "unsupported key";
    /// The new leaf is expired and the old one is not.
    Expired = "expired", "expired";
    /// The new leaf is not valid yet and the old one is.
    NotYetValid = "not_yet_valid", "not yet valid";
    /// No usable CA certificate.
    NoRoots = "no_roots", "no usable CA";
    /// A broken revocation list.
    Crl = "crl", "bad CRL";
}
