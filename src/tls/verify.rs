//! Whether a server's certificate is accepted: its chain, and its name.
//!
//! Owns: [`Verifier`], and the rules of ISTIO.md T7 and T8.
//! Never: puts a refusal into words (that is `explain`).
//! Called by: rustls during the handshake, `tls::connect` (names that are only warned of).
//!
//! Why not rustls' own verifier: it cannot leave the name to us, takes no certificate that is
//! listed itself (T10), lets an expired CA pass, and tells too little of a refusal.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, WantsClientCert};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ConfigBuilder, DigitallySignedStruct, SignatureScheme, WantsVerifier};
use webpki::EndEntityCert;

use super::chain::{self, Check, Peer, Rules, WrongName, is_literally};
use super::credential::Credential;
use super::facts::{CertFacts, parse};
use super::known::Span;
use super::sessions::Sessions;
use crate::model::{NameCheck, TlsSpec};

/// The rules for the servers of one upstream.
#[derive(Debug)]
pub(super) struct Verifier {
    rules: Rules,
    verify_chain: bool,
    name_check: NameCheck,
    alt_names: Vec<String>,
    /// The server's name must fit as well as `alt_names` (ISTIO.md X9).
    also_host: bool,
    /// The name that the policy expects in place of the one that is sent.
    expected: Option<ServerName<'static>>,
    sessions: Arc<Sessions>,
}

impl Verifier {
    pub(super) fn new(
        spec: &TlsSpec,
        expected: Option<ServerName<'static>>,
        credential: Arc<Credential>,
        algorithms: WebPkiSupportedAlgorithms,
        sessions: Arc<Sessions>,
    ) -> Verifier {
        Verifier {
            rules: Rules::new(credential, Peer::Server, algorithms),
            verify_chain: spec.verify_chain,
            name_check: spec.name_check,
            alt_names: spec.subject_alt_names.clone(),
            also_host: spec.also_host,
            expected,
            sessions,
        }
    }

    /// Puts the verifier into a configuration.
    pub(super) fn install(
        self: Arc<Self>,
        builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    ) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        builder.dangerous().with_custom_certificate_verifier(self)
    }

    /// All checks; when `leaf` ends, where that is known without reading it again.
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<Option<i64>, Check> {
        let until = self.rules.check(leaf, sent, now)?;
        if self.name_check == NameCheck::Enforce
            && let Some(wrong) = self.wrong_name(leaf, name)
        {
            return Err(Check::Name(wrong));
        }
        Ok(until)
    }

    /// What is wrong with the name of `leaf`, whatever the policy makes of it (T7 b to d, T8, X9).
    /// `name` is the one that rustls was given, and so the one that sessions are filed under.
    pub(super) fn wrong_name(
        &self,
        leaf: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> Option<WrongName> {
        let name = match &self.expected {
            Some(expected) => Some(expected),
            None => Some(name).filter(|name| !is_nameless(name)),
        };
        let certificate = EndEntityCert::try_from(leaf).ok();
        let names = |name: &ServerName<'_>| {
            certificate
                .as_ref()
                .is_some_and(|c| c.verify_is_valid_for_subject_name(name).is_ok())
        };
        if !self.alt_names.is_empty() {
            let sans = parse(leaf).map(|c| CertFacts::of(&c).sans);
            let sans = sans.unwrap_or_default();
            let good = self.alt_names.iter().any(|wanted| {
                sans.iter().any(|san| is_literally(san, wanted))
                    || ServerName::try_from(wanted.as_str()).is_ok_and(|name| names(&name))
            });
            if !good {
                return Some(WrongName {
                    expected: self.alt_names.clone(),
                    configured: true,
                });
            }
            if !self.also_host {
                return None;
            }
        }
        // A stream without a name has none to be held to (T7 c).
        name.filter(|name| !names(name)).map(|name| WrongName {
            expected: vec![name.to_str().into_owned()],
            configured: false,
        })
    }
}

/// In place of a name where there is none: no SNI is sent for an address, and `connect` lets no
/// host through that is this one, so that none is ever mistaken for it.
pub(super) fn nameless() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv6Addr::UNSPECIFIED.into())
}

/// True for [`nameless()`] alone.
pub(super) fn is_nameless(name: &ServerName<'_>) -> bool {
    *name == nameless()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.verify_chain {
            return Ok(ServerCertVerified::assertion());
        }
        let until = self
            .check(leaf, sent, name, now)
            .map_err(|check| chain::refuse(check, Peer::Server, leaf, sent))?;
        if let Some(until) = until.or_else(|| Some(Span::of(leaf)?.until)) {
            self.sessions.accepted(name, until);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        chain::check_proof12(&self.rules.algorithms, message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        chain::check_proof13(&self.rules.algorithms, message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{SanType, date_time_ymd};

    use super::super::testing::*;
    use super::*;
    use crate::model::CrlSource;
    use crate::tls::ClientTls;

    async fn accepts(tls: &ClientTls, leaf: &Leaf) -> bool {
        Server::new(leaf).meet(tls, HOST).await.0.is_ok()
    }

    #[tokio::test]
    async fn t10_an_intermediate_in_the_bundle_is_an_anchor() {
        let root = Ca::new("Root");
        let middle = root.below("Middle");
        let leaf = middle.leaf(HOST);
        assert!(accepts(&trusting(&middle), &leaf).await);
        // Without the intermediate the root is not reached.
        assert!(!accepts(&trusting(&root), &leaf).await);
        assert!(accepts(&trusting(&root), &middle.leaf(HOST).followed_by(&middle)).await);
    }

    #[tokio::test]
    async fn t10_a_leaf_in_the_bundle_is_trusted_and_still_checked() {
        let ca = Ca::new("Unknown CA");
        let tls = |leaf: &Leaf| client_tls(&spec(), &credential(None, &[&leaf.chain[0]], &[]));
        let good = ca.leaf(HOST);
        assert!(accepts(&tls(&good), &good).await);
        assert!(!accepts(&tls(&good), &ca.leaf(HOST)).await);
        let own = self_signed(HOST, |_| ());
        assert!(accepts(&tls(&own), &own).await);
        let authority = self_signed(HOST, |params| {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        });
        assert!(accepts(&tls(&authority), &authority).await);
        let ended = self_signed(HOST, |params| params.not_after = date_time_ymd(2020, 1, 1));
        assert!(!accepts(&tls(&ended), &ended).await);
        let early = self_signed(HOST, |params| params.not_before = date_time_ymd(4000, 1, 1));
        assert!(!accepts(&tls(&early), &early).await);
        let other = self_signed("other.example", |_| ());
        assert!(!accepts(&tls(&other), &other).await);
        let client = self_signed(HOST, |params| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        });
        assert!(!accepts(&tls(&client), &client).await);
    }

    #[tokio::test]
    async fn an_expired_ca_in_the_bundle_is_no_anchor_where_a_valid_one_is() {
        let key = |params: &mut rcgen::CertificateParams| {
            params.not_after = date_time_ymd(2020, 1, 1);
        };
        let old = Ca::with("Bank CA", key);
        let leaf = old.leaf(HOST);
        assert!(!accepts(&trusting(&old), &leaf).await);
        // The same CA renewed: same name, same key.
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Bank CA");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let renewed = params.self_signed(old.issuer.key()).unwrap().der().clone();
        let tls = client_tls(&spec(), &credential(None, &[&old.der, &renewed], &[]));
        assert!(accepts(&tls, &leaf).await);
    }

    #[tokio::test]
    async fn t8_any_one_of_the_configured_names_is_enough() {
        let ca = Ca::new("Bank CA");
        let leaf = ca.leaf_with("ignored.example", |params| {
            params.subject_alt_names = vec![
                SanType::DnsName("*.bank.example".try_into().unwrap()),
                SanType::URI("spiffe://cluster.local/ns/a/sa/b".try_into().unwrap()),
                SanType::IpAddress([10, 1, 2, 3].into()),
                SanType::Rfc822Name("ops@bank.example".try_into().unwrap()),
            ];
        });
        for (wanted, good) in [
            (&["api.bank.example"][..], true),
            (&["API.bank.example"], true),
            (&["*.bank.example"], true),
            (&["spiffe://cluster.local/ns/a/sa/b"], true),
            (&["10.1.2.3"], true),
            (&["ops@bank.example"], true),
            (&["nobody.example", "10.1.2.3"], true),
            (&["bank.example"], false),
            (&["a.b.bank.example"], false),
            (&["spiffe://cluster.local/ns/a/sa/B"], false),
            (&["spiffe://cluster.local/ns/a/sa/bb"], false),
            (&["10.1.2.4"], false),
            (&["ignored.example"], false),
        ] {
            let mut spec = spec();
            spec.subject_alt_names = wanted.iter().map(|&name| name.to_owned()).collect();
            let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
            assert_eq!(accepts(&tls, &leaf).await, good, "{wanted:?}");
        }
    }

    /// A workload of the mesh: a SPIFFE name and no DNS name.
    fn workload(ca: &Ca, account: &str) -> Leaf {
        let uri = format!("spiffe://cluster.local/ns/shop/sa/{account}");
        ca.leaf_with("ignored.example", |params| {
            params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        })
    }

    #[tokio::test]
    async fn t12_a_workload_without_a_dns_name_is_held_to_its_spiffe_name() {
        let ca = Ca::new("Mesh CA");
        let mut spec = spec();
        let sni = "outbound_.80_._.bank.shop.svc.cluster.local";
        spec.server_name = Some(crate::model::Host::parse(sni).unwrap());
        spec.subject_alt_names = vec!["spiffe://cluster.local/ns/shop/sa/bank".to_owned()];
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        assert!(accepts(&tls, &workload(&ca, "bank")).await);
        assert!(!accepts(&tls, &workload(&ca, "thief")).await);
        assert!(!accepts(&tls, &workload(&Ca::new("Other CA"), "bank")).await);
        // No service account is known: the chain alone.
        spec.subject_alt_names.clear();
        spec.name_check = NameCheck::Off;
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        assert!(accepts(&tls, &workload(&ca, "thief")).await);
        assert!(!accepts(&tls, &workload(&Ca::new("Other CA"), "bank")).await);
    }

    #[tokio::test]
    async fn x9_where_the_host_counts_besides_both_must_hold() {
        let ca = Ca::new("Bank CA");
        let named = |names: &[&str]| {
            ca.leaf_with("ignored.example", |params| {
                let names = names
                    .iter()
                    .map(|&name| SanType::DnsName(name.try_into().unwrap()));
                params.subject_alt_names = names.collect();
            })
        };
        let mut spec = spec();
        spec.subject_alt_names = vec!["payments.bank".to_owned(), "other.bank".to_owned()];
        for (also_host, names, good) in [
            (true, &[HOST, "payments.bank"][..], true),
            (true, &[HOST], false),
            (true, &["payments.bank"], false),
            (false, &["payments.bank"], true),
            (false, &[HOST], false),
        ] {
            spec.also_host = also_host;
            let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
            assert_eq!(
                accepts(&tls, &named(names)).await,
                good,
                "{also_host} {names:?}"
            );
        }
        spec.also_host = true;
        spec.server_name = Some(crate::model::Host::parse("front.example").unwrap());
        let credential = credential(None, &[&ca.der], &[]);
        let made = ClientTls::new(
            &spec,
            crate::model::HttpChoice::Auto,
            credential,
            crate::model::OnExpired::Fail,
        );
        let words = "the request's host cannot be verified where the server name is \
                     \"front.example\"; leave one out";
        assert_eq!(made.err().unwrap().to_string(), words);
    }

    #[tokio::test]
    async fn t7_the_expected_name_counts_and_the_name_that_is_sent_does_not() {
        let ca = Ca::new("Mesh CA");
        let mut spec = spec();
        let host = |text: &str| Some(crate::model::Host::parse(text).unwrap());
        spec.server_name = host("outbound_.80_._.bank.shop");
        spec.expected_name = host("bank.shop");
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        assert!(accepts(&tls, &ca.leaf("bank.shop")).await);
        let (words, reason, _) = Server::new(&ca.leaf(HOST)).refusal(&tls).await;
        assert_eq!(reason.label(), "san");
        assert!(
            words.starts_with(
                "server certificate of outbound_.80_._.bank.shop: it is for another name: \
                 expected \"bank.shop\", and it names DNS:bank.example"
            ),
            "{words}"
        );
    }

    #[tokio::test]
    async fn t7_a_credential_that_trusts_nobody_serves_only_a_policy_that_verifies_nothing() {
        let ca = Ca::new("Bank CA");
        let parts = crate::tls::CredentialParts {
            name: "none".to_owned(),
            identity: None,
            roots: None,
            crls: Vec::new(),
            generation: crate::tls::Generation([0; 32]),
            uses: crate::model::Uses::CLIENT,
        };
        let credential = Arc::new(Credential::new(parts).unwrap());
        let mut spec = spec();
        let made = |spec: &TlsSpec| {
            let credential = Arc::clone(&credential);
            let http = crate::model::HttpChoice::Auto;
            ClientTls::new(spec, http, credential, crate::model::OnExpired::Fail)
        };
        assert!(made(&spec).is_err());
        spec.verify_chain = false;
        assert!(accepts(&made(&spec).unwrap(), &ca.leaf(HOST)).await);
    }

    #[tokio::test]
    async fn t8_a_wildcard_stands_for_one_label_and_the_common_name_for_nothing() {
        let ca = Ca::new("Bank CA");
        let tls = trusting(&ca);
        let server = Server::new(&ca.leaf("*.bank.example"));
        assert!(server.meet(&tls, "api.bank.example").await.0.is_ok());
        for host in ["bank.example", "a.b.bank.example"] {
            assert!(server.meet(&tls, host).await.0.is_err(), "{host}");
        }
        let only_cn = ca.leaf_with(HOST, |params| params.subject_alt_names.clear());
        assert!(!accepts(&tls, &only_cn).await);
    }

    #[tokio::test]
    async fn t7_the_name_is_not_looked_at_where_the_policy_says_so_but_the_chain_is() {
        let ca = Ca::new("Bank CA");
        let mut spec = spec();
        spec.name_check = NameCheck::Off;
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        assert!(accepts(&tls, &ca.leaf("other.example")).await);
        assert!(!accepts(&tls, &Ca::new("Other CA").leaf(HOST)).await);
    }

    #[tokio::test]
    async fn a_chain_that_is_known_is_refused_under_another_name() {
        let ca = Ca::new("Bank CA");
        let tls = trusting(&ca);
        let server = Server::new(&ca.leaf(HOST));
        for (host, good) in [(HOST, true), ("other.example", false), (HOST, true)] {
            let met = server.meet(&tls, host).await.0;
            assert_eq!(
                met.map_err(|error| error.reason.label()).err(),
                (!good).then_some("san")
            );
        }
    }

    #[tokio::test]
    async fn a_chain_that_is_known_is_refused_from_one_who_lacks_its_key() {
        let ca = Ca::new("Bank CA");
        let tls = trusting(&ca);
        let good = ca.leaf(HOST);
        assert!(accepts(&tls, &good).await);
        let thief = Leaf {
            chain: good.chain.clone(),
            key: ca.leaf(HOST).key,
        };
        assert!(!accepts(&tls, &thief).await);
        assert!(accepts(&tls, &good).await);
    }

    #[tokio::test]
    async fn t7_nothing_is_checked_only_where_the_policy_says_so_in_so_many_words() {
        let ca = Ca::new("Bank CA");
        let mut spec = spec();
        spec.verify_chain = false;
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        let stranger = self_signed("other.example", |params| {
            params.not_after = date_time_ymd(2020, 1, 1);
        });
        let met = Server::new(&stranger).meet(&tls, HOST).await.0.unwrap();
        assert_eq!(met.facts.peer.as_ref().unwrap().subject, "CN=other.example");
        assert_eq!(met.facts.name_warning, None);
    }

    #[tokio::test]
    async fn w5_every_certificate_of_the_chain_must_be_covered_by_a_list() {
        let root = Ca::new("Root");
        let middle = root.below("Middle");
        let leaf = || middle.leaf(HOST).followed_by(&middle);
        let mut spec = spec();
        spec.credential.crl = Some(CrlSource::File("/etc/crl.pem".into()));
        for (lists, label) in [
            (vec![root.crl(&[]), middle.crl(&[])], None),
            (vec![root.crl(&[9]), middle.crl(&[9])], None),
            (vec![root.crl(&[]), middle.crl(&[42])], Some("revoked")),
            (vec![root.crl(&[77]), middle.crl(&[])], Some("revoked")),
            (vec![middle.crl(&[])], Some("revocation_unknown")),
            (vec![root.crl(&[])], Some("revocation_unknown")),
            (
                vec![root.crl(&[]), middle.crl_until(&[], 2020)],
                Some("revocation_unknown"),
            ),
        ] {
            let tls = client_tls(&spec, &credential(None, &[&root.der], &lists));
            let met = Server::new(&leaf()).meet(&tls, HOST).await.0;
            assert_eq!(met.err().map(|error| error.reason.label()), label);
            // A revoked intermediate is not saved by being listed in the bundle itself.
            let bundle = [&middle.der, &root.der];
            let tls = client_tls(&spec, &credential(None, &bundle, &lists));
            let met = Server::new(&middle.leaf(HOST)).meet(&tls, HOST).await.0;
            assert_eq!(met.err().map(|error| error.reason.label()), label);
        }
    }

    #[tokio::test]
    async fn w5_with_a_list_a_listed_leaf_needs_its_ca() {
        let root = Ca::new("Root");
        let mut spec = spec();
        spec.credential.crl = Some(CrlSource::File("/etc/crl.pem".into()));
        let leaf = root.leaf(HOST);
        let listed = credential(
            None,
            &[&leaf.chain[0], &Ca::new("Other").der],
            &[root.crl(&[])],
        );
        let met = Server::new(&leaf)
            .meet(&client_tls(&spec, &listed), HOST)
            .await
            .0;
        let words = met.unwrap_err().to_string();
        assert!(
            words.contains("lists it itself and not the CA that issued it"),
            "{words}"
        );
        let both = credential(None, &[&leaf.chain[0], &root.der], &[root.crl(&[42])]);
        let met = Server::new(&leaf)
            .meet(&client_tls(&spec, &both), HOST)
            .await
            .0;
        assert_eq!(met.unwrap_err().reason.label(), "revoked");
    }
}
