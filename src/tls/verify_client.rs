//! Whether a client's certificate is accepted: its chain, and whether it is one of those let in.
//!
//! Owns: [`ClientVerifier`], and the rules of ISTIO.md G6 and P12.
//! Never: puts a refusal into words (that is `explain_accept`).
//! Called by: rustls during the handshake.
//!
//! Why not rustls' own verifier: it takes no certificate that is listed itself (T10), lets an
//! expired CA pass, knows nothing of names and pins, and tells too little of a refusal.

use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use webpki::Error;

use super::chain::{self, Check, Peer, Rules, WrongName, is_literally};
use super::credential::Credential;
use super::facts::{CertFacts, San, parse, sha256};
use super::notes;
use crate::model::{CaSource, ClientCertificates, ServerTlsSpec};

/// Bytes of CA names that a client is told at most. A longer list is left out, which means "any"
/// (RFC 8446 section 4.3.2): the operating system's store would be a flight of its own.
const MOST_HINTS: usize = 8 * 1024;

/// The rules for the clients of one entrance.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    rules: Rules,
    mandatory: bool,
    alt_names: Vec<String>,
    spki_pins: Vec<[u8; 32]>,
    hash_pins: Vec<[u8; 32]>,
    trust_domains: Vec<Arc<str>>,
    hints: Vec<DistinguishedName>,
}

impl ClientVerifier {
    pub(super) fn new(
        spec: &ServerTlsSpec,
        credential: Arc<Credential>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> ClientVerifier {
        ClientVerifier {
            mandatory: spec.clients == ClientCertificates::Required,
            alt_names: spec.subject_alt_names.clone(),
            spki_pins: spec.spki_pins.clone(),
            hash_pins: spec.hash_pins.clone(),
            trust_domains: spec.trust_domains.clone(),
            hints: match spec.credential.ca {
                CaSource::System => Vec::new(),
                CaSource::File(_) | CaSource::Secret(_) | CaSource::Nothing => hints(&credential),
            },
            rules: Rules::new(credential, Peer::Client, algorithms),
        }
    }

    /// All checks; what the certificate says, where it is good.
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<CertFacts, Check> {
        self.rules.check(leaf, sent, now)?;
        // What nobody can tell the application of must not get in.
        let certificate = parse(leaf).map_err(|_| Check::Unreadable(Error::BadDer))?;
        let facts = CertFacts::of(&certificate);
        self.check_names(&facts)?;
        self.check_pins(leaf, certificate.public_key().raw)?;
        Ok(facts)
    }

    /// The same of a client that came in before, now.
    pub(super) fn accepts(&self, leaf: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> bool {
        self.check(leaf, sent, UnixTime::now()).is_ok()
    }

    fn check_names(&self, facts: &CertFacts) -> Result<(), Check> {
        let named = |wanted: &String| facts.sans.iter().any(|san| is_literally(san, wanted));
        if !self.alt_names.is_empty() && !self.alt_names.iter().any(named) {
            return Err(Check::Name(WrongName {
                expected: self.alt_names.clone(),
                configured: true,
            }));
        }
        let known = |san: &San| match san {
            San::Uri(uri) => trust_domain(uri)
                .is_some_and(|domain| self.trust_domains.iter().any(|known| **known == *domain)),
            San::Dns(_) | San::Ip(_) | San::Email(_) => false,
        };
        if !self.trust_domains.is_empty() && !facts.sans.iter().any(known) {
            let expected = self.trust_domains.clone();
            return Err(Check::TrustDomain { expected });
        }
        Ok(())
    }

    /// With both lists one of either will do, as in Envoy (ISTIO.md G6).
    fn check_pins(&self, leaf: &CertificateDer<'_>, key: &[u8]) -> Result<(), Check> {
        if self.spki_pins.is_empty() && self.hash_pins.is_empty() {
            return Ok(());
        }
        let (spki, hash) = (sha256(key), sha256(leaf));
        match self.spki_pins.contains(&spki) || self.hash_pins.contains(&hash) {
            true => Ok(()),
            false => Err(Check::Pin { spki, hash }),
        }
    }
}

/// The trust domain of a SPIFFE name that has a path, as every workload's has.
fn trust_domain(uri: &str) -> Option<&str> {
    let (domain, _) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    Some(domain)
}

/// What clients are told of whom we trust, so that those with several certificates can choose.
/// Of a certificate that is trusted by itself (T10) its issuer is told as well: clients compare
/// the names with the issuers in their chains.
fn hints(credential: &Credential) -> Vec<DistinguishedName> {
    let mut names: Vec<DistinguishedName> = Vec::new();
    for der in credential.roots.certificates.iter() {
        let Ok(certificate) = parse(der) else {
            continue;
        };
        let issuer = (!certificate.is_ca()).then(|| certificate.issuer().as_raw());
        for name in [certificate.subject().as_raw()].into_iter().chain(issuer) {
            let name = DistinguishedName::from(name.to_vec());
            if !names.iter().any(|known| known.as_ref() == name.as_ref()) {
                names.push(name);
            }
        }
    }
    let size: usize = names.iter().map(|name| name.as_ref().len() + 2).sum();
    match size <= MOST_HINTS {
        true => names,
        false => Vec::new(),
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let facts = self
            .check(leaf, sent, now)
            .map_err(|check| chain::refuse(check, Peer::Client, leaf, sent))?;
        let lists = self.rules.credential.crl_facts.iter();
        let until = lists.filter_map(|list| list.next_update).min();
        let until = facts.not_after.min(until.unwrap_or(i64::MAX));
        notes::write(|notes| notes.until = Some(until));
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        chain::check_proof12(&self.rules.algorithms, message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        chain::check_proof13(&self.rules.algorithms, message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, SanType, date_time_ymd};
    use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
    use rustls::version::{TLS12, TLS13};

    use super::super::testing::*;
    use super::super::testing_client::*;
    use super::super::{ServerTls, facts};
    use super::*;
    use crate::model::{CrlSource, OnExpired};

    /// An entrance of this policy, with these roots and lists.
    fn made(
        spec: &ServerTlsSpec,
        ours: &Leaf,
        roots: &[&CertificateDer<'static>],
        lists: &[CertificateRevocationListDer<'static>],
    ) -> ServerTls {
        let credential = credential(Some(ours), roots, lists);
        ServerTls::new(spec, credential, Vec::new(), OnExpired::Fail).unwrap()
    }

    fn required() -> ServerTlsSpec {
        server_spec(ClientCertificates::Required)
    }

    /// A client, and what an entrance of this policy that trusts `roots` says of it; the same for
    /// both versions.
    async fn verdict(
        spec: &ServerTlsSpec,
        roots: &[&CertificateDer<'static>],
        lists: &[CertificateRevocationListDer<'static>],
        client: &Leaf,
    ) -> Result<(), (String, &'static str, String)> {
        let ca = Ca::new("Our CA");
        let tls = made(spec, &ca.leaf(HOST), roots, lists);
        let mut verdicts = Vec::new();
        for version in [&TLS12, &TLS13] {
            let met = Client::with(&ca, Some(client), &[version]).meet(&tls).await;
            verdicts.push(match met.server.is_ok() {
                true => Ok(()),
                false => Err(met.refusal()),
            });
        }
        let [old, new] = [verdicts.remove(0), verdicts.remove(0)];
        let plain = |verdict: &Result<(), (String, &'static str, String)>| match verdict {
            Ok(()) => None,
            Err((_, label, alert)) => Some((*label, alert.clone())),
        };
        assert_eq!(plain(&old), plain(&new));
        new
    }

    async fn accepts(spec: &ServerTlsSpec, ca: &Ca, client: &Leaf) -> bool {
        verdict(spec, &[&ca.der], &[], client).await.is_ok()
    }

    fn named(ca: &Ca, sans: &[SanType]) -> Leaf {
        ca.leaf_with("ignored.example", |params| {
            params.subject_alt_names = sans.to_vec();
        })
    }

    #[tokio::test]
    async fn g6_any_one_of_the_names_is_enough_and_they_are_taken_literally() {
        let ca = Ca::new("Client CA");
        let client = named(
            &ca,
            &[
                SanType::DnsName("*.shop.example".try_into().unwrap()),
                SanType::URI("spiffe://cluster.local/ns/a/sa/b".try_into().unwrap()),
                SanType::IpAddress([10, 1, 2, 3].into()),
                SanType::Rfc822Name("ops@shop.example".try_into().unwrap()),
            ],
        );
        for (wanted, good) in [
            (&["*.shop.example"][..], true),
            (&["*.SHOP.example"], true),
            (&["spiffe://cluster.local/ns/a/sa/b"], true),
            (&["10.1.2.3"], true),
            (&["ops@shop.example"], true),
            (&["nobody.example", "10.1.2.3"], true),
            (&["api.shop.example"], false),
            (&["spiffe://cluster.local/ns/a/sa/bb"], false),
            (&["spiffe://cluster.local/ns/a/sa/B"], false),
            (&["ignored.example"], false),
        ] {
            let mut spec = required();
            spec.subject_alt_names = wanted.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(accepts(&spec, &ca, &client).await, good, "{wanted:?}");
        }
    }

    #[tokio::test]
    async fn g6_a_client_with_another_name_is_told_access_denied_and_we_both_names() {
        let ca = Ca::new("Client CA");
        let mut spec = required();
        spec.subject_alt_names = vec!["shop.example".to_owned()];
        let client = named(
            &ca,
            &[SanType::DnsName("thief.example".try_into().unwrap())],
        );
        let (words, label, alert) = verdict(&spec, &[&ca.der], &[], &client).await.unwrap_err();
        assert_eq!((label, alert.as_str()), ("san", "access_denied"));
        assert_eq!(
            words,
            "client certificate \"CN=ignored.example\": it is for another name: expected \
             \"shop.example\", and it names DNS:thief.example; if it is the client that you mean, \
             list one of its names among the subject alternative names of this entrance"
        );
        let (words, ..) = verdict(&spec, &[&ca.der], &[], &named(&ca, &[]))
            .await
            .unwrap_err();
        assert!(
            words.contains("names no subject alternative name at all"),
            "{words}"
        );
    }

    #[tokio::test]
    async fn g6_with_both_kinds_of_pins_one_of_either_will_do() {
        let ca = Ca::new("Client CA");
        let client = ca.leaf("shop.example");
        let key = parse(&client.chain[0]).unwrap().public_key().raw.to_vec();
        let (key, whole, wrong) = (sha256(&key), sha256(&client.chain[0]), [7; 32]);
        for (spki, hash, good) in [
            (&[key][..], &[][..], true),
            (&[], &[whole], true),
            (&[wrong, key], &[], true),
            (&[wrong], &[whole], true),
            (&[key], &[wrong], true),
            (&[wrong], &[wrong], false),
            (&[whole], &[], false),
            (&[], &[key], false),
        ] {
            let mut spec = required();
            (spec.spki_pins, spec.hash_pins) = (spki.to_vec(), hash.to_vec());
            assert_eq!(
                accepts(&spec, &ca, &client).await,
                good,
                "{spki:?} {hash:?}"
            );
        }
        let mut spec = required();
        spec.spki_pins = vec![wrong];
        let (words, label, alert) = verdict(&spec, &[&ca.der], &[], &client).await.unwrap_err();
        assert_eq!((label, alert.as_str()), ("pin", "access_denied"));
        for hash in [facts::base64(&key), facts::hex(&whole)] {
            assert!(words.contains(&hash), "{words}");
        }
        // A pin is no substitute for the chain.
        spec.spki_pins = vec![key];
        let (_, label, _) = verdict(&spec, &[&Ca::new("Other").der], &[], &client)
            .await
            .unwrap_err();
        assert_eq!(label, "unknown_ca");
    }

    #[tokio::test]
    async fn p12_a_client_must_be_of_a_trust_domain_of_ours() {
        let ca = Ca::new("Mesh CA");
        let mut spec = required();
        spec.trust_domains = vec!["cluster.local".into(), "old.mesh".into()];
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        for (sans, good) in [
            (vec![uri("spiffe://cluster.local/ns/a/sa/b")], true),
            (vec![uri("spiffe://old.mesh/ns/a/sa/b")], true),
            (vec![uri("spiffe://cluster.local.evil/ns/a/sa/b")], false),
            (vec![uri("spiffe://cluster.local")], false),
            (vec![uri("https://cluster.local/ns/a/sa/b")], false),
            (vec![uri("spiffe://other/ns/a/sa/b")], false),
            (
                vec![SanType::DnsName("cluster.local".try_into().unwrap())],
                false,
            ),
            (vec![], false),
        ] {
            assert_eq!(
                accepts(&spec, &ca, &named(&ca, &sans)).await,
                good,
                "{sans:?}"
            );
        }
        let stranger = named(&ca, &[uri("spiffe://other/ns/a/sa/b")]);
        let (words, label, alert) = verdict(&spec, &[&ca.der], &[], &stranger)
            .await
            .unwrap_err();
        assert_eq!((label, alert.as_str()), ("trust_domain", "access_denied"));
        assert!(
            words.contains(
                "it is not of this mesh: a URI that begins with spiffe://cluster.local/ or \
                 spiffe://old.mesh/ was expected, and it names URI:spiffe://other/ns/a/sa/b"
            ),
            "{words}"
        );
    }

    #[tokio::test]
    async fn t10_the_purpose_of_a_client_counts_where_it_is_told() {
        let ca = Ca::new("Client CA");
        let with = |purposes: Vec<ExtendedKeyUsagePurpose>| {
            ca.leaf_with("shop.example", |params| {
                params.extended_key_usages = purposes
            })
        };
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        assert!(accepts(&required(), &ca, &with(vec![])).await);
        assert!(accepts(&required(), &ca, &with(vec![ClientAuth])).await);
        let server = with(vec![ServerAuth]);
        let (words, label, alert) = verdict(&required(), &[&ca.der], &[], &server)
            .await
            .unwrap_err();
        assert_eq!(
            (label, alert.as_str()),
            ("bad_certificate", "unsupported_certificate")
        );
        assert!(
            words.contains("may not be used by a TLS client")
                && words.ends_with("lacks clientAuth"),
            "{words}"
        );
        // And so where the bundle lists it itself.
        let listed = [&server.chain[0]];
        let verdict = verdict(&required(), &listed, &[], &server).await;
        assert_eq!(verdict.unwrap_err().1, "bad_certificate");
    }

    #[tokio::test]
    async fn t10_a_partial_chain_and_a_listed_certificate_are_enough() {
        let root = Ca::new("Root");
        let middle = root.below("Middle");
        let leaf = middle.leaf("shop.example");
        assert!(accepts(&required(), &middle, &leaf).await);
        assert!(!accepts(&required(), &root, &leaf).await);
        let whole = middle.leaf("shop.example").followed_by(&middle);
        assert!(accepts(&required(), &root, &whole).await);
        let spec = required();
        assert!(verdict(&spec, &[&leaf.chain[0]], &[], &leaf).await.is_ok());
        let other = middle.leaf("shop.example");
        assert!(
            verdict(&spec, &[&leaf.chain[0]], &[], &other)
                .await
                .is_err()
        );
        let ended = self_signed("shop.example", |params| {
            params.not_after = date_time_ymd(2020, 1, 1);
        });
        let (_, label, alert) = verdict(&spec, &[&ended.chain[0]], &[], &ended)
            .await
            .unwrap_err();
        assert_eq!((label, alert.as_str()), ("expired", "certificate_expired"));
    }

    #[tokio::test]
    async fn a_ca_that_has_ended_is_no_anchor() {
        let dead = Ca::with("Dead CA", |params| {
            params.not_after = date_time_ymd(2021, 1, 1);
        });
        let (words, label, _) = verdict(&required(), &[&dead.der], &[], &dead.leaf("shop.example"))
            .await
            .unwrap_err();
        assert_eq!(label, "expired");
        assert!(
            words.contains("the CA \"CN=Dead CA\" in /etc/ca.pem expired at 2021"),
            "{words}"
        );
    }

    #[tokio::test]
    async fn w1_w3_a_certificate_of_a_wrong_form_is_told_which() {
        let ca = Ca::new("Client CA");
        let old = version_1(&ca, &ca.leaf("shop.example"));
        let authority = ca.leaf_with("shop.example", |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        for (client, part) in [
            (&old, "is an X.509 certificate of version 1"),
            (
                &authority,
                "it is a CA certificate (\"CN=shop.example\", basic constraints CA:TRUE), \
                          which no client may show as its own",
            ),
        ] {
            let (words, label, alert) = verdict(&required(), &[&ca.der], &[], client)
                .await
                .unwrap_err();
            assert_eq!(
                (label, alert.as_str()),
                ("bad_certificate", "unsupported_certificate")
            );
            assert!(words.contains(part), "{words}");
        }
        // Listed itself it is trusted, but the key must still be proven.
        let listed = [&old.chain[0]];
        assert!(verdict(&required(), &listed, &[], &old).await.is_ok());
        let mut thief = version_1(&ca, &ca.leaf("shop.example"));
        thief.chain = old.chain.clone();
        let (words, label, alert) = verdict(&required(), &listed, &[], &thief)
            .await
            .unwrap_err();
        assert_eq!(
            (label, alert.as_str()),
            ("bad_certificate", "decrypt_error")
        );
        assert!(
            words.contains("could not prove that it holds the key"),
            "{words}"
        );
    }

    #[tokio::test]
    async fn t10_with_a_list_every_certificate_of_the_chain_must_be_covered() {
        let root = Ca::new("Root");
        let middle = root.below("Middle");
        let client = middle.leaf("shop.example").followed_by(&middle);
        let mut spec = required();
        spec.credential.crl = Some(CrlSource::File("/etc/crl.pem".into()));
        for (lists, expected) in [
            (vec![root.crl(&[]), middle.crl(&[])], None),
            (
                vec![root.crl(&[]), middle.crl(&[42])],
                Some(("revoked", "certificate_revoked")),
            ),
            (
                vec![root.crl(&[77]), middle.crl(&[])],
                Some(("revoked", "certificate_revoked")),
            ),
            (
                vec![root.crl(&[])],
                Some(("revocation_unknown", "unknown_ca")),
            ),
            (
                vec![root.crl(&[]), middle.crl_until(&[], 2020)],
                Some(("revocation_unknown", "unknown_ca")),
            ),
        ] {
            let found = verdict(&spec, &[&root.der], &lists, &client).await.err();
            if let Some((words, ..)) = &found {
                assert!(words.contains("/etc/crl.pem"), "{words}");
            }
            let found = found.map(|(_, label, alert)| (label, alert));
            assert_eq!(
                found,
                expected.map(|(label, alert)| (label, alert.to_owned()))
            );
        }
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_told_by_the_alert_of_its_version() {
        let ca = Ca::new("CA");
        let tls = entrance(&required(), &ca.leaf(HOST), &ca);
        for (version, expected) in [
            (&TLS12, "handshake_failure"),
            (&TLS13, "certificate_required"),
        ] {
            let met = Client::with(&ca, None, &[version]).meet(&tls).await;
            let (words, label, alert) = met.refusal();
            assert_eq!((label, alert.as_str()), ("no_certificate", expected));
            assert_eq!(
                words,
                "the client showed no certificate, and this entrance demands one that a CA in \
                 /etc/ca.pem issued; it holds \"CN=CA\"; give the client one (TLS mode mutual, curl \
                 --cert), or let clients in without one"
            );
        }
    }

    #[test]
    fn clients_are_told_whom_we_trust_unless_that_is_too_much() {
        let root = Ca::new("Root");
        let leaf = root.leaf("shop.example");
        let trusting = |roots: &[&CertificateDer<'static>]| {
            let names = hints(&credential(None, roots, &[]));
            let name = |name: &DistinguishedName| {
                use x509_parser::prelude::FromDer;
                let (_, name) = x509_parser::x509::X509Name::from_der(name.as_ref()).unwrap();
                facts::rfc4514(&name)
            };
            names.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(trusting(&[&root.der, &root.der]), ["CN=Root"]);
        assert_eq!(trusting(&[&leaf.chain[0]]), ["CN=shop.example", "CN=Root"]);
        let many: Vec<_> = (0..200)
            .map(|n| Ca::new(&format!("{n} {}", "x".repeat(50))))
            .collect();
        let many: Vec<_> = many.iter().map(|ca| &ca.der).collect();
        assert!(trusting(&many).is_empty());
    }
}
