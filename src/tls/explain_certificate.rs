//! A refused certificate in words: the check, what was expected, what came, what to do.
//!
//! Owns: one line for each [`Check`].
//! Never: verifies anything.
//! Called by: `tls::explain` (a server's), `tls::explain_accept` (a client's), `tls::connect` (names
//! that are only warned of).

use std::sync::Arc;

use x509_parser::time::ASN1Time;

use super::chain::{Check, Peer, Refusal, WrongName};
use super::client_config::ca_name;
use super::credential::Credential;
use super::explain::{HandshakeReason, clean};
use super::facts::{CertFacts, San, base64, hex};
use crate::model::{CaSource, CredentialSpec, IdentitySource};

/// How many names or subjects one line lists.
const MOST: usize = 5;

/// What the words refer to: under which credential, and made of what, a peer was judged.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) credential: &'a Credential,
    pub(super) sources: &'a CredentialSpec,
    /// Whose certificates are refused.
    pub(super) peer: Peer,
}

impl Ground<'_> {
    /// What the peer is.
    fn peer(self) -> &'static str {
        match self.peer {
            Peer::Server => "server",
            Peer::Client => "client",
        }
    }

    /// What has the policy.
    fn ours(self) -> &'static str {
        match self.peer {
            Peer::Server => "this upstream",
            Peer::Client => "this entrance",
        }
    }
}

/// Class and words of a refusal, without saying whose certificate it is.
pub(super) fn words(on: Ground<'_>, refusal: &Refusal) -> (HandshakeReason, String) {
    match &refusal.check {
        Check::UnknownIssuer => (HandshakeReason::UnknownCa, unknown_issuer(on, refusal)),
        Check::Signature => (HandshakeReason::BadCertificate, signature(on, refusal)),
        Check::Name(wrong) => (
            HandshakeReason::San,
            wrong_name(on.peer, wrong, refusal.leaf.as_ref()),
        ),
        Check::Expired { until, now } => (
            HandshakeReason::Expired,
            format!(
                "{} expired at {}, and it is {} now; a new one is needed there",
                whose(on, refusal, |facts| facts.not_after == *until),
                rfc3339(*until),
                rfc3339(*now)
            ),
        ),
        Check::NotYetValid { from, now } => (
            HandshakeReason::NotYetValid,
            format!(
                "{} is valid from {} on, and it is {} now; one of the two clocks may be wrong",
                whose(on, refusal, |facts| facts.not_before == *from),
                rfc3339(*from),
                rfc3339(*now)
            ),
        ),
        Check::Revoked { subject } => (
            HandshakeReason::Revoked,
            format!(
                "{} is revoked: the list {} names it",
                match (subject, &refusal.leaf) {
                    (Some(subject), Some(leaf)) if *subject != leaf.subject =>
                        format!("the CA \"{subject}\" in its chain"),
                    (_, Some(leaf)) => format!("\"{}\" (serial {})", leaf.called(), leaf.serial),
                    (_, None) => "it".to_owned(),
                },
                crl_name(on)
            ),
        ),
        Check::NoRevocationList { .. }
        | Check::ListedUnderRevocation
        | Check::RevocationListExpired { .. }
        | Check::RevocationListUnusable(_) => (
            HandshakeReason::RevocationUnknown,
            revocation(on, &refusal.check),
        ),
        Check::Unreadable(_)
        | Check::Version1
        | Check::CaAsLeaf
        | Check::Purpose
        | Check::Rule(_) => (HandshakeReason::BadCertificate, form(on, refusal)),
        Check::Pin { spki, hash } => (HandshakeReason::Pin, wrong_pin(refusal, spki, hash)),
        Check::TrustDomain { expected } => (
            HandshakeReason::TrustDomain,
            wrong_trust_domain(refusal, expected),
        ),
    }
}

fn unknown_issuer(on: Ground<'_>, refusal: &Refusal) -> String {
    let ca = &on.sources.ca;
    let holds = holds(on);
    let Some(leaf) = &refusal.leaf else {
        return format!("no chain to a CA in {}{holds}", ca_name(ca));
    };
    if leaf.subject == leaf.issuer {
        return format!(
            "it is self-signed (\"{}\") and not among the certificates in {}{holds}; {}",
            leaf.subject,
            ca_name(ca),
            put(on, "if you trust it, put that certificate")
        );
    }
    // The certificate at which the chain breaks off: nobody, here or there, issued it.
    let mut end = leaf;
    for _ in &refusal.sent {
        let issuer = refusal.sent.iter().find(|next| next.subject == end.issuer);
        end = issuer
            .filter(|next| next.subject != next.issuer)
            .unwrap_or(end);
    }
    let sent = match refusal.sent.len() {
        0 => format!("; the {} sent no intermediate certificate", on.peer()),
        _ if end.issuer != leaf.issuer => {
            format!(
                "; the chain that it sent ends at the issuer \"{}\"",
                end.issuer
            )
        }
        _ => String::new(),
    };
    format!(
        "no chain to a CA in {}; it was issued by \"{}\"{sent}{holds}; {}",
        ca_name(ca),
        leaf.issuer,
        put(on, "put the issuer's certificate")
    )
}

fn put(on: Ground<'_>, what: &str) -> String {
    match &on.sources.ca {
        CaSource::File(_) => format!("{what} into that file"),
        CaSource::Secret(_) => format!("{what} into that Secret"),
        CaSource::System | CaSource::Nothing => {
            let ours = on.ours();
            format!("{what} into a file and name it as the CA of {ours}")
        }
    }
}

/// What is in that place, for those who wonder whether it is the right one.
pub(super) fn holds(on: Ground<'_>) -> String {
    let roots = &on.credential.root_facts;
    match &on.sources.ca {
        CaSource::System => format!(" ({} certificates)", roots.len()),
        CaSource::Nothing => String::new(),
        CaSource::File(_) | CaSource::Secret(_) => {
            let subjects = roots.iter().map(|facts| format!("\"{}\"", facts.subject));
            format!("; it holds {}", list(subjects, "nothing that can be read"))
        }
    }
}

/// The CA is known by name, but its key did not sign.
fn signature(on: Ground<'_>, refusal: &Refusal) -> String {
    let known = |issuer: &str| on.credential.root_facts.iter().any(|r| r.subject == issuer);
    let chain = refusal.leaf.iter().chain(&refusal.sent);
    let file = ca_name(&on.sources.ca);
    match chain.into_iter().find(|facts| known(&facts.issuer)) {
        Some(facts) => format!(
            "\"{}\" says that \"{}\" issued it, but the key of the CA of that name in {file} did \
             not sign it; the CA may have a new key under its old name: put its present \
             certificate there as well",
            facts.subject, facts.issuer
        ),
        None => "a signature in its chain does not fit the key of its issuer".to_owned(),
    }
}

/// What is wrong with the name, without saying whose certificate it is.
pub(super) fn wrong_name(peer: Peer, wrong: &WrongName, leaf: Option<&CertFacts>) -> String {
    let expected = wrong
        .expected
        .iter()
        .map(|name| format!("\"{}\"", clean(name)));
    let expected = expected.collect::<Vec<_>>().join(" or ");
    let sans = leaf.map(|leaf| leaf.sans.as_slice()).unwrap_or_default();
    if sans.is_empty() {
        let subject = leaf.map(|leaf| leaf.subject.as_str()).unwrap_or_default();
        return format!(
            "it names no subject alternative name at all, and {expected} was expected; the common \
             name of its subject \"{subject}\" is never looked at (RFC 9525), so it must be issued \
             anew with a subjectAltName"
        );
    }
    let advice = match (
        wrong.configured,
        sans.iter().any(|san| matches!(san, San::Uri(_))),
    ) {
        (true, _) if peer == Peer::Client => {
            "list one of its names among the subject alternative names of this entrance"
        }
        (true, _) => "correct the subject alternative names of this upstream",
        (false, true) => "list its URI as a subject alternative name of this upstream",
        (false, false) => "set the server name of this upstream to one of them",
    };
    format!(
        "it is for another name: expected {expected}, and it names {}; if it is the {} that \
         you mean, {advice}",
        list(sans.iter().map(|san| clean(&san.to_string())), "nothing"),
        match peer {
            Peer::Server => "server",
            Peer::Client => "client",
        }
    )
}

fn revocation(on: Ground<'_>, check: &Check) -> String {
    let list = crl_name(on);
    let file = ca_name(&on.sources.ca);
    match check {
        Check::RevocationListExpired { until, now } => format!(
            "whether it is revoked cannot be told: the list {list} ended at {}, and it is {} now; \
             fetch a new list",
            rfc3339(*until),
            rfc3339(*now)
        ),
        Check::RevocationListUnusable(error) => format!(
            "whether it is revoked cannot be told: the list {list} does not fit its CA ({error:?})"
        ),
        Check::ListedUnderRevocation => format!(
            "whether it is revoked cannot be told: {file} lists it itself and not the CA that \
             issued it; put that CA there as well, or do without the list {list}"
        ),
        Check::NoRevocationList {
            issuer: Some(issuer),
        } => format!(
            "whether it is revoked cannot be told: {list} holds no list of \"{issuer}\"; every CA \
             of the chain needs one (add it there)"
        ),
        _ => format!(
            "whether it is revoked cannot be told: {list} does not cover every CA of the chain"
        ),
    }
}

fn form(on: Ground<'_>, refusal: &Refusal) -> String {
    let subject = refusal.leaf.as_ref().map(CertFacts::called);
    let subject = subject.as_deref().unwrap_or("unreadable");
    match &refusal.check {
        Check::Version1 => {
            let mut chain = refusal.leaf.iter().chain(&refusal.sent);
            let old = chain.find(|facts| facts.version < 3);
            format!(
                "\"{}\" is an X.509 certificate of version {}, which has no extensions and is \
                 not accepted in a chain; issue it anew as version 3 (openssl x509 -req does so \
                 with -extfile)",
                old.map_or(subject, |facts| facts.subject.as_str()),
                old.map_or(1, |facts| facts.version)
            )
        }
        Check::CaAsLeaf => format!(
            "it is a CA certificate (\"{subject}\", basic constraints CA:TRUE), which no {peer} \
             may show as its own; issue one for the {peer}, or {}",
            put(on, "if you trust it, put that very certificate"),
            peer = on.peer()
        ),
        Check::Purpose => format!(
            "it may not be used by a TLS {}: the extended key usage of \"{subject}\" or of a CA \
             above it lacks {}",
            on.peer(),
            match on.peer {
                Peer::Server => "serverAuth",
                Peer::Client => "clientAuth",
            }
        ),
        Check::Unreadable(error) => format!("it cannot be read ({error:?})"),
        Check::Rule(error) => format!("it breaks a rule of RFC 5280 ({error:?}; \"{subject}\")"),
        _ => "it cannot be used".to_owned(),
    }
}

/// Which certificate of the chain, or which anchor, `fits`.
fn whose(on: Ground<'_>, refusal: &Refusal, fits: impl Fn(&CertFacts) -> bool) -> String {
    if let Some(leaf) = refusal.leaf.as_ref().filter(|leaf| fits(leaf)) {
        return format!("\"{}\"", leaf.called());
    }
    if let Some(facts) = refusal.sent.iter().find(|facts| fits(facts)) {
        return format!(
            "the CA \"{}\" that the {} sent with it",
            facts.subject,
            on.peer()
        );
    }
    let file = ca_name(&on.sources.ca);
    match on.credential.root_facts.iter().find(|facts| fits(facts)) {
        Some(facts) => format!("the CA \"{}\" in {file}", facts.subject),
        None => "a certificate of its chain".to_owned(),
    }
}

/// None of the pins fits (ISTIO.md G6).
fn wrong_pin(refusal: &Refusal, spki: &[u8; 32], hash: &[u8; 32]) -> String {
    let subject = refusal.leaf.as_ref().map(CertFacts::called);
    format!(
        "\"{}\" is not one of those that are pinned: the SHA-256 of its public key is {}, that of \
         the certificate itself {}; if it is the client that you mean, list one of them",
        subject.as_deref().unwrap_or("unreadable"),
        base64(spki),
        hex(hash)
    )
}

/// It has no name in a trust domain of ours (ISTIO.md P12).
fn wrong_trust_domain(refusal: &Refusal, expected: &[Arc<str>]) -> String {
    let expected: Vec<_> = expected
        .iter()
        .map(|domain| format!("spiffe://{domain}/"))
        .collect();
    let sans = refusal.leaf.as_ref().map(|leaf| leaf.sans.as_slice());
    let sans = sans.unwrap_or_default().iter();
    format!(
        "it is not of this mesh: a URI that begins with {} was expected, and it names {}; if the \
         client's mesh is to be let in, list its trust domain as an alias of ours",
        expected.join(" or "),
        list(sans.map(|san| clean(&san.to_string())), "nothing")
    )
}

/// Our own certificate has ended, and is not offered any more (ISTIO.md R17).
pub(super) fn own_expired(on: Ground<'_>, until: i64, now: i64) -> String {
    let subject = on.credential.identity.as_ref().map(|i| i.leaf.called());
    let file = on.sources.identity.as_ref();
    let (role, peer) = match on.peer {
        Peer::Server => ("client", "server"),
        Peer::Client => ("server", "client"),
    };
    format!(
        "our {role} certificate (\"{}\", {}) expired at {}, and it is {} now; the {peer} would \
         refuse it, so nothing was sent; renew that {} (a new one is taken up at once)",
        subject.unwrap_or_default(),
        file.map_or_else(|| "-".to_owned(), ToString::to_string),
        rfc3339(until),
        rfc3339(now),
        match file {
            Some(IdentitySource::Secret(_)) => "Secret",
            Some(IdentitySource::Files(..)) | None => "file",
        }
    )
}

/// The place of the trust anchors.
pub(super) fn ca(on: Ground<'_>) -> String {
    ca_name(&on.sources.ca)
}

fn crl_name(on: Ground<'_>) -> String {
    let crl = on.sources.crl.as_ref();
    crl.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn list(items: impl ExactSizeIterator<Item = String>, none: &str) -> String {
    let more = items.len().saturating_sub(MOST);
    let shown: Vec<String> = items.take(MOST).collect();
    match (shown.is_empty(), more) {
        (true, _) => none.to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `2026-11-21T10:00:00Z`; the number itself where the calendar has no such year.
pub(super) fn rfc3339(seconds: i64) -> String {
    let Ok(time) = ASN1Time::from_timestamp(seconds) else {
        return seconds.to_string();
    };
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use rcgen::{SanType, date_time_ymd};
    use rustls::version::{TLS12, TLS13};

    use super::super::testing::*;
    use super::*;
    use crate::model::CrlSource;
    use crate::tls::ClientTls;

    /// Both versions: words begin so, end so, the class, and the alert that the server saw.
    async fn refuses(
        tls: &ClientTls,
        leaf: &Leaf,
        begin: &str,
        end: &str,
        label: &str,
        alert: &str,
    ) {
        for version in [&TLS12, &TLS13] {
            let server = Server::with(leaf, &[version], None);
            let (words, reason, seen) = server.refusal(tls).await;
            let head = "server certificate of bank.example: ";
            let rest = words
                .strip_prefix(head)
                .unwrap_or_else(|| panic!("{words}"));
            assert!(rest.starts_with(begin), "{words}");
            assert!(rest.ends_with(end), "{words}");
            assert!(!words.contains('\n'));
            assert_eq!((reason.label(), seen.as_str()), (label, alert), "{words}");
            assert!(reason.is_check() && reason.is_certificate());
        }
    }

    #[tokio::test]
    async fn an_unknown_issuer_names_what_came_and_what_the_file_holds() {
        let mine = Ca::new("My CA");
        let tls = trusting(&mine);
        let other = Ca::new("Other CA");
        let begin = "no chain to a CA in /etc/ca.pem; it was issued by \"CN=Other CA\"; the server \
                     sent no intermediate certificate; it holds \"CN=My CA\"; put the \
                     issuer's certificate into that file";
        refuses(
            &tls,
            &other.leaf(HOST),
            begin,
            "",
            "unknown_ca",
            "unknown_ca",
        )
        .await;
        let middle = other.below("Middle");
        let leaf = middle.leaf(HOST).followed_by(&middle);
        let begin = "no chain to a CA in /etc/ca.pem; it was issued by \"CN=Middle\"; the chain \
                     that it sent ends at the issuer \"CN=Other CA\"";
        refuses(&tls, &leaf, begin, "that file", "unknown_ca", "unknown_ca").await;
    }

    #[tokio::test]
    async fn b12_a_secret_goes_by_the_name_of_its_resource() {
        use crate::model::{IdentitySource, SecretRef};
        let mine = Ca::new("My CA");
        let mut spec = spec();
        let secret = SecretRef {
            resource: "kubernetes://bank".into(),
            namespace: "shop".into(),
            name: "bank".into(),
            document: None,
            ca_document: None,
            folders: [].into(),
        };
        spec.credential.identity = Some(IdentitySource::Secret(secret.clone()));
        spec.credential.ca = CaSource::Secret(secret);
        let expired = mine.leaf_with("shop.example", |params| {
            params.not_after = date_time_ymd(2020, 1, 1);
        });
        let tls = client_tls(&spec, &credential(None, &[&mine.der], &[]));
        let begin =
            "no chain to a CA in kubernetes://bank-cacert; it was issued by \"CN=Other CA\"";
        let end = "it holds \"CN=My CA\"; put the issuer's certificate into that Secret";
        let other = Ca::new("Other CA").leaf(HOST);
        refuses(&tls, &other, begin, end, "unknown_ca", "unknown_ca").await;
        let tls = client_tls(&spec, &credential(Some(&expired), &[&mine.der], &[]));
        let words = own_expired(tls.ground(), 0, 1);
        assert_eq!(
            words,
            "our client certificate (\"CN=shop.example\", kubernetes://bank) expired at \
             1970-01-01T00:00:00Z, and it is 1970-01-01T00:00:01Z now; the server would refuse it, \
             so nothing was sent; renew that Secret (a new one is taken up at once)"
        );
    }

    #[tokio::test]
    async fn a_self_signed_certificate_is_named_as_that() {
        let tls = trusting(&Ca::new("My CA"));
        let leaf = self_signed(HOST, |_| ());
        let begin = "it is self-signed (\"CN=bank.example\") and not among the certificates in \
                     /etc/ca.pem; it holds \"CN=My CA\"; if you trust it, put that";
        refuses(
            &tls,
            &leaf,
            begin,
            "into that file",
            "unknown_ca",
            "unknown_ca",
        )
        .await;
    }

    #[tokio::test]
    async fn a_wrong_name_lists_the_names_presented() {
        let ca = Ca::new("My CA");
        let leaf = ca.leaf_with("a.example", |params| {
            params
                .subject_alt_names
                .push(SanType::IpAddress([10, 0, 0, 9].into()));
        });
        let begin = "it is for another name: expected \"bank.example\", and it names \
                     DNS:a.example, IP:10.0.0.9; if it is the server that you mean, set";
        refuses(
            &trusting(&ca),
            &leaf,
            begin,
            "one of them",
            "san",
            "bad_certificate",
        )
        .await;
        let cn = ca.leaf_with(HOST, |params| params.subject_alt_names.clear());
        let begin =
            "it names no subject alternative name at all, and \"bank.example\" was expected";
        refuses(
            &trusting(&ca),
            &cn,
            begin,
            "subjectAltName",
            "san",
            "bad_certificate",
        )
        .await;
        let mut spec = spec();
        spec.subject_alt_names = vec!["x.example".to_owned(), "y.example".to_owned()];
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        let begin = "it is for another name: expected \"x.example\" or \"y.example\", and it names";
        refuses(
            &tls,
            &leaf,
            begin,
            "of this upstream",
            "san",
            "bad_certificate",
        )
        .await;
    }

    #[tokio::test]
    async fn a_name_of_the_peer_cannot_forge_a_log_line() {
        let ca = Ca::new("My CA");
        let leaf = ca.leaf_with("a.example", |params| {
            params.subject_alt_names =
                vec![SanType::URI("spiffe://a\n503 forged".try_into().unwrap())];
        });
        let begin = "it is for another name";
        refuses(&trusting(&ca), &leaf, begin, "", "san", "bad_certificate").await;
    }

    #[tokio::test]
    async fn both_times_are_told_of_a_certificate_that_is_not_valid_now() {
        let ca = Ca::new("My CA");
        let old = ca.leaf_with(HOST, |params| params.not_after = date_time_ymd(2020, 1, 1));
        let begin = "\"CN=bank.example\" expired at 2020-01-01T00:00:00Z, and it is 2";
        let tls = trusting(&ca);
        refuses(
            &tls,
            &old,
            begin,
            "needed there",
            "expired",
            "certificate_expired",
        )
        .await;
        let new = ca.leaf_with(HOST, |params| params.not_before = date_time_ymd(4000, 1, 1));
        let begin = "\"CN=bank.example\" is valid from 4000-01-01T00:00:00Z on, and it is 2";
        refuses(
            &tls,
            &new,
            begin,
            "wrong",
            "not_yet_valid",
            "certificate_expired",
        )
        .await;
        let dead = Ca::with("Dead CA", |params| {
            params.not_after = date_time_ymd(2021, 1, 1)
        });
        let begin = "the CA \"CN=Dead CA\" in /etc/ca.pem expired at 2021-01-01T00:00:00Z";
        let tls = trusting(&dead);
        refuses(
            &tls,
            &dead.leaf(HOST),
            begin,
            "",
            "expired",
            "certificate_expired",
        )
        .await;
    }

    #[tokio::test]
    async fn revocation_names_the_list_and_who_is_on_it() {
        let root = Ca::new("Root");
        let middle = root.below("Middle");
        let leaf = middle.leaf(HOST).followed_by(&middle);
        let mut spec = spec();
        spec.credential.crl = Some(CrlSource::File("/etc/crl.pem".into()));
        let tls = |lists: &[_]| client_tls(&spec, &credential(None, &[&root.der], lists));
        let revoked = tls(&[root.crl(&[]), middle.crl(&[42])]);
        let begin = "\"CN=bank.example\" (serial 2a) is revoked: the list /etc/crl.pem names it";
        refuses(&revoked, &leaf, begin, "", "revoked", "certificate_revoked").await;
        let revoked = tls(&[root.crl(&[77]), middle.crl(&[])]);
        let begin = "the CA \"CN=Middle\" in its chain is revoked: the list /etc/crl.pem names it";
        refuses(&revoked, &leaf, begin, "", "revoked", "certificate_revoked").await;
        let unknown = "whether it is revoked cannot be told: ";
        for (lists, end) in [
            (
                vec![root.crl(&[])],
                "/etc/crl.pem holds no list of \"CN=Middle\"; every CA of the chain needs one \
                 (add it there)",
            ),
            (
                vec![root.crl(&[]), middle.crl_until(&[], 2020)],
                "fetch a new list",
            ),
            (
                vec![root.crl(&[]), Ca::new("Middle").crl(&[])],
                "does not fit its CA (InvalidCrlSignatureForPublicKey)",
            ),
        ] {
            let tls = tls(&lists);
            refuses(
                &tls,
                &leaf,
                unknown,
                end,
                "revocation_unknown",
                "unknown_ca",
            )
            .await;
        }
    }

    #[tokio::test]
    async fn a_certificate_of_a_wrong_form_is_told_which() {
        let ca = Ca::new("My CA");
        let tls = trusting(&ca);
        let client = ca.leaf_with(HOST, |params| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        });
        let (label, alert) = ("bad_certificate", "unsupported_certificate");
        let begin = "it may not be used by a TLS server: the extended key usage of \
                     \"CN=bank.example\"";
        refuses(&tls, &client, begin, "lacks serverAuth", label, alert).await;
        let authority = ca.leaf_with(HOST, |params| {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        });
        let begin = "it is a CA certificate (\"CN=bank.example\", basic constraints CA:TRUE)";
        refuses(&tls, &authority, begin, "into that file", label, alert).await;
    }

    #[tokio::test]
    async fn w1_a_certificate_of_version_1_is_named_as_that() {
        let ca = Ca::new("My CA");
        let leaf = version_1(&ca, &ca.leaf(HOST));
        let (label, alert) = ("bad_certificate", "unsupported_certificate");
        let begin = "\"CN=bank.example\" is an X.509 certificate of version 1, which has no";
        refuses(&trusting(&ca), &leaf, begin, "-extfile)", label, alert).await;
    }

    #[tokio::test]
    async fn w1_a_certificate_of_version_1_passes_where_nothing_is_checked_or_it_is_listed() {
        let ca = Ca::new("My CA");
        let leaf = version_1(&ca, &ca.leaf(HOST));
        let mut unchecked = spec();
        unchecked.verify_chain = false;
        let mut listed = spec();
        listed.name_check = crate::model::NameCheck::Off;
        for version in [&TLS12, &TLS13] {
            let server = Server::with(&leaf, &[version], None);
            let tls = client_tls(&unchecked, &credential(None, &[&ca.der], &[]));
            assert!(server.meet(&tls, HOST).await.0.is_ok());
            let tls = client_tls(&listed, &credential(None, &[&leaf.chain[0]], &[]));
            assert!(server.meet(&tls, HOST).await.0.is_ok());
            // The key must still be proven: here the server holds another one.
            let mut thief = version_1(&ca, &ca.leaf(HOST));
            thief.chain = leaf.chain.clone();
            let (words, ..) = Server::with(&thief, &[version], None).refusal(&tls).await;
            assert!(
                words.contains("could not prove that it holds the key"),
                "{words}"
            );
        }
    }

    #[tokio::test]
    async fn a_renewed_ca_key_under_the_old_name_is_suspected() {
        let old = Ca::new("Bank CA");
        let leaf = Ca::new("Bank CA").leaf(HOST);
        let begin = "\"CN=bank.example\" says that \"CN=Bank CA\" issued it, but the key of the CA \
                     of that name in /etc/ca.pem did not sign it";
        let label = "bad_certificate";
        refuses(
            &trusting(&old),
            &leaf,
            begin,
            "as well",
            label,
            "decrypt_error",
        )
        .await;
    }

    #[tokio::test]
    async fn the_system_store_is_named_as_such() {
        let ca = Ca::new("One CA");
        let mut spec = spec();
        spec.credential.ca = CaSource::System;
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        let leaf = Ca::new("Other CA").leaf(HOST);
        let begin = "no chain to a CA in the operating system's CA store; it was issued by";
        let end = "into a file and name it as the CA of this upstream";
        refuses(&tls, &leaf, begin, end, "unknown_ca", "unknown_ca").await;
    }

    #[test]
    fn times_read_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_210_096), "2024-02-29T12:34:56Z");
    }
}
