//! Tests of what is remembered of chains, and of what is asked nevertheless.
//!
//! Owns: an algorithm that counts how often it verifies.
//! Never: part of the product.
//! Called by: tests.

use std::cell::Cell;
use std::time::Duration;

use rcgen::date_time_ymd;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, UnixTime,
};
use webpki::aws_lc_rs::ECDSA_P256_SHA256;

use super::super::chain::{Check, Peer, Rules};
use super::super::testing::*;
use super::*;

/// 2026-01-01.
const NOW: i64 = 1_767_225_600;
const YEAR: i64 = 365 * 24 * 3600;

thread_local! {
    static VERIFIED: Cell<usize> = const { Cell::new(0) };
}

/// Counts the signatures that it verifies.
#[derive(Debug)]
struct Counting;

impl SignatureVerificationAlgorithm for Counting {
    fn verify_signature(
        &self,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        VERIFIED.set(VERIFIED.get() + 1);
        ECDSA_P256_SHA256.verify_signature(key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        ECDSA_P256_SHA256.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        ECDSA_P256_SHA256.signature_alg_id()
    }
}

/// What a verifier that trusts these says of servers, or of clients.
fn rules(
    peer: Peer,
    roots: &[&CertificateDer<'static>],
    lists: &[rustls::pki_types::CertificateRevocationListDer<'static>],
) -> Rules {
    let algorithms = WebPkiSupportedAlgorithms {
        all: &[&Counting],
        mapping: &[],
    };
    Rules::new(credential(None, roots, lists), peer, algorithms)
}

/// The verdict at this second, and how many signatures it took.
fn verdict(
    rules: &Rules,
    chain: &[CertificateDer<'static>],
    now: i64,
) -> (Result<(), Check>, usize) {
    VERIFIED.set(0);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.try_into().unwrap()));
    let (leaf, sent) = chain.split_first().unwrap();
    let found = rules.check(leaf, sent, now).map(drop);
    (found, VERIFIED.get())
}

/// It is good, and took so many signatures.
#[track_caller]
fn accepted(rules: &Rules, chain: &[CertificateDer<'static>], now: i64, signatures: usize) {
    let (found, counted) = verdict(rules, chain, now);
    assert!(found.is_ok(), "{found:?}");
    assert_eq!(counted, signatures);
}

#[track_caller]
fn refused(rules: &Rules, chain: &[CertificateDer<'static>], now: i64) -> Check {
    verdict(rules, chain, now).0.unwrap_err()
}

#[test]
fn an_identical_chain_is_verified_once() {
    let root = Ca::new("Root");
    let middle = root.below("Middle");
    let leaf = middle.leaf(HOST).followed_by(&middle);
    let rules = rules(Peer::Server, &[&root.der], &[]);
    accepted(&rules, &leaf.chain, NOW, 2);
    accepted(&rules, &leaf.chain, NOW, 0);
    accepted(&rules, &leaf.chain, NOW + YEAR, 0);
}

#[test]
fn a_chain_with_one_byte_changed_is_not_the_one_that_is_known() {
    let root = Ca::new("Root");
    let middle = root.below("Middle");
    let leaf = middle.leaf(HOST).followed_by(&middle);
    let rules = rules(Peer::Server, &[&root.der], &[]);
    accepted(&rules, &leaf.chain, NOW, 2);
    for nth in 0..leaf.chain.len() {
        let length = leaf.chain[nth].len();
        for at in (0..length).step_by(7).chain([length - 1]) {
            let mut changed = leaf.chain.clone();
            let mut bytes = changed[nth].to_vec();
            bytes[at] ^= 1;
            changed[nth] = bytes.into();
            refused(&rules, &changed, NOW);
        }
    }
    accepted(&rules, &leaf.chain, NOW, 0);
}

#[test]
fn where_one_certificate_ends_and_the_next_begins_counts() {
    let [one, two] = [b"abc", b"def"].map(|bytes| CertificateDer::from(bytes.to_vec()));
    let whole = Key::of(&one, std::slice::from_ref(&two));
    assert_eq!(whole, Key::of(&one.clone(), std::slice::from_ref(&two)));
    assert_ne!(whole, Key::of(&two, std::slice::from_ref(&one)));
    assert_ne!(whole, Key::of(&b"abcdef".to_vec().into(), &[]));
    assert_ne!(
        whole,
        Key::of(&b"abcd".to_vec().into(), &[b"ef".to_vec().into()])
    );
    assert_ne!(whole, Key::of(&one, &[two, Vec::new().into()]));
}

#[test]
fn another_chain_of_the_same_issuer_is_verified_by_itself() {
    let root = Ca::new("Root");
    let rules = rules(Peer::Server, &[&root.der], &[]);
    accepted(&rules, &root.leaf(HOST).chain, NOW, 1);
    accepted(&rules, &root.leaf(HOST).chain, NOW, 1);
    let stranger = Ca::new("Root").leaf(HOST);
    let found = refused(&rules, &stranger.chain, NOW);
    assert!(matches!(found, Check::Signature), "{found:?}");
}

#[test]
fn what_one_verifier_knows_no_other_does() {
    let root = Ca::new("Root");
    let leaf = root.leaf(HOST);
    let server = rules(Peer::Server, &[&root.der], &[]);
    accepted(&server, &leaf.chain, NOW, 1);
    // Other roots.
    let other = rules(Peer::Server, &[&Ca::new("Other").der], &[]);
    assert!(matches!(
        refused(&other, &leaf.chain, NOW),
        Check::UnknownIssuer
    ));
    // The same roots, made again, as after a rotation.
    accepted(&rules(Peer::Server, &[&root.der], &[]), &leaf.chain, NOW, 1);
}

#[test]
fn a_known_chain_is_refused_for_another_purpose() {
    let root = Ca::new("Root");
    let leaf = root.leaf_with(HOST, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    accepted(&rules(Peer::Server, &[&root.der], &[]), &leaf.chain, NOW, 1);
    let clients = rules(Peer::Client, &[&root.der], &[]);
    assert!(matches!(
        refused(&clients, &leaf.chain, NOW),
        Check::Purpose
    ));
}

/// A chain of three, of which one is valid for 2026 alone and the others for long.
fn limited(nth: usize) -> (Ca, Leaf) {
    let limit = |params: &mut rcgen::CertificateParams, at: usize| {
        if at == nth {
            params.not_before = date_time_ymd(2026, 1, 1);
            params.not_after = date_time_ymd(2027, 1, 1);
        }
    };
    let root = Ca::with("Root", |params| limit(params, 2));
    let middle = root.below_with("Middle", |params| limit(params, 1));
    let leaf = middle.leaf_with(HOST, |params| limit(params, 0));
    (root, leaf.followed_by(&middle))
}

#[test]
fn a_known_chain_is_refused_once_any_certificate_of_it_has_ended() {
    for nth in 0..3 {
        let (root, leaf) = limited(nth);
        let rules = rules(Peer::Server, &[&root.der], &[]);
        accepted(&rules, &leaf.chain, NOW, 2);
        accepted(&rules, &leaf.chain, NOW + YEAR, 0);
        let found = refused(&rules, &leaf.chain, NOW + YEAR + 1);
        assert!(matches!(found, Check::Expired { .. }), "{nth}: {found:?}");
        // The clock was set back: it is good again, and still known.
        accepted(&rules, &leaf.chain, NOW + YEAR, 0);
    }
}

#[test]
fn a_known_chain_is_refused_before_any_certificate_of_it_begins() {
    for nth in 0..3 {
        let (root, leaf) = limited(nth);
        let rules = rules(Peer::Server, &[&root.der], &[]);
        accepted(&rules, &leaf.chain, NOW, 2);
        let found = refused(&rules, &leaf.chain, NOW - 1);
        assert!(
            matches!(found, Check::NotYetValid { .. }),
            "{nth}: {found:?}"
        );
    }
}

#[test]
fn a_refusal_is_not_remembered() {
    let (root, leaf) = limited(0);
    let rules = rules(Peer::Server, &[&root.der], &[]);
    refused(&rules, &leaf.chain, NOW - 1);
    accepted(&rules, &leaf.chain, NOW, 2);
}

#[test]
fn w5_with_revocation_lists_nothing_is_remembered() {
    let root = Ca::new("Root");
    let leaf = root.leaf(HOST);
    let lists = [root.crl(&[])];
    let rules = rules(Peer::Server, &[&root.der], &lists);
    let (_, first) = verdict(&rules, &leaf.chain, NOW);
    let (again, second) = verdict(&rules, &leaf.chain, NOW);
    assert!(again.is_ok(), "{again:?}");
    assert_eq!((first, second), (2, 2), "the leaf's and the list's");
}

#[test]
fn a_certificate_that_is_listed_itself_is_looked_at_every_time() {
    let leaf = Ca::new("Unknown CA").leaf_with(HOST, |params| {
        params.not_after = date_time_ymd(2027, 1, 1);
    });
    let rules = rules(Peer::Server, &[&leaf.chain[0]], &[]);
    accepted(&rules, &leaf.chain, NOW, 0);
    let found = refused(&rules, &leaf.chain, NOW + YEAR + 1);
    assert!(matches!(found, Check::Expired { .. }), "{found:?}");
}

#[test]
fn chains_are_bounded_and_the_oldest_goes_first() {
    let known = Known::default();
    let key = |n: usize| Key::of(&n.to_be_bytes().to_vec().into(), &[]);
    let path = Span {
        from: 0,
        until: 100,
    };
    let good = Good {
        path,
        leaf_until: 200,
    };
    for n in 0..=MOST {
        known.remember(key(n), good, 50);
        known.remember(key(n), good, 50);
    }
    assert_eq!(known.lock().len(), MOST);
    assert_eq!(known.find(key(0), 50), None);
    assert_eq!(known.find(key(1), 50), Some(200));
    assert_eq!(known.find(key(1), 101), None);
    // What the other parser does not find valid now is not kept at all.
    known.remember(key(MOST + 1), good, 101);
    assert_eq!(known.find(key(MOST + 1), 100), None);
}
