//! Rotation as people really do it, in real folders; and the certificates for that, made on the fly.
//!
//! Owns: [`Ca`], [`Pair`] and [`Bench`], which tests of other rooms may use too.
//! Never: sleeps; the store is told the time.
//! Called by: `cargo test`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::system::SystemStore;
use super::{CertStore, Checked, CredentialState, ProblemReason};
use crate::model::{CaSource, CredentialSpec, CredentialUse, CrlSource, IdentitySource, Uses};
use crate::telemetry::Metrics;
use crate::telemetry::testing::logged;

/// The time at which the tests run: 2026-01-01, far from every real date.
pub(crate) const NOW: u64 = 1_767_225_600;
pub(crate) const DAY: u64 = 86_400;

pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A certificate authority.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A leaf and its key.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) der: Vec<u8>,
    pub(crate) key_der: Vec<u8>,
}

/// What a leaf is to be like.
pub(crate) struct Leaf {
    pub(crate) name: &'static str,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) usage: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) is_ca: bool,
    pub(crate) serial: u64,
    pub(crate) key: &'static rcgen::SignatureAlgorithm,
}

impl Default for Leaf {
    fn default() -> Self {
        Leaf {
            name: "client",
            from: NOW - 10 * DAY,
            to: NOW + 355 * DAY,
            usage: vec![ExtendedKeyUsagePurpose::ClientAuth],
            is_ca: false,
            serial: 1,
            key: &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }
}

impl Ca {
    pub(crate) fn new(name: &str) -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name, NOW - 100 * DAY, NOW + 3650 * DAY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Ca {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let ca = super::pem::certificates(Path::new("ca"), self.pem.as_bytes());
        ca.unwrap().remove(0).to_vec()
    }

    pub(crate) fn leaf(&self, leaf: Leaf) -> Pair {
        let key = KeyPair::generate_for(leaf.key).unwrap();
        let mut params = params(leaf.name, leaf.from, leaf.to);
        params.subject_alt_names = vec![rcgen::SanType::DnsName("client.test".try_into().unwrap())];
        params.extended_key_usages = leaf.usage;
        params.serial_number = Some(SerialNumber::from(leaf.serial));
        if leaf.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
            der: cert.der().to_vec(),
            key_der: key.serialize_der(),
        }
    }

    pub(crate) fn crl(&self, revoked: u64) -> rcgen::CertificateRevocationList {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 12, 1),
            next_update: date_time_ymd(2030, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(revoked),
                revocation_time: date_time_ymd(2025, 12, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }
}

fn params(name: &str, from: u64, to: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Test");
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from);
    params.not_after = epoch + Duration::from_secs(to);
    params
}

/// PEM text around some DER.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut body = String::new();
    for chunk in der.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for n in 0..4 {
            let index = (bits >> (18 - 6 * n)) as usize & 63;
            body.push(if n > chunk.len() {
                '='
            } else {
                char::from(ALPHABET[index])
            });
        }
    }
    let lines: Vec<_> = body.as_bytes().chunks(64).collect();
    let lines = lines.iter().map(|line| std::str::from_utf8(line).unwrap());
    let body = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// A folder with a certificate, a key and a CA, a store that reads them, and a clock.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ca: Ca,
    pub(crate) store: CertStore,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) spec: CredentialSpec,
    pub(crate) now: SystemTime,
}

impl Bench {
    /// With a CA file alone.
    fn empty() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("ca");
        fs::write(folder.path().join("ca.crt"), &ca.pem).unwrap();
        let metrics = Metrics::new(1);
        let spec = CredentialSpec {
            identity: Some(IdentitySource::Files(
                folder.path().join("tls.crt"),
                folder.path().join("tls.key"),
            )),
            ca: CaSource::File(folder.path().join("ca.crt")),
            crl: None,
        };
        let mut bench = Bench {
            store: CertStore::new(Arc::clone(&metrics)),
            folder,
            ca,
            metrics,
            spec: spec.clone(),
            now: at(NOW),
        };
        bench.store.set(vec![spec]);
        bench
    }

    /// With a pair of serial 1, loaded.
    fn loaded() -> Bench {
        let mut bench = Bench::empty();
        bench.write(&bench.pair(1));
        assert_eq!(bench.check().changed, bench.resources());
        assert_eq!(bench.serial(), Some(1));
        bench
    }

    fn pair(&self, serial: u64) -> Pair {
        self.ca.leaf(Leaf {
            serial,
            ..Leaf::default()
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, pair: &Pair) {
        fs::write(self.at("tls.crt"), &pair.cert).unwrap();
        fs::write(self.at("tls.key"), &pair.key).unwrap();
    }

    fn check(&mut self) -> Checked {
        self.store.check(self.now)
    }

    fn check_after(&mut self, pause: Duration) -> Checked {
        self.now += pause;
        self.check()
    }

    fn state(&self) -> CredentialState {
        self.store.current().find(&self.spec).unwrap().clone()
    }

    /// Serial number of the leaf in use.
    fn serial(&self) -> Option<u64> {
        let current = self.state().current?;
        u64::from_str_radix(&current.identity.as_ref()?.leaf.serial, 16).ok()
    }

    fn problem(&self) -> Option<ProblemReason> {
        self.state().problem.map(|problem| problem.reason)
    }

    fn words(&self) -> String {
        self.state().problem.map(|p| p.words).unwrap_or_default()
    }

    fn identity(&self) -> String {
        let at = |name| self.at(name).display().to_string();
        format!("file-cert:{}~{}", at("tls.crt"), at("tls.key"))
    }

    fn root(&self) -> String {
        format!("file-root:{}", self.at("ca.crt").display())
    }

    fn resources(&self) -> Vec<String> {
        vec![self.identity(), self.root()]
    }

    /// Sum over all resources and reasons.
    fn failures(&self) -> u64 {
        let text = self.metrics.encode();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("sortie_cert_reload_failures_total{"));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Asserts that a bad change leaves everything as it was, but for the problem.
    fn assert_kept(&mut self, reason: ProblemReason) {
        let before = self.failures();
        let checked = self.check();
        assert_eq!(checked.changed, Vec::<String>::new());
        assert!(checked.problems_changed);
        assert_eq!(checked.retry_after, Some(Duration::from_millis(100)));
        assert_eq!(self.serial(), Some(1));
        assert_eq!(self.problem(), Some(reason), "{}", self.words());
        assert_eq!(self.failures(), before + 1);
    }

    /// Asserts that serial 2, once written whole, is taken.
    fn assert_heals(&mut self) {
        self.write(&self.pair(2));
        let checked = self.check();
        assert_eq!(checked.changed, [self.identity()]);
        assert!(checked.problems_changed);
        assert_eq!(checked.retry_after, None);
        assert_eq!((self.serial(), self.problem()), (Some(2), None));
    }
}

fn swap_link(folder: &Path, target: &str) {
    symlink(target, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[test]
fn r3_the_kubernetes_data_swap_is_taken_as_one_generation() {
    let mut bench = Bench::empty();
    for (serial, folder) in [(1, "..2026_1"), (2, "..2026_2"), (3, "..2026_3")] {
        let inner = bench.at(folder);
        fs::create_dir(&inner).unwrap();
        let pair = bench.pair(serial);
        fs::write(inner.join("tls.crt"), pair.cert).unwrap();
        fs::write(inner.join("tls.key"), pair.key).unwrap();
        swap_link(bench.folder.path(), folder);
        if serial == 1 {
            symlink("..data/tls.crt", bench.at("tls.crt")).unwrap();
            symlink("..data/tls.key", bench.at("tls.key")).unwrap();
        }
        let checked = bench.check();
        assert!(checked.changed.contains(&bench.identity()));
        assert_eq!(bench.serial(), Some(serial));
    }
    assert_eq!(bench.failures(), 0);
}

#[test]
fn r3_a_rename_over_the_files_is_taken() {
    let mut bench = Bench::loaded();
    let pair = bench.pair(2);
    for (name, text) in [("tls.crt", &pair.cert), ("tls.key", &pair.key)] {
        fs::write(bench.at("new"), text).unwrap();
        fs::rename(bench.at("new"), bench.at(name)).unwrap();
    }
    assert_eq!(bench.check().changed, [bench.identity()]);
    assert_eq!(bench.serial(), Some(2));
}

#[test]
fn r3_truncate_and_write_is_taken_once_it_is_whole() {
    let mut bench = Bench::loaded();
    let pair = bench.pair(2);
    fs::write(bench.at("tls.crt"), "").unwrap();
    bench.assert_kept(ProblemReason::Pem);
    assert!(bench.words().ends_with("tls.crt is empty"));
    fs::write(bench.at("tls.crt"), &pair.cert[..pair.cert.len() / 2]).unwrap();
    bench.check();
    assert!(bench.words().contains("is cut off"), "{}", bench.words());
    bench.assert_heals();
}

#[test]
fn r12_a_certificate_whose_key_comes_later_heals_within_the_backoff() {
    let mut bench = Bench::loaded();
    let pair = bench.pair(2);
    fs::write(bench.at("tls.crt"), &pair.cert).unwrap();
    bench.assert_kept(ProblemReason::KeyMismatch);
    let checked = bench.check_after(Duration::from_millis(100));
    assert_eq!(checked.retry_after, Some(Duration::from_millis(200)));
    assert_eq!(bench.failures(), 1, "the same problem counts once");
    fs::write(bench.at("tls.key"), &pair.key).unwrap();
    let checked = bench.check_after(Duration::from_millis(200));
    assert_eq!(checked.changed, [bench.identity()]);
    assert_eq!(checked.retry_after, None);
    assert_eq!((bench.serial(), bench.problem()), (Some(2), None));
}

#[test]
fn r12_retries_end_and_the_poll_still_finds_the_repair() {
    let mut bench = Bench::loaded();
    fs::write(bench.at("tls.key"), &bench.pair(2).key).unwrap();
    let mut next = bench.check().retry_after;
    let mut pauses = 0;
    while let Some(pause) = next {
        pauses += 1;
        next = bench.check_after(pause).retry_after;
    }
    assert_eq!((pauses, bench.failures()), (8, 1));
    bench.assert_heals();
}

#[test]
fn r12_another_broken_file_after_the_retries_is_another_failure() {
    let mut bench = Bench::loaded();
    fs::write(bench.at("tls.key"), &bench.pair(2).key).unwrap();
    let since = bench.now;
    while let Some(pause) = bench.check().retry_after {
        bench.now += pause;
    }
    fs::write(bench.at("tls.key"), &bench.pair(3).key).unwrap();
    let checked = bench.check();
    assert_eq!(checked.retry_after, Some(Duration::from_millis(100)));
    assert_eq!(bench.failures(), 2);
    assert_eq!(bench.state().problem.unwrap().since, since);
}

#[test]
fn r13_unchanged_content_is_not_a_rotation() {
    let mut bench = Bench::loaded();
    let before = bench.state().current.unwrap();
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let text = fs::read(bench.at(name)).unwrap();
        fs::write(bench.at("new"), text).unwrap();
        fs::rename(bench.at("new"), bench.at(name)).unwrap();
    }
    assert_eq!(bench.check(), Checked::default());
    assert!(Arc::ptr_eq(&before, &bench.state().current.unwrap()));
}

#[test]
fn r13_a_comment_or_another_line_ending_is_not_a_rotation() {
    let mut bench = Bench::loaded();
    let before = bench.state().current.unwrap();
    let text = fs::read_to_string(bench.at("tls.crt")).unwrap();
    let text = format!("\u{feff}# our client\n{text}").replace('\n', "\r\n");
    fs::write(
        bench.at("tls.crt"),
        text.replacen("# our client\r\n", "", 1),
    )
    .unwrap();
    assert_eq!(bench.check(), Checked::default());
    fs::write(bench.at("tls.crt"), text).unwrap();
    assert_eq!(bench.check(), Checked::default());
    assert!(Arc::ptr_eq(&before, &bench.state().current.unwrap()));
}

#[test]
fn r14_a_file_that_vanishes_leaves_the_loaded_generation_in_use() {
    let mut bench = Bench::loaded();
    fs::remove_file(bench.at("tls.key")).unwrap();
    bench.assert_kept(ProblemReason::Missing);
    let expected = format!(
        "the key file {} does not exist",
        bench.at("tls.key").display()
    );
    assert_eq!(bench.words(), expected);
    bench.assert_heals();
}

#[test]
fn r14_a_file_that_vanishes_and_returns_unchanged_is_not_a_rotation() {
    let mut bench = Bench::loaded();
    fs::rename(bench.at("tls.crt"), bench.at("away")).unwrap();
    bench.assert_kept(ProblemReason::Missing);
    fs::rename(bench.at("away"), bench.at("tls.crt")).unwrap();
    let checked = bench.check();
    assert_eq!(checked.changed, Vec::<String>::new());
    assert!(checked.problems_changed);
    assert_eq!((bench.serial(), bench.problem()), (Some(1), None));
}

#[test]
fn t17_a_file_missing_at_start_is_a_problem_that_ends_when_it_appears() {
    let mut bench = Bench::empty();
    let checked = bench.check();
    assert_eq!(checked.changed, Vec::<String>::new());
    assert!(checked.problems_changed && checked.retry_after.is_some());
    assert!(bench.state().current.is_none());
    assert_eq!(bench.problem(), Some(ProblemReason::Missing));
    bench.write(&bench.pair(1));
    assert_eq!(bench.check().changed, bench.resources());
    assert_eq!((bench.serial(), bench.problem()), (Some(1), None));
}

#[test]
fn t17_one_missing_file_does_not_hold_back_other_credentials() {
    let mut bench = Bench::loaded();
    let lost = CredentialSpec {
        identity: Some(IdentitySource::Files(
            bench.at("no.crt"),
            bench.at("no.key"),
        )),
        ..bench.spec.clone()
    };
    bench.store.set(vec![bench.spec.clone(), lost.clone()]);
    bench.write(&bench.pair(2));
    assert_eq!(bench.check().changed, [bench.identity()]);
    assert_eq!(bench.serial(), Some(2));
    let view = bench.store.current();
    assert!(view.find(&lost).unwrap().current.is_none());
}

#[test]
fn a_link_into_another_folder_is_followed_and_swapped() {
    let mut bench = Bench::empty();
    for serial in [1, 2] {
        let other = bench.at(&format!("v{serial}"));
        fs::create_dir(&other).unwrap();
        let pair = bench.pair(serial);
        for (name, text) in [("tls.crt", pair.cert), ("tls.key", pair.key)] {
            fs::write(other.join(name), text).unwrap();
            symlink(other.join(name), bench.at("link")).unwrap();
            fs::rename(bench.at("link"), bench.at(name)).unwrap();
        }
        bench.check();
        assert_eq!(bench.serial(), Some(serial));
    }
}

#[test]
fn r11_a_key_of_another_pair_is_refused() {
    let mut bench = Bench::loaded();
    fs::write(bench.at("tls.key"), &bench.pair(2).key).unwrap();
    bench.assert_kept(ProblemReason::KeyMismatch);
    assert!(
        bench
            .words()
            .contains("the key does not match the certificate")
    );
    assert!(bench.words().contains("tls.key with ") && bench.words().contains("tls.crt"));
    bench.assert_heals();
}

#[test]
fn r11_an_expired_leaf_does_not_replace_a_valid_one() {
    let mut bench = Bench::loaded();
    bench.write(&bench.ca.leaf(Leaf {
        serial: 9,
        to: NOW - DAY,
        ..Leaf::default()
    }));
    bench.assert_kept(ProblemReason::Expired);
    assert!(bench.words().contains("expired at 2025-12-31T00:00:00Z"));
    bench.assert_heals();
}

#[test]
fn r11_an_expired_leaf_replaces_an_expired_one_and_is_taken_at_start() {
    let mut bench = Bench::empty();
    for serial in [1, 2] {
        bench.write(&bench.ca.leaf(Leaf {
            serial,
            to: NOW - DAY,
            ..Leaf::default()
        }));
        bench.check();
        assert_eq!((bench.serial(), bench.problem()), (Some(serial), None));
    }
}

#[test]
fn r11_a_leaf_of_tomorrow_waits_while_the_old_one_is_valid_and_is_then_taken() {
    let mut bench = Bench::loaded();
    bench.write(&bench.ca.leaf(Leaf {
        serial: 2,
        from: NOW + DAY,
        ..Leaf::default()
    }));
    bench.assert_kept(ProblemReason::NotYetValid);
    bench.now += Duration::from_secs(DAY);
    assert_eq!(bench.check().changed, [bench.identity()]);
    assert_eq!((bench.serial(), bench.problem()), (Some(2), None));
}

#[test]
fn r11_a_leaf_that_begins_within_a_minute_is_taken() {
    let mut bench = Bench::loaded();
    bench.write(&bench.ca.leaf(Leaf {
        serial: 2,
        from: NOW + 60,
        ..Leaf::default()
    }));
    assert_eq!(bench.check().changed, [bench.identity()]);
}

#[test]
fn w7_an_encrypted_key_is_refused_with_the_way_out() {
    let mut bench = Bench::loaded();
    let key = bench.at("tls.key");
    fs::write(&key, pem("ENCRYPTED PRIVATE KEY", &[1; 200])).unwrap();
    bench.assert_kept(ProblemReason::EncryptedKey);
    let expected = format!(
        "the key in {0} is encrypted; decrypt it with: openssl pkey -in {0}",
        key.display()
    );
    assert!(bench.words().starts_with(&expected), "{}", bench.words());
    bench.assert_heals();
}

#[test]
fn a_file_of_garbage_is_refused_and_none_of_it_is_repeated() {
    let mut bench = Bench::loaded();
    fs::write(bench.at("tls.key"), "hunter2 \u{1b}[31m").unwrap();
    bench.assert_kept(ProblemReason::Pem);
    assert!(
        bench.words().ends_with("tls.key holds no PEM block"),
        "{}",
        bench.words()
    );
    bench.assert_heals();
}

#[test]
fn a_folder_in_place_of_a_file_is_named_as_one() {
    let mut bench = Bench::loaded();
    fs::remove_file(bench.at("tls.crt")).unwrap();
    fs::create_dir(bench.at("tls.crt")).unwrap();
    bench.assert_kept(ProblemReason::NotAFile);
    assert!(bench.words().ends_with("tls.crt is a folder, not a file"));
    fs::remove_dir(bench.at("tls.crt")).unwrap();
    bench.assert_heals();
}

#[test]
fn a_file_over_the_bound_is_refused() {
    let mut bench = Bench::loaded();
    fs::File::create(bench.at("tls.crt"))
        .unwrap()
        .set_len(2 << 20)
        .unwrap();
    bench.assert_kept(ProblemReason::TooLarge);
    bench.assert_heals();
}

#[test]
fn r5_a_broken_certificate_in_a_bundle_is_skipped_with_a_warning() {
    let mut bench = Bench::loaded();
    let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    let strange = pem("CERTIFICATE", b"not DER");
    let text = format!("{broken}{strange}{}{}", bench.ca.pem, Ca::new("other").pem);
    fs::write(bench.at("ca.crt"), text).unwrap();
    assert_eq!(bench.check().changed, [bench.root()]);
    let credential = bench.state().current.unwrap();
    assert_eq!(credential.roots.certificates.len(), 2);
    assert_eq!(credential.warnings.len(), 2, "{:?}", credential.warnings);
}

#[test]
fn r5_a_bundle_without_a_usable_certificate_is_refused() {
    let mut bench = Bench::loaded();
    fs::write(bench.at("ca.crt"), pem("CERTIFICATE", b"not DER")).unwrap();
    bench.assert_kept(ProblemReason::NoRoots);
    assert_eq!(bench.state().problem.unwrap().resource, bench.root());
    fs::write(bench.at("ca.crt"), &bench.ca.pem).unwrap();
    bench.assert_heals();
}

#[test]
fn r5_a_bundle_that_is_cut_off_is_refused() {
    let mut bench = Bench::loaded();
    let text = format!("{0}{0}", bench.ca.pem);
    fs::write(bench.at("ca.crt"), &text[..text.len() - 40]).unwrap();
    bench.assert_kept(ProblemReason::Pem);
}

#[test]
fn r10_a_broken_part_holds_the_whole_generation_back() {
    let mut bench = Bench::loaded();
    bench.write(&bench.pair(2));
    fs::write(bench.at("ca.crt"), "").unwrap();
    bench.assert_kept(ProblemReason::Pem);
    fs::write(bench.at("ca.crt"), &bench.ca.pem).unwrap();
    assert_eq!(bench.check().changed, [bench.identity()]);
    assert_eq!(bench.serial(), Some(2));
}

#[test]
fn a_revocation_list_is_read_as_pem_and_as_der() {
    let mut bench = Bench::loaded();
    let spec = CredentialSpec {
        crl: Some(CrlSource::File(bench.at("ca.crl"))),
        ..bench.spec.clone()
    };
    let list = bench.ca.crl(7);
    fs::write(bench.at("ca.crl"), list.pem().unwrap()).unwrap();
    bench.spec = spec.clone();
    bench.store.set(vec![spec]);
    let resource = format!("file-crl:{}", bench.at("ca.crl").display());
    assert!(bench.check().changed.contains(&resource));
    fs::write(bench.at("ca.crl"), list.der()).unwrap();
    assert_eq!(bench.check(), Checked::default());
    fs::write(bench.at("ca.crl"), bench.ca.crl(8).der()).unwrap();
    assert_eq!(bench.check().changed, [resource]);
}

#[test]
fn r17_the_end_of_a_revocation_list_is_shown_and_said_like_that_of_a_certificate() {
    let mut bench = Bench::loaded();
    let spec = CredentialSpec {
        crl: Some(CrlSource::File(bench.at("ca.crl"))),
        ..bench.spec.clone()
    };
    fs::write(bench.at("ca.crl"), bench.ca.crl(7).pem().unwrap()).unwrap();
    bench.store.set(vec![spec]);
    bench.check();
    let crl = |bench: &Bench| {
        let rows = bench.store.current().rows_at(bench.now);
        rows.into_iter()
            .find(|row| row.kind.as_str() == "CRL")
            .unwrap()
    };
    assert_eq!(crl(&bench).valid, Some(true));
    assert_eq!(
        crl(&bench).not_after.as_deref(),
        Some("2030-01-01T00:00:00Z")
    );
    assert!(bench.metrics.encode().contains("usage=\"crl\""));
    // 2030-01-02.
    bench.now = at(1_893_542_400);
    let lines = logged(|| {
        bench.check();
        bench.check();
    });
    let said = lines
        .iter()
        .filter(|line| line.contains("revocation list of O=Test,CN=ca has expired"));
    assert_eq!(said.count(), 1, "{lines:#?}");
    assert_eq!(crl(&bench).valid, Some(false));
}

#[test]
fn a_broken_or_missing_revocation_list_fails_closed() {
    let mut bench = Bench::loaded();
    let spec = CredentialSpec {
        crl: Some(CrlSource::File(bench.at("ca.crl"))),
        ..bench.spec.clone()
    };
    bench.spec = spec.clone();
    bench.store.set(vec![spec]);
    bench.check();
    assert!(bench.state().current.is_none());
    assert_eq!(bench.problem(), Some(ProblemReason::Missing));
    fs::write(bench.at("ca.crl"), bench.ca.crl(7).pem().unwrap()).unwrap();
    bench.check();
    assert_eq!(bench.serial(), Some(1));
    fs::write(bench.at("ca.crl"), pem("X509 CRL", &[1; 300])).unwrap();
    bench.assert_kept(ProblemReason::Crl);
    fs::write(bench.at("ca.crl"), [0x30, 0x82, 1, 1, 0]).unwrap();
    bench.check();
    assert_eq!(
        (bench.serial(), bench.problem()),
        (Some(1), Some(ProblemReason::Crl))
    );
}

#[test]
fn r19_a_key_that_others_can_write_is_warned_of() {
    let mut bench = Bench::loaded();
    assert_eq!(
        bench.state().current.unwrap().warnings,
        Vec::<String>::new()
    );
    bench.write(&bench.pair(2));
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(bench.at("tls.key"), open).unwrap();
    bench.check();
    let warnings = &bench.state().current.unwrap().warnings;
    assert!(
        matches!(&warnings[..], [one] if one.contains("mode 0666")),
        "{warnings:?}"
    );
}

#[test]
fn r19_a_key_that_others_can_only_read_is_not_warned_of() {
    let mut bench = Bench::loaded();
    bench.write(&bench.pair(2));
    let kubernetes = fs::Permissions::from_mode(0o644);
    fs::set_permissions(bench.at("tls.key"), kubernetes).unwrap();
    bench.check();
    assert_eq!(
        bench.state().current.unwrap().warnings,
        Vec::<String>::new()
    );
}

#[test]
fn r1_what_several_credentials_share_is_counted_and_shown_once() {
    let mut bench = Bench::loaded();
    let system = CredentialSpec {
        crl: Some(CrlSource::File(bench.at("ca.crl"))),
        ..bench.spec.clone()
    };
    fs::write(bench.at("ca.crl"), bench.ca.crl(7).pem().unwrap()).unwrap();
    bench.store.set(vec![bench.spec.clone(), system]);
    bench.check();
    fs::write(bench.at("tls.key"), &bench.pair(2).key).unwrap();
    bench.check();
    assert_eq!(bench.failures(), 1);
    let rows = bench.store.current().rows_at(bench.now);
    let shown: Vec<_> = rows
        .iter()
        .filter(|row| row.resource == bench.identity())
        .collect();
    assert_eq!(shown.len(), 1);
}

#[test]
fn a_credential_that_is_no_longer_named_is_dropped() {
    let mut bench = Bench::loaded();
    fs::remove_file(bench.at("tls.key")).unwrap();
    bench.check();
    assert_eq!(bench.failures(), 1);
    bench.store.set(Vec::<CredentialSpec>::new());
    bench.store.set(Vec::<CredentialSpec>::new());
    assert!(bench.store.current().find(&bench.spec).is_none());
    assert_eq!(bench.store.paths(), Vec::<PathBuf>::new());
    assert_eq!(bench.failures(), 0);
}

#[test]
fn x2_a_configuration_that_is_taken_back_costs_no_generation() {
    let mut bench = Bench::loaded();
    bench.store.set(Vec::<CredentialSpec>::new());
    fs::remove_file(bench.at("tls.key")).unwrap();
    bench.check();
    bench.store.set(vec![bench.spec.clone()]);
    bench.check();
    assert_eq!(bench.serial(), Some(1));
    assert_eq!(bench.problem(), Some(ProblemReason::Missing));
}

#[test]
fn t9_the_operating_systems_roots_are_used_where_no_ca_is_named() {
    use rustls_native_certs::CertificateResult;
    let spec = CredentialSpec {
        identity: None,
        ca: CaSource::System,
        crl: None,
    };
    let with = |load: fn() -> CertificateResult| {
        let mut store = CertStore::with(Metrics::new(1), SystemStore::with(load));
        store.set(vec![spec.clone()]);
        let checked = store.check(at(NOW));
        (checked, store.current())
    };
    let (checked, view) = with(|| {
        let mut result = CertificateResult::default();
        let ca = super::pem::certificates(Path::new("ca"), Ca::new("os").pem.as_bytes());
        result.certs = ca.unwrap();
        result
    });
    assert_eq!(checked.changed, ["file-root:system"]);
    assert_eq!(view.rows_at(at(NOW))[0].certificates, 1);
    let (checked, view) = with(CertificateResult::default);
    assert!(checked.changed.is_empty() && checked.retry_after.is_some());
    let problem = view.find(&spec).unwrap().problem.clone().unwrap();
    assert_eq!(problem.reason, ProblemReason::NoRoots);
    assert!(
        problem
            .words
            .starts_with("the operating system's CA store is empty")
    );
}

#[test]
fn b12_rows_show_what_is_served_and_what_is_wrong() {
    let mut bench = Bench::loaded();
    fs::write(bench.at("tls.key"), &bench.pair(2).key).unwrap();
    bench.check();
    let rows = bench.store.current().rows_at(bench.now);
    let row = rows
        .iter()
        .find(|row| row.resource == bench.identity())
        .unwrap();
    assert_eq!(row.kind.as_str(), "Cert Chain");
    assert_eq!(row.status, "ACTIVE (reload failed: key mismatch)");
    assert_eq!(row.valid, Some(true));
    assert_eq!(
        row.serial.as_deref(),
        Some("00000000000000000000000000000001")
    );
    assert_eq!(row.not_after.as_deref(), Some("2026-12-22T00:00:00Z"));
    assert_eq!(row.not_before.as_deref(), Some("2025-12-22T00:00:00Z"));
    assert_eq!(row.subject.as_deref(), Some("O=Test,CN=client"));
    assert_eq!(row.sans, ["DNS:client.test"]);
    assert_eq!(row.problem.as_ref().unwrap().reason, "key_mismatch");
    let json = serde_json::to_value(row).unwrap();
    assert_eq!(json["type"], "Cert Chain");
    let root = rows
        .iter()
        .find(|row| row.resource == bench.root())
        .unwrap();
    assert_eq!((root.kind.as_str(), root.status.as_str()), ("CA", "ACTIVE"));
}

#[test]
fn b12_a_credential_that_never_loaded_has_a_row_without_a_certificate() {
    let mut bench = Bench::empty();
    bench.check();
    let rows = bench.store.current().rows_at(bench.now);
    let row = rows
        .iter()
        .find(|row| row.resource == bench.identity())
        .unwrap();
    assert_eq!(row.status, "WARMING (file missing)");
    assert_eq!((&row.serial, row.valid), (&None, None));
}

#[test]
fn r17_the_end_of_every_certificate_is_a_gauge_and_the_old_ones_vanish() {
    let mut bench = Bench::loaded();
    let gauges = |bench: &Bench| {
        let text = bench.metrics.encode();
        let lines = text.lines();
        lines
            .filter(|line| line.starts_with("sortie_cert_expiry_timestamp_seconds{"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let shown = gauges(&bench);
    assert_eq!(shown.len(), 2, "{shown:?}");
    let client = shown.iter().find(|line| line.contains("client")).unwrap();
    assert!(
        client.contains("00000001\"") && client.contains(&bench.identity()),
        "{client}"
    );
    bench.write(&bench.pair(2));
    bench.check();
    let shown = gauges(&bench);
    assert!(shown.iter().any(|line| line.contains("00000002\"")));
    assert!(
        !shown.iter().any(|line| line.contains("00000001\"")),
        "{shown:?}"
    );
}

#[test]
fn r17_the_gauge_and_the_warnings_tell_by_whom_a_certificate_is_seen() {
    let mut bench = Bench::loaded();
    let usages = |bench: &Bench| {
        let text = bench.metrics.encode();
        let ours = format!("resource=\"{}\"", bench.identity());
        let lines = text.lines().filter(|line| line.contains(&ours));
        let usage = |line: &str| Some(line.split_once("usage=\"")?.1.split_once('"')?.0.to_owned());
        lines.filter_map(usage).collect::<Vec<_>>()
    };
    assert_eq!(usages(&bench), ["client"]);
    let first = bench.state().current.unwrap();
    assert!(first.warnings.is_empty());
    // Now an entrance shows it as well: no rotation, but another look.
    let uses = Uses::CLIENT.and(Uses::SERVER);
    let spec = bench.spec.clone();
    bench.store.set([CredentialUse { spec, uses }]);
    assert_eq!(bench.check().changed, [""; 0]);
    assert_eq!(usages(&bench), ["client", "server"]);
    let second = bench.state().current.unwrap();
    assert_eq!(second.generation, first.generation);
    assert!(
        matches!(&second.warnings[..], [one] if one.contains("does not contain serverAuth")),
        "{:?}",
        second.warnings
    );
    let spec = bench.spec.clone();
    let uses = Uses::SERVER;
    bench.store.set([CredentialUse { spec, uses }]);
    bench.check();
    assert_eq!(usages(&bench), ["server"]);
}

#[test]
fn paths_name_every_file_to_watch() {
    let bench = Bench::loaded();
    let paths = bench.store.paths();
    assert_eq!(
        paths,
        [bench.at("ca.crt"), bench.at("tls.crt"), bench.at("tls.key")]
    );
}

#[test]
fn r12_a_failure_is_one_line_with_file_and_reason_however_often_it_is_seen() {
    let mut bench = Bench::loaded();
    fs::write(bench.at("tls.key"), &bench.pair(2).key).unwrap();
    let lines = logged(|| {
        for _ in 0..20 {
            bench.check_after(Duration::from_secs(1));
        }
    });
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let file = bench.at("tls.key").display().to_string();
    for words in [
        "WARN",
        "reason=\"key_mismatch\"",
        &file,
        "(serial 0000",
        "stays in use",
    ] {
        assert!(lines[0].contains(words), "{words}: {}", lines[0]);
    }
}

#[test]
fn r13_a_check_without_news_says_nothing() {
    let mut bench = Bench::loaded();
    let lines = logged(|| {
        for _ in 0..20 {
            bench.check_after(Duration::from_secs(1));
        }
    });
    assert_eq!(lines, Vec::<String>::new());
}

#[test]
fn r17_each_threshold_is_said_once_and_again_for_the_next_generation() {
    let mut bench = Bench::empty();
    let ends = Leaf {
        to: NOW + 90 * DAY,
        ..Leaf::default()
    };
    bench.write(&bench.ca.leaf(ends));
    bench.check();
    let ending = |lines: Vec<String>| {
        let lines = lines
            .into_iter()
            .filter(|line| line.contains(" ends in ") || line.contains("has expired"));
        lines.collect::<Vec<_>>()
    };
    let lines = ending(logged(|| {
        for day in 0..92 {
            bench.now = at(NOW + day * DAY);
            bench.check();
            bench.check();
        }
        // A clock that was set back does not make it say anything twice.
        bench.now = at(NOW + 80 * DAY);
        bench.check();
        bench.now = at(NOW + 91 * DAY);
        bench.check();
    }));
    let said = [
        "ends in 30 days",
        "ends in 7 days",
        "ends in 24 hours",
        "ends in 0 seconds",
        "has expired",
    ];
    assert_eq!(lines.len(), said.len(), "{lines:#?}");
    for (line, words) in lines.iter().zip(said) {
        assert!(line.contains(words), "{words}: {line}");
    }
    bench.now = at(NOW);
    let lines = ending(logged(|| {
        let soon = Leaf {
            serial: 2,
            to: NOW + 20 * DAY,
            from: NOW - 80 * DAY,
            ..Leaf::default()
        };
        bench.write(&bench.ca.leaf(soon));
        bench.check();
        bench.check();
    }));
    assert_eq!(lines.len(), 1, "{lines:#?}");
}

/// One rotation in one of the ways that writers know.
fn rotate(folder: &Path, pair: &Pair, style: usize, round: usize) {
    let at = |name: &str| folder.join(name);
    let files = [("tls.crt", &pair.cert), ("tls.key", &pair.key)];
    let rename_over = |name: &str, text: &str| {
        fs::write(at("new"), text).unwrap();
        fs::rename(at("new"), at(name)).unwrap();
    };
    match style {
        0 => files
            .iter()
            .for_each(|(name, text)| rename_over(name, text)),
        1 => files
            .iter()
            .rev()
            .for_each(|(name, text)| rename_over(name, text)),
        2 => files.iter().for_each(|(name, text)| {
            // Not through a link into a Kubernetes folder, which nobody writes to.
            let _ = fs::remove_file(at(name));
            let (head, tail) = text.split_at(text.len() / 2);
            fs::write(at(name), head).unwrap();
            std::thread::yield_now();
            let mut file = fs::File::options().append(true).open(at(name)).unwrap();
            std::io::Write::write_all(&mut file, tail.as_bytes()).unwrap();
        }),
        3 => {
            let _ = fs::remove_file(at("tls.key"));
            std::thread::yield_now();
            files
                .iter()
                .for_each(|(name, text)| rename_over(name, text));
        }
        _ => {
            let inner = format!("..{round}");
            fs::create_dir(at(&inner)).unwrap();
            for (name, text) in files {
                fs::write(at(&inner).join(name), text).unwrap();
            }
            swap_link(folder, &inner);
            for (name, _) in files {
                symlink(format!("..data/{name}"), at("link")).unwrap();
                fs::rename(at("link"), at(name)).unwrap();
            }
        }
    }
}

#[test]
fn r10_no_generation_ever_mixes_two_pairs_whatever_the_writer_does() {
    let mut bench = Bench::loaded();
    let pairs: Vec<_> = (2..12).map(|serial| bench.pair(serial)).collect();
    let done = AtomicBool::new(false);
    let mut published = 0;
    std::thread::scope(|scope| {
        let folder = bench.folder.path().to_owned();
        let (pairs, done) = (&pairs, &done);
        scope.spawn(move || {
            for round in 0..300 {
                rotate(&folder, &pairs[round % pairs.len()], round % 5, round);
            }
            done.store(true, Ordering::Release);
        });
        loop {
            let last = done.load(Ordering::Acquire);
            published += usize::from(
                !bench
                    .check_after(Duration::from_millis(100))
                    .changed
                    .is_empty(),
            );
            let current = bench
                .state()
                .current
                .expect("there always is a last good one");
            let certified = &current.identity.as_ref().unwrap().certified;
            certified
                .keys_match()
                .expect("key and leaf belong together");
            if last {
                break;
            }
        }
    });
    assert!(published > 0, "the check saw at least one rotation");
    bench.check();
    assert_eq!(
        (bench.serial(), bench.problem()),
        (Some(2 + 299 % 10), None)
    );
}
