//! PEM text to DER: certificates, one private key, revocation lists.
//!
//! Owns: what is accepted in which file, and in words why something is not.
//! Never: opens a file, or repeats a byte of its content in a message.
//! Called by: `certs::generation`.
//!
//! Why blocks are found here and only decoded by rustls-pemfile: it passes over what it does not
//! know, so that an encrypted key or a half-written file would look like an empty one.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls_pemfile::{Error, Item, read_one_from_slice};

/// Why a file does not hold what it should. Every text names the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum PemError {
    /// No byte in it.
    #[error("{} is empty", .file.display())]
    Empty { file: PathBuf },
    /// Bytes, but no BEGIN line.
    #[error("{} holds no PEM block{}", .file.display(), .hint)]
    NoBlock { file: PathBuf, hint: &'static str },
    /// A BEGIN line without its END line.
    #[error("{} is cut off: the {label} block of line {line} has no END line", .file.display())]
    CutOff {
        file: PathBuf,
        label: String,
        line: usize,
    },
    /// Cannot be decoded.
    #[error("{}: the {label} block of line {line} is broken: {what}", .file.display())]
    Broken {
        file: PathBuf,
        label: String,
        line: usize,
        what: &'static str,
    },
    /// PEM of something else.
    #[error("{} holds {found} where {expected} is expected{hint}", .file.display())]
    WrongKind {
        file: PathBuf,
        found: String,
        expected: &'static str,
        hint: &'static str,
    },
    /// A key that needs a password (W7).
    #[error(
        "the key in {} is encrypted; decrypt it with: openssl pkey -in {} -out NEW_FILE",
        .file.display(), .file.display()
    )]
    Encrypted { file: PathBuf },
}

/// The certificates of a chain, in the file's order; each must decode. Blocks of other kinds,
/// such as a key in the same file, are passed over.
pub(super) fn certificates(
    file: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, PemError> {
    wanted(file, bytes, &CERTIFICATE)?
        .iter()
        .map(|block| certificate(file, block))
        .collect()
}

/// The certificates of a CA bundle. One that does not decode is skipped and named in the second
/// list (R5); a block that is cut off is an error, since that is how a half-written file looks.
pub(super) fn bundle(
    file: &Path,
    bytes: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, Vec<String>), PemError> {
    let (mut found, mut skipped, mut first) = (Vec::new(), Vec::new(), None);
    for block in wanted(file, bytes, &CERTIFICATE)? {
        match certificate(file, &block) {
            Ok(certificate) => found.push(certificate),
            Err(error) => {
                skipped.push(format!("skipped: {error}"));
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok((found, skipped)),
    }
}

/// The first private key: PKCS#8, PKCS#1 or SEC1 (W7).
pub(super) fn key(file: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let blocks = wanted(file, bytes, &KEY)?;
    // `wanted` never returns an empty list.
    let Some(block) = blocks.first() else {
        return Err(PemError::Empty { file: file.into() });
    };
    if block.encrypted {
        return Err(PemError::Encrypted { file: file.into() });
    }
    match decode(file, block)? {
        Item::Pkcs1Key(key) => Ok(key.into()),
        Item::Pkcs8Key(key) => Ok(key.into()),
        Item::Sec1Key(key) => Ok(key.into()),
        _ => Err(broken(file, block, "it is not a private key")),
    }
}

/// Revocation lists: PEM, or one in DER.
pub(super) fn crls(
    file: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    if looks_like_der(bytes) {
        return Ok(vec![bytes.to_vec().into()]);
    }
    wanted(file, bytes, &CRL)?
        .iter()
        .map(|block| match decode(file, block)? {
            Item::Crl(list) => Ok(list),
            _ => Err(broken(file, block, "it is not a revocation list")),
        })
        .collect()
}

/// What a file is meant to hold.
struct Wanted {
    is: fn(&str) -> bool,
    expected: &'static str,
    der_hint: &'static str,
}

const CERTIFICATE: Wanted = Wanted {
    is: |label| matches!(label, "CERTIFICATE"),
    expected: "a certificate",
    der_hint: "; it looks like DER or PKCS#12: convert it with openssl x509 -inform der, or openssl pkcs12",
};

const KEY: Wanted = Wanted {
    is: |label| {
        matches!(
            label,
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "ENCRYPTED PRIVATE KEY"
        )
    },
    expected: "a private key",
    der_hint: "; it looks like DER or PKCS#12: convert it with openssl pkey -inform der, or openssl pkcs12",
};

const CRL: Wanted = Wanted {
    is: |label| matches!(label, "X509 CRL"),
    expected: "a revocation list",
    der_hint: "",
};

/// One PEM block as it stands in the file.
struct Block<'a> {
    label: String,
    /// Of the BEGIN line, from 1.
    line: usize,
    /// From BEGIN to END, both included.
    text: &'a [u8],
    encrypted: bool,
}

/// The blocks of the wanted kind: at least one, or an error that says what is there instead.
fn wanted<'a>(file: &Path, bytes: &'a [u8], wanted: &Wanted) -> Result<Vec<Block<'a>>, PemError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(PemError::Empty { file: file.into() });
    }
    let all = blocks(file, bytes)?;
    let Some(first) = all.first().map(|block| block.label.clone()) else {
        let hint = match looks_like_der(bytes) {
            true => wanted.der_hint,
            false => "",
        };
        return Err(PemError::NoBlock {
            file: file.into(),
            hint,
        });
    };
    let found: Vec<_> = all.into_iter().filter(|b| (wanted.is)(&b.label)).collect();
    if found.is_empty() {
        return Err(PemError::WrongKind {
            file: file.into(),
            found: kind_of(&first),
            expected: wanted.expected,
            hint: hint_for(&first, wanted.expected),
        });
    }
    Ok(found)
}

/// Finds every block, known or not.
fn blocks<'a>(file: &Path, bytes: &'a [u8]) -> Result<Vec<Block<'a>>, PemError> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, usize, bool)> = None;
    let (mut at, mut number) = (0, 1);
    for line in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        let start = at;
        at += line.len();
        let text = line.trim_ascii();
        // A byte order mark, which some editors put in front.
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        if let Some(label) = marker(text, b"-----BEGIN ") {
            if let Some((label, line, ..)) = open {
                return Err(cut_off(file, label, line));
            }
            let encrypted = label == "ENCRYPTED PRIVATE KEY";
            let begin = start + line.len() - line.trim_ascii_start().len();
            let begin = begin + usize::from(line.starts_with(b"\xef\xbb\xbf")) * 3;
            open = Some((label, number, begin, encrypted));
        } else if text.starts_with(b"-----END ") {
            if let Some((label, line, begin, encrypted)) = open.take() {
                let text = bytes.get(begin..at).unwrap_or_default();
                found.push(Block {
                    label,
                    line,
                    text,
                    encrypted,
                });
            }
        } else if let Some((_, _, _, encrypted)) = &mut open {
            // RFC 1421 section 4.6.1.1, as openssl writes for "traditional" keys.
            *encrypted |= text.starts_with(b"Proc-Type:") && text.ends_with(b"ENCRYPTED");
        }
        number += usize::from(line.ends_with(b"\n"));
    }
    match open {
        Some((label, line, ..)) => Err(cut_off(file, label, line)),
        None => Ok(found),
    }
}

/// The label between the marker and the five closing dashes, fit to be printed.
fn marker(line: &[u8], opening: &[u8]) -> Option<String> {
    let rest = line.strip_prefix(opening)?;
    let label = rest.strip_suffix(b"-----").unwrap_or(rest);
    let fit = label.iter().filter(|b| b.is_ascii_graphic() || **b == b' ');
    Some(fit.take(40).map(|b| char::from(*b)).collect())
}

fn certificate(file: &Path, block: &Block<'_>) -> Result<CertificateDer<'static>, PemError> {
    match decode(file, block)? {
        Item::X509Certificate(certificate) => Ok(certificate),
        _ => Err(broken(file, block, "it is not a certificate")),
    }
}

fn decode(file: &Path, block: &Block<'_>) -> Result<Item, PemError> {
    match read_one_from_slice(block.text) {
        Ok(Some((item, _))) => Ok(item),
        Ok(None) => Err(broken(file, block, "its BEGIN line is not understood")),
        Err(Error::MissingSectionEnd { .. }) => {
            Err(broken(file, block, "its END line does not match"))
        }
        Err(Error::IllegalSectionStart { .. }) => {
            Err(broken(file, block, "its BEGIN line is malformed"))
        }
        Err(Error::Base64Decode(_)) => Err(broken(file, block, "it is not base64")),
    }
}

fn broken(file: &Path, block: &Block<'_>, what: &'static str) -> PemError {
    PemError::Broken {
        file: file.into(),
        label: block.label.clone(),
        line: block.line,
        what,
    }
}

fn cut_off(file: &Path, label: String, line: usize) -> PemError {
    PemError::CutOff {
        file: file.into(),
        label,
        line,
    }
}

/// A SEQUENCE with a length of over 127 bytes, as every certificate, key and list in DER begins.
fn looks_like_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x80..=0x84, ..])
}

fn kind_of(label: &str) -> String {
    match label {
        "CERTIFICATE" => "a certificate".into(),
        "ENCRYPTED PRIVATE KEY" => "an encrypted private key".into(),
        "X509 CRL" => "a revocation list".into(),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => "a certificate request".into(),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => "a public key".into(),
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => "a private key".into(),
        other => format!("a PEM block of kind {other:?}"),
    }
}

fn hint_for(found: &str, expected: &str) -> &'static str {
    match (found, expected) {
        (label, "a certificate") if label.ends_with("PRIVATE KEY") => {
            "; are certificate and key swapped?"
        }
        ("CERTIFICATE", "a private key") => "; are certificate and key swapped?",
        ("CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST", "a certificate") => {
            "; have the request signed by your CA first"
        }
        ("TRUSTED CERTIFICATE" | "X509 CERTIFICATE", "a certificate") => {
            "; rewrite it with openssl x509 -in FILE -out NEW_FILE"
        }
        ("OPENSSH PRIVATE KEY", "a private key") => {
            "; rewrite it with ssh-keygen -p -m pkcs8 -f FILE"
        }
        ("EC PARAMETERS", "a private key") => {
            "; it holds the curve only, the key itself is missing"
        }
        ("DSA PRIVATE KEY", "a private key") => "; DSA is not supported",
        _ => "",
    }
}
