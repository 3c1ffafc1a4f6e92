//! Which bytes of a Secret are meant, and in Istio's words why there are none.
//!
//! Owns: where a Secret is (its document, else a folder), which keys count (ISTIO.md S3, S4), and
//! the texts of S5.
//! Never: understands PEM, or keeps anything from one check to the next.
//! Called by: `certs::pieces`, at every check, so that a folder that appears later heals (T17).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::read::{Content, ReadError, Wanted, read_one};
use crate::model::{SecretData, SecretRef};

/// Certificate and key, in the order in which they are tried (S3).
const PAIRS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];
/// CA certificates (S4).
const CAS: [&str; 2] = ["cacert", "ca.crt"];
/// Revocation lists (S4).
const LISTS: [&str; 2] = ["crl", "ca.crl"];
/// How many keys a message names (S5).
const NAMED: usize = 3;

/// One file, or one key of a Secret.
#[derive(PartialEq, Eq)]
pub(super) struct Piece {
    /// What messages call it: a path, or `secret ns/name[key]`.
    pub name: PathBuf,
    bytes: Bytes,
}

#[derive(PartialEq, Eq)]
enum Bytes {
    File(Content),
    /// Of a document, where they stay: a key is not copied about.
    Document(Arc<SecretData>, &'static str),
}

impl Piece {
    pub(super) fn file(wanted: &Wanted<'_>) -> Result<Piece, ReadError> {
        Ok(Piece {
            name: wanted.path.to_owned(),
            bytes: Bytes::File(read_one(wanted)?),
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::File(content) => &content.bytes,
            Bytes::Document(data, key) => data.0.get(*key).map_or(&[], |bytes| &bytes.0),
        }
    }

    /// Permission bits, where it is a file.
    pub(super) fn mode(&self) -> u32 {
        match &self.bytes {
            Bytes::File(content) => content.mode,
            Bytes::Document(..) => 0,
        }
    }
}

/// Why a Secret does not give what is asked of it (S5).
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// Neither a document nor a folder.
    #[error("{secret} not found{places}")]
    NotFound { secret: String, places: String },
    /// Keys without content.
    #[error("{secret}: found keys \"{certificate}\" and \"{key}\", but they were empty")]
    EmptyPair {
        secret: String,
        certificate: &'static str,
        key: &'static str,
    },
    /// Neither pair of keys.
    #[error(
        "{secret}: found secret, but didn't have expected keys (cert and key) or (tls.crt and \
         tls.key); found: {found}"
    )]
    NoPair { secret: String, found: String },
    /// A key without content.
    #[error("{secret}: found key \"{key}\", but it was empty")]
    Empty { secret: String, key: &'static str },
    /// No CA.
    #[error(
        "{secret}: found {word}, but didn't have expected keys cacert or ca.crt; found: {found}"
    )]
    NoCa {
        secret: String,
        word: &'static str,
        found: String,
    },
    /// A certificate is asked of a Secret whose name says that it has none.
    #[error(
        "{secret} holds a CA alone, as its name ends in -cacert; name the Secret that has \
         certificate and key"
    )]
    CaOnly { secret: String },
    /// A key that is there and cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A Secret that exists.
struct Found {
    /// `secret ns/name`.
    title: String,
    word: &'static str,
    origin: Origin,
}

enum Origin {
    Document(Arc<SecretData>),
    Folder(PathBuf),
}

/// Certificate chain and key (S3).
pub(super) fn pair(of: &SecretRef, limit: u64) -> Result<(Piece, Piece), SecretError> {
    let title = title(of, "");
    if of.name.ends_with(SecretRef::CA_SUFFIX) || of.is_config_map() {
        return Err(SecretError::CaOnly { secret: title });
    }
    let secret = find(of, "")?.ok_or_else(|| not_found(of))?;
    let mut empty = None;
    for (certificate, key) in PAIRS {
        let pair = (
            secret.key("certificate", certificate, limit)?,
            secret.key("key", key, limit)?,
        );
        if let (Some(chain), Some(private)) = pair {
            if !chain.bytes().is_empty() && !private.bytes().is_empty() {
                return Ok((chain, private));
            }
            empty.get_or_insert((certificate, key));
        }
    }
    Err(match empty {
        Some((certificate, key)) => SecretError::EmptyPair {
            secret: title,
            certificate,
            key,
        },
        None => SecretError::NoPair {
            secret: title,
            found: secret.listed()?,
        },
    })
}

/// CA certificates (S4).
pub(super) fn authority(of: &SecretRef, limit: u64) -> Result<Piece, SecretError> {
    let secret = with_ca(of)?;
    let mut empty = None;
    for key in CAS {
        match secret.key("CA", key, limit)? {
            Some(piece) if !piece.bytes().is_empty() => return Ok(piece),
            Some(_) => empty = empty.or(Some(key)),
            None => {}
        }
    }
    Err(match empty {
        Some(key) => SecretError::Empty {
            secret: secret.title,
            key,
        },
        None => SecretError::NoCa {
            found: secret.listed()?,
            secret: secret.title,
            word: secret.word,
        },
    })
}

/// Revocation lists, where the Secret that has the CA has any (S4). An empty key is an error and
/// not "none": whoever wrote it means revocation to be checked.
pub(super) fn lists(of: &SecretRef, limit: u64) -> Result<Option<Piece>, SecretError> {
    let secret = with_ca(of)?;
    for key in LISTS {
        match secret.key("CRL", key, limit)? {
            Some(piece) if piece.bytes().is_empty() => {
                return Err(SecretError::Empty {
                    secret: secret.title,
                    key,
                });
            }
            Some(piece) => return Ok(Some(piece)),
            None => {}
        }
    }
    Ok(None)
}

/// NAME-cacert where it exists, and then it alone; else NAME (S4).
fn with_ca(of: &SecretRef) -> Result<Found, SecretError> {
    if !of.is_config_map()
        && let Some(secret) = find(of, SecretRef::CA_SUFFIX)?
    {
        return Ok(secret);
    }
    find(of, "")?.ok_or_else(|| not_found(of))
}

/// The Secret NAME or NAME-cacert: its document, else the first folder that is one.
fn find(of: &SecretRef, suffix: &str) -> Result<Option<Found>, SecretError> {
    let document = match suffix {
        "" => &of.document,
        _ => &of.ca_document,
    };
    let found = |origin| Found {
        title: title(of, suffix),
        word: word(of),
        origin,
    };
    if let Some(data) = document {
        return Ok(Some(found(Origin::Document(Arc::clone(data)))));
    }
    for folder in folders(of, suffix) {
        if is_secret(&folder)? {
            return Ok(Some(found(Origin::Folder(folder))));
        }
    }
    Ok(None)
}

/// Where NAME + `suffix` may be mounted, in the order in which it is looked for. None for a name
/// that would lead elsewhere.
pub(super) fn folders(of: &SecretRef, suffix: &str) -> Vec<PathBuf> {
    let plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    let name = format!("{}{suffix}", of.name);
    if !plain(&name) || !plain(&of.namespace) {
        return Vec::new();
    }
    let roots = of.folders.iter();
    roots
        .flat_map(|root| [root.join(&*of.namespace).join(&name), root.join(&name)])
        .collect()
}

/// Every path whose change may be a change of the Secret (R9): the folders, there or not, and the
/// keys in those that are there, as their links may lead elsewhere.
pub(super) fn paths(of: &SecretRef) -> Vec<PathBuf> {
    let missing = |document: &Option<_>| document.is_none();
    let mut paths = Vec::new();
    if missing(&of.document) {
        paths.extend(folders(of, ""));
    }
    if missing(&of.ca_document) && !of.is_config_map() {
        paths.extend(folders(of, SecretRef::CA_SUFFIX));
    }
    let keys = PAIRS
        .iter()
        .flat_map(|(certificate, key)| [certificate, key]);
    let keys: Vec<_> = keys.chain(&CAS).chain(&LISTS).collect();
    let there: Vec<_> = paths.iter().filter(|path| path.is_dir()).cloned().collect();
    for folder in there {
        let inside = keys.iter().map(|key| folder.join(key));
        paths.extend(inside.filter(|path| path.symlink_metadata().is_ok()));
    }
    paths
}

/// A folder with a key in it, or with nothing at all. One of folders alone is a namespace's.
fn is_secret(folder: &Path) -> Result<bool, ReadError> {
    match entries(folder) {
        Ok((keys, others)) => Ok(!keys.is_empty() || !others),
        Err(error) if is_absent(&error) => Ok(false),
        Err(source) => Err(unreadable(folder, source)),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn unreadable(folder: &Path, source: io::Error) -> ReadError {
    ReadError::Unreadable {
        role: "Secret's",
        path: folder.into(),
        source,
    }
}

/// The keys of a mounted Secret, and whether there is anything else in its folder. What begins
/// with two dots is the mount's own.
fn entries(folder: &Path) -> io::Result<(BTreeSet<String>, bool)> {
    let (mut keys, mut others) = (BTreeSet::new(), false);
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("..") {
            continue;
        }
        match fs::metadata(folder.join(&name)) {
            Ok(metadata) if metadata.is_dir() => others = true,
            // A link to nothing is a key that is just going.
            Err(_) => {}
            Ok(_) => {
                keys.insert(name);
            }
        }
    }
    Ok((keys, others))
}

impl Found {
    /// One key, where the Secret has it.
    fn key(
        &self,
        role: &'static str,
        key: &'static str,
        limit: u64,
    ) -> Result<Option<Piece>, SecretError> {
        match &self.origin {
            Origin::Document(data) => Ok(data.0.contains_key(key).then(|| Piece {
                name: format!("{}[{key}]", self.title).into(),
                bytes: Bytes::Document(Arc::clone(data), key),
            })),
            Origin::Folder(folder) => {
                let path = &folder.join(key);
                match Piece::file(&Wanted { role, path, limit }) {
                    Ok(piece) => Ok(Some(piece)),
                    Err(ReadError::Missing { .. }) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Its keys, as S5 lists them.
    fn listed(&self) -> Result<String, SecretError> {
        let keys: BTreeSet<String> = match &self.origin {
            Origin::Document(data) => data.0.keys().cloned().collect(),
            Origin::Folder(folder) => {
                let entries = entries(folder);
                entries.map_err(|source| unreadable(folder, source))?.0
            }
        };
        let more = keys.len().saturating_sub(NAMED);
        let shown = keys.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        Ok(match more {
            0 => shown,
            more => format!("{shown}, and {more} more..."),
        })
    }
}

fn word(of: &SecretRef) -> &'static str {
    match of.is_config_map() {
        true => "configmap",
        false => "secret",
    }
}

/// `secret ns/name`.
pub(super) fn title(of: &SecretRef, suffix: &str) -> String {
    format!("{} {}/{}{suffix}", word(of), of.namespace, of.name)
}

fn not_found(of: &SecretRef) -> SecretError {
    let places: Vec<_> = folders(of, "")
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    SecretError::NotFound {
        secret: title(of, ""),
        places: match places.as_slice() {
            [] => " among the documents; add it to them, or mount it and name the folder with \
                    --credentials"
                .to_owned(),
            places => format!(
                " among the documents, nor as {}; mount or write it there",
                places.join(" or ")
            ),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::certs::tests::{Ca, DAY, Leaf, NOW, Pair, at, pem};
    use crate::certs::{CertStore, Checked, CredentialState, ProblemReason};
    use crate::model::{
        CaSource, CredentialSpec, CredentialUse, CrlSource, IdentitySource, SecretBytes, Uses,
    };
    use crate::telemetry::Metrics;

    const PEM: &str = "-";

    /// The content of a Secret document.
    pub(crate) fn data(keys: &[(&str, &str)]) -> SecretData {
        let bytes = |text: &str| SecretBytes(text.as_bytes().to_vec().into());
        let keys = keys
            .iter()
            .map(|(key, text)| ((*key).to_owned(), bytes(text)));
        SecretData(keys.collect())
    }

    fn of(name: &str, folders: &[&Path]) -> SecretRef {
        SecretRef {
            resource: format!("kubernetes://{name}").into(),
            namespace: "shop".into(),
            name: name.into(),
            document: None,
            ca_document: None,
            folders: folders.iter().map(|folder| folder.to_path_buf()).collect(),
        }
    }

    /// The same Secret as a document and as a mounted folder: whatever holds of one holds of both.
    fn both(keys: &[(&str, &str)], check: impl Fn(&SecretRef)) {
        let document = SecretRef {
            document: Some(Arc::new(data(keys))),
            ..of("bank", &[])
        };
        check(&document);
        let folder = tempfile::tempdir().unwrap();
        mount(&folder.path().join("bank"), keys);
        check(&of("bank", &[folder.path()]));
    }

    fn mount(folder: &Path, keys: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (key, text) in keys {
            fs::write(folder.join(key), text).unwrap();
        }
    }

    fn text(piece: &Piece) -> String {
        String::from_utf8(piece.bytes().to_vec()).unwrap()
    }

    fn said<T>(result: Result<T, SecretError>) -> String {
        result
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn s3_cert_and_key_win_over_tls_crt_and_tls_key_where_both_are_not_empty() {
        let generic = [("cert", "c1"), ("key", "k1")];
        let typed = [("tls.crt", "c2"), ("tls.key", "k2")];
        for (keys, expected) in [
            ([generic, typed].concat(), ("c1", "k1")),
            (generic.to_vec(), ("c1", "k1")),
            (typed.to_vec(), ("c2", "k2")),
            ([&typed[..], &[("cert", "c1")]].concat(), ("c2", "k2")),
            (
                [&typed[..], &[("cert", "c1"), ("key", "")]].concat(),
                ("c2", "k2"),
            ),
        ] {
            both(&keys, |of| {
                let (certificate, key) = pair(of, 99).unwrap();
                assert_eq!((&*text(&certificate), &*text(&key)), expected, "{keys:?}");
            });
        }
    }

    #[test]
    fn s5_a_secret_without_a_pair_is_told_in_istios_words() {
        let expected = "found secret, but didn't have expected keys (cert and key) or \
                        (tls.crt and tls.key); found: ";
        for (keys, words) in [
            (
                vec![("cert", ""), ("key", "")],
                "found keys \"cert\" and \"key\", but they were empty".to_owned(),
            ),
            (
                vec![("tls.crt", "c"), ("tls.key", "")],
                "found keys \"tls.crt\" and \"tls.key\", but they were empty".to_owned(),
            ),
            (vec![("tls.crt", PEM)], format!("{expected}tls.crt")),
            (
                vec![("cert", PEM), ("tls.key", PEM)],
                format!("{expected}cert, tls.key"),
            ),
            (
                vec![("a", PEM), ("b", PEM), ("c", PEM)],
                format!("{expected}a, b, c"),
            ),
            (
                vec![("e", PEM), ("d", PEM), ("c", PEM), ("b", PEM), ("a", PEM)],
                format!("{expected}a, b, c, and 2 more..."),
            ),
        ] {
            both(&keys, |of| {
                assert_eq!(said(pair(of, 99)), format!("secret shop/bank: {words}"));
            });
        }
    }

    #[test]
    fn s5_a_secret_that_is_nowhere_is_told_with_the_places() {
        assert_eq!(
            said(pair(&of("bank", &[]), 99)),
            "secret shop/bank not found among the documents; add it to them, or mount it and name \
             the folder with --credentials"
        );
        let mounted = of("bank", &[Path::new("/nowhere")]);
        let words = "secret shop/bank not found among the documents, nor as \
                     /nowhere/shop/bank or /nowhere/bank; mount or write it there";
        assert_eq!(said(pair(&mounted, 99)), words);
        assert_eq!(said(authority(&mounted, 99)), words);
    }

    #[test]
    fn s4_cacert_wins_over_ca_crt_in_the_same_secret() {
        for (keys, expected) in [
            (vec![("cacert", "1"), ("ca.crt", "2")], "1"),
            (vec![("ca.crt", "2"), ("tls.crt", PEM)], "2"),
            (vec![("cacert", ""), ("ca.crt", "2")], "2"),
        ] {
            both(&keys, |of| {
                assert_eq!(text(&authority(of, 99).unwrap()), expected)
            });
        }
    }

    #[test]
    fn s6_a_secret_without_a_ca_is_an_error_and_never_the_systems_store() {
        for (keys, words) in [
            (
                vec![("tls.crt", PEM), ("tls.key", PEM)],
                "found secret, but didn't have expected keys cacert or ca.crt; found: tls.crt, \
                 tls.key",
            ),
            (
                vec![("ca.crt", "")],
                "found key \"ca.crt\", but it was empty",
            ),
            (
                vec![],
                "found secret, but didn't have expected keys cacert or ca.crt; found: ",
            ),
        ] {
            both(&keys, |of| {
                assert_eq!(
                    said(authority(of, 99)),
                    format!("secret shop/bank: {words}")
                );
            });
        }
    }

    #[test]
    fn s4_a_secret_name_cacert_is_the_only_source_of_the_ca() {
        let folder = tempfile::tempdir().unwrap();
        mount(&folder.path().join("bank"), &[("ca.crt", "plain")]);
        let mut secret = of("bank", &[folder.path()]);
        assert_eq!(text(&authority(&secret, 99).unwrap()), "plain");
        mount(
            &folder.path().join("shop/bank-cacert"),
            &[("ca.crt", "own")],
        );
        assert_eq!(text(&authority(&secret, 99).unwrap()), "own");
        secret.ca_document = Some(Arc::new(data(&[("cacert", "document")])));
        assert_eq!(text(&authority(&secret, 99).unwrap()), "document");
        // No fallback to NAME.
        secret.ca_document = Some(Arc::new(data(&[("tls.crt", PEM)])));
        assert_eq!(
            said(authority(&secret, 99)),
            "secret shop/bank-cacert: found secret, but didn't have expected keys cacert or \
             ca.crt; found: tls.crt"
        );
    }

    #[test]
    fn s4_a_name_that_ends_in_cacert_has_a_ca_and_no_certificate() {
        let keys = [("cert", PEM), ("key", PEM), ("cacert", "ca")];
        let secret = SecretRef {
            document: Some(Arc::new(data(&keys))),
            ..of("bank-cacert", &[])
        };
        assert_eq!(text(&authority(&secret, 99).unwrap()), "ca");
        assert_eq!(secret.ca_resource(), "kubernetes://bank-cacert");
        assert_eq!(
            said(pair(&secret, 99)),
            "secret shop/bank-cacert holds a CA alone, as its name ends in -cacert; name the \
             Secret that has certificate and key"
        );
    }

    #[test]
    fn s4_a_configmap_has_a_ca_under_its_own_name_alone() {
        let folder = tempfile::tempdir().unwrap();
        mount(&folder.path().join("bank-cacert"), &[("ca.crt", "other")]);
        let map = |keys: &[(&str, &str)]| SecretRef {
            resource: "configmap://shop/bank".into(),
            document: Some(Arc::new(data(keys))),
            ..of("bank", &[folder.path()])
        };
        let good = map(&[("cacert", "1"), ("ca.crt", "2")]);
        assert_eq!(text(&authority(&good, 99).unwrap()), "1");
        assert_eq!(good.ca_resource(), "configmap://shop/bank");
        assert_eq!(
            said(authority(&map(&[("x", PEM)]), 99)),
            "configmap shop/bank: found configmap, but didn't have expected keys cacert or \
             ca.crt; found: x"
        );
    }

    #[test]
    fn s4_a_revocation_list_is_crl_or_ca_crl_of_the_secret_that_has_the_ca() {
        both(&[("ca.crt", PEM), ("crl", "1"), ("ca.crl", "2")], |of| {
            assert_eq!(text(&lists(of, 99).unwrap().unwrap()), "1");
        });
        both(&[("ca.crt", PEM), ("ca.crl", "2")], |of| {
            assert_eq!(text(&lists(of, 99).unwrap().unwrap()), "2");
        });
        both(&[("ca.crt", PEM)], |of| {
            assert!(lists(of, 99).unwrap().is_none())
        });
        both(&[("ca.crt", PEM), ("crl", "")], |of| {
            let words = "secret shop/bank: found key \"crl\", but it was empty";
            assert_eq!(said(lists(of, 99)), words);
        });
    }

    #[test]
    fn s2_a_document_wins_over_a_folder_and_the_namespaces_folder_over_the_plain_one() {
        let folder = tempfile::tempdir().unwrap();
        let second = tempfile::tempdir().unwrap();
        let mut secret = of("bank", &[folder.path(), second.path()]);
        let ca = |secret: &SecretRef| text(&authority(secret, 99).unwrap());
        mount(&second.path().join("shop/bank"), &[("ca.crt", "second")]);
        assert_eq!(ca(&secret), "second");
        mount(&folder.path().join("bank"), &[("ca.crt", "plain")]);
        assert_eq!(ca(&secret), "plain");
        mount(&folder.path().join("shop/bank"), &[("ca.crt", "namespace")]);
        assert_eq!(ca(&secret), "namespace");
        secret.document = Some(Arc::new(data(&[("ca.crt", "document")])));
        assert_eq!(ca(&secret), "document");
    }

    #[test]
    fn a_folder_of_namespaces_is_not_taken_for_a_secret_and_no_name_leads_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        // ROOT/bank is the namespace "bank" here.
        mount(&folder.path().join("bank/other"), &[("ca.crt", PEM)]);
        let words = said(authority(&of("bank", &[folder.path()]), 99));
        assert!(words.starts_with("secret shop/bank not found"), "{words}");
        for name in ["../shop/bank", "..", ".", "", "a/b"] {
            assert_eq!(
                folders(&of(name, &[folder.path()]), ""),
                [""; 0].map(PathBuf::from)
            );
        }
    }

    /// A mounted Secret, a store that reads it, and a clock.
    struct Mounted {
        root: tempfile::TempDir,
        ca: Ca,
        store: CertStore,
        spec: CredentialSpec,
        now: SystemTime,
        round: usize,
    }

    impl Mounted {
        fn new() -> Mounted {
            let root = tempfile::tempdir().unwrap();
            let spec = spec(of("bank", &[root.path()]));
            let mut store = CertStore::new(Metrics::new(1));
            store.set(vec![spec.clone()]);
            Mounted {
                root,
                ca: Ca::new("ca"),
                store,
                spec,
                now: at(NOW),
                round: 0,
            }
        }

        fn folder(&self) -> PathBuf {
            self.root.path().join("shop/bank")
        }

        /// Writes a new generation as Kubernetes does: a new folder, then `..data` swapped.
        fn swap(&mut self, keys: &[(&str, &str)]) {
            self.round += 1;
            let (folder, name) = (self.folder(), format!("..2026_{}", self.round));
            mount(&folder.join(&name), keys);
            symlink(&name, folder.join("..data_tmp")).unwrap();
            fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
            for (key, _) in keys {
                let _ = symlink(format!("..data/{key}"), folder.join(key));
            }
        }

        fn write(&mut self, pair: &Pair) {
            let ca = self.ca.pem.clone();
            self.swap(&[
                ("tls.crt", &pair.cert),
                ("tls.key", &pair.key),
                ("ca.crt", &ca),
            ]);
        }

        fn pair(&self, serial: u64) -> Pair {
            self.ca.leaf(Leaf {
                serial,
                ..Leaf::default()
            })
        }

        fn check(&mut self) -> Checked {
            self.now += Duration::from_secs(1);
            self.store.check(self.now)
        }

        fn state(&self) -> CredentialState {
            self.store.current().find(&self.spec).unwrap().clone()
        }

        /// Serial number of the leaf in use, and what is wrong.
        fn seen(&self) -> (Option<u64>, Option<ProblemReason>) {
            let state = self.state();
            let identity = state.current.as_ref().and_then(|c| c.identity.as_ref());
            (
                identity.map(|identity| identity.leaf.serial.parse().unwrap()),
                state.problem.map(|problem| problem.reason),
            )
        }
    }

    fn spec(secret: SecretRef) -> CredentialSpec {
        CredentialSpec {
            identity: Some(IdentitySource::Secret(secret.clone())),
            ca: CaSource::Secret(secret.clone()),
            crl: Some(CrlSource::Secret(secret)),
        }
    }

    #[test]
    fn t17_a_secret_that_appears_later_heals_and_its_parents_are_watched() {
        let mut mounted = Mounted::new();
        let checked = mounted.check();
        assert!(checked.problems_changed && checked.retry_after.is_some());
        assert_eq!(mounted.seen(), (None, Some(ProblemReason::SecretMissing)));
        let paths = mounted.store.paths();
        for folder in ["shop/bank", "bank", "shop/bank-cacert", "bank-cacert"] {
            assert!(
                paths.contains(&mounted.root.path().join(folder)),
                "{paths:?}"
            );
        }
        mounted.write(&mounted.pair(1));
        assert_eq!(
            mounted.check().changed,
            ["kubernetes://bank", "kubernetes://bank-cacert"]
        );
        assert_eq!(mounted.seen(), (Some(1), None));
        assert!(
            mounted
                .store
                .paths()
                .contains(&mounted.folder().join("tls.key"))
        );
    }

    #[test]
    fn r3_the_data_swap_of_a_mounted_secret_is_one_rotation() {
        let mut mounted = Mounted::new();
        for serial in 1..4_u64 {
            mounted.write(&mounted.pair(serial));
            let changed = mounted.check().changed;
            assert!(
                changed.contains(&"kubernetes://bank".to_owned()),
                "{changed:?}"
            );
            assert_eq!(mounted.seen(), (Some(serial), None));
            // Unchanged bytes behind another swap are none (R13).
            let same = mounted.state().current.unwrap();
            let read = |key| fs::read_to_string(mounted.folder().join(key)).unwrap();
            let (chain, key, ca) = (read("tls.crt"), read("tls.key"), read("ca.crt"));
            mounted.swap(&[("tls.crt", &chain), ("tls.key", &key), ("ca.crt", &ca)]);
            assert_eq!(mounted.check(), Checked::default());
            assert!(Arc::ptr_eq(&same, &mounted.state().current.unwrap()));
        }
    }

    #[test]
    fn r12_a_broken_or_vanished_mounted_secret_leaves_the_last_good_one_in_use() {
        let mut mounted = Mounted::new();
        mounted.write(&mounted.pair(1));
        mounted.check();
        let one = Some(1);
        let (two, three) = (mounted.pair(2), mounted.pair(3));
        let ca = mounted.ca.pem.clone();
        mounted.swap(&[
            ("tls.crt", &two.cert),
            ("tls.key", &three.key),
            ("ca.crt", &ca),
        ]);
        mounted.check();
        assert_eq!(mounted.seen(), (one, Some(ProblemReason::KeyMismatch)));
        let key = mounted.folder().join("tls.key").display().to_string();
        let words = mounted.state().problem.unwrap().words;
        assert!(words.starts_with(&format!("{key} with ")), "{words}");
        mounted.swap(&[("tls.crt", &two.cert), ("tls.key", &two.key)]);
        let _ = fs::remove_file(mounted.folder().join("ca.crt"));
        mounted.check();
        assert_eq!(mounted.seen(), (one, Some(ProblemReason::SecretKeys)));
        fs::remove_dir_all(mounted.folder()).unwrap();
        mounted.check();
        assert_eq!(mounted.seen(), (one, Some(ProblemReason::SecretMissing)));
        mounted.write(&two);
        mounted.check();
        assert_eq!(mounted.seen(), (Some(2), None));
    }

    #[test]
    fn s7_an_expired_pair_is_served_unless_a_valid_one_is_in_use() {
        let expired = |mounted: &Mounted, serial| {
            mounted.ca.leaf(Leaf {
                serial,
                to: NOW - DAY,
                ..Leaf::default()
            })
        };
        let mut mounted = Mounted::new();
        mounted.write(&expired(&mounted, 1));
        mounted.check();
        assert_eq!(mounted.seen(), (Some(1), None));
        mounted.write(&mounted.pair(2));
        mounted.check();
        mounted.write(&expired(&mounted, 3));
        mounted.check();
        assert_eq!(mounted.seen(), (Some(2), Some(ProblemReason::Expired)));
    }

    #[test]
    fn s4_a_list_that_comes_with_the_secret_is_used_and_shown_and_none_is_no_row() {
        let mut mounted = Mounted::new();
        mounted.write(&mounted.pair(1));
        mounted.check();
        let rows = |mounted: &Mounted| {
            let rows = mounted.store.current().rows_at(mounted.now);
            let rows = rows
                .into_iter()
                .map(|row| (row.resource, row.kind.as_str()));
            rows.collect::<Vec<_>>()
        };
        let identity = ("kubernetes://bank".to_owned(), "Cert Chain");
        let ca = ("kubernetes://bank-cacert".to_owned(), "CA");
        assert_eq!(rows(&mounted), [identity.clone(), ca.clone()]);
        let list = mounted.ca.crl(7).pem().unwrap();
        fs::write(mounted.folder().join("ca.crl"), list).unwrap();
        assert_eq!(mounted.check().changed, ["kubernetes://bank-cacert"]);
        assert_eq!(mounted.state().current.unwrap().crls.len(), 1);
        let crl = ("kubernetes://bank-cacert".to_owned(), "CRL");
        assert_eq!(rows(&mounted), [identity, ca, crl]);
        fs::write(mounted.folder().join("ca.crl"), pem("X509 CRL", &[1; 300])).unwrap();
        mounted.check();
        assert_eq!(mounted.seen().1, Some(ProblemReason::Crl));
    }

    #[test]
    fn r13_a_document_with_the_same_content_is_the_same_generation_and_another_a_rotation() {
        let ca = Ca::new("ca");
        let leaf = |serial| {
            ca.leaf(Leaf {
                serial,
                ..Leaf::default()
            })
        };
        let (one, two, three) = (leaf(1), leaf(2), leaf(3));
        let document = |chain: &str, key: &str, more: &str| {
            let keys = [
                ("tls.crt", chain),
                ("tls.key", key),
                ("ca.crt", &ca.pem),
                ("x", more),
            ];
            spec(SecretRef {
                document: Some(Arc::new(data(&keys))),
                ..of("bank", &[])
            })
        };
        let mut store = CertStore::new(Metrics::new(1));
        let mut step = |spec: CredentialSpec| {
            store.set(vec![spec.clone()]);
            let checked = store.check(at(NOW));
            let state = store.current().find(&spec).unwrap().clone();
            (checked.changed, state)
        };
        let (changed, first) = step(document(&one.cert, &one.key, ""));
        assert_eq!(changed, ["kubernetes://bank", "kubernetes://bank-cacert"]);
        // A key that nobody reads is no rotation.
        let (changed, same) = step(document(&one.cert, &one.key, "more"));
        assert_eq!(changed, [""; 0]);
        assert!(Arc::ptr_eq(&first.current.unwrap(), &same.current.unwrap()));
        let (changed, second) = step(document(&two.cert, &two.key, ""));
        assert_eq!(changed, ["kubernetes://bank"]);
        // A pair that does not belong together leaves the last good one in use (R12).
        let (_, kept) = step(document(&two.cert, &three.key, ""));
        assert!(Arc::ptr_eq(
            &second.current.unwrap(),
            &kept.current.unwrap()
        ));
        assert_eq!(
            kept.problem.unwrap().words,
            "secret shop/bank[tls.key] with secret shop/bank[tls.crt]: the key does not match \
             the certificate (subject O=Test,CN=client)"
        );
    }

    #[test]
    fn s3_a_server_is_made_of_a_secret_without_a_ca_only_where_clients_are_not_verified() {
        let ca = Ca::new("ca");
        let pair = ca.leaf(Leaf::default());
        for keys in [["cert", "key"], ["tls.crt", "tls.key"]] {
            let [chain, key] = keys;
            let secret = SecretRef {
                document: Some(Arc::new(data(&[(chain, &pair.cert), (key, &pair.key)]))),
                ..of("gateway", &[])
            };
            let mutual = spec(secret);
            let simple = CredentialSpec {
                ca: CaSource::Nothing,
                crl: None,
                ..mutual.clone()
            };
            let mut store = CertStore::new(Metrics::new(1));
            let used = |spec: &CredentialSpec| CredentialUse {
                spec: spec.clone(),
                uses: Uses::SERVER,
            };
            store.set([used(&simple), used(&mutual)]);
            store.check(at(NOW));
            let current = store.current();
            let loaded = current.find(&simple).unwrap().current.clone().unwrap();
            assert!(loaded.identity.is_some());
            let lost = current.find(&mutual).unwrap();
            assert!(lost.current.is_none());
            assert_eq!(
                lost.problem.clone().unwrap().words,
                format!(
                    "secret shop/gateway: found secret, but didn't have expected keys cacert or \
                     ca.crt; found: {chain}, {key}"
                )
            );
        }
    }

    #[test]
    fn s4_a_servers_ca_and_revocation_list_come_from_the_secret_name_cacert() {
        let (ca, clients) = (Ca::new("ca"), Ca::new("clients"));
        let pair = ca.leaf(Leaf::default());
        let list = clients.crl(1).pem().unwrap();
        let keys = [("tls.crt", &*pair.cert), ("tls.key", &*pair.key)];
        let authority = [("ca.crt", &*clients.pem), ("ca.crl", &*list)];
        let spec = spec(SecretRef {
            document: Some(Arc::new(data(&keys))),
            ca_document: Some(Arc::new(data(&authority))),
            ..of("gateway", &[])
        });
        let mut store = CertStore::new(Metrics::new(1));
        store.set([CredentialUse {
            spec: spec.clone(),
            uses: Uses::SERVER,
        }]);
        store.check(at(NOW));
        let state = store.current().find(&spec).unwrap().clone();
        assert!(state.problem.is_none(), "{:?}", state.problem);
        let credential = state.current.unwrap();
        assert_eq!(credential.root_facts[0].subject, "O=Test,CN=clients");
        assert_eq!(credential.crls.len(), 1);
    }

    #[test]
    fn t7_nothing_to_verify_needs_no_store_and_has_no_row() {
        let ca = Ca::new("ca");
        let pair = ca.leaf(Leaf::default());
        let keys = [("cert", &*pair.cert), ("key", &*pair.key)];
        let spec = CredentialSpec {
            ca: CaSource::Nothing,
            crl: None,
            ..spec(SecretRef {
                document: Some(Arc::new(data(&keys))),
                ..of("bank", &[])
            })
        };
        let mut store = CertStore::new(Metrics::new(1));
        store.set(vec![spec.clone()]);
        assert_eq!(store.check(at(NOW)).changed, ["kubernetes://bank"]);
        let rows = store.current().rows_at(at(NOW));
        assert_eq!(rows.len(), 1, "{rows:?}");
        let nothing = CredentialSpec {
            identity: None,
            ..spec
        };
        store.set(vec![nothing.clone()]);
        store.check(at(NOW));
        let state = store.current().find(&nothing).unwrap().clone();
        assert!(state.current.is_some() && state.problem.is_none());
        assert!(store.current().rows_at(at(NOW)).is_empty());
    }
}
