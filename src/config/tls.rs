//! `tls` of an upstream: whether TLS is spoken, with which files, and what is checked.
//!
//! Owns: its table, its lowering, and which keys each mode has (ISTIO.md T1 to T3, T7).
//! Never: opens a certificate.
//! Called by: upstreams.
//!
//! Why silence is an error: sortie exists for TLS, so plaintext must be asked for in so many words.

use crate::model::{
    AlpnOffer, CaSource, CredentialSpec, CrlSource, Host, IdentitySource, NameCheck, TlsPolicy,
    TlsSpec, TlsVersion,
};

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
            identity: identity.map(|(certificate, key)| IdentitySource::Files(certificate, key)),
            ca: match at.path("ca") {
                Some(ca) => CaSource::File(ca),
                None if verify_chain => CaSource::System,
                None => CaSource::Nothing,
            },
            crl: at.path("crl").map(CrlSource::File),
        },
        server_name: at
            .text("serverName")
            .and_then(|text| Host::parse(text).ok()),
        subject_alt_names: subject_alt_names.unwrap_or_default(),
        also_host: false,
        expected_name: None,
        alpn: AlpnOffer::Http,
        allow_tls_in_tls: false,
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

#[cfg(test)]
mod tests {
    use crate::config::load::{load_texts, said};

    /// What is said of a `tls` block, which begins at column 8 of line 6.
    fn tls(block: &str) -> Vec<String> {
        let text = format!(
            "routes: [{{host: a, upstream: a}}]\nupstreams:\n- name: a\n  endpoints: a:1\n  \
             # here\n  tls: {block}\n"
        );
        let said = said(&text).into_iter();
        said.map(|line| line.replace(" upstreams[0].tls", ""))
            .collect()
    }

    #[test]
    fn t1_each_mode_takes_its_own_keys() {
        for block in [
            "{mode: disable}",
            "{mode: simple}",
            "{mode: simple, ca: x, crl: y, serverName: a.b, subjectAltNames: [a, b], minVersion: 1.3}",
            "{mode: mutual, certificate: x, key: x, subjectAltNames: a, verify: true}",
            "{mode: mutual, certificate: x, key: y, nameCheck: enforce, minVersion: '1.2'}",
        ] {
            assert_eq!(tls(block), [""; 0], "{block}");
        }
    }

    #[test]
    fn t1_no_mode_takes_the_keys_of_another() {
        assert_eq!(
            tls("{mode: disable, ca: x}"),
            [
                "a.yaml:6:24: error[SRT0205].ca: it means nothing with mode: disable, which is \
                 plaintext; leave it out, or write mode: simple or mutual"
            ]
        );
        assert_eq!(
            tls("{mode: simple, key: x}"),
            [
                "a.yaml:6:23: error[SRT0205].key: \"key\" cannot stand beside mode: simple; write \
                 mode: mutual to present it, or leave it out"
            ]
        );
    }

    #[test]
    fn t2_mutual_without_certificate_or_key_is_an_error_and_never_plaintext() {
        assert_eq!(
            tls("{mode: mutual, certificate: x}"),
            [
                "a.yaml:6:8: error[SRT0205].key: mode: mutual needs the client's private key; write \
                 the file's name, or mode: simple for TLS without client certificate"
            ]
        );
        assert_eq!(tls("{mode: mutual}").len(), 2);
    }

    #[test]
    fn silence_about_tls_is_an_error_and_never_plaintext() {
        assert_eq!(
            said("routes: [{host: a, upstream: a}]\nupstreams:\n- name: a\n  endpoints: a:1\n"),
            [
                "a.yaml:3:3: error[SRT0204] upstreams[0].tls: it is not said whether TLS is spoken \
                 to this upstream; write tls: {mode: mutual, certificate: FILE, key: FILE}, or tls: \
                 {mode: simple} without client certificate, or, for plaintext, tls: {mode: disable}"
            ]
        );
        assert_eq!(
            tls("{ca: x}"),
            [
                "a.yaml:6:8: error[SRT0205].mode: a tls block must say its mode; write mode: mutual \
                 with certificate and key, mode: simple without client certificate, or, for \
                 plaintext, mode: disable"
            ]
        );
        for block in [
            "",
            "~",
            "{}",
            "[]",
            "off",
            "{mode: }",
            "{mode: disabled}",
            "{mode: false}",
        ] {
            assert!(
                tls(block).iter().any(|line| line.contains("error")),
                "{block}"
            );
        }
    }

    #[test]
    fn t3_a_check_that_is_switched_off_takes_nothing_to_check_with() {
        let said = tls("{mode: simple, verify: insecure-skip, ca: x, crl: y, subjectAltNames: z}");
        assert_eq!(
            said,
            [
                "a.yaml:6:23: warning[SRT0303].verify: the server's certificate is not checked: \
                 anybody can be this upstream; name the server's CA under \"ca\" and leave \
                 \"verify\" out",
                "a.yaml:6:46: error[SRT0203].ca: \"ca\" cannot stand beside verify: insecure-skip, \
                 which checks nothing; leave \"verify\" out to have it checked, or leave this out",
                "a.yaml:6:53: error[SRT0203].crl: \"crl\" cannot stand beside verify: \
                 insecure-skip, which checks nothing; leave \"verify\" out to have it checked, or \
                 leave this out",
                "a.yaml:6:61: error[SRT0203].subjectAltNames: \"subjectAltNames\" cannot stand \
                 beside verify: insecure-skip, which checks nothing; leave \"verify\" out to have \
                 it checked, or leave this out",
            ]
        );
    }

    #[test]
    fn checking_is_switched_off_in_so_many_words_alone() {
        for block in [
            "{mode: simple, verify: false}",
            "{mode: simple, verify: no}",
            "{mode: simple, verify: }",
            "{mode: simple, nameCheck: false}",
            "{mode: simple, ca: }",
            "{mode: simple, ca: ''}",
            "{mode: simple, subjectAltNames: []}",
            "{mode: simple, serverName: ''}",
        ] {
            assert!(tls(block)[0].contains("error"), "{block}");
        }
        let off = tls("{mode: simple, nameCheck: off}");
        assert!(
            off.len() == 1 && off[0].contains("warning[SRT0303]"),
            "{off:?}"
        );
        let both = tls("{mode: simple, nameCheck: off, subjectAltNames: a}");
        assert!(both[1].contains("error[SRT0203]"), "{both:?}");
    }

    #[test]
    fn a_relative_file_starts_at_the_folder_of_its_document() {
        let text = "upstreams:\n- name: a\n  endpoints: a:1\n  tls: {mode: mutual, certificate: \
                    a.crt, key: /k/a.key, ca: ../ca.crt}\n";
        let config = load_texts(&[("conf/a.yaml", text)]).unwrap().config;
        let credentials = config.credentials();
        assert_eq!(
            format!("{:?}", credentials[0].spec),
            "CredentialSpec { identity: Some(Files(\"conf/a.crt\", \"/k/a.key\")), ca: \
             File(\"conf/../ca.crt\"), crl: None }"
        );
    }
}
