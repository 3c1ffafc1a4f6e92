//! `tls` of an upstream: whether TLS is spoken, with which files, and what is checked.
//!
//! Owns: its table, its lowering, and which keys each mode has (ISTIO.md T1 to T3, T7).
//! Never: opens a certificate.
//! Called by: upstreams.
//!
//! Why silence is an error: sortie exists for TLS, so plaintext must be asked for in so many words.

use crate::model::{CaSource, CredentialSpec, Host, NameCheck, TlsPolicy, TlsSpec, TlsVersion};

use super::cursor::At;
use super::diagnostic::{Code, Diagnostics};
use super::format::Format;
use super::shape::{Choice, Field, Missing, Shape, Table};

/// What is said of an upstream without a `tls` block.
pub static TLS_MISSING: Missing = Missing {
    code: Code::TlsMissing,
    problem: "it is not said whether TLS is spoken to this upstream",
    advice: "write tls: {mode: mutual, certificate: FILE, key: FILE}, or tls: {mode: simple} \
             without client certificate, or, for plaintext, tls: {mode: disable}",
};

static MODE_MISSING: Missing = Missing {
    code: Code::TlsMode,
    problem: "a tls block must say its mode",
    advice: "write mode: mutual with certificate and key, mode: simple without client \
             certificate, or, for plaintext, mode: disable",
};

/// How TLS is spoken.
pub static TLS: Table = Table::new(
    "tls",
    "Whether and how TLS is spoken to an upstream.",
    &[
        Field::required(
            "mode",
            "Plaintext, TLS, or TLS with a client certificate.",
            Shape::Choice(&[
                Choice {
                    word: "mutual",
                    doc: "TLS with a client certificate: certificate and key are needed.",
                },
                Choice {
                    word: "simple",
                    doc: "TLS without a client certificate.",
                },
                Choice {
                    word: "disable",
                    doc: "Plaintext.",
                },
            ]),
        )
        .missing(&MODE_MISSING),
        Field::optional(
            "certificate",
            "PEM file with our certificate, leaf first, then its intermediates.",
            Shape::Text(Format::File),
        ),
        Field::optional(
            "key",
            "PEM file with the certificate's private key, unencrypted.",
            Shape::Text(Format::File),
        ),
        Field::optional(
            "ca",
            "PEM file with whom to trust. Absent: the operating system's store.",
            Shape::Text(Format::File),
        ),
        Field::optional(
            "crl",
            "PEM file with the certificates that are revoked.",
            Shape::Text(Format::File),
        ),
        Field::optional(
            "serverName",
            "SNI and the name that the server's certificate must have. Absent: the request's host \
             after rewriting.",
            Shape::Text(Format::Host),
        ),
        Field::optional(
            "subjectAltNames",
            "Any one of these must be in the server's certificate, instead of the server name.",
            Shape::Many(&Shape::Text(Format::San)),
        ),
        Field::optional(
            "nameCheck",
            "What a certificate with another name means.",
            Shape::Choice(&[
                Choice {
                    word: "enforce",
                    doc: "The request fails.",
                },
                Choice {
                    word: "warn",
                    doc: "It is logged and counted.",
                },
                Choice {
                    word: "off",
                    doc: "Nothing: the name is not looked at.",
                },
            ]),
        )
        .default("enforce"),
        Field::optional(
            "verify",
            "Whether the server's certificate is checked at all.",
            Shape::Choice(&[
                Choice {
                    word: "true",
                    doc: "It is checked.",
                },
                Choice {
                    word: "insecure-skip",
                    doc: "Anybody can be this upstream. For trying things out only.",
                },
            ]),
        )
        .default("true"),
        Field::optional(
            "minVersion",
            "The least TLS version.",
            Shape::Choice(&[
                Choice {
                    word: "1.2",
                    doc: "TLS 1.2 or 1.3.",
                },
                Choice {
                    word: "1.3",
                    doc: "TLS 1.3 alone.",
                },
            ]),
        )
        .default("\"1.2\""),
    ],
);

/// What the upstream's `tls` block says; `None` where it cannot be told.
pub fn lower(at: &At<'_>, out: &mut Diagnostics) -> Option<TlsPolicy> {
    match at.word("mode")? {
        "disable" => {
            only_mode(at, out);
            Some(TlsPolicy::Disable)
        }
        "simple" => {
            let advice = "write mode: mutual to present it, or leave it out";
            refuse(
                at,
                &["certificate", "key"],
                "mode: simple",
                Code::TlsMode,
                advice,
                out,
            );
            spec(at, out)
        }
        "mutual" => {
            for (key, what) in [("certificate", "certificate"), ("key", "private key")] {
                if !at.has(key) {
                    let problem = format!("mode: mutual needs the client's {what}");
                    let advice = "write the file's name, or mode: simple for TLS without client \
                                  certificate";
                    at.report_key(out, key, Code::TlsMode, problem, advice);
                }
            }
            spec(at, out)
        }
        _ => None,
    }
}

fn only_mode(at: &At<'_>, out: &mut Diagnostics) {
    for entry in at.entries() {
        if entry.key.as_ref() != "mode" && TLS.field(&entry.key).is_some() {
            let problem = "it means nothing with mode: disable, which is plaintext".to_owned();
            let advice = "leave it out, or write mode: simple or mutual";
            at.report_key(out, &entry.key, Code::TlsMode, problem, advice);
        }
    }
}

fn refuse(
    at: &At<'_>,
    keys: &[&str],
    beside: &str,
    code: Code,
    advice: &str,
    out: &mut Diagnostics,
) {
    for key in keys.iter().filter(|key| at.has(key)) {
        let problem = format!("\"{key}\" cannot stand beside {beside}");
        at.report_key(out, key, code, problem, advice);
    }
}

fn spec(at: &At<'_>, out: &mut Diagnostics) -> Option<TlsPolicy> {
    let verify_chain = at.word("verify") != Some("insecure-skip");
    let name_check = match at.word("nameCheck") {
        Some("warn") => NameCheck::Warn,
        Some("off") => NameCheck::Off,
        _ => NameCheck::Enforce,
    };
    unverified(at, verify_chain, name_check, out);
    let identity = match (at.path("certificate"), at.path("key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        // Half an identity was reported, or is not text, which was reported too.
        (Some(_), None) | (None, Some(_)) => return None,
    };
    let sans = at.key("subjectAltNames");
    let subject_alt_names = sans.map(|sans| {
        let texts = sans.one_or_many().filter_map(|san| san.as_text());
        texts.map(str::to_owned).collect()
    });
    Some(TlsPolicy::Tls(Box::new(TlsSpec {
        credential: CredentialSpec {
            identity,
            ca: at.path("ca").map_or(CaSource::System, CaSource::File),
            crl: at.path("crl"),
        },
        server_name: at
            .text("serverName")
            .and_then(|text| Host::parse(text).ok()),
        subject_alt_names: subject_alt_names.unwrap_or_default(),
        name_check,
        verify_chain,
        min_version: match at.word("minVersion") {
            Some("1.3") => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        },
    })))
}

fn unverified(at: &At<'_>, verify_chain: bool, name_check: NameCheck, out: &mut Diagnostics) {
    if !verify_chain {
        let problem = "the server's certificate is not checked: anybody can be this upstream";
        let advice = "name the server's CA under \"ca\" and leave \"verify\" out";
        at.report_key(out, "verify", Code::Unverified, problem.to_owned(), advice);
        let checks = ["ca", "crl", "subjectAltNames", "nameCheck"];
        let advice = "leave \"verify\" out to have it checked, or leave this out";
        let beside = "verify: insecure-skip, which checks nothing";
        refuse(at, &checks, beside, Code::Conflict, advice, out);
        return;
    }
    let what = match name_check {
        NameCheck::Enforce => return,
        NameCheck::Warn => "a certificate with a wrong name is only logged",
        NameCheck::Off => "the name in the server's certificate is not looked at",
    };
    let problem = format!("{what}: any server with a certificate of that CA can be this upstream");
    let advice = "set serverName or subjectAltNames to the name that the certificate has";
    at.report_key(out, "nameCheck", Code::Unverified, problem, advice);
    if name_check == NameCheck::Off {
        let advice = "leave \"nameCheck\" out to have them checked, or leave them out";
        refuse(
            at,
            &["subjectAltNames"],
            "nameCheck: off",
            Code::Conflict,
            advice,
            out,
        );
    }
}
