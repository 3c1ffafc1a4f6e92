//! How one upstream is spoken to, in words: mode, SNI, ALPN, credential, CA, names.
//!
//! Owns: the words for what a `TlsSpec` means (ISTIO.md T1, T5 to T11).
//! Never: shows a key, or what is in a file.
//! Called by: `explain::destination`.

use crate::model::{
    AlpnOffer, CaSource, CredentialSpec, CrlSource, Host, HttpChoice, IdentitySource, NameCheck,
    TlsPolicy, TlsSpec, TlsVersion, UpstreamSpec,
};

/// What is decided, and the word under which documents say so.
pub(super) type Decision = (&'static str, String);

/// Every decision about TLS, for a request whose host (after rewriting) is `host`; `None` for a
/// connection that carries no HTTP.
pub(super) fn decisions(spec: &UpstreamSpec, host: Option<&str>) -> Vec<Decision> {
    let TlsPolicy::Tls(tls) = &spec.tls else {
        return vec![("tls", format!("plaintext, {}", http(spec.http)))];
    };
    let mut all = vec![("tls", mode(tls)), ("sni", sni(tls, host))];
    all.push(("alpn", alpn(tls.alpn, spec.http)));
    all.push(("credential", credential(tls)));
    if tls.verify_chain {
        all.push(("ca", ca(tls)));
    }
    all.push(("names", names(tls, host)));
    all
}

/// `mutual TLS`, `TLS` or `plaintext`.
pub(super) fn word(spec: &UpstreamSpec) -> &'static str {
    match &spec.tls {
        TlsPolicy::Disable => "plaintext",
        TlsPolicy::Tls(tls) if tls.credential.identity.is_some() => "mutual TLS",
        TlsPolicy::Tls(_) => "TLS",
    }
}

fn http(choice: HttpChoice) -> &'static str {
    match choice {
        HttpChoice::Auto | HttpChoice::Http1 => "HTTP/1.1",
        HttpChoice::Http2 => "HTTP/2",
    }
}

/// ISTIO.md T1.
fn mode(tls: &TlsSpec) -> String {
    let mutual = tls.credential.identity.is_some();
    let mode = match (mutual, tls.alpn) {
        (true, AlpnOffer::Istio) => "ISTIO_MUTUAL: the mesh identity is shown",
        (true, _) => "MUTUAL: a client certificate is shown",
        (false, _) => "SIMPLE: no client certificate",
    };
    let least = match tls.min_version {
        TlsVersion::Tls12 => "",
        TlsVersion::Tls13 => ", TLS 1.3 at least",
    };
    let nested = match tls.allow_tls_in_tls {
        true => ", TLS of the application's own is wrapped too",
        false => "",
    };
    format!("{mode}{least}{nested}")
}

/// ISTIO.md T5, T6.
fn sni(tls: &TlsSpec, host: Option<&str>) -> String {
    match (&tls.server_name, host) {
        (Some(name), _) if name.ip().is_some() => "none: an address is no server name".to_owned(),
        (Some(name), _) => name.to_string(),
        (None, None) => "none: no server name is set, and bytes name no host".to_owned(),
        (None, Some(host)) if is_address(host) => {
            format!("none: the request's host {host} is an address")
        }
        (None, Some(host)) => format!("{host}, the request's host"),
    }
}

/// ISTIO.md T11.
fn alpn(offer: AlpnOffer, choice: HttpChoice) -> String {
    match (offer, choice) {
        (AlpnOffer::Http, HttpChoice::Auto) => "h2, http/1.1",
        (AlpnOffer::Http, HttpChoice::Http1) => "http/1.1",
        (AlpnOffer::Http | AlpnOffer::Http2Only, HttpChoice::Http2) => "h2",
        (AlpnOffer::Http2Only, HttpChoice::Auto | HttpChoice::Http1) => "nothing is offered",
        (AlpnOffer::Istio, HttpChoice::Auto | HttpChoice::Http1) => {
            "istio-http/1.1, istio, http/1.1"
        }
        (AlpnOffer::Istio, HttpChoice::Http2) => "istio-h2, istio, h2",
    }
    .to_owned()
}

fn credential(tls: &TlsSpec) -> String {
    identity(tls.credential.identity.as_ref())
}

/// Where a certificate and its key come from.
pub(super) fn identity(source: Option<&IdentitySource>) -> String {
    match source {
        None => "none".to_owned(),
        Some(IdentitySource::Files(certificate, key)) => {
            format!("{}, key {}", certificate.display(), key.display())
        }
        Some(IdentitySource::Secret(secret)) => secret_words(&secret.resource, secret),
    }
}

fn secret_words(resource: &str, secret: &crate::model::SecretRef) -> String {
    let place = match (&secret.document, secret.folders.is_empty()) {
        (Some(_), _) => "a document",
        (None, false) => "mounted",
        (None, true) => "neither a document nor a folder has it",
    };
    format!(
        "Secret {}/{} ({resource}, {place})",
        secret.namespace, secret.name
    )
}

/// ISTIO.md T9, T10.
fn ca(tls: &TlsSpec) -> String {
    authority(&tls.credential)
}

/// Who must vouch for the other side, and what is revoked.
pub(super) fn authority(credential: &CredentialSpec) -> String {
    let ca = match &credential.ca {
        CaSource::System => "the operating system's store".to_owned(),
        CaSource::File(path) => path.display().to_string(),
        CaSource::Secret(secret) => secret_words(&secret.resource, secret),
        CaSource::Nothing => "none".to_owned(),
    };
    match &credential.crl {
        // A Secret may have a list, and mostly has none.
        None | Some(CrlSource::Secret(_)) => ca,
        Some(crl @ CrlSource::File(_)) => format!("{ca}, less what {crl} revokes"),
    }
}

/// ISTIO.md T7, a to d.
fn names(tls: &TlsSpec, host: Option<&str>) -> String {
    if !tls.verify_chain {
        return "not checked, and neither is the chain: insecureSkipVerify says so".to_owned();
    }
    let host_too = match (tls.also_host, host) {
        (true, Some(host)) => format!(", and {host}, the request's host, must be in it as well"),
        _ => String::new(),
    };
    if !tls.subject_alt_names.is_empty() {
        let list = tls.subject_alt_names.join(", ");
        let one = match tls.subject_alt_names.len() {
            1 => list,
            _ => format!("one of {list}"),
        };
        return how_checked(tls.name_check, &one, &host_too);
    }
    let set = tls.expected_name.as_ref().or(tls.server_name.as_ref());
    match (set.map(Host::as_str), host) {
        (Some(name), _) => {
            let sni_alone = tls.expected_name.is_none() && tls.alpn != AlpnOffer::Http;
            let words = how_checked(tls.name_check, &format!("{name} (sni)"), &host_too);
            match tls.name_check == NameCheck::Warn && sni_alone {
                // T7 d.
                true => format!("{words}; Istio checks no name where sni is set"),
                false => words,
            }
        }
        (None, Some(host)) => {
            how_checked(tls.name_check, &format!("{host} (the request's host)"), "")
        }
        (None, None) => "not checked: bytes name no host, and no name is set".to_owned(),
    }
}

fn how_checked(check: NameCheck, name: &str, host_too: &str) -> String {
    match check {
        NameCheck::Enforce => format!("the certificate must name {name}{host_too}"),
        NameCheck::Warn => format!(
            "not enforced: the chain alone counts, and a certificate without {name} is logged and \
             counted"
        ),
        NameCheck::Off => "not checked: any certificate that the CA signs will do".to_owned(),
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CredentialSpec;

    fn tls(change: impl FnOnce(&mut TlsSpec)) -> UpstreamSpec {
        let mut spec = TlsSpec::new(CredentialSpec {
            identity: None,
            ca: CaSource::System,
            crl: None,
        });
        change(&mut spec);
        UpstreamSpec {
            tls: TlsPolicy::Tls(Box::new(spec)),
            ..UpstreamSpec::new("bank")
        }
    }

    fn said(spec: &UpstreamSpec, host: Option<&str>, what: &str) -> Option<String> {
        let all = decisions(spec, host);
        all.into_iter()
            .find(|(key, _)| *key == what)
            .map(|(_, how)| how)
    }

    fn names_of(change: impl FnOnce(&mut TlsSpec)) -> String {
        said(&tls(change), Some("bank.example"), "names").unwrap()
    }

    fn name(text: &str) -> Option<Host> {
        Some(Host::parse(text).unwrap())
    }

    #[test]
    fn t7_every_way_in_which_names_are_checked_or_not_has_its_words() {
        assert!(names_of(|tls| tls.verify_chain = false).contains("insecureSkipVerify"));
        assert_eq!(
            names_of(|tls| tls.subject_alt_names = vec!["a".into(), "b".into()]),
            "the certificate must name one of a, b"
        );
        assert_eq!(
            names_of(|_| ()),
            "the certificate must name bank.example (the request's host)"
        );
        assert_eq!(
            names_of(|tls| {
                tls.server_name = name("inner.example");
                tls.name_check = NameCheck::Warn;
                tls.alpn = AlpnOffer::Http2Only;
            }),
            "not enforced: the chain alone counts, and a certificate without inner.example (sni) is \
             logged and counted; Istio checks no name where sni is set"
        );
        assert_eq!(
            names_of(|tls| tls.server_name = name("inner.example")),
            "the certificate must name inner.example (sni)"
        );
    }

    #[test]
    fn x9_both_names_are_told_where_both_must_hold() {
        let both = names_of(|tls| {
            tls.subject_alt_names = vec!["a".into()];
            tls.also_host = true;
        });
        assert_eq!(
            both,
            "the certificate must name a, and bank.example, the request's host, must \
             be in it as well"
        );
    }

    #[test]
    fn t6_without_sni_the_requests_host_is_sent_unless_it_is_an_address_or_there_is_none() {
        let plain = tls(|_| ());
        let sni = |host| said(&plain, host, "sni").unwrap();
        assert_eq!(
            sni(Some("bank.example")),
            "bank.example, the request's host"
        );
        assert!(sni(Some("10.0.0.1")).starts_with("none: "));
        assert!(sni(None).starts_with("none: "));
    }

    #[test]
    fn t1_plaintext_has_neither_sni_nor_names() {
        let plain = UpstreamSpec::new("bank");
        assert_eq!(
            said(&plain, Some("a"), "tls").unwrap(),
            "plaintext, HTTP/1.1"
        );
        assert_eq!(said(&plain, Some("a"), "names"), None);
        assert_eq!((word(&plain), word(&tls(|_| ()))), ("plaintext", "TLS"));
    }
}
