//! Files and folders to one validated configuration.
//!
//! Owns: which files count, how they are read, and which front end reads each document.
//! Never: keeps anything between two loads.
//! Called by: publish (start and reload), cli (`check`, `routes`, `certs`).
//!
//! Why a folder is read again when its `..data` link moved meanwhile: Kubernetes swaps all files of
//! a ConfigMap at once, and half of the old and half of the new is a configuration nobody wrote.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::Config;

use super::cursor::Source;
use super::diagnostic::{Code, Diagnostic, Diagnostics};
use super::document::Document;
use super::istio::{self, Manifests};
use super::native;
use super::node::{Node, Value};
use super::options::LoadOptions;
use super::yaml::{self, MAX_BYTES};

/// How often a folder that is being swapped is read again.
const SWAP_RETRIES: usize = 3;

/// What a set of sources says.
#[derive(Debug)]
pub struct Loaded {
    /// Valid as a whole; objects that were refused are listed in it, and fail (ISTIO.md X1).
    pub config: Config,
    /// Warnings, and the errors of single objects: nothing that keeps the rest from being served.
    pub warnings: Diagnostics,
    /// The files and folders that were read, to watch.
    pub files: Vec<PathBuf>,
}

/// What can be told of a set of sources, mistakes or not. For `check`; never to be served.
#[derive(Debug)]
pub struct Inspected {
    /// What was understood of it. Whole only where `diagnostics` has no error.
    pub config: Config,
    /// Everything that is wrong with it.
    pub diagnostics: Diagnostics,
    /// How many objects of Istio's and Kubernetes' were understood, by kind.
    pub objects: Vec<(&'static str, usize)>,
    /// The files and folders that were read.
    pub files: Vec<PathBuf>,
}

/// Reads all `sources`, each a file or a folder. Of a folder every `*.yaml`, `*.yml` and `*.json`
/// counts, sorted by name; hidden files and subfolders do not. Lists of all documents are joined.
///
/// # Errors
/// Every mistake of every file, warnings included, where one of them is about more than a single
/// object of Istio's or Kubernetes'.
pub fn load(sources: &[PathBuf], options: &LoadOptions) -> Result<Loaded, Diagnostics> {
    inspect(sources, options).into_loaded()
}

/// The same as [`load`], keeping what was understood beside the mistakes.
pub fn inspect(sources: &[PathBuf], options: &LoadOptions) -> Inspected {
    let mut reader = Reader::default();
    for source in sources {
        reader.source(source);
    }
    finish(reader, sources, options)
}

impl Inspected {
    fn into_loaded(self) -> Result<Loaded, Diagnostics> {
        match self.diagnostics.is_fatal() {
            true => Err(self.diagnostics),
            false => Ok(Loaded {
                config: self.config,
                warnings: self.diagnostics,
                files: self.files,
            }),
        }
    }
}

fn finish(reader: Reader, sources: &[PathBuf], options: &LoadOptions) -> Inspected {
    let mut out = reader.out;
    if reader.documents.is_empty() && !out.has_errors() && reader.foreign.is_empty() {
        out.push(nothing(sources));
    }
    let mut config = native::lower(&reader.documents, &mut out);
    config.facts = Arc::clone(&options.facts);
    let said = native::says_unknown_hosts(&reader.documents);
    drop(reader.documents);
    let mut manifests = Manifests {
        native_unknown: said.then_some(config.unknown_hosts),
        ..Manifests::default()
    };
    config.from_manifests = !reader.foreign.is_empty();
    if config.from_manifests {
        for document in &reader.foreign {
            istio::read(document, options, &mut manifests, &mut out);
        }
        manifests.report_ignored(&mut out);
    }
    if config.from_manifests || !options.inbound.is_empty() {
        istio::lower(&mut manifests, options, &mut config, &mut out);
    }
    if let Some(server) = &options.server_header {
        let server = (!server.is_empty()).then(|| Arc::clone(server));
        for entrance in &mut config.entrances {
            entrance.headers.server.clone_from(&server);
        }
    }
    if let Some(unknown) = options.unknown_hosts {
        (config.unknown_hosts, config.unknown_captured) = (unknown, unknown);
    }
    out.sort(&reader.names);
    Inspected {
        config,
        diagnostics: out,
        objects: manifests.counts().collect(),
        files: reader.files,
    }
}

fn nothing(sources: &[PathBuf]) -> Diagnostic {
    let (file, problem, advice) = match sources {
        [] => (
            "command line".to_owned(),
            "no configuration is named",
            "name a file or folder",
        ),
        _ => {
            let names = sources.iter().map(|path| path.display().to_string());
            (
                names.collect::<Vec<_>>().join(", "),
                "there is no document in it",
                "write routes and upstreams into a file that ends in .yaml, .yml or .json",
            )
        }
    };
    Diagnostic::whole(file.into(), Code::Nothing, problem.to_owned(), advice)
}

#[derive(Default)]
struct Reader {
    documents: Vec<Document>,
    /// Documents of Istio's and Kubernetes': those with a `kind` or an `apiVersion`.
    foreign: Vec<Document>,
    files: Vec<PathBuf>,
    names: Vec<Arc<str>>,
    /// So that a file which is named twice is read once.
    seen: HashSet<PathBuf>,
    /// Where only the texts are wanted, not what they mean.
    texts: Option<Vec<(PathBuf, String)>>,
    out: Diagnostics,
}

impl Reader {
    fn source(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => self.folder(path),
            Ok(_) => {
                let read = read(path);
                self.file(path, read);
            }
            Err(error) => self.unreadable(path, &error),
        }
    }

    fn folder(&mut self, folder: &Path) {
        self.files.push(folder.to_owned());
        let mut read = read_folder(folder);
        for _ in 0..SWAP_RETRIES {
            match &read {
                Ok(found) if found.swapped => read = read_folder(folder),
                Ok(_) | Err(_) => break,
            }
        }
        match read {
            Ok(found) if found.files.is_empty() => {
                let file = folder.display().to_string().into();
                let problem = "the folder has no file that ends in .yaml, .yml or .json".to_owned();
                let advice = "subfolders and hidden files are not read";
                self.out
                    .push(Diagnostic::whole(file, Code::EmptyFolder, problem, advice));
            }
            Ok(found) => {
                for (path, bytes) in found.files {
                    self.file(&path, bytes);
                }
            }
            Err(error) => self.unreadable(folder, &error),
        }
    }

    fn file(&mut self, path: &Path, bytes: io::Result<Bytes>) {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if !self.seen.insert(real) {
            return;
        }
        self.files.push(path.to_owned());
        let file: Arc<str> = path.display().to_string().into();
        self.names.push(Arc::clone(&file));
        self.bytes(path, file, bytes);
    }

    fn bytes(&mut self, path: &Path, file: Arc<str>, bytes: io::Result<Bytes>) {
        match bytes {
            Err(error) => self.unreadable(path, &error),
            Ok(Bytes::TooMany) => {
                let problem = format!("the file has more than {MAX_BYTES} bytes");
                let advice = "split it: every file of a folder is read";
                self.out
                    .push(Diagnostic::whole(file, Code::TooLarge, problem, advice));
            }
            Ok(Bytes::NoFile) => {
                let problem = "it is neither a file nor a folder".to_owned();
                self.out.push(Diagnostic::whole(
                    file,
                    Code::Unreadable,
                    problem,
                    "name a file or folder",
                ));
            }
            Ok(Bytes::All(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => match &mut self.texts {
                    Some(texts) => texts.push((path.to_owned(), text)),
                    None => self.text(path, file, Arc::new(text)),
                },
                Err(error) => {
                    let valid = error.utf8_error().valid_up_to();
                    self.not_utf8(file, error.as_bytes(), valid);
                }
            },
        }
    }

    fn text(&mut self, path: &Path, file: Arc<str>, text: Arc<String>) {
        let mut parsed = yaml::parse_shared(&text);
        let left = parsed.left.iter().zip(&parsed.documents);
        if left
            .into_iter()
            .any(|(left, root)| !left.is_empty() && is_foreign(root))
        {
            // Whoever reads those knows of no lines that are read later.
            parsed = yaml::parse(&text);
        }
        drop(text);
        let mistakes = parsed.mistakes.into_iter();
        self.out.extend(mistakes.map(|one| mistake(&file, one)));
        let source = Source {
            file,
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
        };
        for (root, left) in parsed.documents.into_iter().zip(parsed.left) {
            let document = Document {
                source: source.clone(),
                root,
                left,
            };
            match is_foreign(&document.root) {
                true => self.foreign.push(document),
                false => self.documents.push(document),
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let (problem, advice) = match error.kind() {
            io::ErrorKind::NotFound => (
                "there is no such file or folder".to_owned(),
                "check the name; a relative one starts at the working folder",
            ),
            io::ErrorKind::PermissionDenied => (
                "it may not be read by this user".to_owned(),
                "grant the right to read it",
            ),
            _ => (format!("it cannot be read: {error}"), ""),
        };
        let file = path.display().to_string().into();
        self.out
            .push(Diagnostic::whole(file, Code::Unreadable, problem, advice));
    }

    fn not_utf8(&mut self, file: Arc<str>, bytes: &[u8], valid: usize) {
        let before = bytes.get(..valid).unwrap_or_default();
        let before = String::from_utf8_lossy(before);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |last| last.chars().count())
            + 1;
        let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        let problem = match utf16 {
            true => "the file is UTF-16, and UTF-8 is expected",
            false => "a byte here is not UTF-8",
        };
        self.out.push(Diagnostic {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            ..Diagnostic::whole(
                file,
                Code::NotUtf8,
                problem.to_owned(),
                "save the file as UTF-8",
            )
        });
    }
}

/// What the YAML reader finds wrong with a text, whatever the text is for: syntax, keys that stand
/// twice, and what is over its bounds.
pub fn yaml_mistakes(file: &Arc<str>, text: &str) -> Diagnostics {
    let mistakes = yaml::parse(text).mistakes.into_iter();
    mistakes.map(|one| mistake(file, one)).collect()
}

/// Reads the files of `sources`, as [`load`] would: their names and what is in them, sorted within
/// each folder. What cannot be read is in the diagnostics.
pub fn read_texts(sources: &[PathBuf]) -> (Vec<(PathBuf, String)>, Diagnostics) {
    let mut reader = Reader {
        texts: Some(Vec::new()),
        ..Reader::default()
    };
    for source in sources {
        reader.source(source);
    }
    (reader.texts.unwrap_or_default(), reader.out)
}

/// The same of bytes that came from elsewhere, as from standard input, named `file`.
///
/// # Errors
/// They are not UTF-8, or more than 16 MiB.
pub fn read_bytes(file: &str, bytes: Vec<u8>) -> Result<String, Diagnostics> {
    let mut reader = Reader {
        texts: Some(Vec::new()),
        ..Reader::default()
    };
    let bytes = match bytes.len() > MAX_BYTES {
        true => Bytes::TooMany,
        false => Bytes::All(bytes),
    };
    reader.bytes(Path::new(file), file.into(), Ok(bytes));
    match reader.texts.and_then(|mut texts| texts.pop()) {
        Some((_, text)) => Ok(text),
        None => Err(reader.out),
    }
}

fn mistake(file: &Arc<str>, mistake: yaml::Mistake) -> Diagnostic {
    Diagnostic {
        file: Arc::clone(file),
        line: mistake.at.line,
        column: mistake.at.column,
        field: mistake.field,
        object: None,
        code: mistake.code,
        severity: mistake.code.severity(),
        problem: mistake.problem,
        advice: mistake.advice.to_owned(),
    }
}

/// True for a document of Istio's or Kubernetes': ours have neither `kind` nor `apiVersion`.
fn is_foreign(root: &Node) -> bool {
    let Value::Map(entries) = &root.value else {
        return false;
    };
    let ours = |key: &str| key != "kind" && key != "apiVersion";
    !entries.iter().all(|entry| ours(&entry.key))
}

/// The content of a file, within the bound.
enum Bytes {
    All(Vec<u8>),
    TooMany,
    /// A pipe or device: it cannot be read again at a reload, or never ends.
    NoFile,
}

fn read(path: &Path) -> io::Result<Bytes> {
    let meta = fs::metadata(path)?;
    if !meta.is_file() {
        return Ok(Bytes::NoFile);
    }
    let bound = MAX_BYTES as u64;
    if meta.len() > bound {
        return Ok(Bytes::TooMany);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default());
    // The file may grow meanwhile.
    fs::File::open(path)?
        .take(bound + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() > MAX_BYTES {
        true => Ok(Bytes::TooMany),
        false => Ok(Bytes::All(bytes)),
    }
}

struct FolderRead {
    files: Vec<(PathBuf, io::Result<Bytes>)>,
    /// The `..data` link moved while reading.
    swapped: bool,
}

fn read_folder(folder: &Path) -> io::Result<FolderRead> {
    let generation = || fs::read_link(folder.join("..data")).ok();
    let before = generation();
    let files = listed(folder)?
        .into_iter()
        .map(|path| {
            let bytes = read(&path);
            (path, bytes)
        })
        .collect();
    Ok(FolderRead {
        files,
        swapped: generation() != before,
    })
}

/// The files that one source means: itself, or what counts of the folder, sorted. Reads none.
///
/// # Errors
/// The folder cannot be listed, or there is nothing of that name.
pub fn files(source: &Path) -> io::Result<Vec<PathBuf>> {
    if fs::metadata(source)?.is_dir() {
        listed(source)
    } else {
        Ok(vec![source.to_owned()])
    }
}

fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let path = folder.join(&name);
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let ending = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let ours = ["yaml", "yml", "json"].contains(&ending.to_ascii_lowercase().as_str());
        // A link that leads nowhere stays in, so that it is reported.
        let folder = fs::metadata(&path).is_ok_and(|meta| meta.is_dir());
        if ours && !hidden && !folder {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The same as [`load`], of a text as if it were the file of this name.
///
/// # Errors
/// As [`load`].
pub fn load_text(name: &str, text: &str, options: &LoadOptions) -> Result<Loaded, Diagnostics> {
    texts(&[(name, text)], options)
}

fn texts(files: &[(&str, &str)], options: &LoadOptions) -> Result<Loaded, Diagnostics> {
    let mut reader = Reader::default();
    for (name, text) in files {
        reader.names.push((*name).into());
        let text = Arc::new((*text).to_owned());
        reader.text(Path::new(name), (*name).into(), text);
    }
    let names: Vec<_> = files.iter().map(|(name, _)| PathBuf::from(name)).collect();
    finish(reader, &names, options).into_loaded()
}

/// Loads texts as if they were files of these names.
#[cfg(test)]
pub(super) fn load_texts(files: &[(&str, &str)]) -> Result<Loaded, Diagnostics> {
    load_texts_with(files, &LoadOptions::default())
}

/// The same, as flags have it.
#[cfg(test)]
pub(super) fn load_texts_with(
    files: &[(&str, &str)],
    options: &LoadOptions,
) -> Result<Loaded, Diagnostics> {
    texts(files, options)
}

/// What is said of one file `a.yaml`, a line each.
#[cfg(test)]
pub(super) fn said(text: &str) -> Vec<String> {
    let said = match load_texts(&[("a.yaml", text)]) {
        Ok(loaded) => loaded.warnings,
        Err(all) => all,
    };
    said.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native::FULL;

    fn load(sources: &[PathBuf]) -> Result<Loaded, Diagnostics> {
        super::load(sources, &LoadOptions::default())
    }

    use std::time::{Duration, Instant};

    const UPSTREAM: &str = "upstreams: [{name: a, endpoints: a:1, tls: {mode: disable}}]\n";
    const ROUTE: &str = "routes: [{host: a, upstream: a}]\n";

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    /// What is said of a path, the folder's own name left out.
    fn said_of(folder: &tempfile::TempDir, name: &str) -> Vec<String> {
        let said = match load(&[folder.path().join(name)]) {
            Ok(loaded) => loaded.warnings,
            Err(all) => all,
        };
        let own = folder.path().display().to_string();
        said.iter()
            .map(|d| d.to_string().replace(&own, "DIR"))
            .collect()
    }

    fn names(loaded: &Loaded) -> Vec<&str> {
        let names = loaded
            .files
            .iter()
            .filter_map(|path| path.file_name()?.to_str());
        names.collect()
    }

    #[test]
    fn a_folder_is_read_in_order_and_only_what_is_meant_for_it() {
        let dir = folder(&[
            ("b.yml", ROUTE.as_bytes()),
            ("a.yaml", UPSTREAM.as_bytes()),
            ("c.json", b"{\"limits\": {\"maxStreams\": 5}}"),
            (".hidden.yaml", b"]"),
            ("notes.txt", b"]"),
            ("key.pem", b"]"),
        ]);
        fs::create_dir(dir.path().join("sub.yaml")).unwrap();
        let loaded = load(&[dir.path().to_owned()]).unwrap();
        assert_eq!(names(&loaded)[1..], ["a.yaml", "b.yml", "c.json"]);
        assert_eq!(loaded.files[0], dir.path());
        assert_eq!(loaded.config.limits.max_streams, 5);
        assert!(loaded.warnings.is_empty());
    }

    #[test]
    fn a_kubernetes_config_map_is_read_through_its_links_once() {
        use std::os::unix::fs::symlink;
        let dir = folder(&[]);
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("..2026_01_01")).unwrap();
        fs::write(at("..2026_01_01/a.yaml"), [UPSTREAM, ROUTE].concat()).unwrap();
        symlink("..2026_01_01", at("..data")).unwrap();
        symlink("..data/a.yaml", at("a.yaml")).unwrap();
        let loaded = load(&[dir.path().to_owned(), at("a.yaml")]).unwrap();
        assert_eq!((names(&loaded).len(), loaded.config.hosts.len()), (2, 1));
        assert_eq!(
            loaded.config.upstreams[0].place.file.as_ref(),
            at("a.yaml").to_str().unwrap()
        );
    }

    #[test]
    fn a_link_that_leads_nowhere_is_an_error() {
        let dir = folder(&[("a.yaml", UPSTREAM.as_bytes())]);
        std::os::unix::fs::symlink("gone", dir.path().join("b.yaml")).unwrap();
        assert_eq!(
            said_of(&dir, ""),
            [
                "DIR/b.yaml: error[SRT0001] there is no such file or folder; check the name; a \
                 relative one starts at the working folder"
            ]
        );
    }

    #[test]
    fn what_is_missing_or_empty_is_an_error() {
        let dir = folder(&[("empty.yaml", b"# nothing\n---\n"), ("x.yaml", b"")]);
        fs::create_dir(dir.path().join("none")).unwrap();
        assert_eq!(
            said_of(&dir, "gone"),
            [
                "DIR/gone: error[SRT0001] there is no such file or folder; check the name; a \
                 relative one starts at the working folder"
            ]
        );
        assert_eq!(
            said_of(&dir, "empty.yaml"),
            [
                "DIR/empty.yaml: error[SRT0008] there is no document in it; write routes and \
                 upstreams into a file that ends in .yaml, .yml or .json"
            ]
        );
        let none = said_of(&dir, "none");
        assert!(
            none[0].contains("SRT0008") && none[1].contains("SRT0010"),
            "{none:?}"
        );
        assert!(
            load(&[])
                .unwrap_err()
                .to_string()
                .contains("no configuration is named")
        );
        assert!(said_of(&folder(&[]), "/dev/null")[0].contains("neither a file nor a folder"));
    }

    #[test]
    fn a_file_that_is_no_text_is_an_error_with_a_place() {
        let dir = folder(&[
            ("latin1.yaml", b"a: b\nc: \xe4\n"),
            ("utf16.yaml", b"\xff\xfea\0:\0"),
            ("bom.yaml", b"\xef\xbb\xbflimits: {maxStreams: 5}\n"),
        ]);
        assert_eq!(
            said_of(&dir, "latin1.yaml"),
            [
                "DIR/latin1.yaml:2:4: error[SRT0003] a byte here is not UTF-8; save the file as \
                 UTF-8"
            ]
        );
        assert!(said_of(&dir, "utf16.yaml")[0].contains("the file is UTF-16"));
        assert!(
            said_of(&dir, "bom.yaml")[0].contains("SRT0305"),
            "a BOM does no harm"
        );
    }

    #[test]
    fn a_file_has_a_bound() {
        let dir = folder(&[("large.yaml", &vec![b'#'; MAX_BYTES + 1])]);
        assert_eq!(
            said_of(&dir, "large.yaml"),
            [
                "DIR/large.yaml: error[SRT0002] the file has more than 16777216 bytes; split it: \
                 every file of a folder is read"
            ]
        );
    }

    #[test]
    fn a_document_that_says_half_of_what_it_is_is_an_error() {
        let text = "routes: []\n---\nkind: VirtualService\n---\nkind: [x]\n---\napiVersion: v1\n";
        let all = load_texts(&[("a.yaml", text)]).unwrap_err();
        let said: Vec<_> = all.errors().map(ToString::to_string).collect();
        assert_eq!(
            said[1..],
            [
                "a.yaml:3:1: error[IST0106] the document of kind \"VirtualService\" has no \
                 apiVersion; write apiVersion: networking.istio.io/v1, or whichever it is",
                "a.yaml:5:1: error[IST0106] the document has neither kind nor apiVersion as text; \
                 write both, or leave both out in a document of sortie's own",
                "a.yaml:7:1: error[IST0106] the document with apiVersion \"v1\" has no kind; \
                 write kind: VirtualService, or whichever it is",
            ]
        );
        assert!(all.is_fatal());
    }

    #[test]
    fn every_mistake_of_every_file_is_reported_at_once_in_order() {
        let dir = folder(&[
            ("a.yaml", b"routes: [{host: a, upstream: x}]\nfoo: 1\n"),
            ("b.yaml", b"a: [\n"),
            ("c.yaml", b"limits: {maxStreams: 0}\nlimits: {}\n"),
        ]);
        let said = said_of(&dir, "");
        let codes: Vec<_> = said
            .iter()
            .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            codes,
            [
                "DIR/a.yaml:1:30: error[SRT0202]",
                "DIR/a.yaml:2:1: error[SRT0101]",
                "DIR/b.yaml:2:1: error[SRT0004]",
                "DIR/c.yaml:1:22: error[SRT0105]",
                "DIR/c.yaml:2:1: error[SRT0005]",
            ],
            "{said:#?}"
        );
    }

    #[test]
    fn a_hundred_thousand_hosts_load() {
        let mut text = UPSTREAM.to_owned() + "routes:\n";
        for n in 0..100_000 {
            text.push_str(&format!("  - host: h{n}.example.com\n    upstream: a\n"));
        }
        let begin = Instant::now();
        let loaded = load_texts(&[("a.yaml", &text)]).unwrap();
        let took = begin.elapsed();
        assert_eq!(loaded.config.hosts.len(), 100_000);
        // Generous: a build without optimisation on a busy machine.
        assert!(took < Duration::from_secs(120), "{took:?}");
    }

    #[test]
    fn a_hundred_thousand_mistakes_are_bounded() {
        let text = "routes:\n".to_owned() + &"- {host: a, upstream: nowhere}\n".repeat(100_000);
        let refused = load_texts(&[("a.yaml", &text)]).unwrap_err();
        assert_eq!(refused.iter().len(), crate::config::MAX_DIAGNOSTICS);
        assert_eq!(refused.error_count(), 199_999);
    }

    /// A small generator, so that a failure can be repeated (xorshift).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % n.max(1) as u64) as usize
        }
    }

    #[test]
    fn no_mutation_of_a_document_makes_the_loader_panic_or_hang() {
        const PIECES: &[&str] = &[
            "&a ",
            "*a",
            "- ",
            ": ",
            "{",
            "}",
            "[",
            "]",
            "\"",
            "'",
            "|\n",
            ">-\n",
            "? ",
            "---\n",
            "...\n",
            "!!str ",
            "!x ",
            "%YAML 1.2\n",
            "#",
            "\t",
            "\u{0}",
            "\u{feff}",
            "\u{85}",
            "\u{2028}",
            "null",
            "~",
            "<<: ",
            "0",
            "-1",
            "99999999999999999999",
            "1e999",
            "\\",
            "\r",
            "\u{10ffff}",
            ",",
            "@",
            "`",
            "=",
            "\u{7f}",
            "\n",
            " ",
            "(",
            ")*",
            "\\u",
            "\"\\ud800\"",
        ];
        let small = [UPSTREAM, ROUTE].concat();
        let json = r#"{"routes": [{"host": "a", "rules": [{"respond": {"status": 200}}]}]}"#;
        let corpus = [
            FULL,
            &small,
            json,
            "a: &x [1, 2]\nb: *x\n",
            "|\n  text\n",
            "? a\n: b\n",
        ];
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for round in 0..3000 {
            let mut text = corpus[round % corpus.len()].to_owned();
            for _ in 0..=dice.below(6) {
                let mut at = dice.below(text.len() + 1);
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                let mut end = (at + dice.below(20)).min(text.len());
                while !text.is_char_boundary(end) {
                    end += 1;
                }
                match dice.below(4) {
                    0 => text.replace_range(at..end, ""),
                    1 => text.insert_str(at, &text.clone()[at..end]),
                    2 => text.truncate(at),
                    _ => text.insert_str(at, PIECES[dice.below(PIECES.len())]),
                }
            }
            let begin = Instant::now();
            let _ = load_texts(&[("a.yaml", &text)]);
            assert!(begin.elapsed() < Duration::from_secs(5), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_loader_panic(text in "\\PC{0,200}") {
            let _ = load_texts(&[("a.yaml", &text)]);
        }
    }

    #[test]
    fn b10_what_answers_say_for_server_is_istios_unless_a_flag_says_otherwise() {
        let said = |flag: Option<&str>| {
            let options = LoadOptions {
                inbound: vec![("127.0.0.1:15006".parse().unwrap(), None)],
                server_header: flag.map(Into::into),
                ..LoadOptions::default()
            };
            let text = "routes: [{host: a, rules: [{respond: {status: 200}}]}]\n";
            let loaded = load_texts_with(&[("a.yaml", text)], &options).unwrap();
            loaded.config.entrances[0].headers.server.clone()
        };
        assert_eq!(said(None).as_deref(), Some("istio-envoy"));
        assert_eq!(said(Some("bank")).as_deref(), Some("bank"));
        assert_eq!(said(Some("")), None);
    }
}
