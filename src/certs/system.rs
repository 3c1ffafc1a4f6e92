//! The operating system's trust store, read no more often than it changes.
//!
//! Owns: when to read it again, and in words why it is empty.
//! Never: fails as a whole because one certificate in it is odd (ISTIO.md R5).
//! Called by: `certs::store`.
//!
//! Why it is not read at every poll like other files: it is 200 kB of PEM that changes once a
//! month. A stamp of the usual places is looked at instead, and everything is read once a minute.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls_native_certs::{CertificateResult, load_native_certs};

/// Read again after this, even if nothing seems to have moved.
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// Where distributions keep the bundle; only looked at to notice a change.
const USUAL_PLACES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What the operating system trusts, as last read.
#[derive(Clone, Debug, Default)]
pub(super) struct SystemRoots {
    /// Empty where the store is.
    pub certificates: Arc<Vec<CertificateDer<'static>>>,
    /// SHA-256 over them.
    pub hash: [u8; 32],
    /// What could not be read, in words.
    pub errors: Vec<String>,
}

type Stamps = Vec<Option<(u64, i64, i64, u64)>>;

/// The store and when it was read.
pub(super) struct SystemStore {
    load: fn() -> CertificateResult,
    roots: SystemRoots,
    read: Option<(SystemTime, Stamps)>,
}

impl SystemStore {
    /// Nothing is read yet.
    pub(super) fn new() -> SystemStore {
        SystemStore::with(load_native_certs)
    }

    pub(super) fn with(load: fn() -> CertificateResult) -> SystemStore {
        SystemStore {
            load,
            roots: SystemRoots::default(),
            read: None,
        }
    }

    /// The roots, read again where that may show something new.
    pub(super) fn roots(&mut self, now: SystemTime) -> &SystemRoots {
        let stamps: Stamps = SystemStore::paths().iter().map(stamp).collect();
        let fresh = self.read.as_ref().is_some_and(|(when, then)| {
            let age = now.duration_since(*when);
            *then == stamps && age.is_ok_and(|age| age < AT_LEAST_EVERY)
        });
        if !fresh || self.roots.certificates.is_empty() {
            self.roots = SystemRoots::from((self.load)());
            self.read = Some((now, stamps));
        }
        &self.roots
    }

    /// Files and folders whose change says that the store may be another.
    pub(super) fn paths() -> Vec<PathBuf> {
        let file = env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let folders = env::var_os("SSL_CERT_DIR");
        let folders = folders.iter().flat_map(env::split_paths);
        let named: Vec<_> = file.into_iter().chain(folders).collect();
        match named.is_empty() {
            true => USUAL_PLACES.iter().map(PathBuf::from).collect(),
            false => named,
        }
    }
}

impl From<CertificateResult> for SystemRoots {
    fn from(result: CertificateResult) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        for certificate in &result.certs {
            hash.update(certificate);
        }
        let mut roots = SystemRoots {
            certificates: Arc::new(result.certs),
            errors: result.errors.iter().map(ToString::to_string).collect(),
            hash: [0; 32],
        };
        for (to, from) in roots.hash.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        roots
    }
}

fn stamp(path: &PathBuf) -> Option<(u64, i64, i64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    Some((metadata.ino(), seconds, nanos, metadata.len()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_store_that_was_read_is_not_read_again_within_a_minute() {
        static READS: AtomicUsize = AtomicUsize::new(0);
        let mut store = SystemStore::with(|| {
            READS.fetch_add(1, Ordering::Relaxed);
            let mut result = CertificateResult::default();
            result.certs = vec![vec![1].into()];
            result
        });
        let start = SystemTime::UNIX_EPOCH;
        for (second, reads) in [(0, 1), (59, 1), (60, 2), (61, 2)] {
            store.roots(start + Duration::from_secs(second));
            assert_eq!(READS.load(Ordering::Relaxed), reads, "{second}");
        }
    }

    #[test]
    fn an_empty_store_is_read_again_every_time() {
        static READS: AtomicUsize = AtomicUsize::new(0);
        let mut store = SystemStore::with(|| {
            READS.fetch_add(1, Ordering::Relaxed);
            CertificateResult::default()
        });
        for _ in 0..3 {
            let roots = store.roots(SystemTime::UNIX_EPOCH);
            assert!(roots.certificates.is_empty());
        }
        assert_eq!(READS.load(Ordering::Relaxed), 3);
    }
}
