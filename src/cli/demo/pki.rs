//! The demo's throw-away certificates, in a private folder that goes when the demo goes.
//!
//! Owns: [`Pki`]: one CA, a server and a client certificate, valid for a day.
//! Never: writes outside its folder.
//! Called by: `cli::demo`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::time::ASN1Time;

/// The CA's name.
pub(super) const CA: &str = "sortie demo CA";
/// The name of the service.
pub(super) const SERVICE: &str = "bank.example";
/// The name in our certificate.
const CLIENT: &str = "shop.example";

/// Why no certificates could be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or the folder.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A certificate.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// No random name for the folder.
    #[error("the system gives no random numbers")]
    Random,
}

/// The certificates and their folder; dropping it removes the folder.
pub(super) struct Pki {
    folder: PathBuf,
    ca: Issuer<'static, KeyPair>,
    ca_certificate: Certificate,
}

/// What the embedded service needs.
pub(super) struct ServerParts {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) ca: CertificateDer<'static>,
}

impl Pki {
    /// Makes the folder, the CA and the first client certificate.
    pub(super) fn new() -> Result<Pki, PkiError> {
        let folder = private_folder()?;
        let made = authority();
        let (ca, ca_certificate) = match made {
            Ok(made) => made,
            Err(error) => {
                // The error that came first is the one to tell.
                let _ = fs::remove_dir_all(&folder);
                return Err(error.into());
            }
        };
        let pki = Pki {
            folder,
            ca,
            ca_certificate,
        };
        pki.write("ca.pem", &pki.ca_certificate.pem())?;
        pki.issue_client()?;
        Ok(pki)
    }

    /// The file of that name in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A server certificate for [`SERVICE`].
    pub(super) fn server(&self) -> Result<ServerParts, PkiError> {
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let (certificate, key) = self.leaf(SERVICE, usage)?;
        Ok(ServerParts {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            ca: self.ca_certificate.der().clone(),
        })
    }

    /// Issues the client certificate and its key anew, in place: first the certificate, then the
    /// key, each by a rename, as common tools do.
    pub(super) fn issue_client(&self) -> Result<(), PkiError> {
        let (certificate, key) = self.leaf(CLIENT, ExtendedKeyUsagePurpose::ClientAuth)?;
        self.write("client.pem", &certificate.pem())?;
        self.write("client.key", &key.serialize_pem())
    }

    /// Writes beside and renames, so that no reader sees half a file.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), PkiError> {
        let path = self.path(name);
        let beside = self.path(&format!(".{name}.new"));
        let written = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&beside, &path)
        };
        written().map_err(|source| PkiError::Write { path, source })
    }

    fn leaf(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<(Certificate, KeyPair), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        for_a_day(&mut params);
        let certificate = params.signed_by(&key, &self.ca)?;
        Ok((certificate, key))
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        // Nothing better can be done at the end than to leave it to the system.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn authority() -> Result<(Issuer<'static, KeyPair>, Certificate), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, CA);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    for_a_day(&mut params);
    let certificate = params.self_signed(&key)?;
    Ok((Issuer::new(params, key), certificate))
}

/// From an hour ago, for clocks that differ, to a day ahead.
fn for_a_day(params: &mut CertificateParams) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or_default();
    let at = |offset: i64| ASN1Time::from_timestamp(now.saturating_add(offset));
    // Where the clock is beyond any calendar, rcgen's own dates stay.
    if let (Ok(from), Ok(until)) = (at(-3600), at(86_400)) {
        params.not_before = from.to_datetime();
        params.not_after = until.to_datetime();
    }
}

/// A new folder that nobody else may enter; an existing one is never taken.
fn private_folder() -> Result<PathBuf, PkiError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| PkiError::Random)?;
    let name = format!("sortie-demo-{:016x}", u64::from_le_bytes(bytes));
    let path = std::env::temp_dir().join(name);
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(PkiError::Write { path, source }),
    }
}

/// The folder, for messages.
impl AsRef<Path> for Pki {
    fn as_ref(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_is_private_and_goes_with_its_owner() {
        let pki = Pki::new().unwrap();
        let folder = pki.as_ref().to_owned();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&pki.path("client.key")), 0o600);
        drop(pki);
        assert!(!folder.exists());
    }

    #[test]
    fn a_certificate_issued_anew_has_another_serial() {
        let pki = Pki::new().unwrap();
        let before = fs::read(pki.path("client.pem")).unwrap();
        pki.issue_client().unwrap();
        assert_ne!(before, fs::read(pki.path("client.pem")).unwrap());
    }
}
