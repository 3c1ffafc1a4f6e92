//! `X-Forwarded-Client-Cert`: what an application hears of its client's certificate.
//!
//! Owns: the form of an element (ISTIO.md P15), and what becomes of elements that a client sent
//! (P16).
//! Never: believes a client that showed no certificate.
//! Called by: `proxy::entering`.
//!
//! Why values are quoted and escaped where Envoy does not: a name in a certificate that holds
//! `;URI=` would otherwise be read as a name that no CA vouched for.

use std::fmt::Write;

use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;

use crate::message::{Fields, Known, Value};
use crate::model::{ClientCertDetails, ForwardClientCert};
use crate::tls::{AcceptFacts, ClientCertificate, San, base64, hex};

pub(super) const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Bytes that an element may have; a part with which it would have more is left out.
const MOST: usize = 64 * 1024;
/// Characters of base64 on a line of PEM (RFC 7468 section 2).
const LINE: usize = 64;

/// The element of one connection; `None` where its client showed no certificate.
///
/// `By;Hash;Cert;Chain;Subject;URI;DNS`, in this order. `Hash` is always there; so are `Subject` and
/// `URI` where they are asked for, empty if need be.
pub(super) fn element(facts: &AcceptFacts, details: ClientCertDetails) -> Option<HeaderValue> {
    let client = facts.client.as_ref()?;
    let mut element = Element::default();
    if let Some(ours) = &facts.ours {
        element.push("By", &value(ours));
    }
    element.push("Hash", &hex(&client.hash));
    if details.cert {
        element.push("Cert", &quoted_pem(client.chain.get(..1)?));
    }
    if details.chain {
        element.push("Chain", &quoted_pem(&client.chain));
    }
    if details.subject {
        element.push("Subject", &format!("\"{}\"", subject(client)));
    }
    if details.uri {
        let mut uris = names(client, |san| match san {
            San::Uri(uri) => Some(uri),
            San::Dns(_) | San::Ip(_) | San::Email(_) => None,
        })
        .peekable();
        if uris.peek().is_none() {
            element.push("URI", "");
        }
        uris.for_each(|uri| element.push("URI", &value(uri)));
    }
    if details.dns {
        let hosts = names(client, |san| match san {
            San::Dns(name) => Some(name),
            San::Uri(_) | San::Ip(_) | San::Email(_) => None,
        });
        hosts.for_each(|host| element.push("DNS", &value(host)));
    }
    HeaderValue::try_from(element.text).ok()
}

/// Makes a request say what it may (ISTIO.md P16); `element` is its connection's. Elements on several
/// lines become one line, in their order (RFC 9110 section 5.3).
pub(super) fn apply(mode: ForwardClientCert, element: Option<&HeaderValue>, headers: &mut Fields) {
    match (mode, element) {
        (ForwardClientCert::AlwaysForwardOnly, _) | (ForwardClientCert::ForwardOnly, Some(_)) => {
            return;
        }
        (ForwardClientCert::Sanitize, _) | (_, None) => {
            headers.remove(&CLIENT_CERT);
        }
        (ForwardClientCert::SanitizeSet, Some(element)) => {
            headers.insert(CLIENT_CERT, element.clone());
        }
        (ForwardClientCert::AppendForward, Some(element)) => {
            let all = joined(headers, element);
            headers.insert(CLIENT_CERT, all);
        }
    }
    if headers.iter().any(|field| is_twin(field.name())) {
        headers.retain(|field| !is_twin(field.name()));
    }
}

/// True for the header's name with underscores: applications that read headers as variables (CGI,
/// WSGI) cannot tell the two apart.
fn is_twin(name: &[u8]) -> bool {
    let same = |(ours, byte): (&u8, &u8)| {
        *ours == byte.to_ascii_lowercase() || (*ours, *byte) == (b'-', b'_')
    };
    let ours = Known::ForwardedClientCert.text().as_bytes();
    name.len() == ours.len() && name.contains(&b'_') && ours.iter().zip(name).all(same)
}

/// What came, and `element` behind it.
fn joined(headers: &Fields, element: &HeaderValue) -> HeaderValue {
    let came = headers.get_all(Known::ForwardedClientCert);
    let whole = |value: &Value<'_>| !value.is_empty() && is_whole(value.as_bytes());
    let mut came = came.filter(whole).peekable();
    if came.peek().is_none() {
        return element.clone();
    }
    let mut all = Vec::with_capacity(element.len() + 256);
    for value in came {
        all.extend_from_slice(value.as_bytes());
        all.push(b',');
    }
    all.extend_from_slice(element.as_bytes());
    // Values joined by a comma are a value. Were they none, ours alone is the safe one.
    HeaderValue::from_bytes(&all).unwrap_or_else(|_| element.clone())
}

/// True where every quote is closed, whether a reader takes a backslash before a quote for an escape
/// always, as Envoy does, or only where it is not escaped itself. Behind an open quote our element
/// would be part of the client's.
fn is_whole(value: &[u8]) -> bool {
    let (mut by_pairs, mut by_last) = (false, false);
    let (mut escaped, mut last) = (false, b' ');
    for byte in value {
        if *byte == b'"' {
            by_pairs ^= !escaped;
            by_last ^= last != b'\\';
        }
        escaped = by_pairs && *byte == b'\\' && !escaped;
        last = *byte;
    }
    !by_pairs && !by_last
}

/// Pairs, joined by semicolons.
#[derive(Default)]
struct Element {
    text: String,
}

impl Element {
    fn push(&mut self, key: &str, value: &str) {
        if self.text.len() + key.len() + value.len() + 2 > MOST {
            tracing::debug!(
                key,
                "a client's certificate is too large to be told of whole"
            );
            return;
        }
        if !self.text.is_empty() {
            self.text.push(';');
        }
        self.text.push_str(key);
        self.text.push('=');
        self.text.push_str(value);
    }
}

fn names<'a>(
    client: &'a ClientCertificate,
    pick: impl Fn(&'a San) -> Option<&'a String>,
) -> impl Iterator<Item = &'a String> {
    client.facts.sans.iter().filter_map(pick)
}

/// A name of a certificate as a value: what separates pairs is put in quotes. What may not stand in
/// a header, and a backslash, which would undo a quote, are escaped as in a URI.
fn value(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("%5C"),
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            byte => drop(write!(text, "%{byte:02X}")),
        }
    }
    match text.contains([',', ';', '=', '"']) {
        true => format!("\"{text}\""),
        false => text,
    }
}

/// RFC 2253, which escapes quotes itself; bytes beyond ASCII escaped as OpenSSL does. An escaped
/// backslash is written as `\5C` (RFC 2253 section 2.4): before the last quote it would pass for the
/// escape of that.
fn subject(client: &ClientCertificate) -> String {
    let mut text = String::with_capacity(client.facts.subject.len());
    let mut bytes = client.facts.subject.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if bytes.next_if_eq(&b'\\').is_some() => text.push_str("\\5C"),
            b' '..=b'~' => text.push(char::from(byte)),
            byte => drop(write!(text, "\\{byte:02X}")),
        }
    }
    text
}

/// Certificates as PEM, escaped as Envoy does, in quotes.
fn quoted_pem(chain: &[CertificateDer<'_>]) -> String {
    let mut text = String::from("\"");
    for certificate in chain {
        text.push_str("-----BEGIN%20CERTIFICATE-----%0A");
        for (place, character) in base64(certificate).chars().enumerate() {
            if place > 0 && place % LINE == 0 {
                text.push_str("%0A");
            }
            match character {
                '+' => text.push_str("%2B"),
                '/' => text.push_str("%2F"),
                '=' => text.push_str("%3D"),
                other => text.push(other),
            }
        }
        text.push_str("%0A-----END%20CERTIFICATE-----%0A");
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;
    use crate::model::TlsVersion;
    use crate::tls::{Alpn, CertFacts};

    const OURS: &str = "spiffe://cluster.local/ns/foo/sa/httpbin";
    const THEIRS: &str = "spiffe://cluster.local/ns/foo/sa/sleep";

    fn facts(change: impl FnOnce(&mut CertificateParams)) -> AcceptFacts {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.self_signed(&key).unwrap().der().clone();
        AcceptFacts {
            version: TlsVersion::Tls13,
            cipher: "TLS_AES_128_GCM_SHA256",
            alpn: Alpn::Http1,
            resumed: false,
            server_name: None,
            ours: Some(OURS.into()),
            our_subject: "".into(),
            client: Some(Arc::new(ClientCertificate {
                facts: CertFacts::read(&leaf).unwrap(),
                hash: [0xab; 32],
                chain: vec![leaf.clone(), leaf],
            })),
        }
    }

    fn uri(uri: &str) -> SanType {
        SanType::URI(uri.try_into().unwrap())
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn text(facts: &AcceptFacts, details: ClientCertDetails) -> String {
        let element = element(facts, details).unwrap();
        element.to_str().unwrap().to_owned()
    }

    /// What a sidecar tells.
    const SIDECAR: ClientCertDetails = ClientCertDetails {
        subject: true,
        cert: false,
        chain: false,
        dns: true,
        uri: true,
    };

    fn hash() -> String {
        "ab".repeat(32)
    }

    #[test]
    fn p15_a_sidecars_element_is_istios_to_the_letter() {
        let facts = facts(|params| params.subject_alt_names = vec![uri(THEIRS)]);
        let expected = format!("By={OURS};Hash={};Subject=\"\";URI={THEIRS}", hash());
        assert_eq!(text(&facts, SIDECAR), expected);
    }

    #[test]
    fn p15_names_are_told_each_under_a_key_of_its_own_uris_first() {
        let facts = facts(|params| {
            params.subject_alt_names = vec![
                dns("a.example"),
                uri("https://x.example/one"),
                dns("*.b.example"),
                uri(THEIRS),
            ];
            params.distinguished_name.push(DnType::CommonName, "sleep");
        });
        let expected = format!(
            "By={OURS};Hash={};Subject=\"CN=sleep\";URI=https://x.example/one;URI={THEIRS};\
             DNS=a.example;DNS=*.b.example",
            hash()
        );
        assert_eq!(text(&facts, SIDECAR), expected);
    }

    #[test]
    fn p15_what_is_not_asked_for_is_not_told() {
        let mut facts = facts(|params| params.subject_alt_names = vec![uri(THEIRS)]);
        facts.ours = None;
        let element = text(&facts, ClientCertDetails::default());
        assert_eq!(element, format!("Hash={}", hash()));
    }

    #[test]
    fn p15_a_uri_that_is_asked_for_and_missing_is_told_as_empty() {
        let facts = facts(|params| params.subject_alt_names = vec![dns("a.example")]);
        let expected = format!("By={OURS};Hash={};Subject=\"\";URI=;DNS=a.example", hash());
        assert_eq!(text(&facts, SIDECAR), expected);
    }

    #[test]
    fn p15_a_subject_is_rfc_2253_and_always_in_quotes() {
        let facts = facts(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::OrganizationName, "Bank, Ltd. \"A\"");
            name.push(DnType::CommonName, "Müller");
        });
        let element = text(&facts, SIDECAR);
        let expected = r#";Subject="CN=M\C3\BCller,O=Bank\, Ltd. \"A\"";URI="#;
        assert!(element.ends_with(expected), "{element}");
    }

    #[test]
    fn p15_a_backslash_at_the_end_of_a_subject_does_not_take_its_quote_along() {
        let facts = facts(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CommonName, "a\\\"b\\");
        });
        let element = text(&facts, SIDECAR);
        let expected = r#";Subject="CN=a\5C\"b\5C";URI="#;
        assert!(element.ends_with(expected), "{element}");
        assert!(is_whole(element.as_bytes()), "{element}");
    }

    #[test]
    fn p15_a_name_cannot_pass_for_another_pair_or_another_element() {
        for (name, expected) in [
            ("x;URI=spiffe://admin", r#""x;URI=spiffe://admin""#),
            ("x,By=y", r#""x,By=y""#),
            ("x\";URI=y", r#""x\";URI=y""#),
            ("x\\\";URI=y", r#""x%5C\";URI=y""#),
            ("x\r\nhost: y", "x%0D%0Ahost: y"),
            ("spiffe://a/ns/b/sa/c", "spiffe://a/ns/b/sa/c"),
        ] {
            assert_eq!(value(name), expected, "{name}");
        }
    }

    #[test]
    fn p15_certificates_are_escaped_pem_and_the_chain_has_all_of_them() {
        let facts = facts(|params| params.subject_alt_names = vec![uri(THEIRS)]);
        let with = |cert, chain| {
            let details = ClientCertDetails {
                cert,
                chain,
                ..ClientCertDetails::default()
            };
            text(&facts, details)
        };
        let lead = format!("By={OURS};Hash={};", hash());
        let read = |element: &str, key: &str| {
            let rest = element.strip_prefix(&lead).unwrap();
            let pem = rest.strip_prefix(&format!("{key}=\"")).unwrap();
            let pem = pem.strip_suffix('"').unwrap();
            assert!(!pem.contains([' ', '\n', '+', '/', '=', '"']), "{pem}");
            let pem = [
                ("%0A", "\n"),
                ("%20", " "),
                ("%2B", "+"),
                ("%2F", "/"),
                ("%3D", "="),
            ]
            .into_iter()
            .fold(pem.to_owned(), |pem, (from, to)| pem.replace(from, to));
            assert!(pem.lines().all(|line| line.len() <= LINE), "{pem}");
            use rustls::pki_types::pem::PemObject;
            let all = CertificateDer::pem_slice_iter(pem.as_bytes());
            all.map(Result::unwrap).collect::<Vec<_>>()
        };
        let chain = &facts.client.as_ref().unwrap().chain;
        assert_eq!(read(&with(true, false), "Cert"), chain[..1]);
        assert_eq!(read(&with(false, true), "Chain"), *chain);
        let both = with(true, true);
        let (cert, chain) = (both.find(";Cert=").unwrap(), both.find(";Chain=").unwrap());
        assert!(cert < chain);
    }

    #[test]
    fn p15_an_element_is_bounded_whatever_the_chain() {
        let mut facts = facts(|params| params.subject_alt_names = vec![uri(THEIRS)]);
        let client = facts.client.as_mut().and_then(Arc::get_mut).unwrap();
        let leaf = client.chain[0].clone();
        client.chain.extend(std::iter::repeat_n(leaf, 500));
        let details = ClientCertDetails {
            chain: true,
            ..SIDECAR
        };
        let element = text(&facts, details);
        assert!(
            element.len() < 1000 && !element.contains("Chain="),
            "{element}"
        );
        assert!(element.ends_with(&format!("URI={THEIRS}")), "{element}");
    }

    #[test]
    fn p15_a_client_without_a_certificate_has_no_element() {
        let mut facts = facts(|_| ());
        facts.client = None;
        assert_eq!(element(&facts, SIDECAR), None);
    }

    /// What is left of two lines of elements.
    fn left(mode: ForwardClientCert, mutual: bool) -> Vec<String> {
        let mut headers = Fields::new();
        for value in ["Hash=1;URI=a", "Hash=2"] {
            headers.append(CLIENT_CERT, HeaderValue::from_static(value));
        }
        let ours = HeaderValue::from_static("Hash=3");
        apply(mode, mutual.then_some(&ours), &mut headers);
        let values = headers.get_all(Known::ForwardedClientCert);
        values.map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn p16_with_mutual_tls_every_mode_does_what_it_says() {
        use ForwardClientCert as Mode;
        let came = ["Hash=1;URI=a", "Hash=2"];
        assert!(left(Mode::Sanitize, true).is_empty());
        assert_eq!(left(Mode::ForwardOnly, true), came);
        assert_eq!(
            left(Mode::AppendForward, true),
            ["Hash=1;URI=a,Hash=2,Hash=3"]
        );
        assert_eq!(left(Mode::SanitizeSet, true), ["Hash=3"]);
        assert_eq!(left(Mode::AlwaysForwardOnly, true), came);
    }

    #[test]
    fn p16_without_mutual_tls_all_but_the_last_mode_strip_the_header() {
        use ForwardClientCert as Mode;
        for mode in [
            Mode::Sanitize,
            Mode::ForwardOnly,
            Mode::AppendForward,
            Mode::SanitizeSet,
        ] {
            assert!(left(mode, false).is_empty(), "{mode:?}");
        }
        assert_eq!(left(Mode::AlwaysForwardOnly, false).len(), 2);
    }

    #[test]
    fn p16_an_element_with_an_open_quote_does_not_swallow_the_one_behind_it() {
        let ours = HeaderValue::from_static("Hash=3");
        for (came, expected) in [
            (r#"URI=spiffe://admin;Subject=""#, "Hash=3"),
            (r#"URI=a;Subject="\""#, "Hash=3"),
            (r#"URI=a;Subject="\\""#, "Hash=3"),
            (
                r#"URI=a;Subject="CN=\"b\"""#,
                r#"URI=a;Subject="CN=\"b\"",Hash=3"#,
            ),
            (r#"Subject="a,b";URI=c"#, r#"Subject="a,b";URI=c,Hash=3"#),
        ] {
            let mut headers = Fields::new();
            headers.append(CLIENT_CERT, HeaderValue::from_str(came).unwrap());
            apply(ForwardClientCert::AppendForward, Some(&ours), &mut headers);
            assert_eq!(headers.get(&CLIENT_CERT).unwrap(), expected, "{came}");
        }
    }

    #[test]
    fn p16_an_underscore_smuggles_nothing_past() {
        let ours = HeaderValue::from_static("Hash=3");
        for (mode, element, left) in [
            (ForwardClientCert::SanitizeSet, Some(&ours), 1),
            (ForwardClientCert::AppendForward, None, 0),
            (ForwardClientCert::AlwaysForwardOnly, None, 2),
        ] {
            let mut headers = Fields::new();
            for name in ["x_forwarded_client_cert", "x-forwarded_client-cert"] {
                let name = HeaderName::from_static(name);
                headers.append(name, HeaderValue::from_static("Hash=1"));
            }
            let name = HeaderName::from_static("x_forwarded_client_certs");
            headers.append(name, HeaderValue::from_static("mine"));
            apply(mode, element, &mut headers);
            assert_eq!(headers.len(), left + 1, "{mode:?}: {headers:?}");
            assert_eq!(headers.get("x_forwarded_client_certs").unwrap(), "mine");
        }
    }

    #[test]
    fn p16_there_is_no_comma_before_the_first_element() {
        let ours = HeaderValue::from_static("Hash=3");
        for empty in [false, true] {
            let mut headers = Fields::new();
            if empty {
                headers.append(CLIENT_CERT, HeaderValue::from_static(""));
            }
            apply(ForwardClientCert::AppendForward, Some(&ours), &mut headers);
            assert_eq!(headers.get(&CLIENT_CERT).unwrap(), "Hash=3");
        }
    }
}
