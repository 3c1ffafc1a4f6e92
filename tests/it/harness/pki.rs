//! Authorities and certificates, made at run time so that no date ever breaks a test.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const HOUR: Duration = Duration::from_secs(3600);

/// What keys are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// P-256.
    Ec,
    /// 2048 bits.
    Rsa,
    /// 4096 bits.
    LargeRsa,
}

impl Kind {
    fn key(self) -> KeyPair {
        match self {
            Kind::Ec => KeyPair::generate().unwrap(),
            Kind::Rsa => rsa(rcgen::RsaKeySize::_2048),
            Kind::LargeRsa => rsa(rcgen::RsaKeySize::_4096),
        }
    }
}

fn rsa(size: rcgen::RsaKeySize) -> KeyPair {
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap()
}

/// A CA, or an intermediate.
pub struct Authority {
    kind: Kind,
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
    /// What a leaf must send along so that the root is reached: nothing for a root.
    above: String,
}

impl Authority {
    /// A self-signed root.
    pub fn new(name: &str) -> Self {
        Authority::of(Kind::Ec, name)
    }

    /// A self-signed root with keys of that kind, its leaves' included.
    pub fn of(kind: Kind, name: &str) -> Self {
        let (params, key) = (authority(name), kind.key());
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            kind,
            issuer: Issuer::new(params, key),
            pem,
            above: String::new(),
        }
    }

    /// An authority that this one signed.
    pub fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (authority(name), self.kind.key());
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        let above = format!("{pem}{}", self.above);
        Authority {
            kind: self.kind,
            issuer: Issuer::new(params, key),
            pem,
            above,
        }
    }

    /// A server certificate for these names (DNS names, IP addresses, or `spiffe://` ids).
    pub fn server(&self, names: &[&str]) -> Identity {
        self.leaf(names.first().copied().unwrap_or("no name"), names, |_| {})
    }

    /// A client certificate with this common name.
    pub fn client(&self, name: &str) -> Identity {
        self.leaf(name, &[], |_| {})
    }

    /// A certificate that ended an hour ago.
    pub fn expired(&self, name: &str, names: &[&str]) -> Identity {
        self.leaf(name, names, |params| {
            params.not_before = (SystemTime::now() - 48 * HOUR).into();
            params.not_after = (SystemTime::now() - HOUR).into();
        })
    }

    /// A certificate that ends this much from now.
    pub fn ending_in(&self, name: &str, names: &[&str], left: Duration) -> Identity {
        self.leaf(name, names, |params| {
            params.not_after = (SystemTime::now() + left).into()
        })
    }

    /// A leaf, with `change` as the last word.
    pub fn leaf(
        &self,
        name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        self.leaf_of(self.kind, name, names, change)
    }

    /// A leaf with a key of 4096 bits.
    pub fn large(&self, name: &str, names: &[&str]) -> Identity {
        self.leaf_of(Kind::LargeRsa, name, names, |_| {})
    }

    fn leaf_of(
        &self,
        kind: Kind,
        name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let (ids, names): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains("://"));
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let uri = |id: &str| SanType::URI(id.try_into().unwrap());
        params.subject_alt_names.extend(ids.into_iter().map(uri));
        params.distinguished_name = common_name(name);
        params.not_before = (SystemTime::now() - HOUR).into();
        params.not_after = (SystemTime::now() + 24 * HOUR).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let serial: [u8; 8] = std::array::from_fn(|_| fastrand());
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        change(&mut params);
        let key = kind.key();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity {
            chain: format!("{leaf}{}", self.above),
            key: key.serialize_pem(),
        }
    }

    /// A revocation list that names these.
    pub fn crl(&self, revoked: &[&Identity]) -> String {
        let now = SystemTime::now();
        let entry = |identity: &&Identity| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&identity.serial()),
            revocation_time: (now - HOUR).into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: (now - HOUR).into(),
            next_update: (now + 24 * HOUR).into(),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (SystemTime::now() - 48 * HOUR).into();
    params.not_after = (SystemTime::now() + 48 * HOUR).into();
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// A byte that differs from call to call; serial numbers need no more.
fn fastrand() -> u8 {
    use std::hash::{BuildHasher, RandomState};
    // The top bit stays clear, as a serial number is positive; never 0, as leading zeros are cut.
    (RandomState::new().hash_one(0) as u8 & 0x7f) | 1
}

/// A chain, leaf first, and its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    pub chain: String,
    pub key: String,
}

impl Identity {
    /// Writes `NAME.crt` and `NAME.key`, truncating what is there.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = folder.join(format!("{name}.crt"));
        let key = folder.join(format!("{name}.key"));
        std::fs::write(&certificate, &self.chain).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        (certificate, key)
    }

    /// As rustls takes it.
    pub fn rustls(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        (chain.map(Result::unwrap).collect(), key)
    }

    /// The leaf's serial number.
    pub fn serial(&self) -> Vec<u8> {
        let (chain, _) = self.rustls();
        let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        leaf.raw_serial().to_vec()
    }
}
