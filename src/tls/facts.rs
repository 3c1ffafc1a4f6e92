//! What people ask of a certificate: names, serial, validity, in words.
//!
//! Owns: [`CertFacts`], [`CrlFacts`], [`San`], and names as RFC 4514 text.
//! Never: decides whether a certificate is trusted.
//! Called by: `tls::credential` (our own certificates), `tls::connect` (the peer's), certs (tables).
//!
//! Why a second parser beside rustls' own: webpki judges a certificate but tells nothing of it.

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// What people ask of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFacts {
    /// RFC 4514 text.
    pub subject: String,
    /// RFC 4514 text.
    pub issuer: String,
    /// Lower-case hexadecimal, two digits a byte.
    pub serial: String,
    /// Subject alternative names. Empty where there are none, or where they cannot be read.
    pub sans: Vec<San>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970. The certificate is still valid in that second.
    pub not_after: i64,
    /// Basic constraints say CA.
    pub is_ca: bool,
    /// X.509 version: 1, 2 or 3. Version 1 has no extensions, and webpki refuses it (W1).
    pub version: u32,
}

/// What people ask of a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFacts {
    /// RFC 4514 text.
    pub issuer: String,
    /// Seconds since 1970.
    pub this_update: i64,
    /// Seconds since 1970; from then on every handshake that needs the list fails (T10).
    pub next_update: Option<i64>,
}

impl CrlFacts {
    /// Reads the facts of one list; `None` where it is none. Nothing is verified.
    pub fn read(der: &CertificateRevocationListDer<'_>) -> Option<CrlFacts> {
        let (_, list) = CertificateRevocationList::from_der(der.as_ref()).ok()?;
        Some(CrlFacts {
            issuer: rfc4514(list.issuer()),
            this_update: list.last_update().timestamp(),
            next_update: list.next_update().map(|time| time.timestamp()),
        })
    }
}

/// Characters of an alternative name that stands for a subject.
const MOST_CALLED: usize = 256;

/// A subject alternative name (ISTIO.md T8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// `DNS:`, perhaps with a wildcard.
    Dns(String),
    /// `URI:`, a SPIFFE id for one.
    Uri(String),
    /// `IP:`.
    Ip(IpAddr),
    /// `email:`.
    Email(String),
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            San::Dns(name) => write!(f, "DNS:{name}"),
            San::Uri(uri) => write!(f, "URI:{uri}"),
            San::Ip(ip) => write!(f, "IP:{ip}"),
            San::Email(mail) => write!(f, "email:{mail}"),
        }
    }
}

/// Why a certificate tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It is not X.509.
    #[error("it is not an X.509 certificate ({0})")]
    Malformed(#[source] X509Error),
    /// It is cut off.
    #[error("it ends in the middle")]
    Incomplete,
    /// Something follows it.
    #[error("{bytes} stray bytes follow it")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl CertFacts {
    /// Reads the facts of one DER certificate. Nothing is verified.
    pub fn read(der: &CertificateDer<'_>) -> Result<CertFacts, CertificateError> {
        parse(der).map(|certificate| CertFacts::of(&certificate))
    }

    /// What people call it: its subject, or where that is empty, as in mesh identities, its first
    /// alternative name (ISTIO.md P14). Without control characters and not long: a stranger may have
    /// written it, and no name can forge a log line.
    pub fn called(&self) -> String {
        if !self.subject.is_empty() {
            return self.subject.clone();
        }
        let name = self.sans.iter().find_map(|san| match san {
            San::Uri(text) | San::Dns(text) | San::Email(text) => Some(text.as_str()),
            San::Ip(_) => None,
        });
        let name = name.unwrap_or("without a name").chars().take(MOST_CALLED);
        let visible = |c: char| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        name.map(visible).collect()
    }

    pub(super) fn of(certificate: &X509Certificate<'_>) -> CertFacts {
        CertFacts {
            subject: rfc4514(certificate.subject()),
            issuer: rfc4514(certificate.issuer()),
            serial: hex(certificate.raw_serial()),
            sans: sans(certificate),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            is_ca: certificate.is_ca(),
            version: certificate.version().0.saturating_add(1),
        }
    }

    /// True from `not_before` to the last second of `not_after`; `now` in seconds since 1970.
    pub fn is_valid_at(&self, now: i64) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// Parses one DER certificate and nothing after it.
pub(super) fn parse<'a>(
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(CertificateError::Trailing { bytes: rest.len() }),
        Err(x509_parser::nom::Err::Incomplete(_)) => Err(CertificateError::Incomplete),
        Err(x509_parser::nom::Err::Error(e) | x509_parser::nom::Err::Failure(e)) => {
            Err(CertificateError::Malformed(e))
        }
    }
}

fn sans(certificate: &X509Certificate<'_>) -> Vec<San> {
    let mut found = Vec::new();
    for extension in certificate.iter_extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        found.extend(names.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(San::Dns((*name).to_owned())),
            GeneralName::URI(uri) => Some(San::Uri((*uri).to_owned())),
            GeneralName::RFC822Name(mail) => Some(San::Email((*mail).to_owned())),
            GeneralName::IPAddress(bytes) => ip(bytes).map(San::Ip),
            _ => None,
        }));
    }
    found
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.iter_mut()
        .zip(digest.as_ref())
        .for_each(|(to, from)| *to = *from);
    hash
}

/// RFC 4648 section 4.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let byte = |at: usize| part.get(at).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4_usize {
            let digit = DIGITS.get((bits >> (18 - 6 * at) & 63) as usize);
            let digit = digit.filter(|_| at <= part.len());
            text.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}

/// A distinguished name as RFC 4514 writes it: the last part first.
pub(super) fn rfc4514(name: &X509Name<'_>) -> String {
    let parts: Vec<String> = name
        .iter_rdn()
        .map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    // RFC 4514 section 3, and emailAddress, which everybody writes by name.
    let name = match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => "",
    };
    match text_of(attribute) {
        Some(value) if !name.is_empty() => format!("{name}={}", escaped(&value)),
        Some(value) => format!("{oid}={}", escaped(&value)),
        None if name.is_empty() => format!("{oid}=#{}", hex(attribute.as_slice())),
        None => format!("{name}=#{}", hex(attribute.as_slice())),
    }
}

fn text_of(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    /// Universal tag of BMPString, X.680 section 8.4.
    const BMP_STRING: u32 = 30;
    if let Ok(text) = attribute.as_str() {
        return Some(text.to_owned());
    }
    if attribute.attr_value().tag().0 != BMP_STRING {
        return None;
    }
    let units = attribute.as_slice().chunks_exact(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    });
    char::decode_utf16(units).collect::<Result<_, _>>().ok()
}

/// RFC 4514 section 2.4; control characters too, so that no name can forge a log line.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let edge = (c == ' ' && (index == 0 || index == last)) || (c == '#' && index == 0);
        if edge || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            text.push('\\');
            text.push(c);
        } else if c.is_control() {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(text, "\\{byte:02X}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType, SerialNumber};

    use super::*;

    fn facts(change: impl FnOnce(&mut CertificateParams)) -> CertFacts {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        CertFacts::read(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn a_name_is_written_as_rfc_4514_says() {
        let names = facts(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CountryName, "DE");
            name.push(DnType::OrganizationName, "Bank, Ltd. \"A+B\"");
            name.push(DnType::CommonName, " #1; ");
            name.push(DnType::from_oid(&[2, 5, 4, 5]), "42");
        });
        let expected = r#"2.5.4.5=42,CN=\ #1\;\ ,O=Bank\, Ltd. \"A\+B\",C=DE"#;
        assert_eq!(names.subject, expected);
        assert_eq!(names.issuer, expected);
    }

    #[test]
    fn a_name_cannot_forge_a_line_of_the_log() {
        let names = facts(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CommonName, "a\nERROR b\u{85}");
        });
        assert_eq!(names.subject, r"CN=a\0AERROR b\C2\85");
    }

    #[test]
    fn a_name_in_utf_16_is_readable() {
        let names = facts(|params| {
            let value = DnValue::BmpString("Müller".try_into().unwrap());
            params.distinguished_name.push(DnType::CommonName, value);
        });
        assert_eq!(names.subject, "CN=Müller");
    }

    #[test]
    fn t8_every_kind_of_alternative_name_is_told() {
        let facts = facts(|params| {
            params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xff]));
            params.subject_alt_names = vec![
                SanType::DnsName("*.a.example".try_into().unwrap()),
                SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap()),
                SanType::IpAddress("10.0.0.1".parse().unwrap()),
                SanType::IpAddress("fd00::1".parse().unwrap()),
                SanType::Rfc822Name("a@b.example".try_into().unwrap()),
            ];
        });
        let shown: Vec<_> = facts.sans.iter().map(ToString::to_string).collect();
        let expected = [
            "DNS:*.a.example",
            "URI:spiffe://td/ns/a/sa/b",
            "IP:10.0.0.1",
            "IP:fd00::1",
            "email:a@b.example",
        ];
        assert_eq!(shown, expected);
        assert_eq!((facts.serial.as_str(), facts.version), ("0aff", 3));
        assert!(!facts.is_ca);
    }

    #[test]
    fn p14_a_certificate_without_a_subject_is_called_by_its_first_name() {
        let mesh = facts(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            let name = "spiffe://cluster.local/ns/a/sa/b".try_into().unwrap();
            params.subject_alt_names = vec![SanType::URI(name)];
        });
        assert_eq!(mesh.subject, "");
        assert_eq!(mesh.called(), "spiffe://cluster.local/ns/a/sa/b");
        let plain = facts(|params| params.distinguished_name.push(DnType::CommonName, "bank"));
        assert_eq!(plain.called(), plain.subject);
    }

    #[test]
    fn p14_an_alternative_name_cannot_forge_a_log_line() {
        let forged = facts(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            let name = format!("x\n2026 INFO {}", "y".repeat(1000));
            params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        });
        let called = forged.called();
        assert!(called.starts_with("x\u{fffd}2026 INFO y"), "{called}");
        assert_eq!(called.chars().count(), MOST_CALLED);
    }

    #[test]
    fn the_last_second_is_valid_and_the_next_is_not() {
        let facts = facts(|params| {
            params.not_before = rcgen::date_time_ymd(2026, 1, 1);
            params.not_after = rcgen::date_time_ymd(2026, 1, 2);
        });
        let (from, to) = (1_767_225_600, 1_767_312_000);
        assert_eq!((facts.not_before, facts.not_after), (from, to));
        assert!(facts.is_valid_at(from) && facts.is_valid_at(to));
        assert!(!facts.is_valid_at(from - 1) && !facts.is_valid_at(to + 1));
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foob", "Zm9vYg=="),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xff", "+/8="),
        ] {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn what_is_not_a_certificate_says_so() {
        for bytes in [&b""[..], b"garbage", &[0x30, 0x82, 0xff, 0xff]] {
            assert!(CertFacts::read(&bytes.to_vec().into()).is_err());
        }
    }
}
