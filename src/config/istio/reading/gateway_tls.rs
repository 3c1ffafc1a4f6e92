//! `tls` of a Gateway's server (ISTIO.md G3 to G7, X10, 1.4).
//!
//! Owns: what a server does with its connections, its certificates, pins and versions.
//! Never: opens a file, or looks a Secret up.
//! Called by: gateway.

use std::sync::Arc;

use crate::config::cursor::At;
use crate::config::diagnostic::Code;
use crate::config::format::{Format, quote};
use crate::config::istio::gateway::{Certificates, ServerKind, ServerMode, ServerTls};
use crate::config::istio::meta::Written;
use crate::config::istio::tables::gateway::{MODE, VERSION};
use crate::model::{TLS12_CIPHER_SUITES, TlsVersion, known_cipher_suite};

use super::context::Reading;
use super::destination_rule::check_credential;
use super::gateway::Spoken;
use super::secret::base64;
use super::{names, value};

/// Where certificates may be named, each way excluding the others (G5).
const WAYS: [&str; 4] = [
    "serverCertificate",
    "credentialName",
    "credentialNames",
    "tlsCertificates",
];
/// What ISTIO_MUTUAL forbids (G4). A list of revoked clients it may have.
const OF_CERTIFICATES: [&str; 7] = [
    "serverCertificate",
    "privateKey",
    "caCertificates",
    "credentialName",
    "credentialNames",
    "tlsCertificates",
    "caCertCredentialName",
];
/// What is asked of a client's certificate.
const OF_CLIENTS: [&str; 3] = [
    "subjectAltNames",
    "verifyCertificateSpki",
    "verifyCertificateHash",
];

/// What a server of `protocol` does; `None` where that cannot be told.
pub fn kind(
    server: &At<'_>,
    spoken: Spoken,
    protocol: &str,
    r: &mut Reading<'_>,
) -> Option<ServerKind> {
    let secure = matches!(spoken, Spoken::Https | Spoken::Tls);
    let Some(tls) = server.key("tls") else {
        if secure {
            let problem = format!("a server of protocol {protocol} needs tls");
            let advice = "write tls: {mode: SIMPLE, credentialName: NAME}";
            r.wrong_key(server, "tls", problem, advice);
        }
        return Some(match spoken {
            Spoken::Http => ServerKind::Http(None),
            Spoken::Tcp => ServerKind::Tcp,
            Spoken::Https | Spoken::Tls => ServerKind::PassThrough,
        });
    };
    let redirect = value::flag(&tls, "httpsRedirect") == Some(true);
    if redirect && protocol != "HTTP" {
        let problem = format!("httpsRedirect has no effect on a server of protocol {protocol}");
        let advice = "write it at the server of protocol HTTP";
        r.warning(tls.wrong_key("httpsRedirect", Code::SchemaWarning, problem, advice));
    }
    if spoken == Spoken::Http {
        let beside = |entry: &crate::config::node::Entry| entry.key.as_ref() != "httpsRedirect";
        if tls.entries().iter().any(beside) {
            let problem = format!("a server of protocol {protocol} speaks no TLS");
            let advice = "write protocol: HTTPS, or tls: {httpsRedirect: true}";
            r.wrong_key(server, "tls", problem, advice);
        }
        let place = tls.key("httpsRedirect").map(|at| at.place());
        return Some(ServerKind::Http(place.filter(|_| redirect)));
    }
    Some(match mode(&tls) {
        Mode::PassThrough => ServerKind::PassThrough,
        Mode::AutoPassThrough => ServerKind::AutoPassThrough,
        Mode::Ends(mode) => {
            let tls = Box::new(ends(&tls, mode, r));
            match spoken {
                Spoken::Https => ServerKind::Https(tls),
                Spoken::Http | Spoken::Tls | Spoken::Tcp => ServerKind::Tls(tls),
            }
        }
    })
}

/// `tls.mode`.
enum Mode {
    PassThrough,
    AutoPassThrough,
    Ends(ServerMode),
}

/// Without a word it is the first one, PASSTHROUGH.
fn mode(tls: &At<'_>) -> Mode {
    match value::word(tls, "mode", MODE) {
        Some("SIMPLE") => Mode::Ends(ServerMode::Simple),
        Some("MUTUAL") => Mode::Ends(ServerMode::Mutual),
        Some("OPTIONAL_MUTUAL") => Mode::Ends(ServerMode::OptionalMutual),
        Some("ISTIO_MUTUAL") => Mode::Ends(ServerMode::IstioMutual),
        Some("AUTO_PASSTHROUGH") => Mode::AutoPassThrough,
        _ => Mode::PassThrough,
    }
}

fn there(tls: &At<'_>, key: &str) -> bool {
    tls.key(key).is_some_and(|at| match at.as_text() {
        Some(text) => !text.is_empty(),
        None => !at.entries().is_empty() || at.items().next().is_some(),
    })
}

fn ends(tls: &At<'_>, mode: ServerMode, r: &mut Reading<'_>) -> ServerTls {
    fits(tls, mode, r);
    let (min_version, max_version) = versions(tls, r);
    let file = |key: &str, r: &mut Reading<'_>| {
        names::formatted_key(tls, key, Format::File, r).map(str::to_owned)
    };
    let ca_file = file("caCertificates", r).or_else(|| ca_of_pairs(tls));
    ServerTls {
        mode,
        certificates: certificates(tls, mode, r),
        ca_file,
        ca_name: tls.key("caCertCredentialName").and_then(|at| named(&at, r)),
        ca_crl: file("caCrl", r),
        subject_alt_names: names::alt_names(tls, r),
        spki_pins: pins(tls, "verifyCertificateSpki", spki, r),
        hash_pins: pins(tls, "verifyCertificateHash", hash, r),
        min_version,
        max_version,
        cipher_suites: suites(tls, r),
        place: tls.place(),
    }
}

/// X10: those that there are; the others are told. None left, and the server would speak what the
/// list was meant to rule out.
fn suites(tls: &At<'_>, r: &mut Reading<'_>) -> Vec<Arc<str>> {
    let list = tls.key("cipherSuites");
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for name in list
        .iter()
        .flat_map(At::items)
        .filter_map(|item| item.as_text())
    {
        match known_cipher_suite(name) {
            Some(_) => known.push(Arc::from(name)),
            None => others.push(quote(name)),
        }
    }
    if others.is_empty() {
        return known;
    }
    let there: Vec<&str> = TLS12_CIPHER_SUITES.iter().map(|(name, _)| *name).collect();
    let advice = format!("write some of {}", there.join(", "));
    let others = others.join(", ");
    match known.is_empty() {
        true => {
            let problem = format!("no suite is left: the TLS library does not have {others}");
            r.wrong_key(tls, "cipherSuites", problem, &advice);
        }
        false => {
            let problem = format!("the TLS library does not have {others}: not spoken");
            r.warning(tls.wrong_key("cipherSuites", Code::SchemaWarning, problem, &advice));
        }
    }
    known
}

/// The CA that stands beside a pair of `tlsCertificates`.
fn ca_of_pairs(tls: &At<'_>) -> Option<String> {
    let list = tls.key("tlsCertificates");
    let mut pairs = list.iter().flat_map(At::items);
    pairs.find_map(|pair| value::text(&pair, "caCertificates").map(str::to_owned))
}

fn certificates(tls: &At<'_>, mode: ServerMode, r: &mut Reading<'_>) -> Certificates {
    if mode == ServerMode::IstioMutual {
        return Certificates::Mesh;
    }
    let several = tls.key("credentialNames");
    let single = tls.key("credentialName");
    let items = several.iter().flat_map(At::items).chain(single);
    let mut names = Vec::new();
    for item in items {
        names.extend(named(&item, r));
    }
    if !names.is_empty() {
        return Certificates::Names(names);
    }
    let list = tls.key("tlsCertificates");
    let mut pairs = Vec::new();
    for item in list.iter().flat_map(At::items).chain([*tls]) {
        let mut file =
            |key: &str| names::formatted_key(&item, key, Format::File, r).map(str::to_owned);
        if let (Some(certificate), Some(key)) = (file("serverCertificate"), file("privateKey")) {
            pairs.push((certificate, key));
        }
    }
    Certificates::Files(pairs)
}

/// S1.
fn named(at: &At<'_>, r: &mut Reading<'_>) -> Option<Written<String>> {
    let text = at.as_text().filter(|text| !text.is_empty())?;
    if let Err(advice) = check_credential(text) {
        let problem = format!("{} does not name a credential", quote(text));
        r.wrong(at, problem, advice);
        return None;
    }
    Some(Written {
        value: text.to_owned(),
        place: at.place(),
    })
}

/// G4, G5, and CRLs (1.4).
fn fits(tls: &At<'_>, mode: ServerMode, r: &mut Reading<'_>) {
    let there = |key: &str| there(tls, key);
    let mut wrong = |key: &str, problem: String, advice: &str| {
        r.error(tls.wrong_key(key, Code::TlsMode, problem, advice));
    };
    let name = mode.name();
    if mode == ServerMode::IstioMutual {
        for key in OF_CERTIFICATES.iter().filter(|key| there(key)) {
            let problem = format!("ISTIO_MUTUAL uses the mesh identity, and {key} is given");
            wrong(key, problem, "leave it out");
        }
        return;
    }
    let pair = there("serverCertificate") || there("privateKey");
    let count = WAYS.iter().skip(1).filter(|key| there(key)).count() + usize::from(pair);
    let files = pair || there("tlsCertificates");
    if count != 1 {
        let problem = match count {
            0 => format!("{name} needs a certificate, and none is named"),
            _ => "certificates are named in more than one way".to_owned(),
        };
        let advice = "write credentialName, or serverCertificate and privateKey";
        wrong("mode", problem, advice);
    } else if pair {
        let both = ["serverCertificate", "privateKey"];
        for key in both.iter().filter(|key| !there(key)) {
            let problem = format!("{key} is missing beside the other");
            wrong(key, problem, "write the file of it");
        }
    }
    let ca = there("caCertificates") || there("caCertCredentialName") || ca_of_pairs(tls).is_some();
    if count == 1 && files && mode != ServerMode::Simple && !ca {
        let problem = format!("{name} checks clients, and no CA is named");
        wrong("caCertificates", problem, "write caCertificates");
    }
    let named = there("credentialName") || there("credentialNames");
    if there("caCrl") && (named || mode == ServerMode::Simple) {
        let why = match named {
            true => "credentialName brings its own",
            false => "SIMPLE checks no client",
        };
        let problem = format!("caCrl has no use: {why}");
        wrong("caCrl", problem, "leave it out");
    }
    pairs(tls, r);
    idle(tls, mode, named, r);
}

/// Each of `tlsCertificates` is a whole pair.
fn pairs(tls: &At<'_>, r: &mut Reading<'_>) {
    let list = tls.key("tlsCertificates");
    for pair in list.iter().flat_map(At::items) {
        let both = ["serverCertificate", "privateKey"];
        for key in both.iter().filter(|key| !there(&pair, key)) {
            let problem = format!("the pair has no {key}");
            r.error(pair.wrong_key(key, Code::TlsMode, problem, "write the file of it"));
        }
    }
}

/// What is allowed, and means nothing.
fn idle(tls: &At<'_>, mode: ServerMode, named: bool, r: &mut Reading<'_>) {
    let mut say = |key: &str, why: &str| {
        let problem = format!("{key} has no effect: {why}");
        r.warning(tls.wrong_key(key, Code::SchemaWarning, problem, "leave it out"));
    };
    if mode == ServerMode::Simple {
        for key in OF_CLIENTS.iter().filter(|key| there(tls, key)) {
            say(key, "SIMPLE asks clients for no certificate");
        }
    }
    if named && there(tls, "caCertificates") {
        say("caCertificates", "the CA comes with the credential");
    }
}

/// G7. What is below 1.2 is raised to it, as no library speaks it safely; nothing above it is lowered.
fn versions(tls: &At<'_>, r: &mut Reading<'_>) -> (TlsVersion, TlsVersion) {
    let min = match value::word(tls, "minProtocolVersion", VERSION) {
        Some("TLSV1_3") => TlsVersion::Tls13,
        Some(old @ ("TLSV1_0" | "TLSV1_1")) => {
            let problem = format!("{old} is not spoken: TLSV1_2 is the least");
            let advice = "write TLSV1_2, or leave it out";
            r.warning(tls.wrong_key("minProtocolVersion", Code::SchemaWarning, problem, advice));
            TlsVersion::Tls12
        }
        _ => TlsVersion::Tls12,
    };
    let max = match value::word(tls, "maxProtocolVersion", VERSION) {
        Some(old @ ("TLSV1_0" | "TLSV1_1")) => {
            let problem = format!("{old} is not spoken, and nothing above it is allowed");
            r.wrong_key(
                tls,
                "maxProtocolVersion",
                problem,
                "write TLSV1_2 or TLSV1_3",
            );
            TlsVersion::Tls13
        }
        Some("TLSV1_2") => TlsVersion::Tls12,
        _ => TlsVersion::Tls13,
    };
    if min > max {
        let problem = "the least version is above the greatest".to_owned();
        r.wrong_key(
            tls,
            "minProtocolVersion",
            problem,
            "write the lesser one here",
        );
    }
    (min, max)
}

type Pin = [u8; 32];

fn pins(
    tls: &At<'_>,
    key: &str,
    parse: fn(&str) -> Result<Pin, &'static str>,
    r: &mut Reading<'_>,
) -> Vec<Pin> {
    let list = tls.key(key);
    let mut pins = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let Some(text) = item.as_text() else { continue };
        match parse(text) {
            Ok(pin) => pins.push(pin),
            Err(advice) => {
                let problem = format!("{} is not a SHA-256 hash", quote(text));
                r.wrong(&item, problem, advice);
            }
        }
    }
    pins
}

/// Base64 (G6).
fn spki(text: &str) -> Result<Pin, &'static str> {
    let bytes = base64(text).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or("write the 32 bytes in base64, 44 characters")
}

/// Hex, with or without colons (G6).
fn hash(text: &str) -> Result<Pin, &'static str> {
    let advice = "write 64 hexadecimal digits, with colons between pairs or without";
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let colons = text.len() - digits.len();
    let paired = text.split(':').all(|pair| pair.len() == 2);
    if digits.len() != 64 || (colons > 0 && !paired) {
        return Err(advice);
    }
    let mut pin = [0; 32];
    for (byte, pair) in pin.iter_mut().zip(digits.chunks_exact(2)) {
        let text = std::str::from_utf8(pair).map_err(|_| advice)?;
        // `from_str_radix` would take a sign.
        let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
        *byte = match digits {
            true => u8::from_str_radix(text, 16).map_err(|_| advice)?,
            false => return Err(advice),
        };
    }
    Ok(pin)
}
