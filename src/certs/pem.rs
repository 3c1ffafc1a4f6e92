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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::tests::{Ca, Leaf, pem};

    fn file() -> &'static Path {
        Path::new("/c/f.pem")
    }

    fn said<T>(result: Result<T, PemError>) -> String {
        match result {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn w7_every_plain_form_of_key_is_read() {
        for (label, is) in [
            ("PRIVATE KEY", "pkcs8"),
            ("RSA PRIVATE KEY", "pkcs1"),
            ("EC PRIVATE KEY", "sec1"),
        ] {
            // openssl ecparam -genkey puts the curve in front.
            let text = format!("{}{}", pem("EC PARAMETERS", &[6]), pem(label, &[1; 90]));
            let form = match key(file(), text.as_bytes()).unwrap() {
                PrivateKeyDer::Pkcs8(_) => "pkcs8",
                PrivateKeyDer::Pkcs1(_) => "pkcs1",
                PrivateKeyDer::Sec1(_) => "sec1",
                _ => "another",
            };
            assert_eq!(form, is);
        }
    }

    #[test]
    fn w7_both_forms_of_encrypted_keys_are_named() {
        let new = pem("ENCRYPTED PRIVATE KEY", &[1; 90]);
        let old = pem("RSA PRIVATE KEY", &[1; 90]).replacen(
            "KEY-----\n",
            "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00FF\n\n",
            1,
        );
        for text in [new, old] {
            assert_eq!(
                said(key(file(), text.as_bytes())),
                "the key in /c/f.pem is encrypted; decrypt it with: \
                 openssl pkey -in /c/f.pem -out NEW_FILE"
            );
        }
    }

    #[test]
    fn a_wrong_kind_is_named_with_what_to_do() {
        let (cert, secret) = (pem("CERTIFICATE", &[1]), pem("PRIVATE KEY", &[1]));
        let request = pem("CERTIFICATE REQUEST", &[1]);
        let ssh = pem("OPENSSH PRIVATE KEY", &[1]);
        let says = |text: String| format!("/c/f.pem holds {text}");
        assert_eq!(
            said(key(file(), cert.as_bytes())),
            says(
                "a certificate where a private key is expected; are certificate and key swapped?"
                    .into()
            )
        );
        assert_eq!(
            said(certificates(file(), secret.as_bytes())),
            says(
                "a private key where a certificate is expected; are certificate and key swapped?"
                    .into()
            )
        );
        assert!(said(certificates(file(), request.as_bytes())).contains("signed by your CA first"));
        assert!(said(key(file(), ssh.as_bytes())).contains("ssh-keygen -p -m pkcs8"));
        assert!(said(crls(file(), cert.as_bytes())).contains("a revocation list is expected"));
        assert!(said(bundle(file(), secret.as_bytes())).contains("a certificate is expected"));
    }

    #[test]
    fn a_label_is_made_fit_for_a_log() {
        let text = "-----BEGIN \u{1b}[31mX\u{7}-----\n-----END X-----\n";
        let words = said(certificates(file(), text.as_bytes()));
        assert!(words.contains("a PEM block of kind \"[31mX\""), "{words}");
    }

    #[test]
    fn der_is_recognised_and_the_conversion_named() {
        let der = Ca::new("ca").der();
        assert!(said(certificates(file(), &der)).contains("openssl x509 -inform der"));
        assert!(said(key(file(), &der)).contains("openssl pkey -inform der"));
    }

    #[test]
    fn half_a_file_is_never_a_smaller_file() {
        let pair = Ca::new("ca").leaf(Leaf::default());
        let text = format!("{0}{0}", pair.cert);
        assert_eq!(certificates(file(), text.as_bytes()).unwrap().len(), 2);
        let first = pair.cert.len();
        for end in (first + 30..text.len() - 26).step_by(7) {
            let words = said(certificates(file(), &text.as_bytes()[..end]));
            assert!(words.contains("is cut off"), "{end}: {words}");
        }
        let joined = format!("-----BEGIN CERTIFICATE-----\nAAAA\n{}", pair.cert);
        assert!(said(certificates(file(), joined.as_bytes())).contains("is cut off"));
    }

    #[test]
    fn no_cut_of_a_key_is_read_or_repeated() {
        let pair = Ca::new("ca").leaf(Leaf::default());
        let secret = pair.key.lines().nth(1).unwrap();
        for end in 0..pair.key.len() - 6 {
            let words = said(key(file(), &pair.key.as_bytes()[..end]));
            assert_ne!(words, "fine", "{end}");
            assert!(!words.contains(&secret[..8]), "{words}");
        }
    }

    #[test]
    fn a_byte_order_mark_other_line_endings_and_text_around_do_no_harm() {
        let pair = Ca::new("ca").leaf(Leaf::default());
        let plain = certificates(file(), pair.cert.as_bytes()).unwrap();
        let windows = format!("\u{feff}{}", pair.cert.replace('\n', "\r\n"));
        let mac = pair.cert.replace('\n', "\r");
        let noisy = format!("Bag Attributes\n  x: y\n{}trailing", pair.cert);
        let combined = format!("{}{}", pair.key, pair.cert);
        for text in [windows, mac, noisy, combined] {
            assert_eq!(certificates(file(), text.as_bytes()).unwrap(), plain);
        }
    }

    #[test]
    fn broken_base64_is_named_by_line() {
        let pair = Ca::new("ca").leaf(Leaf::default());
        let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        let text = format!("{}{broken}", pair.cert);
        let line = pair.cert.lines().count() + 1;
        let expected =
            format!("/c/f.pem: the CERTIFICATE block of line {line} is broken: it is not base64");
        assert_eq!(said(certificates(file(), text.as_bytes())), expected);
        // A bundle does without it (R5).
        let (found, skipped) = bundle(file(), text.as_bytes()).unwrap();
        assert_eq!(
            (found.len(), skipped),
            (1, vec![format!("skipped: {expected}")])
        );
        assert_eq!(
            said(bundle(file(), broken.as_bytes())),
            expected.replace(&line.to_string(), "1")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_whatever_make_it_panic(bytes: Vec<u8>, cut in 0..2000_usize) {
            let _ = (said(certificates(file(), &bytes)), said(key(file(), &bytes)));
            let _ = (said(bundle(file(), &bytes)), said(crls(file(), &bytes)));
            let mut text = pem("CERTIFICATE", &bytes).into_bytes();
            text.truncate(cut);
            text.extend_from_slice(&bytes);
            let _ = said(certificates(file(), &text));
        }
    }
}
